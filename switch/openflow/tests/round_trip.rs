//! Messages survive both directions, and no bytes do harm.

#[path = "common/nothing.rs"]
mod nothing;

use flow::ofp::{PortNames, parse_flow, parse_group, parse_meter};
use nothing::Nothing;
use openflow::server::Connection;
use openflow::*;
use proptest::prelude::*;
use wire::tunnel::geneve::TlvMap;

const FLOWS: &[&str] = &[
    "actions=drop",
    "priority=10,in_port=1,actions=output:2,LOCAL,IN_PORT,NORMAL,FLOOD,ALL,CONTROLLER:99",
    "table=3,cookie=0x1234,idle_timeout=5,hard_timeout=60,tcp,nw_src=10.0.0.0/8,tp_dst=80,actions=output:1",
    "dl_vlan=10,dl_vlan_pcp=3,arp,arp_op=2,arp_tha=02:00:00:00:00:01,actions=strip_vlan,output:2",
    "icmp6,icmp_type=135,nd_target=fe80::/64,actions=resubmit(,7),resubmit(3,1)",
    "tun_id=0x60/0xf0,metadata=1/3,reg3=7,ipv6,ipv6_label=5,nw_frag=no,actions=clone(clone(output:1)),output:2",
    "ip,actions=dec_ttl(1,2,3),controller(max_len=64,id=5,reason=no_match),controller(id=7,userdata=01.02.03.04.05)",
    "sctp,actions=set_queue:9,output:1,pop_queue,exit",
    "udp,actions=output(port=1,max_len=100),output(port=IN_PORT,max_len=14)",
    "udp,actions=controller(userdata=01,reason=invalid_ttl,max_len=9),output:1",
    "tcp,tcp_flags=+syn-ack,tp_src=0x1000/0xf000,actions=load:0x5->NXM_NX_REG0[3..9],move:NXM_NX_REG0[]->NXM_NX_REG1[]",
];

