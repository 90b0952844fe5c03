//! The switch's side of a connection: greeting, state of the connection, and which message asks for what.
//!
//! Bytes go in by [`Connection::input`], answers come out as bytes. What a bridge is and does stands behind
//! [`Bridge`]; what happens there is told to connections as [`Event`]s. No I/O here.

mod bundles;
mod events;
mod reply;
mod requests;

pub use events::Event;
pub use reply::Reply;

use crate::{
    AsyncMasks, Code, Desc, Dialect, Echo, Error, ErrorMessage, Features, FlowMod, FlowStats, GroupDesc,
    GroupMod, GroupRequest, GroupStats, Hello, Message, MeterConfig, MeterMod, MeterRequest, MeterStats,
    MonitorRequest, PacketOut, Port, PortMod, PortStats, Role, SwitchConfig, TableConfig, TableStats,
    TlvTableMod, Version, decode, encode, length, xid,
};
use bundles::Bundles;
use flow::ofp::FlowFilter;
use std::sync::{Arc, Mutex, PoisonError};
use wire::tunnel::geneve::TlvMap;

/// A change of a bridge. Small: a bundle has a hundred thousand of them.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// Of flows.
    Flow(Box<FlowMod>),
    /// Of a group.
    Group(Box<GroupMod>),
    /// Of a meter.
    Meter(MeterMod),
    /// Of a port's configuration.
    Port(PortMod),
    /// Not of the bridge: a packet to send.
    Packet(Box<PacketOut>),
}

/// Who changes something: flow monitors tell a connection of its own changes by their numbers only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// [`Connection::id`].
    pub connection: u64,
    /// Number of the message.
    pub xid: u32,
}

/// The changes of a bundle, with the numbers of their messages, or why one cannot be read.
pub type Changes<'a> = dyn Iterator<Item = Result<(Change, u32), Error>> + 'a;

/// What connections need of a bridge.
pub trait Bridge {
    /// What it can; ports are added where they belong.
    fn features(&mut self) -> Features;
    /// What it is, for people.
    fn desc(&mut self) -> Desc;
    /// Its ports, LOCAL among them.
    fn ports(&mut self) -> Vec<Port>;
    /// What ports have counted.
    fn port_stats(&mut self) -> Vec<PortStats>;
    /// The flows that a filter selects.
    fn flows(&mut self, filter: &FlowFilter) -> Vec<FlowStats>;
    /// Its tables, those without flows too.
    fn tables(&mut self) -> Vec<TableStats>;
    /// How a table is configured.
    fn table_config(&mut self, table: u8) -> TableConfig {
        TableConfig { table: Some(table), ..TableConfig::default() }
    }
    /// Configures a table, or all.
    ///
    /// # Errors
    /// There is no such table, or it cannot be so.
    fn set_table_config(&mut self, _config: &TableConfig) -> Result<(), Error> {
        Err(Error::new(Code::OfptmfcEperm, "tables are as they are"))
    }
    /// Its groups.
    fn groups(&mut self) -> Vec<GroupDesc>;
    /// What groups have counted.
    fn group_stats(&mut self) -> Vec<GroupStats>;
    /// Its meters.
    fn meters(&mut self) -> Vec<MeterConfig>;
    /// What meters have counted.
    fn meter_stats(&mut self) -> Vec<MeterStats>;
    /// The tunnel options that its `tun_metadata` fields stand for.
    fn tlvs(&mut self) -> TlvMap {
        TlvMap::EMPTY
    }
    /// Makes a change. Packets may see it only after [`Bridge::settle`].
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    fn change(&mut self, change: Change, origin: Origin) -> Result<(), Error>;
    /// Makes all changes, or none.
    ///
    /// # Errors
    /// Which of them cannot be made, and why.
    fn change_all(&mut self, changes: &mut Changes<'_>, connection: u64) -> Result<(), (usize, Error)>;
    /// Every packet from here on sees every change until here.
    fn settle(&mut self);
}

/// How packets for controllers come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum PacketInFormat {
    /// As OpenFlow has it.
    #[default]
    Standard,
    /// `NXT_PACKET_IN`.
    Nxm,
    /// `NXT_PACKET_IN2`.
    Nxm2,
}

