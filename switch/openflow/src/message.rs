//! The table of messages: where each has its number in which version, and its layout.

use crate::coder::{Coder, Reader, Step, Writer};
use crate::error::{Code, Error, NICIRA, ONF};
#[allow(clippy::wildcard_imports, reason = "the table names every message's body")]
use crate::*;

/// Bytes of a header: version, type, length, number.
pub const HEADER: usize = 8;
/// The longest message, bytes.
pub const MAX_MESSAGE: usize = 65535;

/// `OFPT_VENDOR`, `OFPT_EXPERIMENTER`.
const VENDOR: u8 = 4;
/// Type of a statistic that is an experimenter's.
const EXPERIMENTER: u16 = 0xffff;

/// Where a message has its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// A type of its own.
    Type(u8),
    /// Nicira's subtype.
    Nicira(u32),
    /// The Open Networking Foundation's.
    Onf(u32),
    /// A statistic: request.
    Request(u16),
    /// A statistic: reply.
    Reply(u16),
    /// Nicira's statistic: request.
    NiciraRequest(u32),
    /// Nicira's statistic: reply.
    NiciraReply(u32),
    /// The Open Networking Foundation's statistic: request.
    OnfRequest(u32),
    /// The Open Networking Foundation's statistic: reply.
    OnfReply(u32),
}

impl Place {
    fn is_reply(self) -> bool {
        matches!(self, Place::Reply(_) | Place::NiciraReply(_) | Place::OnfReply(_))
    }

    fn is_nicira(self) -> bool {
        matches!(self, Place::Nicira(_) | Place::NiciraRequest(_) | Place::NiciraReply(_))
    }

    /// Types of a multipart request and reply.
    fn multipart(version: Version) -> (u8, u8) {
        if version == Version::V10 { (16, 17) } else { (18, 19) }
    }

    /// The header of a message here.
    fn header(self, version: Version, xid: u32) -> Vec<u8> {
        let (request, reply) = Place::multipart(version);
        let kind = match self {
            Place::Type(kind) => kind,
            Place::Nicira(_) | Place::Onf(_) => VENDOR,
            Place::Request(_) | Place::NiciraRequest(_) | Place::OnfRequest(_) => request,
            Place::Reply(_) | Place::NiciraReply(_) | Place::OnfReply(_) => reply,
        };
        let mut out = vec![version.number(), kind, 0, 0];
        out.extend_from_slice(&xid.to_be_bytes());
        let mut multipart = |kind: u16| {
            out.extend_from_slice(&[kind.to_be_bytes(), [0, 0]].concat());
            if version > Version::V10 {
                out.extend_from_slice(&[0; 4]);
            }
        };
        match self {
            Place::Request(kind) | Place::Reply(kind) => multipart(kind),
            Place::NiciraRequest(_) | Place::NiciraReply(_) | Place::OnfRequest(_) | Place::OnfReply(_) => {
                multipart(EXPERIMENTER);
            }
            _ => {}
        }
        let (vendor, subtype, wide) = match self {
            Place::Nicira(subtype) => (NICIRA, subtype, false),
            Place::NiciraRequest(subtype) | Place::NiciraReply(subtype) => (NICIRA, subtype, true),
            Place::Onf(subtype) => (ONF, subtype, false),
            Place::OnfRequest(subtype) | Place::OnfReply(subtype) => (ONF, subtype, true),
            _ => return out,
        };
        out.extend_from_slice(&[vendor.to_be_bytes(), subtype.to_be_bytes()].concat());
        // Nicira's statistics of OpenFlow 1.0 are padded to eight bytes.
        if wide && version == Version::V10 {
            out.extend_from_slice(&[0; 4]);
        }
        out
    }