fn samples(version: Version) -> Vec<Message> {
    let mut all = Vec::new();
    for text in FLOWS {
        let spec = parse_flow(text, &()).unwrap();
        // OpenFlow 1.5 has no load.
        let actions = if version == Version::V15 && text.contains("load") {
            vec![flow::ofp::Action::Drop]
        } else {
            spec.actions.clone()
        };
        let spec = flow::ofp::FlowSpec { actions, ..spec };
        for command in [FlowCommand::Add, FlowCommand::ModifyStrict, FlowCommand::Delete] {
            let adds = command == FlowCommand::Add;
            let old = version == Version::V10;
            all.push(Message::FlowMod(Box::new(FlowMod {
                command,
                table: (!old).then_some(spec.table),
                priority: spec.priority,
                new_cookie: (adds || old && command == FlowCommand::ModifyStrict).then_some(spec.cookie),
                cookie: if adds || old { (0, 0) } else { (1, 3) },
                flags: if old { RESET_COUNTS | SEND_FLOW_REM } else { SEND_FLOW_REM },
                buffer_id: NO_BUFFER,
                out_port: (!adds).then_some(7),
                matches: spec.matches,
                actions: spec.actions.clone(),
                ..FlowMod::default()
            })));
        }
        all.push(Message::FlowStatsReply(vec![
            FlowStats {
                spec: flow::ofp::FlowSpec { send_flow_rem: false, ..spec.clone() }.into(),
                duration: std::time::Duration::from_millis(1234),
                packets: 1 << 40,
                ..FlowStats::default()
            };
            3
        ]));
        let matches = spec.matches;
        all.push(Message::FlowStatsRequest(FlowRequest {
            table: Some(4),
            matches,
            ..FlowRequest::default()
        }));
        all.push(Message::FlowMonitorRequest(vec![MonitorRequest {
            id: 5,
            flags: 0x1f,
            matches,
            ..MonitorRequest::default()
        }]));
        all.push(Message::FlowMonitorReply(vec![FlowUpdate {
            event: UpdateEvent::Added,
            matches,
            actions: spec.actions.clone(),
            ..FlowUpdate::default()
        }]));
        all.push(Message::PacketOut(PacketOut {
            buffer_id: NO_BUFFER,
            metadata: parse_flow("in_port=LOCAL,actions=drop", &()).unwrap().matches,
            actions: spec.actions.clone(),
            data: vec![1, 2, 3],
        }));
    }
    if version > Version::V10 {
        for text in [
            "group_id=7,type=select,bucket=weight:3,actions=output:1,bucket=actions=output:2",
            "group_id=9,type=select,selection_method=dp_hash,selection_method_param=4,bucket=output:1",
            "group_id=10,type=select,selection_method=hash,fields(ip_src=255.255.0.0,tcp_dst),bucket=output:1",
            "group_id=8,type=ff,bucket=watch_port:2,actions=output:1",
        ] {
            // A selection method is a property of OpenFlow 1.5.
            if text.contains("selection") && version < Version::V15 {
                continue;
            }
            let group = parse_group(text, &()).unwrap();
            all.push(Message::GroupMod(GroupMod { group: group.clone(), ..GroupMod::default() }));
            all.push(Message::GroupDescReply(vec![GroupDesc(group); 2]));
        }
        let meter = parse_meter("meter=3,pktps,burst,stats,bands=type=drop rate=5 burst_size=9").unwrap();
        all.push(Message::MeterMod(MeterMod { command: MeterCommand::Modify, meter }));
        all.push(Message::MeterConfigReply(vec![MeterConfig(meter)]));
        all.push(Message::MeterStatsReply(vec![MeterStats { bands: vec![(1, 2)], ..MeterStats::default() }]));
        all.push(Message::BundleControl(BundleControl {
            id: 9,
            kind: BundleControlKind::CommitReply,
            flags: 3,
        }));
        all.push(Message::BundleAdd(BundleAdd { id: 9, flags: 3, message: vec![4, 0, 0, 8, 0, 0, 0, 0] }));
        all.push(Message::TableFeaturesReply(vec![TableFeatures::of_switch(3, 9, version)]));
    }
    all.push(Message::PortStatsReply(vec![PortStats {
        number: flow::ofp::PORT_LOCAL,
        rx_packets: 5,
        collisions: 9,
        ..PortStats::default()
    }]));
    all.push(Message::PortDescReply(vec![Port {
        number: 3,
        name: "p0".into(),
        config: PORT_DOWN,
        state: LINK_DOWN,
        curr: PortFeatures::of_speed(1000, true),
        ..Port::default()
    }]));
    all.push(Message::PacketIn(PacketIn {
        total_len: 60,
        data: vec![0; 60],
        metadata: parse_flow("in_port=3,actions=drop", &()).unwrap().matches,
        ..PacketIn::default()
    }));
    all.push(Message::RoleRequest(RoleRequest { role: Role::Primary, generation_id: None }));
    all.push(Message::FlowRemoved(FlowRemoved {
        priority: 7,
        matches: parse_flow("tcp,actions=drop", &()).unwrap().matches,
        ..FlowRemoved::default()
    }));
    all.push(Message::AggregateReply(Aggregate { packets: 1, bytes: 2, flows: 3 }));
    all
}

/// All forms of the samples as bytes.
fn corpus() -> Vec<(Dialect, Message, Vec<u8>)> {
    let mut all = Vec::new();
    for version in Version::all() {
        for nicira in [false, true] {
            let dialect = Dialect { nicira, ..Dialect::new(version) };
            for message in samples(version) {
                let bytes = encode(message.clone(), 0x1234_5678, dialect, Vec::new())
                    .unwrap_or_else(|error| panic!("{version:?} {message:?}: {error}"));
                all.push((dialect, message, bytes));
            }
        }
    }
    all
}