/// What [`Connection::input`] made of bytes.
#[derive(Debug, Default)]
pub struct Output {
    /// Answers, to be sent.
    pub bytes: Vec<u8>,
    /// Another answer, to be encoded and sent behind `bytes`.
    pub reply: Option<Reply>,
    /// Messages may be left: [`Connection::input`] goes on when all of this is sent.
    pub unfinished: bool,
    /// The connection cannot go on: close it when all is sent, for this reason.
    pub close: Option<String>,
    /// The TLV map shall change, and [`Connection::input`] goes on when that is done.
    pub tlv_change: Option<TlvChange>,
    /// Errors that `bytes` has, for the log: the message and why it is refused.
    pub refused: Vec<String>,
    /// Another became primary: the other connections that are must be told with [`Connection::demote`].
    pub became_primary: bool,
}

/// A change of the TLV map that a message asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlvChange {
    /// What to change.
    pub change: TlvTableMod,
    /// The whole message, for who refuses it.
    message: Vec<u8>,
}

/// The highest `generation_id` of role requests on all connections of a bridge: a request with an older one is stale
/// (OpenFlow 1.3, section 6.3.4).
#[derive(Clone, Debug, Default)]
pub struct Elections(Arc<Mutex<Option<u64>>>);

impl Elections {
    fn last(&self) -> Option<u64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new one.
    fn advance(&self, generation: u64) -> Result<(), Error> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Elections count up, around the end of their numbers.
        if last.is_some_and(|last| (generation.wrapping_sub(last) as i64) < 0) {
            return Err(Error::new(Code::OfprrfcStale, format!("generation {generation} is old")));
        }
        *last = Some(generation);
        Ok(())
    }
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    /// Number of it, unique among the bridge's.
    pub id: u64,
    /// Versions that may be spoken: bit n for version n.
    versions: u32,
    /// What was agreed on; `None` before the other side's greeting.
    dialect: Option<Dialect>,
    config: SwitchConfig,
    packet_in_format: PacketInFormat,
    controller_id: u16,
    role: Role,
    /// What it hears as primary or equal, and as secondary.
    masks: [AsyncMasks; 2],
    /// Whether it hears of events as a controller does, also without having asked: a socket for tools does not.
    controller: bool,
    elections: Elections,
    monitors: Vec<MonitorRequest>,
    bundles: Bundles,
    /// It speaks NXM.
    nxm: bool,
    /// A change was made that packets may not see yet.
    unsettled: bool,
}

/// Bits of all reasons that a controller hears unless it says otherwise.
const HEARS: AsyncMasks = AsyncMasks {
    packet_in: 0b11_1011,
    port_status: 0b111,
    flow_removed: 0b11_1111,
    role_status: 0,
    table_status: 0,
    requestforward: 0,
};
/// What a secondary controller hears.
const SECONDARY_HEARS: AsyncMasks = AsyncMasks {
    packet_in: 0,
    port_status: 0b111,
    flow_removed: 0,
    role_status: 0,
    table_status: 0,
    requestforward: 0,
};
/// `OFP_DEFAULT_MISS_SEND_LEN`.
const MISS_SEND_LEN: u16 = 128;
/// `OFPP_ANY`.
const ANY_PORT: u32 = 0xffff;
/// Monitors that a connection may have.
const MOST_MONITORS: usize = 256;
/// Refused messages of one input for the log.
const MOST_REFUSED: usize = 8;
/// Bytes of answers after which no further message is served until they are sent.
const MOST_ANSWERS: usize = 256 << 10;

