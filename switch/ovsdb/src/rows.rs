//! Tables of the `Open_vSwitch` database (`ovs-vswitchd.conf.db(5)`), as far as a switch reads them.

use crate::replica::{Replica, Row};
use crate::session::Monitored;
use crate::value::{Datum, Uuid};
use std::collections::BTreeMap;

/// The database.
pub const DATABASE: &str = "Open_vSwitch";
/// The lock of the one switch that serves it.
pub const LOCK: &str = "ovs_vswitchd";

/// How a column of a row becomes a member of a type.
trait FromColumn: Sized {
    fn from_column(datum: &Datum) -> Self;
}

macro_rules! from_column {
    ($($ty:ty, $datum:ident => $read:expr;)*) => { $(
        impl FromColumn for $ty {
            fn from_column($datum: &Datum) -> $ty {
                $read
            }
        }
    )* };
}

from_column! {
    String, datum => datum.as_text().unwrap_or_default().to_owned();
    Option<String>, datum => datum.as_text().map(str::to_owned);
    i64, datum => datum.as_integer().unwrap_or(0);
    Option<i64>, datum => datum.as_integer();
    bool, datum => datum.as_boolean().unwrap_or(false);
    Vec<String>, datum => datum.as_texts();
    Vec<i64>, datum => datum.as_integers();
    Rows, datum => Rows(datum.as_uuids());
    BTreeMap<String, String>, datum => datum.as_text_map();
    Datum, datum => datum.clone();
}

/// Rows that a column names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows(pub Vec<Uuid>);

/// Declares tables: a type each, with the columns that are read.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident $table:literal { $($(#[$column_doc:meta])* $column:ident : $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Default)]
            pub struct $name {
                /// The row.
                pub uuid: Uuid,
                $($(#[$column_doc])* pub $column: $ty,)*
            }

            impl $name {
                /// The table's name.
                pub const TABLE: &str = $table;

                /// The row of this number.
                pub fn of(uuid: &str, row: &Row) -> $name {
                    $name {
                        uuid: uuid.to_owned(),
                        $($column: <$ty>::from_column(&row.get(stringify!($column).trim_start_matches("r#"))),)*
                    }
                }

                /// The row of this number in a replica.
                pub fn find(replica: &Replica, uuid: &str) -> Option<$name> {
                    replica.row($table, uuid).map(|row| $name::of(uuid, row))
                }

                /// All rows.
                pub fn all(replica: &Replica) -> impl Iterator<Item = $name> + '_ {
                    replica.table($table).map(|(uuid, row)| $name::of(uuid, row))
                }
            }
        )*

        /// What a switch monitors.
        pub const MONITORED: &[Monitored] =
            &[$(($table, &[$(column_name(stringify!($column))),*]),)*];
    };
}

/// A column's name without Rust's `r#`.
const fn column_name(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', rest @ ..] => match std::str::from_utf8(rest) {
            Ok(rest) => rest,
            Err(_) => name,
        },
        _ => name,
    }
}