/// OpenFlow 1.0 has an action for a queue of a port, later versions have three.
#[test]
fn an_enqueue_is_what_a_version_has_for_it() {
    for version in Version::all() {
        let spec = parse_flow("actions=enqueue:1:7", &()).unwrap();
        let message = FlowMod { buffer_id: NO_BUFFER, actions: spec.actions.clone(), ..FlowMod::default() };
        let dialect = Dialect::new(version);
        let bytes = encode(Message::FlowMod(message.into()), 1, dialect, Vec::new()).unwrap();
        let Message::FlowMod(read) = decode(&bytes, dialect).unwrap().message else { panic!("{version:?}") };
        let later = parse_flow("actions=set_queue:7,output:1,pop_queue", &()).unwrap();
        let expected = if version == Version::V10 { spec.actions } else { later.actions };
        assert_eq!(read.actions, expected, "{version:?}");
    }
}

/// A whole tag set by Nicira's actions: as OpenFlow 1.0 has it there, and unchanged later.
#[test]
fn a_tag_that_is_set_as_a_whole_reads_as_it_is_written() {
    for (text, old) in [
        ("actions=set_field:0->vlan_tci", "actions=strip_vlan"),
        ("actions=set_field:0x7005->vlan_tci", "actions=mod_vlan_vid:5,mod_vlan_pcp:3"),
    ] {
        for version in Version::all() {
            let dialect = Dialect::new(version);
            let mut actions = parse_flow(text, &()).unwrap().actions;
            for _ in 0..2 {
                let message = FlowMod { buffer_id: NO_BUFFER, actions, ..FlowMod::default() };
                let bytes = encode(Message::FlowMod(message.into()), 1, dialect, Vec::new()).unwrap();
                let Message::FlowMod(read) = decode(&bytes, dialect).unwrap().message else {
                    panic!("{text}")
                };
                actions = read.actions;
            }
            let expected = if version == Version::V10 { old } else { text };
            assert_eq!(actions, parse_flow(expected, &()).unwrap().actions, "{version:?} {text}");
        }
    }
}

#[test]
fn what_is_written_reads_back() {
    for (dialect, message, bytes) in corpus() {
        assert_eq!(length(&bytes).unwrap(), Some(bytes.len()), "{message:?}");
        let decoded =
            decode(&bytes, dialect).unwrap_or_else(|error| panic!("{dialect:?} {message:?}: {error}"));
        assert_eq!(decoded.xid, 0x1234_5678);
        // The fixed structure of OpenFlow 1.0 has no place for much of a match, Nicira's flow mod none for a table.
        let again = encode(decoded.message.clone(), decoded.xid, dialect, Vec::new()).unwrap();
        assert_eq!(again, bytes, "{dialect:?} {message:?}");
        if dialect.version > Version::V10 && !dialect.nicira {
            assert_eq!(decoded.message, message, "{dialect:?}");
        }
    }
}

#[test]
fn long_replies_come_in_parts() {
    let spec = parse_flow("table=3,tcp,nw_src=10.0.0.0/8,tp_dst=80,actions=output:1", &()).unwrap();
    let flows = vec![FlowStats { spec: spec.into(), ..FlowStats::default() }; 5000];
    for version in Version::all() {
        let dialect = Dialect { nicira: true, ..Dialect::new(version) };
        let bytes = encode(Message::FlowStatsReply(flows.clone()), 7, dialect, Vec::new()).unwrap();
        let (mut rest, mut read, mut parts) = (&bytes[..], Vec::new(), 0);
        while let Some(length) = length(rest).unwrap() {
            let decoded = decode(&rest[..length], dialect).unwrap();
            rest = &rest[length..];
            parts += 1;
            assert_eq!((decoded.more, decoded.xid), (!rest.is_empty(), 7), "{version:?}");
            let Message::FlowStatsReply(part) = decoded.message else { panic!() };
            read.extend(part);
        }
        assert!(parts > 5 && read == flows, "{version:?} {parts}");
    }
}

