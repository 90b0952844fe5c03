//! Messages about the connection and the switch as a whole.

use crate::Version;
use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use crate::port_message::Port;
use crate::property;

/// `OFPT_HELLO`: the versions that a side speaks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hello {
    /// Bit n: version n. 0 if the message does not say: those up to the header's.
    pub versions: u32,
}

impl Hello {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        if !C::READS {
            return property::each(c, &[(1, self.versions != 0)], |c, _| c.u32(&mut self.versions));
        }
        // What is wrong with an element must not end a connection that its header's version would do for.
        let mut bytes = Vec::new();
        c.rest(&mut bytes)?;
        let mut rest = &bytes[..];
        while let [k0, k1, l0, l1, ..] = *rest {
            let (kind, length) = (u16::from_be_bytes([k0, k1]), usize::from(u16::from_be_bytes([l0, l1])));
            if length < 4 || length > rest.len() {
                break;
            }
            if let (1, [a, b, c, d, ..]) = (kind, &rest[4..length]) {
                self.versions = u32::from_be_bytes([*a, *b, *c, *d]);
            }
            rest = &rest[length.next_multiple_of(8).min(rest.len())..];
        }
        Ok(())
    }
}

/// `OFPT_ERROR`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ErrorMessage {
    /// Type, code, and experimenter's part; see [`Code::encode`]. Then the beginning of the refused message.
    pub body: Vec<u8>,
}

impl ErrorMessage {
    /// An error about a message.
    pub fn new(code: Code, version: Version, refused: &[u8]) -> ErrorMessage {
        let mut body = code.encode(version);
        body.extend_from_slice(&refused[..refused.len().min(0xffff - 8 - body.len())]);
        ErrorMessage { body }
    }

    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.rest(&mut self.body)
    }
}

/// Bytes that come back as they are: an echo.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Echo(pub Vec<u8>);

impl Echo {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.rest(&mut self.0)
    }
}

/// Nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Empty;

#[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "a layout like the others")]
impl Empty {
    pub(crate) fn code<C: Coder>(&mut self, _: &mut C) -> Step {
        Ok(())
    }
}

/// `OFPT_FEATURES_REPLY`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// Number of the switch, unique to it.
    pub datapath_id: u64,
    /// Packets that it can buffer.
    pub n_buffers: u32,
    /// Number of tables.
    pub n_tables: u8,
    /// 0 for the main connection (since OpenFlow 1.3).
    pub auxiliary_id: u8,
    /// `OFPC_*`.
    pub capabilities: u32,
    /// Bits of actions (OpenFlow 1.0).
    pub actions: u32,
    /// Ports (before OpenFlow 1.3).
    pub ports: Vec<Port>,
}

impl Features {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u64(&mut self.datapath_id)?;
        c.u32(&mut self.n_buffers)?;
        c.u8(&mut self.n_tables)?;
        c.u8(&mut self.auxiliary_id)?;
        c.pad(2)?;
        // Read and written alike.
        self.capabilities &= capabilities_of(c.version());
        c.u32(&mut self.capabilities)?;
        self.capabilities &= capabilities_of(c.version());
        c.u32(&mut self.actions)?;
        if c.version() == Version::V10 { c.list(&mut self.ports, |c, port| port.code(c)) } else { Ok(()) }
    }
}

/// The bits of `OFPC_*` that a version has. Others mean something else there, or nothing.
fn capabilities_of(version: Version) -> u32 {
    /// Statistics of flows, tables, ports and queues; fragments are put together.
    const COMMON: u32 = 0x67;
    const GROUP_STATS: u32 = 1 << 3;
    const ARP_MATCH_IP: u32 = 1 << 7;
    const PORT_BLOCKED: u32 = 1 << 8;
    const BUNDLES: u32 = 1 << 9;
    const FLOW_MONITORING: u32 = 1 << 10;
    match version {
        Version::V10 => COMMON | ARP_MATCH_IP,
        version if version < Version::V14 => COMMON | GROUP_STATS | PORT_BLOCKED,
        // OpenFlow has the bit since 1.5, Open vSwitch since 1.4, as it has the bundles.
        Version::V14 => COMMON | GROUP_STATS | PORT_BLOCKED | BUNDLES,
        _ => COMMON | GROUP_STATS | PORT_BLOCKED | BUNDLES | FLOW_MONITORING,
    }
}