impl Connection {
    /// A connection that speaks these versions. `controller`: it was configured, and hears of packets and changes from
    /// the start; else it hears what it asks for.
    pub fn new(id: u64, versions: &[Version], controller: bool) -> Connection {
        Connection {
            id,
            versions: versions.iter().fold(0, |bits, version| bits | 1 << version.number()),
            dialect: None,
            config: SwitchConfig { flags: 0, miss_send_len: if controller { MISS_SEND_LEN } else { 0 } },
            packet_in_format: PacketInFormat::Standard,
            controller_id: 0,
            role: Role::Equal,
            masks: [HEARS, SECONDARY_HEARS],
            controller,
            elections: Elections::default(),
            nxm: false,
            monitors: Vec::new(),
            bundles: Bundles::default(),
            unsettled: false,
        }
    }

    /// The same among the connections of a bridge, which share its elections.
    #[must_use]
    pub fn among(self, elections: Elections) -> Connection {
        Connection { elections, ..self }
    }

    /// The greeting, which is sent first.
    pub fn greeting(&self) -> Vec<u8> {
        let newest = Version::all().into_iter().rev().find(|v| self.versions >> v.number() & 1 != 0);
        let dialect = Dialect::new(newest.unwrap_or(Version::V10));
        let hello = Hello { versions: self.versions };
        encode(Message::Hello(hello), 1, dialect, Vec::new()).unwrap_or_default()
    }