    /// Where a message is, where its body begins, and whether another part follows.
    fn of(bytes: &[u8], version: Version) -> Result<(Place, usize, bool), Error> {
        let short = || Error::new(Code::OfpbrcBadLen, "the header ends too early");
        let u16_at = |at: usize| -> Result<u16, Error> {
            Ok(u16::from_be_bytes(bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).ok_or_else(short)?))
        };
        let u32_at = |at: usize| -> Result<u32, Error> {
            Ok(u32::from_be_bytes(bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or_else(short)?))
        };
        let vendor = |vendor: u32| match vendor {
            NICIRA | ONF => Ok(vendor == NICIRA),
            _ => Err(Error::new(Code::OfpbrcBadVendor, format!("experimenter {vendor:#x}"))),
        };
        let (request, reply) = Place::multipart(version);
        let kind = *bytes.get(1).ok_or_else(short)?;
        let end = |at: usize| if bytes.len() >= at { Ok(at) } else { Err(short()) };
        if kind == VENDOR {
            let subtype = u32_at(12)?;
            let place = if vendor(u32_at(8)?)? { Place::Nicira(subtype) } else { Place::Onf(subtype) };
            return Ok((place, 16, false));
        }
        if kind != request && kind != reply {
            return Ok((Place::Type(kind), end(HEADER)?, false));
        }
        let (statistic, more) = (u16_at(8)?, u16_at(10)? & 1 != 0);
        let (body, is_reply) = (if version == Version::V10 { 12 } else { 16 }, kind == reply);
        if statistic != EXPERIMENTER {
            let place = if is_reply { Place::Reply(statistic) } else { Place::Request(statistic) };
            return Ok((place, end(body)?, more));
        }
        let subtype = u32_at(body + 4)?;
        let place = match (vendor(u32_at(body)?)?, is_reply) {
            (true, false) => Place::NiciraRequest(subtype),
            (true, true) => Place::NiciraReply(subtype),
            (false, false) => Place::OnfRequest(subtype),
            (false, true) => Place::OnfReply(subtype),
        };
        Ok((place, end(body + if version == Version::V10 { 12 } else { 8 })?, more))
    }
}

/// Declares the messages. A row is: variant with its body, then where it stands in which versions with which layout.
macro_rules! messages {
    ($($(#[$doc:meta])* $variant:ident($body:ty) {
        $($low:literal..=$high:literal $place:ident($number:literal) $code:path;)*
    })*) => {
        /// A message.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Message { $($(#[$doc])* $variant($body),)* }

        impl Message {
            /// Its place in a version. `nicira`: rather Nicira's.
            fn place(&self, version: Version, nicira: bool) -> Option<Place> {
                let rows: &[(u8, u8, Place)] = match self {
                    $(Message::$variant(_) => &[$(($low, $high, Place::$place($number)),)*],)*
                };
                let fits = |row: &&(u8, u8, Place)| (row.0..=row.1).contains(&version.number());
                let preferred = rows.iter().filter(fits).find(|row| row.2.is_nicira() == nicira);
                preferred.or_else(|| rows.iter().find(fits)).map(|row| row.2)
            }

            /// The message that has its place there, to be filled in.
            fn blank(place: Place, version: Version) -> Option<Message> {
                $($(if place == Place::$place($number) && ($low..=$high).contains(&version.number()) {
                    return Some(Message::$variant(Default::default()));
                })*)*
                None
            }

            /// Reads or writes the body.
            fn body<C: Coder>(&mut self, c: &mut C, place: Place) -> Step {
                match self {
                    $(Message::$variant(body) => {
                        $(if place == Place::$place($number)
                            && ($low..=$high).contains(&c.version().number())
                        {
                            return $code(body, c);
                        })*
                        Err(Error::new(Code::OfpbrcBadType, "no such message in this version"))
                    })*
                }
            }

            /// Its name.
            pub fn name(&self) -> &'static str {
                match self { $(Message::$variant(_) => stringify!($variant),)* }
            }
        }
    };
}