/// `OFPT_GET_CONFIG_REPLY`, `OFPT_SET_CONFIG`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwitchConfig {
    /// `OFPC_FRAG_*`.
    pub flags: u16,
    /// Bytes of a packet that a controller gets when no flow matched.
    pub miss_send_len: u16,
}

impl SwitchConfig {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u16(&mut self.flags)?;
        c.u16(&mut self.miss_send_len)
    }
}

/// `OFPST_DESC`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Desc {
    /// Manufacturer.
    pub mfr: String,
    /// Hardware.
    pub hw: String,
    /// Software.
    pub sw: String,
    /// Serial number.
    pub serial: String,
    /// The datapath, for people.
    pub dp: String,
}

impl Desc {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.text(&mut self.mfr, 256)?;
        c.text(&mut self.hw, 256)?;
        c.text(&mut self.sw, 256)?;
        c.text(&mut self.serial, 32)?;
        c.text(&mut self.dp, 256)
    }
}

/// What a controller may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Asks for the role (since OpenFlow 1.2).
    NoChange,
    /// Everything; it hears everything (`OTHER` of Nicira's).
    #[default]
    Equal,
    /// Everything, and the others may only look (`PRIMARY`, in older texts master).
    Primary,
    /// Look (`SECONDARY`).
    Secondary,
}

/// `OFPT_ROLE_REQUEST`, `OFPT_ROLE_REPLY`, and Nicira's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoleRequest {
    /// The role.
    pub role: Role,
    /// Number of the election (since OpenFlow 1.2).
    pub generation_id: Option<u64>,
}

impl RoleRequest {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        let mut role = self.role as u32;
        c.u32(&mut role)?;
        self.role = match role {
            0 => Role::NoChange,
            1 => Role::Equal,
            2 => Role::Primary,
            3 => Role::Secondary,
            _ => return Err(Error::new(Code::OfprrfcBadRole, format!("role {role}"))),
        };
        c.pad(4)?;
        let mut generation = self.generation_id.unwrap_or(u64::MAX);
        c.u64(&mut generation)?;
        self.generation_id = (generation != u64::MAX).then_some(generation);
        Ok(())
    }

    pub(crate) fn code_nicira<C: Coder>(&mut self, c: &mut C) -> Step {
        let mut role = (self.role as u32).saturating_sub(1);
        c.u32(&mut role)?;
        self.role = match role {
            0 => Role::Equal,
            1 => Role::Primary,
            2 => Role::Secondary,
            _ => return Err(Error::new(Code::OfprrfcBadRole, format!("role {role}"))),
        };
        Ok(())
    }
}

/// `OFPT_ROLE_STATUS` (since OpenFlow 1.4): a controller's role was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoleStatus {
    /// The role now.
    pub role: u32,
    /// Why: 0, another controller became primary.
    pub reason: u8,
    /// Number of the election.
    pub generation_id: u64,
}

impl RoleStatus {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut self.role)?;
        c.u8(&mut self.reason)?;
        c.pad(3)?;
        c.u64(&mut self.generation_id)?;
        property::each(c, &[], |c, kind| property::unknown(c, kind))
    }
}

/// Which events a controller hears, bits of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AsyncMasks {
    /// Packet-ins.
    pub packet_in: u32,
    /// Port status.
    pub port_status: u32,
    /// Removed flows.
    pub flow_removed: u32,
    /// Role status (since OpenFlow 1.4).
    pub role_status: u32,
    /// Table status (since OpenFlow 1.4).
    pub table_status: u32,
    /// Forwarded requests (since OpenFlow 1.4).
    pub requestforward: u32,
}

impl AsyncMasks {
    /// The reasons that OpenFlow has since 1.4.
    const REASONS: AsyncMasks = AsyncMasks {
        packet_in: 0x3f,
        port_status: 0x7,
        flow_removed: 0x3f,
        role_status: 0x7,
        table_status: 0x18,
        requestforward: 0x3,
    };

    /// Without the reasons of removed flows that a version does not have: meters that go, and evictions.
    pub(crate) fn of_version(self, version: Version) -> AsyncMasks {
        let flow_removed = self.flow_removed & if version < Version::V14 { 0xf } else { u32::MAX };
        AsyncMasks { flow_removed, ..self }
    }

