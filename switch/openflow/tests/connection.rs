//! What a connection hears of, and when.

#[path = "common/nothing.rs"]
mod nothing;

use flow::ofp::{Action, FlowSpec, PortRef};
use nothing::Nothing;
use openflow::server::{Connection, Elections, Event};
use openflow::{
    AsyncConfig, AsyncMasks, Dialect, Echo, Empty, FlowRemoved, Message, MonitorRequest, Number, PacketIn,
    PortStatus, RemovedReason, Role, RoleRequest, SwitchConfig, UpdateEvent, Version, encode, monitor_flags,
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

#[test]
fn an_old_election_is_stale_on_every_connection_of_the_bridge() {
    let elections = Elections::default();
    let mut both = [(); 2].map(|()| greeted(Version::V13, true).among(elections.clone()));
    let request =
        |role, generation| Message::RoleRequest(RoleRequest { role, generation_id: Some(generation) });
    let error = |bytes: &[u8]| bytes[1] == 1;
    assert!(!error(&say(&mut both[0], request(Role::Primary, 7))));
    assert!(error(&say(&mut both[1], request(Role::Primary, 6))), "who was elected before");
    assert!(!error(&say(&mut both[1], request(Role::Primary, 8))));
    let told = both[0].demote();
    assert!(!told.is_empty(), "who was primary is told that another one is");
    assert!(error(&say(&mut both[0], request(Role::Secondary, 7))));
}

#[test]
fn reasons_that_there_are_not_are_refused() {
    let mut tool = greeted(Version::V14, false);
    for (flow_removed, refused) in [(0x3f, false), (0x40, true)] {
        let primary = AsyncMasks { flow_removed, ..AsyncMasks::default() };
        let config = AsyncConfig { primary, present: 1 << 5, ..AsyncConfig::default() };
        let answer = say(&mut tool, Message::SetAsync(config));
        assert_eq!(!answer.is_empty(), refused, "{flow_removed:#x}: {answer:?}");
    }
}

/// With `out_port` a monitor is of flows that send there, and hears when one does so no longer.
#[test]
fn a_monitor_hears_of_a_flow_that_leaves_its_port() {
    let spec = |port| FlowSpec { actions: vec![Action::Output(PortRef::Port(port))], ..FlowSpec::default() };
    let mut tool = greeted(Version::V14, false);
    let monitor = MonitorRequest {
        flags: monitor_flags::MODIFY | monitor_flags::ACTIONS,
        out_port: Some(2),
        ..MonitorRequest::default()
    };
    say(&mut tool, Message::FlowMonitorRequest(vec![monitor]));
    for (before, now, heard) in [(2, 3, true), (3, 2, true), (3, 3, false)] {
        let event = Event::Flow {
            event: UpdateEvent::Modified,
            spec: spec(now).into(),
            before: Some(spec(before).into()),
            reason: RemovedReason::default(),
            origin: None,
        };
        assert_eq!(!tool.event(&event).is_empty(), heard, "from {before} to {now}");
    }
}
