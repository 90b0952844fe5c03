//! Frames from the wire.

use crate::naive;
use std::net::{IpAddr, Ipv4Addr};
use wire::addr::MacAddr;
use wire::key::FlowKey;
use wire::parse::{extract, extract_general};
use wire::rewrite::{self, Headers, Side};
use wire::tunnel::outer::parse_outer;
use wire::tunnel::udp4::Udp4Outer;
use wire::tunnel::{TYPES, geneve};
use wire::view;

/// Frame parsing: the fast way, the general way and the reference agree; views read without a panic; what rewriting
/// says it did is what is read afterwards.
pub fn frame(data: &[u8]) {
    let (mut fast, mut general) = (FlowKey::ZERO, FlowKey::ZERO);
    let parsed = extract(data, &mut fast);
    assert_eq!(parsed, extract_general(data, &mut general));
    assert_eq!(fast, general);
    match (naive::extract(data), parsed) {
        (None, Err(_)) => {}
        (Some((key, l3, l4, anomaly)), Ok(parsed)) => {
            assert_eq!(fast, key);
            assert_eq!((usize::from(parsed.l3), usize::from(parsed.l4), parsed.anomaly), (l3, l4, anomaly));
            rewritten(
                data,
                &fast,
                Headers { l3: parsed.l3, l4: parsed.l4, proto: fast.nw_proto, partial: false },
            );
        }
        other => panic!("{other:?}"),
    }
    views(data);
}

/// Each rewrite on a copy: done or refused, but never half done, and never on anything else than it says.
fn rewritten(frame: &[u8], before: &FlowKey, headers: Headers) {
    let check = |name: &str, change: &dyn Fn(&mut [u8]) -> bool, expect: &dyn Fn(&mut FlowKey)| {
        let mut copy = frame.to_vec();
        let done = change(&mut copy);
        let mut key = FlowKey::ZERO;
        assert!(extract(&copy, &mut key).is_ok());
        let mut wanted = *before;
        if done {
            expect(&mut wanted);
        } else {
            assert_eq!(copy, frame, "{name} was refused");
        }
        assert_eq!(key, wanted, "{name}");
    };
    let mac = MacAddr([2, 0, 0, 0, 0, 7]);
    check("set_mac", &|f| rewrite::set_mac(f, Side::Src, mac), &|k| k.dl_src = mac);
    if before.dl_type.get() == 0x0800 && headers.l4 != 0 {
        let ip = Ipv4Addr::new(192, 0, 2, 7);
        check("set_ipv4", &|f| rewrite::set_ipv4(f, headers, Side::Dst, ip), &|k| {
            k.nw_dst = u32::from(ip).into();
        });
        check("set_ttl", &|f| rewrite::set_ttl(f, headers, 7), &|k| k.nw_ttl = 7);
        check("set_tos", &|f| rewrite::set_tos(f, headers, 0xb9), &|k| k.nw_tos = 0xb9);
    }
}

/// What the slow path reads of packets for the switch itself.
fn views(data: &[u8]) {
    let Ok((_, rest)) = view::EthernetRepr::parse(data) else { return };
    let _ = view::ArpRepr::parse(rest);
    if let Ok((ip, payload)) = view::Ipv4Repr::parse(rest) {
        let (src, dst) = (IpAddr::V4(ip.src), IpAddr::V4(ip.dst));
        let _ = view::UdpRepr::parse(payload, src, dst);
        let _ = view::Icmpv4Repr::parse(payload);
    }
    if let Ok((ip, payload)) = view::Ipv6Repr::parse(rest) {
        let (src, dst) = (IpAddr::V6(ip.src), IpAddr::V6(ip.dst));
        let _ = view::UdpRepr::parse(payload, src, dst);
        let _ = view::Icmpv6Repr::parse(payload, ip.src, ip.dst, ip.hop_limit);
    }
}

/// Tunnel headers of every format: the fast path and the general one agree, and the inner frame lies within the outer one.
pub fn tunnel(data: &[u8]) {
    for (_, format) in TYPES.iter().flat_map(|of| of.formats) {
        for allow_zero_csum6 in [false, true] {
            let outer = parse_outer(data, format, allow_zero_csum6);
            if let Some(fast) = Udp4Outer::read(data).filter(|fast| format.pattern == Some(fast.pattern)) {
                let outer = outer.expect("the fast path takes only what is right");
                assert_eq!((fast.tunnel().vni(), fast.inner_len), (outer.id, outer.inner_len));
                assert_eq!((fast.tos, fast.ttl, fast.trailing), (outer.tos, outer.ttl, outer.trailing));
            }
            let Ok(outer) = outer else { continue };
            let (start, len) = (usize::from(outer.inner_offset), usize::from(outer.inner_len));
            let inner = data.get(start..start + len).expect("the inner frame is within the outer one");
            assert_eq!(start + len + usize::from(outer.trailing), data.len());
            let options = data.get(outer.options_offset()..start).expect("options are in front of it");
            assert_eq!(options.len(), usize::from(outer.options_len));
            let all: usize = geneve::Options(options).map(|o| geneve::OPTION_LEN + o.data.len()).sum();
            assert_eq!(all, options.len());
            let mut key = FlowKey::ZERO;
            outer.fill_key(&mut key);
            assert_eq!(key.tun_id, outer.id);
            assert!(extract(inner, &mut key).is_ok(), "an inner frame has an Ethernet header");
        }
    }
}
