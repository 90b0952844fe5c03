//! What a bridge says of itself to OpenFlow controllers.

/// As its `other_config` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its number (`datapath-id`); `None`: its MAC address.
    pub datapath_id: Option<u64>,
    /// What it is, for people (`dp-desc`).
    pub dp_desc: Option<String>,
    /// Its serial number (`dp-sn`).
    pub dp_sn: Option<String>,
}

impl Identity {
    /// That of a bridge of the document.
    pub fn of(bridge: &config::Bridge) -> Identity {
        Identity {
            datapath_id: bridge.datapath_id(),
            dp_desc: bridge.dp_desc().map(str::to_owned),
            dp_sn: bridge.dp_sn().map(str::to_owned),
        }
    }
}
