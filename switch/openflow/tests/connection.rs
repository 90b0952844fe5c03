//! What a connection hears of, and when.

#[path = "common/nothing.rs"]
mod nothing;

use nothing::Nothing;
use openflow::server::{Connection, Event};
use openflow::{
    AsyncConfig, AsyncMasks, Dialect, Echo, Empty, FlowRemoved, Message, Number, PacketIn, PortStatus,
    SwitchConfig, Version, encode,
};

/// A connection that has been greeted.
fn greeted(version: Version, controller: bool) -> Connection {
    let mut connection = Connection::new(1, &Version::all(), controller);
    connection.input(&mut vec![version.number(), 0, 0, 8, 0, 0, 0, 1], &mut Nothing);
    connection
}

fn say(connection: &mut Connection, message: Message) -> Vec<u8> {
    let dialect = Dialect::new(connection.version().unwrap());
    let mut bytes = encode(message, 7, dialect, Vec::new()).unwrap();
    connection.input(&mut bytes, &mut Nothing).bytes
}

/// Which of the kinds of events a connection hears.
fn events_of(connection: &mut Connection) -> Vec<&'static str> {
    let events = [
        ("packet", Event::Packet { packet: Box::default(), controller: 0 }),
        ("port", Event::Port(Box::<PortStatus>::default())),
        ("removed", Event::Removed(Box::<FlowRemoved>::default())),
    ];
    events
        .into_iter()
        .filter(|(_, event)| !connection.event(event).is_empty())
        .map(|(name, _)| name)
        .collect()
}

const EVERYTHING: [&str; 3] = ["packet", "port", "removed"];

#[test]
fn a_tool_hears_of_nothing_before_it_asks() {
    for version in Version::all() {
        assert_eq!(events_of(&mut greeted(version, true)), EVERYTHING);
        let mut tool = greeted(version, false);
        // How packets shall come does not say that they shall.
        say(&mut tool, Message::SetPacketInFormat(Number(2)));
        assert_eq!(events_of(&mut tool), [""; 0], "{version:?}");
        say(&mut tool, Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 128 }));
        assert_eq!(events_of(&mut tool), EVERYTHING, "{version:?}");
        say(&mut tool, Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 0 }));
        assert_eq!(events_of(&mut tool), [""; 0], "{version:?}");
    }
}

#[test]
fn a_tool_that_sets_what_it_hears_hears_that() {
    let mut tool = greeted(Version::V13, false);
    let none = AsyncMasks {
        packet_in: 0,
        port_status: 0,
        flow_removed: 0,
        role_status: 0,
        table_status: 0,
        requestforward: 0,
    };
    let primary = AsyncMasks { port_status: 7, ..none };
    say(&mut tool, Message::SetAsync(AsyncConfig { primary, secondary: none, present: 0x3f }));
    assert_eq!(events_of(&mut tool), ["port"]);
    assert_eq!(say(&mut tool, Message::GetConfigRequest(Empty))[10..], [0, 128]);
}

#[test]
fn a_packet_comes_whole() {
    let mut tool = greeted(Version::V13, false);
    say(&mut tool, Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 20 }));
    let packet = PacketIn { data: vec![7; 60], total_len: 60, ..PacketIn::default() };
    let message = tool.event(&Event::Packet { packet: packet.into(), controller: 0 });
    assert!(message.ends_with(&[7; 60]));
}

#[test]
fn messages_behind_a_large_answer_wait_until_it_is_sent() {
    let mut tool = greeted(Version::V13, false);
    let dialect = Dialect::new(Version::V13);
    let mut bytes = Vec::new();
    for _ in 0..10 {
        bytes = encode(Message::TableFeaturesRequest(Vec::new()), 7, dialect, bytes).unwrap();
    }
    bytes = encode(Message::EchoRequest(Echo::default()), 8, dialect, bytes).unwrap();
    for left in (1..=10).rev() {
        let output = tool.input(&mut bytes, &mut Nothing);
        assert!(output.bytes.is_empty() && output.unfinished && bytes.len() == 16 * (left - 1) + 8);
        assert!(output.reply.is_some_and(|reply| reply.flatten().count() > 0));
    }
    let output = tool.input(&mut bytes, &mut Nothing);
    assert!(bytes.is_empty() && !output.unfinished && output.bytes.len() == 8);
}
