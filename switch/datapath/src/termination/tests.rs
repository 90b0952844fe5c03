use super::*;
use proptest::prelude::*;
use wire::tunnel::encap::{EncapAddrs, EncapPatch, EncapSpec, EncapTemplate};
use wire::tunnel::outer::peek;
use wire::tunnel::{HeaderOptions, geneve, vxlan};

/// Addresses of either family; those with an even number are ours.
fn addr() -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), 0u32..3).prop_map(|(v6, n)| if v6 { ipv6(n) } else { IpAddr::V4(n.into()) })
}

fn ipv6(n: u32) -> IpAddr {
    IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(n)).into())
}

fn own() -> Vec<IpAddr> {
    vec![IpAddr::V4(0.into()), IpAddr::V4(2.into()), ipv6(0), ipv6(2)]
}

fn format(n: u8) -> &'static TunnelFormat {
    [&vxlan::FORMAT, &geneve::FORMAT, &vxlan::FORMAT_GBP, &vxlan::FORMAT_GPE][usize::from(n)]
}

fn packet(
    vni: u32,
    src: IpAddr,
    dst: IpAddr,
    udp_dst: u16,
    format: &'static TunnelFormat,
) -> Option<Vec<u8>> {
    let spec = EncapSpec {
        eth_src: MacAddr::ZERO,
        eth_dst: MacAddr::ZERO,
        vlan_tci: None,
        addrs: EncapAddrs::new(src, dst)?,
        df: true,
        udp_dst,
        format,
        options: HeaderOptions::NONE,
    };
    let template = EncapTemplate::new(&spec);
    let mut bytes = vec![0; template.header_len() + 14];
    let patch = EncapPatch { vni, ..EncapPatch::default() };
    template.write(&mut bytes[..template.header_len()], 14, &patch).unwrap();
    Some(bytes)
}

fn tunnel() -> impl Strategy<Value = (TunnelMatch, u8)> {
    let of = (
        prop::option::of(0u32..3),
        prop::option::of(addr()),
        prop::option::of(addr()),
        1u16..4,
        prop_oneof![6 => Just(0u8), 2 => 1u8..4],
    );
    of.prop_filter_map("addresses of two families", |(vni, remote, local, port, format)| {
        // Configuration refuses a local_ip that is not of remote_ip's family.
        let of_one = remote.is_none_or(|r| local.is_none_or(|l| r.is_ipv4() == l.is_ipv4()));
        of_one.then_some((TunnelMatch { vni, remote, local, transport: Transport::udp(port) }, format))
    })
}

proptest! {
    /// Against a scan in the order that facts-vxlan.md gives: in_key specific beats remote_ip
    /// specific beats local_ip specific; any specific beats flow. A UDP port has one format, that of its
    /// first tunnel.
    #[test]
    fn the_most_specific_port_takes_the_packet(
        tunnels in prop::collection::vec(tunnel(), 0..12),
        packets in prop::collection::vec((0u32..3, addr(), addr(), 0u16..4, 0u8..2), 1..40),
    ) {
        let mut termination = Termination::default();
        termination.add_underlay(MacAddr::ZERO, own(), [PortId(1)]);
        let mut accepted: Vec<(TunnelMatch, &TunnelFormat, PortId)> = Vec::new();
        for (i, (of, n)) in tunnels.iter().enumerate() {
            let port = PortId(i as u16 + 1);
            let other = accepted.iter().find(|(o, f, _)| o.transport == of.transport && *f != format(*n));
            let same = accepted.iter().find(|(o, ..)| o == of);
            let refused = other.is_some() || same.is_some();
            prop_assert_eq!(termination.add_tunnel(*of, format(*n), port).is_err(), refused);
            if !refused {
                accepted.push((*of, format(*n), port));
            }
        }
        for (vni, remote, local, dst_port, n) in packets {
            let Some(bytes) = packet(vni, remote, local, dst_port, format(n)) else { continue };
            let transport = Transport::udp(dst_port);
            let fits = |of: &TunnelMatch| {
                of.transport == transport
                    && of.vni.is_none_or(|v| v == vni)
                    && of.remote.is_none_or(|r| r == remote)
                    && of.local.is_none_or(|l| l == local)
            };
            let expected = accepted
                .iter()
                .filter(|(of, ..)| fits(of))
                .max_by_key(|(of, ..)| (of.vni.is_some(), of.remote.is_some(), of.local.is_some()))
                .map(|(.., port)| *port);
            let socket = accepted.iter().find(|(of, ..)| of.transport == transport).map(|(_, format, _)| *format);
            let socket = socket.filter(|_| own().contains(&local));
            let mut view = termination.view(PortId(1)).expect("an underlay's port");
            prop_assert_eq!(view.find(vni, remote, local, transport), expected);
            prop_assert_eq!(view.is_ours(&peek(&bytes).expect("UDP")), socket);
            let Some(outer) = Udp4Outer::read(&bytes) else {
                prop_assert!(local.is_ipv6());
                continue;
            };
            prop_assert_eq!(view.takes(&outer), socket == Some(format(n)));
            prop_assert_eq!(view.find_cached(&outer.tunnel()), expected);
            prop_assert_eq!(view.find_cached(&outer.tunnel()), expected, "cached");
        }
    }
}