messages! {
    /// The first message of a connection.
    Hello(Hello) { 1..=6 Type(0) Hello::code; }
    /// A message was refused.
    Error(ErrorMessage) { 1..=6 Type(1) ErrorMessage::code; }
    /// Are you there?
    EchoRequest(Echo) { 1..=6 Type(2) Echo::code; }
    /// Yes.
    EchoReply(Echo) { 1..=6 Type(3) Echo::code; }
    /// What can you?
    FeaturesRequest(Empty) { 1..=6 Type(5) Empty::code; }
    /// The switch's features.
    FeaturesReply(Features) { 1..=6 Type(6) Features::code; }
    /// How are you configured?
    GetConfigRequest(Empty) { 1..=6 Type(7) Empty::code; }
    /// The configuration.
    GetConfigReply(SwitchConfig) { 1..=6 Type(8) SwitchConfig::code; }
    /// Another configuration.
    SetConfig(SwitchConfig) { 1..=6 Type(9) SwitchConfig::code; }
    /// A packet for controllers.
    PacketIn(PacketIn) { 1..=6 Type(10) PacketIn::code; }
    /// A packet for controllers, with its fields in NXM.
    NxPacketIn(PacketIn) { 1..=6 Nicira(17) PacketIn::code_nicira; }
    /// A packet for controllers, as properties.
    NxPacketIn2(PacketIn) { 1..=6 Nicira(30) PacketIn::code_nicira2; }
    /// A flow is gone.
    FlowRemoved(FlowRemoved) {
        1..=6 Type(11) FlowRemoved::code;
        1..=6 Nicira(14) FlowRemoved::code_nicira;
    }
    /// A port changed.
    PortStatus(PortStatus) { 1..=6 Type(12) PortStatus::code; }
    /// A table is fuller or emptier.
    TableStatus(TableStatus) { 5..=6 Type(31) TableStatus::code; }
    /// A packet to send.
    PacketOut(PacketOut) { 1..=6 Type(13) PacketOut::code; }
    /// Changes flows.
    FlowMod(Box<FlowMod>) {
        1..=6 Type(14) FlowMod::code;
        1..=6 Nicira(13) FlowMod::code_nicira;
    }
    /// Changes a group.
    GroupMod(GroupMod) {
        1..=1 Nicira(31) GroupMod::code;
        2..=6 Type(15) GroupMod::code;
    }
    /// Changes a port.
    PortMod(PortMod) {
        1..=1 Type(15) PortMod::code;
        2..=6 Type(16) PortMod::code;
    }
    /// Changes a table.
    TableMod(TableConfig) { 2..=6 Type(17) TableConfig::code; }
    /// Have you done everything?
    BarrierRequest(Empty) {
        1..=1 Type(18) Empty::code;
        2..=6 Type(20) Empty::code;
    }
    /// Everything is done.
    BarrierReply(Empty) {
        1..=1 Type(19) Empty::code;
        2..=6 Type(21) Empty::code;
    }
    /// Which queues has a port? (before OpenFlow 1.4)
    QueueGetConfigRequest(QueueRequest) {
        1..=1 Type(20) QueueRequest::code_config;
        2..=4 Type(22) QueueRequest::code_config;
    }
    /// The queues of a port.
    QueueGetConfigReply(QueueConfig) {
        1..=1 Type(21) QueueConfig::code;
        2..=4 Type(23) QueueConfig::code;
    }
    /// Asks for a role.
    RoleRequest(RoleRequest) {
        3..=6 Type(24) RoleRequest::code;
        1..=6 Nicira(10) RoleRequest::code_nicira;
    }
    /// The role.
    RoleReply(RoleRequest) {
        3..=6 Type(25) RoleRequest::code;
        1..=6 Nicira(11) RoleRequest::code_nicira;
    }
    /// A role was changed.
    RoleStatus(RoleStatus) {
        4..=4 Onf(1911) RoleStatus::code;
        5..=6 Type(30) RoleStatus::code;
    }
    /// Which events do I hear?
    GetAsyncRequest(Empty) { 4..=6 Type(26) Empty::code; }
    /// The events.
    GetAsyncReply(AsyncConfig) {
        4..=4 Type(27) AsyncConfig::code;
        5..=6 Type(27) AsyncConfig::code_properties;
    }
    /// Which events to hear.
    SetAsync(AsyncConfig) {
        4..=4 Type(28) AsyncConfig::code;
        5..=6 Type(28) AsyncConfig::code_properties;
        1..=6 Nicira(19) AsyncConfig::code;
    }
    /// Which events to hear, as properties.
    NxSetAsync2(AsyncConfig) { 1..=4 Nicira(27) AsyncConfig::code_properties; }
    /// Changes a meter.
    MeterMod(MeterMod) { 4..=6 Type(29) MeterMod::code; }
    /// About a bundle.
    BundleControl(BundleControl) {
        4..=4 Onf(2300) BundleControl::code;
        5..=6 Type(33) BundleControl::code;
    }
    /// A message of a bundle.
    BundleAdd(BundleAdd) {
        4..=4 Onf(2301) BundleAdd::code;
        5..=6 Type(34) BundleAdd::code;
    }
    /// How flows of OpenFlow 1.0 shall be written: 0, as there, or 2, with NXM.
    SetFlowFormat(Number) { 1..=1 Nicira(12) Number::code; }
    /// Whether flow mods have their table in the command.
    FlowModTableId(Number) { 1..=6 Nicira(15) Number::code_byte; }
    /// How packets for controllers shall come: 0, 1 (NXM) or 2 (properties).
    SetPacketInFormat(Number) { 1..=6 Nicira(16) Number::code; }
    /// Flows of OpenFlow 1.0 with their ages.
    FlowAge(Empty) { 1..=6 Nicira(18) Empty::code; }
    /// The number that `controller(id=...)` means.
    SetControllerId(Number) { 1..=6 Nicira(20) Number::code_short; }
    /// Changes the options of tunnels that fields stand for.
    TlvTableMod(TlvTableMod) { 1..=6 Nicira(24) TlvTableMod::code; }
    /// Which options?
    TlvTableRequest(Empty) { 1..=6 Nicira(25) Empty::code; }
    /// The options.
    TlvTableReply(TlvTable) { 1..=6 Nicira(26) TlvTable::code; }
    /// Ends a monitor (before OpenFlow 1.4).
    FlowMonitorCancel(Number) {
        1..=3 Nicira(21) Number::code;
        4..=4 Onf(1870) Number::code;
    }
    /// Updates are not told from here on (before OpenFlow 1.4).
    FlowMonitorPaused(Empty) {
        1..=3 Nicira(22) Empty::code;
        4..=4 Onf(1871) Empty::code;
    }
    /// They are again.
    FlowMonitorResumed(Empty) {
        1..=3 Nicira(23) Empty::code;
        4..=4 Onf(1872) Empty::code;
    }
    /// What are you?
    DescRequest(Empty) { 1..=6 Request(0) Empty::code; }
    /// For people.
    DescReply(Desc) { 1..=6 Reply(0) Desc::code; }
    /// Which flows?
    FlowStatsRequest(FlowRequest) {
        1..=6 Request(1) FlowRequest::code;
        1..=1 NiciraRequest(0) FlowRequest::code_nicira;
    }
    /// Flows.
    FlowStatsReply(Vec<FlowStats>) {
        1..=6 Reply(1) FlowStats::list;
        1..=1 NiciraReply(0) FlowStats::list_nicira;
    }
    /// How many flows?
    AggregateRequest(FlowRequest) {
        1..=6 Request(2) FlowRequest::code;
        1..=1 NiciraRequest(1) FlowRequest::code_nicira;
    }
    /// So many.
    AggregateReply(Aggregate) {
        1..=6 Reply(2) Aggregate::code;
        1..=1 NiciraReply(1) Aggregate::code;
    }
    /// Which tables?
    TableStatsRequest(Empty) { 1..=6 Request(3) Empty::code; }
    /// Tables.
    TableStatsReply(Vec<TableStats>) { 1..=6 Reply(3) TableStats::list; }
    /// What have ports counted?
    PortStatsRequest(PortRequest) { 1..=6 Request(4) PortRequest::code; }
    /// Counters of ports.
    PortStatsReply(Vec<PortStats>) { 1..=6 Reply(4) PortStats::list; }
    /// What have queues counted?
    QueueStatsRequest(QueueRequest) { 1..=6 Request(5) QueueRequest::code; }
    /// Counters of queues.
    QueueStatsReply(Vec<QueueStats>) { 1..=6 Reply(5) QueueStats::list; }
    /// What have groups counted?
    GroupStatsRequest(GroupRequest) {
        2..=6 Request(6) GroupRequest::code;
        1..=1 NiciraRequest(7) GroupRequest::code;
    }
    /// Counters of groups.
    GroupStatsReply(Vec<GroupStats>) {
        2..=6 Reply(6) GroupStats::list;
        1..=1 NiciraReply(7) GroupStats::list;
    }
    /// Which groups?
    GroupDescRequest(GroupRequest) {
        2..=6 Request(7) GroupRequest::code_desc;
        1..=1 NiciraRequest(8) GroupRequest::code_desc;
    }
    /// Groups.
    GroupDescReply(Vec<GroupDesc>) {
        2..=6 Reply(7) GroupDesc::list;
        1..=1 NiciraReply(8) GroupDesc::list;
    }
    /// What can groups?
    GroupFeaturesRequest(Empty) {
        3..=6 Request(8) Empty::code;
        1..=2 NiciraRequest(9) Empty::code;
    }
    /// What groups can.
    GroupFeaturesReply(GroupFeatures) {
        3..=6 Reply(8) GroupFeatures::code;
        1..=2 NiciraReply(9) GroupFeatures::code;
    }
    /// What have meters counted?
    MeterStatsRequest(MeterRequest) { 4..=6 Request(9) MeterRequest::code; }
    /// Counters of meters.
    MeterStatsReply(Vec<MeterStats>) { 4..=6 Reply(9) MeterStats::list; }
    /// Which meters?
    MeterConfigRequest(MeterRequest) { 4..=6 Request(10) MeterRequest::code; }
    /// Meters.
    MeterConfigReply(Vec<MeterConfig>) { 4..=6 Reply(10) MeterConfig::list; }
    /// What can meters?
    MeterFeaturesRequest(Empty) { 4..=6 Request(11) Empty::code; }
    /// What meters can.
    MeterFeaturesReply(MeterFeatures) { 4..=6 Reply(11) MeterFeatures::code; }
    /// What can tables? With content: how they shall be.
    TableFeaturesRequest(Vec<TableFeatures>) { 4..=6 Request(12) TableFeatures::list; }
    /// What tables can.
    TableFeaturesReply(Vec<TableFeatures>) { 4..=6 Reply(12) TableFeatures::list; }
    /// Which ports?
    PortDescRequest(PortRequest) { 1..=6 Request(13) PortRequest::code_desc; }
    /// Ports.
    PortDescReply(Vec<Port>) { 1..=6 Reply(13) Port::list; }
    /// How are tables configured?
    TableDescRequest(Empty) { 5..=6 Request(14) Empty::code; }
    /// How they are.
    TableDescReply(Vec<TableConfig>) { 5..=6 Reply(14) TableConfig::list; }
    /// Which queues? (since OpenFlow 1.4)
    QueueDescRequest(QueueRequest) { 5..=6 Request(15) QueueRequest::code; }
    /// There are no queues that OpenFlow describes.
    QueueDescReply(Empty) { 5..=6 Reply(15) Empty::code; }
    /// Tell me of flows' changes.
    FlowMonitorRequest(Vec<MonitorRequest>) {
        1..=3 NiciraRequest(2) MonitorRequest::list;
        4..=4 OnfRequest(1870) MonitorRequest::list;
        5..=6 Request(16) MonitorRequest::list;
    }
    /// Changes of flows.
    FlowMonitorReply(Vec<FlowUpdate>) {
        1..=3 NiciraReply(2) FlowUpdate::list;
        4..=4 OnfReply(1870) FlowUpdate::list;
        5..=6 Reply(16) FlowUpdate::list;
    }
}