/// A hello, then these bytes: whatever they are, the connection answers or says why it closes.
fn serve(version: Version, bytes: &[u8]) {
    let mut connection = Connection::new(1, &Version::all(), true);
    let mut hello = vec![version.number(), 0, 0, 8, 0, 0, 0, 1];
    connection.input(&mut hello, &mut Nothing);
    assert_eq!(connection.version(), Some(version));
    let mut input = bytes.to_vec();
    let output = connection.input(&mut input, &mut Nothing);
    assert!(input.len() <= bytes.len() && output.bytes.len() < 1 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn broken_messages_are_refused(
        at in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        thread_local!(static CORPUS: Vec<(Dialect, Message, Vec<u8>)> = corpus());
        CORPUS.with(|corpus| {
            let (dialect, _, bytes) = &corpus[at.index(corpus.len())];
            let mut bytes = bytes.clone();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cuts {
                bytes.truncate(cut.index(bytes.len()).max(HEADER));
            }
            let length = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            if let Ok(decoded) = decode(&bytes, *dialect) {
                // What was understood can be said again, and means the same.
                let form = Dialect { nicira: decoded.nicira, ..*dialect };
                if let Ok(again) = encode(decoded.message.clone(), decoded.xid, form, Vec::new()) {
                    let back = decode(&again, form);
                    prop_assert_eq!(back.map(|d| d.message), Ok(decoded.message));
                }
            }
            serve(dialect.version, &bytes);
            Ok(())
        })?;
    }

    #[test]
    fn noise_is_refused(version in 0usize..4, noise in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..40) {
        let version = Version::all()[version];
        let mut bytes = noise;
        if bytes.len() >= HEADER {
            let length = bytes.len() as u16;
            bytes[..2].copy_from_slice(&[version.number(), kind]);
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
        }
        serve(version, &bytes);
    }
}

/// A bridge whose options of class 0xffff have fields.
struct Options(TlvMap);

impl PortNames for Options {
    fn number(&self, _name: &str) -> Option<u32> {
        None
    }

    fn name(&self, _number: u32) -> Option<String> {
        None
    }

    fn tlvs(&self) -> &TlvMap {
        &self.0
    }
}

#[test]
fn options_that_have_fields_are_matched_and_set() {
    let mut tlvs = TlvMap::EMPTY;
    tlvs.add((0xffff, 1, 4), 0).unwrap();
    tlvs.add((0xffff, 2, 8), 63).unwrap();
    for text in [
        "tun_metadata0=0x5,actions=set_field:0x1234->tun_metadata63,output:1",
        "tun_metadata63=0x10/0xf0,actions=move:NXM_NX_TUN_METADATA0[0..7]->NXM_NX_REG0[0..7]",
        "tun_metadata0,tun_metadata63=0xffffffffffffffff,actions=set_field:0x1/0xf->tun_metadata0",
    ] {
        let spec = parse_flow(text, &Options(tlvs)).unwrap();
        for version in Version::all() {
            let message = Message::FlowMod(Box::new(FlowMod {
                table: Some(0),
                priority: spec.priority,
                new_cookie: Some(0),
                buffer_id: NO_BUFFER,
                matches: spec.matches,
                actions: spec.actions.clone(),
                ..FlowMod::default()
            }));
            let nicira = version == Version::V10;
            let dialect = Dialect { tlvs, nicira, table_id: nicira, ..Dialect::new(version) };
            let bytes = encode(message, 1, dialect, Vec::new()).unwrap();
            let Message::FlowMod(read) = decode(&bytes, dialect).unwrap().message else { panic!("{text}") };
            assert_eq!(
                (read.matches, read.actions),
                (spec.matches, spec.actions.clone()),
                "{version:?} {text}"
            );
            let without = decode(&bytes, Dialect { tlvs: TlvMap::EMPTY, ..dialect });
            assert_eq!(without.unwrap_err().code, Code::OfpbmcBadField, "{version:?} {text}");
        }
    }
}