    /// The version that is spoken, once known.
    pub fn version(&self) -> Option<Version> {
        self.dialect.map(|dialect| dialect.version)
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// An echo request, to see whether the other side is there.
    pub fn probe(&self) -> Vec<u8> {
        let dialect = self.dialect.unwrap_or(Dialect::new(Version::V10));
        encode(Message::EchoRequest(Echo::default()), 0, dialect, Vec::new()).unwrap_or_default()
    }

    /// Takes whole messages off the beginning of `bytes` and serves them; an incomplete one is left, and so are those behind
    /// a large answer, which its reader must have before it is given more.
    pub fn input(&mut self, bytes: &mut Vec<u8>, bridge: &mut dyn Bridge) -> Output {
        let mut output = Output::default();
        let mut taken = 0;
        while output.close.is_none() && output.tlv_change.is_none() {
            let rest = &bytes[taken..];
            match length(rest) {
                Ok(Some(length)) if length <= rest.len() => {
                    if output.reply.is_some() || output.bytes.len() > MOST_ANSWERS {
                        output.unfinished = true;
                        break;
                    }
                    self.message(&rest[..length], bridge, &mut output);
                    taken += length;
                }
                Ok(_) => break,
                Err(error) => output.close = Some(error.to_string()),
            }
        }
        bytes.drain(..taken);
        self.settle(bridge);
        output
    }

    fn settle(&mut self, bridge: &mut dyn Bridge) {
        if std::mem::take(&mut self.unsettled) {
            bridge.settle();
        }
    }

    fn message(&mut self, bytes: &[u8], bridge: &mut dyn Bridge, output: &mut Output) {
        let Some(dialect) = self.dialect.as_mut() else { return self.greeted(bytes, output) };
        dialect.tlvs = bridge.tlvs();
        let dialect = *dialect;
        let number = xid(bytes);
        let answer = decode(bytes, dialect).and_then(|decoded| {
            if decoded.more {
                let why = "requests of several parts are not taken";
                return Err(Error::new(Code::OfpbrcMultipartBufferOverflow, why));
            }
            let form = Dialect { nicira: decoded.nicira, ..dialect };
            self.serve(decoded.message, number, &form, bridge, output)
        });
        match answer {
            Ok(()) => {
                if let Some(asked) = &mut output.tlv_change {
                    asked.message = bytes.to_vec();
                }
            }
            Err(error) => Connection::refuse(&error, bytes, dialect.version, output),
        }
    }

    /// What to say when a change of the TLV map is refused.
    pub fn refuse_tlvs(&self, asked: &TlvChange, error: &Error) -> Vec<u8> {
        let mut output = Output::default();
        if let Some(version) = self.version() {
            Connection::refuse(error, &asked.message, version, &mut output);
        }
        output.bytes
    }

    /// Says that a message is refused.
    fn refuse(error: &Error, bytes: &[u8], version: Version, output: &mut Output) {
        if output.refused.len() < MOST_REFUSED {
            output.refused.push(error.to_string());
        }
        let message = Message::Error(ErrorMessage::new(error.code, version, bytes));
        Connection::send(message, xid(bytes), &Dialect::new(version), output);
    }

    fn send(message: Message, xid: u32, dialect: &Dialect, output: &mut Output) {
        let before = output.bytes.len();
        match encode(message, xid, *dialect, std::mem::take(&mut output.bytes)) {
            Ok(bytes) => output.bytes = bytes,
            // Answers fit their version and the length of a message, or are cut into parts.
            Err(error) => output.close = Some(format!("an answer behind {before} bytes: {error}")),
        }
    }

    /// The first message: it must be a hello, and there must be a version that both speak.
    fn greeted(&mut self, bytes: &[u8], output: &mut Output) {
        let header = bytes[0];
        let spoken = Version::from_number(header).unwrap_or(Version::V10);
        let decoded = decode(bytes, Dialect::new(spoken));
        let Ok(Message::Hello(hello)) = decoded.map(|decoded| decoded.message) else {
            output.close = Some("the first message is no hello".into());
            return;
        };
        let Some(version) = Version::negotiate(self.versions, header, hello.versions) else {
            let ours: Vec<&str> = Version::all()
                .into_iter()
                .filter(|v| self.versions >> v.number() & 1 != 0)
                .map(Version::name)
                .collect();
            let why = format!("We support versions {}, you support version {header}.", ours.join(", "));
            let mut error = ErrorMessage { body: Code::OfphfcIncompatible.encode(spoken) };
            error.body.extend_from_slice(why.as_bytes());
            Connection::send(Message::Error(error), xid(bytes), &Dialect::new(spoken), output);
            output.close = Some(format!("no common version: {why}"));
            return;
        };
        self.dialect = Some(Dialect::new(version));
    }

    /// Another connection became primary. One that was primary gets a role status whatever its asynchronous configuration says, as
    /// from Open vSwitch.
    pub fn demote(&mut self) -> Vec<u8> {
        if self.role != Role::Primary {
            return Vec::new();
        }
        self.role = Role::Secondary;
        let Some(dialect) = self.dialect else { return Vec::new() };
        let status = crate::RoleStatus {
            role: 3,
            reason: 0,
            generation_id: self.elections.last().unwrap_or(u64::MAX),
        };
        encode(Message::RoleStatus(status), 0, dialect, Vec::new()).unwrap_or_default()
    }

    /// Refuses what a secondary controller may not.
    fn may_change(&self) -> Result<(), Error> {
        if self.role == Role::Secondary {
            return Err(Error::new(Code::OfpbrcIsSecondary, "a secondary controller only looks"));
        }
        Ok(())
    }

    fn wanted_groups<T>(request: GroupRequest, all: Vec<T>, number: impl Fn(&T) -> u32) -> Vec<T> {
        let every = matches!(request.group, crate::GROUP_ALL | u32::MAX);
        all.into_iter().filter(|one| every || number(one) == request.group).collect()
    }

    fn wanted_meters<T>(
        request: MeterRequest,
        all: Vec<T>,
        number: impl Fn(&T) -> u32,
    ) -> Result<Vec<T>, Error> {
        if request.meter == crate::METER_ALL {
            return Ok(all);
        }
        let one: Vec<T> = all.into_iter().filter(|one| number(one) == request.meter).collect();
        if one.is_empty() {
            let why = format!("there is no meter {}", request.meter);
            return Err(Error::new(Code::OfpmmfcUnknownMeter, why));
        }
        Ok(one)
    }
}
