//! `exts=gbp` and `exts=gpe`, and what a socket without them makes of the same bits.

use crate::rings::{Net, udp};
use crate::{NEIGHBOURS, PEER, VTEP, adjacency, config, from_peer, run_program};
use flow::drop::DropReason;
use flow::program::{Op, Program, TunnelMetadata};
use wire::tunnel::encap::EncapPatch;
use wire::tunnel::outer::parse_outer;
use wire::tunnel::vxlan;
use wire::tunnel::vxlan::{GBP_APPLIED, GBP_DONT_LEARN};
use wire::view::{ArpOp, ArpRepr, EthernetRepr, build_arp};

fn net(ext: &str) -> Net {
    let options = format!(r#"remote_ip = "192.168.1.2", key = 100{ext}"#);
    Net::new(&config(&[&options], NEIGHBOURS, &["up"]))
}

/// A packet whose VXLAN header begins with these four bytes.
fn with_header(first: [u8; 4], csum: bool) -> Vec<u8> {
    let patch = EncapPatch { vni: 100, ..EncapPatch::default() };
    let mut packet =
        from_peer("192.168.1.2", "192.168.1.1", false, &patch, &vxlan::FORMAT, &udp(1, 2, 1, 2, 7));
    packet[42..46].copy_from_slice(&first);
    if csum {
        // Both ways in: the straight one and the one with all checks.
        let sum = udp_checksum(&packet);
        packet[40..42].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn udp_checksum(packet: &[u8]) -> u16 {
    let addresses = |at: usize| packet[at..at + 4].try_into().unwrap();
    let len = (packet.len() - 34) as u16;
    wire::checksum::udp(wire::checksum::pseudo_v4(addresses(26), addresses(30), 17, len), &packet[34..])
}

#[test]
fn a_gbp_socket_reads_the_policy_when_the_g_bit_is_set() {
    let mut net = net(r#", exts = "gbp""#);
    net.set_rules(
        "br0",
        &[
            "priority=10,in_port=vx0,tun_gbp_id=0x0102,tun_gbp_flags=0x48,actions=output:p1",
            "priority=5,in_port=vx0,tun_gbp_id=0,tun_gbp_flags=0,actions=output:p1",
            "priority=1,actions=drop",
        ],
    );
    for csum in [false, true] {
        let out = net.send("up", &[with_header([0x88, 0x48, 1, 2], csum)]);
        assert_eq!(out["p1"], [udp(1, 2, 1, 2, 7)]);
        assert!(net.send("up", &[with_header([0x88, 0x48, 1, 3], csum)]).is_empty(), "another group");
        assert!(net.send("up", &[with_header([0x88, 0x08, 1, 2], csum)]).is_empty(), "other flags");
        let out = net.send("up", &[with_header([0x08, 0x48, 1, 3], csum)]);
        assert_eq!(out["p1"].len(), 1, "without the G bit the others mean nothing");
    }
    assert_eq!(net.drops(DropReason::Rule), 4);
    net.finish();
}

#[test]
fn without_an_extension_reserved_bits_are_ignored() {
    let mut net = net("");
    net.set_rules(
        "br0",
        &[
            "priority=10,in_port=vx0,tun_gbp_id=0,tun_gbp_flags=0,actions=output:p1",
            "priority=1,actions=drop",
        ],
    );
    for first in [[0x88, 0x48, 1, 2], [0xff, 0xff, 0xff, 0xff], [0x0c, 0, 0, 1], [0x08, 0, 0, 0]] {
        for csum in [false, true] {
            let out = net.send("up", &[with_header(first, csum)]);
            assert_eq!(out["p1"], [udp(1, 2, 1, 2, 7)], "{first:02x?}");
        }
    }
    net.finish();
}

#[test]
fn a_gpe_socket_takes_ethernet_and_drops_other_protocols_by_name() {
    let mut net = net(r#", exts = "gpe""#);
    for csum in [false, true] {
        // Next protocol Ethernet; no next protocol, which is RFC 7348's header.
        for first in [[0x0c, 0, 0, 3], [0x08, 0, 0, 0]] {
            let out = net.send("up", &[with_header(first, csum)]);
            assert_eq!(out["p1"], [udp(1, 2, 1, 2, 7)], "{first:02x?}");
        }
        // IPv4, IPv6, NSH, an OAM packet, another version.
        let others = [[0x0c, 0, 0, 1], [0x0c, 0, 0, 2], [0x0c, 0, 0, 4], [0x0d, 0, 0, 3], [0x1c, 0, 0, 3]];
        let before = net.drops(DropReason::TunnelProtocol);
        for first in others {
            assert!(net.send("up", &[with_header(first, csum)]).is_empty(), "{first:02x?}");
        }
        assert_eq!(net.drops(DropReason::TunnelProtocol) - before, others.len() as u64);
    }
    let out = net.send("p1", &[udp(2, 1, 1, 2, 0)]);
    assert_eq!(out["up"][0][42..50], [0x0c, 0, 0, 3, 0, 0, 100, 0]);
    net.finish();
}

/// Sends a frame into VNI 100 with a policy.
fn with_policy(net: &mut Net, policy: TunnelMetadata) -> Vec<Vec<u8>> {
    let ops =
        [Op::Encap { adjacency: adjacency(net, "vx0"), vni: 100, metadata: policy, options: Box::default() }];
    let program = Program { ops: ops.into(), drop: DropReason::Rule };
    run_program(net, "p1", &udp(2, 1, 1, 2, 0), &program)
}

#[test]
fn a_policy_is_sent_by_a_gbp_port_alone() {
    let none = TunnelMetadata::default();
    let policy = TunnelMetadata {
        gbp_id: 0x0102,
        gbp_flags: GBP_DONT_LEARN | GBP_APPLIED,
        ..TunnelMetadata::default()
    };
    let plain_header = [0x08, 0, 0, 0, 0, 0, 100, 0];
    for csum in ["", ", csum = true"] {
        let mut gbp = net(&format!(r#", exts = "gbp"{csum}"#));
        // A plain packet between two with a policy: the ready-made header of the one is not the other's.
        for (policy, header) in [
            (policy, [0x88, 0x48, 1, 2, 0, 0, 100, 0]),
            (none, plain_header),
            (
                TunnelMetadata { gbp_id: 7, gbp_flags: 0, ..TunnelMetadata::default() },
                [0x88, 0, 0, 7, 0, 0, 100, 0],
            ),
            (
                TunnelMetadata { gbp_id: 0, gbp_flags: GBP_APPLIED, ..TunnelMetadata::default() },
                [0x88, 8, 0, 0, 0, 0, 100, 0],
            ),
        ] {
            let out = with_policy(&mut gbp, policy);
            assert_eq!(out[0][42..50], header, "{policy:?}");
            let outer = parse_outer(&out[0], &vxlan::FORMAT, false).expect("a right tunnel packet");
            assert_eq!(outer.flags & wire::key::TUN_CSUM != 0, !csum.is_empty());
        }
        gbp.finish();
        let mut plain = net(csum);
        assert_eq!(with_policy(&mut plain, policy)[0][42..50], plain_header);
        plain.finish();
    }
}

#[test]
fn a_policy_survives_the_wait_for_the_neighbour() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100, exts = "gbp""#], "", &["up"]));
    let request =
        with_policy(&mut net, TunnelMetadata { gbp_id: 9, gbp_flags: 0, ..TunnelMetadata::default() });
    assert_eq!(request[0][12..14], [8, 6], "ARP first");
    let mut reply = vec![0; 60];
    let (peer, own) = ([192, 168, 1, 2].into(), [192, 168, 1, 1].into());
    let eth = EthernetRepr { dst: VTEP, src: PEER, vlan_tci: None, ethertype: 0x0806 };
    let arp = ArpRepr { op: ArpOp::Reply, sha: PEER, spa: peer, tha: VTEP, tpa: own };
    build_arp(&mut reply, &eth, &arp).unwrap();
    assert_eq!(net.send("up", &[reply])["up"][0][42..46], [0x88, 0, 0, 9]);
    net.finish();
}

#[test]
fn rules_set_the_policy_and_a_packets_own_goes_on() {
    let options = r#"remote_ip = "192.168.1.2", key = 100, exts = "gbp""#;
    let other = r#"remote_ip = "192.168.1.3", key = 100, exts = "gbp""#;
    let neighbours = NEIGHBOURS.replace("[{", r#"[{ ip = "192.168.1.3", mac = "02:00:00:00:0a:03" }, {"#);
    let mut net = Net::new(&config(&[options, other], &neighbours, &["up"]));
    net.set_rules(
        "br0",
        &[
            "priority=10,in_port=p1,actions=set_field:0x102->tun_gbp_id,set_field:8->tun_gbp_flags,output:vx0",
            "priority=10,in_port=vx0,actions=output:vx1",
        ],
    );
    let out = net.send("p1", &[udp(2, 1, 1, 2, 0)]);
    assert_eq!(out["up"][0][42..50], [0x88, 8, 1, 2, 0, 0, 100, 0]);
    // From tunnel to tunnel, as OVS does it: the policy is the packet's until a rule changes it.
    for (id, header) in [(7, [0x88, 0, 0, 7]), (9, [0x88, 0, 0, 9])] {
        let out = net.send("up", &[with_header([0x88, 0, 0, id], false)]);
        assert_eq!(out["up"][0][42..46], header);
    }
    net.finish();
}