tables! {
    /// The one row of the switch as a whole.
    OpenVSwitch "Open_vSwitch" {
        /// Bridges.
        bridges: Rows,
        /// Number of the last configuration.
        next_cfg: i64,
        /// Number of the last configuration that is in effect.
        cur_cfg: i64,
        /// Settings.
        other_config: BTreeMap<String, String>,
        /// What others keep here.
        external_ids: BTreeMap<String, String>,
        /// TLS.
        ssl: Rows,
    }
    /// A bridge.
    Bridge "Bridge" {
        /// Name.
        name: String,
        /// `netdev`, `system`, or empty.
        datapath_type: String,
        /// Ports.
        ports: Rows,
        /// Mirrors.
        mirrors: Rows,
        /// Controllers.
        controller: Rows,
        /// `standalone` or `secure`.
        fail_mode: Option<String>,
        /// Versions of OpenFlow that may be spoken; empty for all.
        protocols: Vec<String>,
        /// Settings.
        other_config: BTreeMap<String, String>,
        /// What others keep here.
        external_ids: BTreeMap<String, String>,
        /// Snooping of multicast groups.
        mcast_snooping_enable: bool,
        /// Rows of tables of rules by their numbers.
        flow_tables: BTreeMap<String, String>,
        /// Where flow records go.
        netflow: Rows,
        /// Where samples go.
        sflow: Rows,
        /// Where flow records go.
        ipfix: Rows,
        /// Spanning tree.
        stp_enable: bool,
        /// Rapid spanning tree.
        rstp_enable: bool,
        /// VLANs in which nothing is learned.
        flood_vlans: Vec<i64>,
        /// As last written.
        datapath_id: Option<String>,
    }
    /// What a bridge's table of rules may have.
    FlowTable "Flow_Table" {
        /// Rules that it may have.
        flow_limit: Option<i64>,
        /// `evict` or `refuse`.
        overflow_policy: Option<String>,
        /// Bits by which rules are grouped, of which the largest group loses rules first.
        groups: Vec<String>,
    }
    /// A port of a bridge.
    Port "Port" {
        /// Name.
        name: String,
        /// Interfaces: several make a bond.
        interfaces: Rows,
        /// Access or native VLAN.
        tag: Option<i64>,
        /// VLANs of a trunk.
        trunks: Vec<i64>,
        /// `access`, `trunk`, `native-tagged`, `native-untagged`, `dot1q-tunnel`.
        vlan_mode: Option<String>,
        /// Customer VLANs of a `dot1q-tunnel` port; empty for all.
        cvlans: Vec<i64>,
        /// Queues.
        qos: Rows,
        /// Whether it sends to no other port of which the same is said.
        protected: bool,
        /// Settings.
        other_config: BTreeMap<String, String>,
        /// What others keep here.
        external_ids: BTreeMap<String, String>,
    }
    /// An interface of a port.
    Interface "Interface" {
        /// Name.
        name: String,
        /// `internal`, `dpdk`, `vxlan`, ...; empty for `system`.
        r#type: String,
        /// Options by type.
        options: BTreeMap<String, String>,
        /// OpenFlow number as last written.
        ofport: Option<i64>,
        /// OpenFlow number that is wished for.
        ofport_request: Option<i64>,
        /// MTU that is wished for.
        mtu_request: Option<i64>,
        /// MAC address that is wished for.
        mac: Option<String>,
        /// Rate that it may receive at, kbit/s; 0 for any.
        ingress_policing_rate: i64,
        /// Kilobits that it may receive beyond the rate.
        ingress_policing_burst: i64,
        /// Number of this end of CFM.
        cfm_mpid: Option<i64>,
        /// Settings of LLDP.
        lldp: BTreeMap<String, String>,
        /// Settings of BFD.
        bfd: BTreeMap<String, String>,
        /// Settings.
        other_config: BTreeMap<String, String>,
        /// What others keep here.
        external_ids: BTreeMap<String, String>,
        /// As last written.
        error: Option<String>,
    }
    /// A mirror of a bridge.
    Mirror "Mirror" {
        /// Name.
        name: String,
        /// All packets.
        select_all: bool,
        /// Packets that enter by these ports.
        select_src_port: Rows,
        /// Packets that leave by these ports.
        select_dst_port: Rows,
        /// Packets in these VLANs.
        select_vlan: Vec<i64>,
        /// Where copies go.
        output_port: Rows,
        /// VLAN in which copies go.
        output_vlan: Option<i64>,
        /// Bytes of a packet that are copied.
        snaplen: Option<i64>,
    }
    /// A controller of a bridge.
    Controller "Controller" {
        /// `tcp:HOST:PORT` and the like.
        target: String,
        /// `in-band` or `out-of-band`.
        connection_mode: Option<String>,
        /// Milliseconds, the longest time between two tries.
        max_backoff: Option<i64>,
        /// Milliseconds of silence before a probe; 0 for none.
        inactivity_probe: Option<i64>,
        /// Settings.
        other_config: BTreeMap<String, String>,
    }
    /// Keys and certificates.
    Ssl "SSL" {
        /// File.
        private_key: String,
        /// File.
        certificate: String,
        /// File.
        ca_cert: String,
    }
}
