//! `vlan-vni`: many VNIs on one port, each a VLAN of the bridge.

use crate::rings::{Net, frame};
use crate::{NEIGHBOURS, config, from_peer};
use flow::drop::DropReason;
use std::collections::BTreeSet;
use wire::tunnel::encap::EncapPatch;
use wire::tunnel::outer::parse_outer;
use wire::tunnel::vxlan;

/// VXLAN over IPv4.
const OUTER: usize = 50;

/// A trunk port of hosts, and a tunnel port with two VLANs.
fn net() -> Net {
    let options = r#"remote_ip = "192.168.1.2,192.168.1.3", vlan-vni = "10:10010,20:20020""#;
    let neighbours = NEIGHBOURS.replace("[{", "[{ ip = \"192.168.1.3\", mac = \"02:00:00:00:0a:03\" }, {");
    Net::new(&config(&[options], &neighbours, &["up"]))
}

fn received(net: &mut Net, vni: u32, inner: &[u8]) -> Vec<Vec<u8>> {
    let patch = EncapPatch { vni, ..EncapPatch::default() };
    let packet = from_peer("192.168.1.2", "192.168.1.1", false, &patch, &vxlan::FORMAT, inner);
    net.send("up", &[packet]).remove("p1").unwrap_or_default()
}

/// Remote VTEP, VNI and inner frame of what left.
fn left(net: &mut Net, sent: &[u8]) -> BTreeSet<(String, u32, Vec<u8>)> {
    let out = net.send("p1", &[sent.to_vec()]).remove("up").unwrap_or_default();
    out.iter()
        .map(|packet| {
            let outer = parse_outer(packet, &vxlan::FORMAT, false).expect("a right tunnel packet");
            (outer.dst.to_string(), outer.id, packet[OUTER..].to_vec())
        })
        .collect()
}

/// The frame with a tag.
fn tagged(tci: u16) -> Vec<u8> {
    frame(2, 1, Some(tci), 7)
}

/// The same without.
fn untagged() -> Vec<u8> {
    let mut frame = tagged(0);
    frame.drain(12..16);
    frame
}

#[test]
fn a_vlan_inside_is_a_vni_outside() {
    let mut net = net();
    for _ in 0..2 {
        for (vlan, vni) in [(10, 10010), (20, 20020)] {
            let both = ["192.168.1.2", "192.168.1.3"].map(|to| (to.to_owned(), vni, untagged()));
            assert_eq!(left(&mut net, &tagged(0x6000 | vlan)), both.into(), "flooded to both VTEPs");
        }
    }
    assert_eq!(left(&mut net, &tagged(30)), BTreeSet::new());
    assert_eq!(left(&mut net, &untagged()), BTreeSet::new());
    assert_eq!(net.drops(DropReason::VniUnmapped), 2);
    // What comes in a VNI is in its VLAN, and its sender is found there.
    let mut inner = untagged();
    inner[..6].copy_from_slice(&crate::rings::mac(1).0);
    inner[6..12].copy_from_slice(&crate::rings::mac(2).0);
    for (vlan, vni) in [(10u16, 10010), (20, 20020)] {
        let out = received(&mut net, vni, &inner);
        let expected = [&inner[..12], &[0x81, 0], &vlan.to_be_bytes(), &inner[12..]].concat();
        assert_eq!(out, [expected]);
    }
    let one = ("192.168.1.2".to_owned(), 20020, untagged());
    assert_eq!(left(&mut net, &tagged(20)), [one].into(), "to the VTEP where it was learned");
    let priority = [&inner[..12], &[0x81, 0, 0xa0, 0], &inner[12..]].concat();
    assert_eq!(received(&mut net, 10010, &priority)[0][12..16], [0x81, 0, 0xa0, 10], "a priority stays");
    net.finish();
}

#[test]
fn what_is_not_mapped_is_dropped_and_counted() {
    let mut net = net();
    assert!(received(&mut net, 10011, &untagged()).is_empty());
    assert!(received(&mut net, 0, &untagged()).is_empty());
    assert_eq!(net.drops(DropReason::VniUnmapped), 2);
    assert!(received(&mut net, 10010, &tagged(10)).is_empty());
    assert!(received(&mut net, 10010, &tagged(20)).is_empty());
    assert_eq!(net.drops(DropReason::InnerVlan), 2);
    net.finish();
}

#[test]
fn rules_see_the_vlan_and_may_choose_it() {
    let mut net = net();
    net.set_rules(
        "br0",
        &[
            "priority=10,in_port=p1,dl_vlan=10,actions=output:vx0,mod_vlan_vid:20,output:vx0,strip_vlan,output:vx0",
            "priority=9,in_port=p1,actions=mod_vlan_vid:10,output:vx0",
            "priority=8,in_port=vx0,dl_vlan=20,tun_id=20020,actions=strip_vlan,output:p1",
            "priority=1,actions=drop",
        ],
    );
    let of = |vni: u32| ["192.168.1.2", "192.168.1.3"].map(|to| (to.to_owned(), vni, untagged()));
    assert_eq!(left(&mut net, &tagged(10)), of(10010).into_iter().chain(of(20020)).collect());
    assert_eq!(left(&mut net, &untagged()), of(10010).into());
    assert_eq!(received(&mut net, 20020, &untagged()), [untagged()]);
    assert!(received(&mut net, 10010, &untagged()).is_empty());
    net.finish();
}