#[test]
fn packets_that_nobody_takes_drive_no_answer_out() {
    let mut termination = Termination::default();
    termination.add_underlay(MacAddr::ZERO, vec![IpAddr::V4(0.into())], [PortId(1)]);
    let of = TunnelMatch { vni: Some(7), remote: None, local: None, transport: Transport::udp(4789) };
    termination.add_tunnel(of, &vxlan::FORMAT, PortId(2)).unwrap();
    let tunnel = |vni: u32| Udp4Tunnel {
        addresses: 0,
        port_and_vni: u64::from(port_word(4789)) | u64::from((vni << 8).swap_bytes()) << 32,
    };
    let mut view = termination.view(PortId(1)).unwrap();
    assert_eq!(view.find_cached(&tunnel(7)), Some(PortId(2)));
    for vni in (0..20_000).filter(|vni| *vni != 7) {
        assert_eq!(view.find_cached(&tunnel(vni)), None);
    }
    let left = termination.cache.iter().flat_map(|set| set.0).filter(|entry| entry.of == tunnel(7)).count();
    assert_eq!(left, 1);
}

#[test]
fn an_underlay_without_ipv4_addresses_or_sockets_takes_no_packet_by_the_fast_path() {
    let zero = IpAddr::V4(0.into());
    let outer = |port| {
        Udp4Outer::read(&packet(0, zero, zero, port, &vxlan::FORMAT).unwrap()).expect("an ordinary packet")
    };
    let mut termination = Termination::default();
    termination.add_underlay(MacAddr::ZERO, vec![zero], [PortId(1)]);
    assert!(!termination.view(PortId(1)).unwrap().takes(&outer(0)), "no socket");
    let mut termination = Termination::default();
    termination.add_underlay(MacAddr::ZERO, vec![ipv6(1)], [PortId(1)]);
    let of = TunnelMatch { vni: None, remote: None, local: None, transport: Transport::udp(4789) };
    termination.add_tunnel(of, &vxlan::FORMAT, PortId(2)).unwrap();
    assert!(!termination.view(PortId(1)).unwrap().takes(&outer(4789)), "no IPv4 address");
}

#[test]
fn a_member_takes_packets_to_its_groups_in_frames_to_their_mac_addresses() {
    let group: IpAddr = "239.1.1.1".parse().unwrap();
    let mut termination = Termination::default();
    termination.add_underlay(MacAddr::ZERO, own(), [PortId(1)]);
    termination.add_underlay(MacAddr::ZERO, own(), [PortId(2)]);
    termination.join([group]);
    let of = TunnelMatch { vni: Some(7), remote: None, local: None, transport: Transport::udp(4789) };
    termination.add_tunnel(of, &vxlan::FORMAT, PortId(9)).unwrap();
    let takes = |termination: &mut Termination, port, dst: IpAddr, mac: [u8; 6]| {
        let mut bytes = packet(7, IpAddr::V4(1.into()), dst, 4789, &vxlan::FORMAT).unwrap();
        bytes[..6].copy_from_slice(&mac);
        termination.view(PortId(port)).unwrap().is_ours(&peek(&bytes).expect("UDP")).is_some()
    };
    assert!(takes(&mut termination, 2, group, [1, 0, 0x5e, 1, 1, 1]));
    assert!(!takes(&mut termination, 1, group, [1, 0, 0x5e, 1, 1, 1]), "no member there");
    assert!(!takes(&mut termination, 2, group, [1, 0, 0x5e, 1, 1, 2]), "another group's frame");
    assert!(!takes(&mut termination, 2, group, [0; 6]));
    assert!(!takes(&mut termination, 2, "239.1.1.2".parse().unwrap(), [1, 0, 0x5e, 1, 1, 2]));
    assert!(takes(&mut termination, 2, IpAddr::V4(2.into()), [0; 6]));
}