    /// By the number of its property, of either role.
    fn of_kind(&mut self, kind: u16) -> Result<&mut u32, Error> {
        Ok(match kind >> 1 {
            0 => &mut self.packet_in,
            1 => &mut self.port_status,
            2 => &mut self.flow_removed,
            3 => &mut self.role_status,
            4 => &mut self.table_status,
            5 => &mut self.requestforward,
            _ => return Err(Error::new(Code::OfpbpcBadType, format!("property {kind} of set-async"))),
        })
    }
}

/// `OFPT_SET_ASYNC` and the answer to `OFPT_GET_ASYNC_REQUEST`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AsyncConfig {
    /// As primary or equal.
    pub primary: AsyncMasks,
    /// As secondary.
    pub secondary: AsyncMasks,
    /// Which of the properties there were (since OpenFlow 1.4), a bit each.
    pub present: u16,
}

impl AsyncConfig {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        let (one, two) = (&mut self.primary, &mut self.secondary);
        c.u32(&mut one.packet_in)?;
        c.u32(&mut two.packet_in)?;
        c.u32(&mut one.port_status)?;
        c.u32(&mut two.port_status)?;
        c.u32(&mut one.flow_removed)?;
        c.u32(&mut two.flow_removed)?;
        self.present = 0x3f;
        Ok(())
    }

    /// Since OpenFlow 1.4, and Nicira's second form: a property for each.
    pub(crate) fn code_properties<C: Coder>(&mut self, c: &mut C) -> Step {
        let mut present = [(0, false); 12];
        for (kind, row) in (0..).zip(&mut present) {
            *row = (kind, self.present >> kind & 1 != 0);
        }
        property::each(c, &present, |c, kind| {
            let masks = if kind & 1 == 0 { &mut self.secondary } else { &mut self.primary };
            let mask = masks.of_kind(kind)?;
            self.present |= 1 << kind;
            c.u32(mask)?;
            let unknown = *mask & !*AsyncMasks { ..AsyncMasks::REASONS }.of_kind(kind)?;
            if C::READS && unknown != 0 {
                let why = format!("reasons {unknown:#x} in property {kind} of set-async");
                return Err(Error::new(Code::OfpacfcInvalid, why));
            }
            Ok(())
        })
    }
}

/// A number of 32 bits: `NXT_SET_FLOW_FORMAT`, `NXT_SET_PACKET_IN_FORMAT`, a monitor's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Number(pub u32);

impl Number {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut self.0)
    }

    /// `NXT_FLOW_MOD_TABLE_ID`: a byte and padding.
    pub(crate) fn code_byte<C: Coder>(&mut self, c: &mut C) -> Step {
        let mut byte = self.0 as u8;
        c.u8(&mut byte)?;
        self.0 = byte.into();
        c.pad(7)
    }

    /// `NXT_SET_CONTROLLER_ID`: 16 bits behind six bytes.
    pub(crate) fn code_short<C: Coder>(&mut self, c: &mut C) -> Step {
        c.pad(6)?;
        let mut short = self.0 as u16;
        c.u16(&mut short)?;
        self.0 = short.into();
        Ok(())
    }
}

/// How a TLV option of a tunnel stands in a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TlvMap {
    /// Class.
    pub class: u16,
    /// Type.
    pub kind: u8,
    /// Bytes.
    pub length: u8,
    /// n of `tun_metadata<n>`.
    pub index: u16,
}

impl TlvMap {
    fn code(&mut self, c: &mut impl Coder) -> Step {
        c.u16(&mut self.class)?;
        c.u8(&mut self.kind)?;
        c.u8(&mut self.length)?;
        c.u16(&mut self.index)?;
        c.pad(2)
    }
}

/// `NXT_TLV_TABLE_MOD`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlvTableMod {
    /// 0 adds, 1 deletes, 2 clears.
    pub command: u16,
    /// The options.
    pub maps: Vec<TlvMap>,
}

impl TlvTableMod {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u16(&mut self.command)?;
        c.pad(6)?;
        c.list(&mut self.maps, |c, map| map.code(c))
    }
}

/// `NXT_TLV_TABLE_REPLY`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlvTable {
    /// Bytes of options that a packet may have.
    pub max_space: u32,
    /// Number of fields.
    pub max_fields: u16,
    /// The options.
    pub maps: Vec<TlvMap>,
}

impl TlvTable {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut self.max_space)?;
        c.u16(&mut self.max_fields)?;
        c.pad(10)?;
        c.list(&mut self.maps, |c, map| map.code(c))
    }
}