/// A message that was read.
#[derive(Clone, PartialEq, Debug)]
pub struct Decoded {
    /// Number by which its answer is known.
    pub xid: u32,
    /// The message.
    pub message: Message,
    /// Whether it came in Nicira's form, in which its answer shall be, too.
    pub nicira: bool,
    /// Another part of the same multipart message follows.
    pub more: bool,
}

/// Bytes of the first message in `bytes`. `None`: its header is not there yet.
///
/// # Errors
/// A length that no message has: the stream cannot be read on.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(length) = bytes.get(2..4).filter(|_| bytes.len() >= HEADER) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < HEADER {
        return Err(Error::new(Code::OfpbrcBadLen, format!("a message of {length} bytes")));
    }
    Ok(Some(length))
}

/// The whole messages that bytes begin with.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = length(bytes).ok().flatten().filter(|length| *length <= bytes.len())?;
        let (message, rest) = bytes.split_at(length);
        bytes = rest;
        Some(message)
    })
}

/// The number in a message's header, 0 without one.
pub fn xid(bytes: &[u8]) -> u32 {
    bytes.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Reads one whole message. A message's version must be the dialect's but for hellos, errors and echos.
///
/// # Errors
/// What the other side is to be told: see [`ErrorMessage::new`].
pub fn decode(bytes: &[u8], dialect: Dialect) -> Result<Decoded, Error> {
    if length(bytes)? != Some(bytes.len()) {
        return Err(Error::new(Code::OfpbrcBadLen, "the length does not fit the message"));
    }
    if bytes[0] != dialect.version.number() && bytes[1] > 3 {
        let why = format!("version {} on a connection of version {}", bytes[0], dialect.version.number());
        return Err(Error::new(Code::OfpbrcBadVersion, why));
    }
    let (place, body, more) = Place::of(bytes, dialect.version)?;
    let Some(mut message) = Message::blank(place, dialect.version) else {
        let code = match place {
            Place::Type(_) => Code::OfpbrcBadType,
            Place::Request(_) | Place::Reply(_) => Code::OfpbrcBadStat,
            _ => Code::OfpbrcBadSubtype,
        };
        return Err(Error::new(
            code,
            format!("message {place:?} is not known in {}", dialect.version.name()),
        ));
    };
    let mut reader = Reader::new(bytes, body, &dialect);
    message.body(&mut reader, place)?;
    reader.finish()?;
    Ok(Decoded { xid: xid(bytes), message, nicira: place.is_nicira(), more })
}

/// Appends a message to `out`: of a multipart reply as many parts as it needs.
///
/// # Errors
/// The version has no such message, or it would be too long; `out` is empty then.
pub fn encode(mut message: Message, xid: u32, dialect: Dialect, out: Vec<u8>) -> Result<Vec<u8>, Error> {
    let Some(place) = message.place(dialect.version, dialect.nicira) else {
        let why = format!("{} has no {}", dialect.version.name(), message.name());
        return Err(Error::new(Code::OfpbrcBadType, why));
    };
    debug_assert!(place.is_reply() || !matches!(message, Message::FlowStatsReply(_)));
    let mut writer = Writer::new(out, &place.header(dialect.version, xid), &dialect);
    message.body(&mut writer, place)?;
    writer.finish()
}
