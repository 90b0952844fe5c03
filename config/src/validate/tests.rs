use super::*;
use crate::document::{Mirror, Neighbour, Route, VlanMode, mac_table};

fn bridge(name: &str, address: &[&str]) -> Bridge {
    Bridge { address: address.iter().map(|net| net.parse().unwrap()).collect(), ..Bridge::new(name) }
}

fn dpdk(name: &str, device: &str) -> Port {
    let options = [("dpdk-devargs".to_owned(), device.to_owned())].into();
    Port { name: name.into(), kind: "dpdk".into(), options, ..Port::default() }
}

fn vxlan(name: &str, options: &[(&str, &str)]) -> Port {
    let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Port { name: name.into(), kind: "vxlan".into(), options, ..Port::default() }
}

fn found(bridges: Vec<Bridge>) -> Vec<String> {
    validate(&Document { bridges, ..Document::default() }).iter().map(ToString::to_string).collect()
}

fn with_ports(ports: Vec<Port>) -> Vec<String> {
    found(vec![Bridge { ports, ..Bridge::new("br0") }])
}

#[test]
fn evpn_has_defaults_of_bridges() {
    let evpn = |pairs: &[(&str, &str)]| Document {
        bridges: vec![Bridge::new("br0")],
        evpn: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..Document::default()
    };
    let mut document = evpn(&[("netns", "frr"), ("neigh-suppress", "true")]);
    assert!(validate(&document).is_empty());
    let effective = document.effective(&document.bridges[0]);
    assert_eq!((effective.evpn_netns(), effective.neigh_suppress()), (Some("frr"), Some(true)));
    document.bridges[0].other_config.insert("neigh-suppress".to_owned(), "false".to_owned());
    assert_eq!(document.effective(&document.bridges[0]).neigh_suppress(), Some(false), "its own comes first");
    for (key, value, expected) in [
        ("netns", "a/b", "network namespace"),
        ("neigh-suppress", "maybe", "true"),
        ("x", "1", "expected netns"),
    ] {
        let problems = validate(&evpn(&[(key, value)]));
        assert!(problems.len() == 1 && problems[0].to_string().contains(expected), "{key}: {problems:?}");
    }
}

#[test]
fn paths_have_indices_and_places_have_names() {
    let bridges = vec![
        Bridge::new("br0"),
        Bridge {
            ports: vec![dpdk("a", "x"), vxlan("v", &[("remote_ip", "10.0.0.1"), ("key", "16777216")])],
            ..Bridge::new("br1")
        },
    ];
    let problems = validate(&Document { bridges, ..Document::default() });
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].path, "bridge[1].port[1].options.key");
    assert_eq!(problems[0].place, "bridge br1, port v: options.key");
}

#[test]
fn made_up_frames_fit_a_buffer() {
    assert_eq!(with_ports(vec![dpdk("a", "net_null0,size=2048")]), [""; 0]);
    for devargs in ["net_null0,copy=1,size=2049", "net_null0,size=65536", "net_null0,size=x"] {
        let found = with_ports(vec![dpdk("a", devargs)]);
        assert!(found.len() == 1 && found[0].contains("up to 2048 bytes"), "{devargs}: {found:?}");
    }
}

#[test]
fn the_kernels_addresses_are_not_the_documents_too() {
    let kernel = Bridge { addresses_from: crate::AddressesFrom::Kernel, ..Bridge::new("br0") };
    assert_eq!(found(vec![kernel.clone()]), [""; 0]);
    let wrong = found(vec![Bridge { address: bridge("", &["10.0.0.1/24"]).address, ..kernel }]);
    assert_eq!(
        wrong,
        [
            "bridge br0: address: is the kernel's with addresses_from=kernel, expected none: ip address add ADDRESS dev br0"
        ]
    );
}

#[test]
fn names() {
    assert!(found(vec![Bridge::new("br-0_a.b")]).is_empty());
    for bad in ["", "sixteen-letters-", "br 0", "br/0", "br\u{e9}", "-br"] {
        assert_eq!(found(vec![Bridge::new(bad)]).len(), 1, "{bad:?}");
    }
    assert!(with_ports(vec![dpdk(&"p".repeat(31), "x")]).is_empty());
    assert_eq!(with_ports(vec![dpdk(&"p".repeat(32), "x")]).len(), 1);
}

#[test]
fn port_names_are_unique_across_bridges() {
    let bridges = vec![
        Bridge { ports: vec![dpdk("p0", "x"), dpdk("br1", "z")], ..Bridge::new("br0") },
        Bridge { ports: vec![dpdk("p0", "y")], ..Bridge::new("br1") },
    ];
    assert_eq!(
        found(bridges),
        [
            "bridge br0, port br1: name: the name is taken by bridge br1",
            "bridge br1, port p0: name: the name is taken by another port of bridge br0"
        ]
    );
}

#[test]
fn one_device_one_port() {
    assert_eq!(
        with_ports(vec![dpdk("p0", "net_tap0,iface=a"), dpdk("p1", "net_tap0,iface=b")]),
        ["bridge br0, port p1: options.dpdk-devargs: device net_tap0 is in use by port p0"]
    );
    assert!(with_ports(vec![dpdk("p0", "net_tap0"), dpdk("p1", "net_tap01")]).is_empty());
}

#[test]
fn one_tap_of_the_kernel_one_port() {
    assert_eq!(
        with_ports(vec![dpdk("p0", "net_tap0,iface=a"), dpdk("p1", "net_tap1,iface=b,iface=a")]),
        ["bridge br0, port p1: options.dpdk-devargs: device a is in use by port p0"]
    );
    for kind in ["tap", "internal"] {
        let tap = Port { name: "a".into(), kind: kind.into(), ..Port::default() };
        assert_eq!(
            with_ports(vec![tap.clone(), dpdk("p1", "net_tap1,iface=a")]),
            ["bridge br0, port p1: options.dpdk-devargs: device a is in use by port a"]
        );
        // The other end of a tap is somebody else's, who may be this switch.
        assert!(with_ports(vec![tap, dpdk("p1", "net_af_packet1,iface=a")]).is_empty());
    }
    assert_eq!(
        with_ports(vec![dpdk("p0", "net_af_packet0,iface=a"), dpdk("p1", "net_af_xdp1,iface=a")]),
        ["bridge br0, port p1: options.dpdk-devargs: device a is in use by port p0"]
    );
    let ports = vec![dpdk("p0", "net_tap0,iface=br0")];
    let kernel = Bridge { addresses_from: crate::AddressesFrom::Kernel, ports, ..Bridge::new("br0") };
    assert_eq!(
        found(vec![kernel]),
        ["bridge br0, port p0: options.dpdk-devargs: device br0 is in use by port br0"]
    );
}

#[test]
fn one_ofport_one_port() {
    let port = |name, device| Port { ofport_request: Some(7), ..dpdk(name, device) };
    assert_eq!(
        with_ports(vec![port("p0", "x"), port("p1", "y")]),
        ["bridge br0, port p1: ofport_request: port p0 requests 7 too"]
    );
}

#[test]
fn vlans() {
    let problems = |tag: Option<u16>, trunks: &[u16], vlan_mode| {
        with_ports(vec![Port { tag, trunks: trunks.to_vec(), vlan_mode, ..dpdk("p0", "x") }])
    };
    for (tag, trunks, mode) in [
        (Some(10), &[][..], None),
        (None, &[10, 20], None),
        (Some(1), &[10], Some(VlanMode::NativeTagged)),
        (Some(0), &[], Some(VlanMode::NativeUntagged)),
        (Some(4095), &[], Some(VlanMode::Access)),
        (None, &[], Some(VlanMode::Trunk)),
    ] {
        assert!(problems(tag, trunks, mode).is_empty(), "{tag:?} {trunks:?} {mode:?}");
    }
    for (tag, trunks, mode) in [
        (Some(4096), &[][..], None),
        (Some(10), &[20], None),
        (None, &[4096], None),
        (None, &[5, 5], None),
        (Some(10), &[20], Some(VlanMode::Access)),
        (Some(10), &[], Some(VlanMode::Trunk)),
        (None, &[], Some(VlanMode::Access)),
        (None, &[20], Some(VlanMode::NativeTagged)),
    ] {
        assert_eq!(problems(tag, trunks, mode).len(), 1, "{tag:?} {trunks:?} {mode:?}");
    }
}

#[test]
fn extensions_share_no_udp_port() {
    let gbp = vxlan("v0", &[("remote_ip", "10.0.0.1"), ("exts", "gbp")]);
    let plain = vxlan("v1", &[("remote_ip", "10.0.0.2")]);
    let problems = with_ports(vec![gbp.clone(), plain.clone()]);
    let expected = "bridge br0, port v1: options.dst_port: port v0 uses UDP port 4789 for vxlan-gbp, expected the same type and exts on one dst_port";
    assert!(problems.iter().any(|p| p == expected), "{problems:?}");
    let mut other = plain;
    other.options.insert("dst_port".into(), "8472".into());
    assert!(with_ports(vec![gbp, other]).is_empty());
}

#[test]
fn tunnels_across_bridges_are_compared() {
    let port = |name| vxlan(name, &[("remote_ip", "10.0.0.1"), ("key", "flow")]);
    let problems = found(vec![
        Bridge { ports: vec![port("v0")], ..Bridge::new("br0") },
        Bridge { ports: vec![port("v1")], ..Bridge::new("br1") },
    ]);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with(
            "bridge br1, port v1: cannot be told apart on receive from port v0: both take any VNI"
        )
    );
}

#[test]
fn a_vtep_does_not_tunnel_to_itself() {
    let problems = found(vec![
        bridge("br-phy", &["10.0.0.1/24"]),
        Bridge { ports: vec![vxlan("v0", &[("remote_ip", "10.0.0.2,10.0.0.1")])], ..Bridge::new("br0") },
    ]);
    assert_eq!(
        problems,
        [
            "bridge br0, port v0: options.remote_ip: 10.0.0.1 is this switch's own address (bridge br-phy), expected another VTEP's"
        ]
    );
}

#[test]
fn tunnels_may_leave_everything_to_the_flow() {
    for options in [
        &[("remote_ip", "flow"), ("local_ip", "flow"), ("key", "flow")][..],
        &[("remote_ip", "2001:db8::1"), ("local_ip", "2001:db8::2")],
        &[("remote_ip", "10.0.0.1"), ("exts", "gbp")],
        &[("remote_ip", "10.0.0.1"), ("exts", "gpe")],
    ] {
        assert!(with_ports(vec![vxlan("v0", options)]).is_empty(), "{options:?}");
    }
}

#[test]
fn internal_ports() {
    let internal = |name: &str| Port { name: name.into(), kind: "internal".into(), ..Port::default() };
    let mac = |mac: [u8; 6]| Some(wire::addr::MacAddr(mac));
    assert!(
        with_ports(vec![Port { mac: mac([2, 0, 0, 0, 0, 1]), mtu: Some(1400), ..internal("host0") }])
            .is_empty()
    );
    assert!(with_ports(vec![internal("fifteen-letters")]).is_empty());
    assert_eq!(with_ports(vec![internal("sixteen-letters-")]).len(), 1);
    assert_eq!(with_ports(vec![Port { mac: mac([3, 0, 0, 0, 0, 1]), ..internal("host0") }]).len(), 1);
    assert_eq!(
        with_ports(vec![Port { mac: mac([2, 0, 0, 0, 0, 1]), ..dpdk("p0", "x") }]),
        ["bridge br0, port p0: mac: only a port of type internal or tap has a mac to set"]
    );
    let mut optional = internal("host0");
    optional.options.insert("peer".into(), "x".into());
    assert_eq!(
        with_ports(vec![optional]),
        ["bridge br0, port host0: options.peer: unknown option, a port of type internal has none"]
    );
}

#[test]
fn tap_ports() {
    let tap = |name: &str, options: &[(&str, &str)]| {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mac = Some(wire::addr::MacAddr([2, 0, 0, 0, 0, 1]));
        with_ports(vec![Port { name: name.into(), kind: "tap".into(), options, mac, ..Port::default() }])
    };
    assert!(tap("tap0", &[("n_rxq", "2"), ("persist", "true"), ("offloads", "false")]).is_empty());
    assert_eq!(tap("sixteen-letters-", &[]).len(), 1);
    assert_eq!(
        tap("tap0", &[("iface", "x")]),
        ["bridge br0, port tap0: options.iface: unknown option, expected n_rxq, offloads, persist or gro"]
    );
}

#[test]
fn patch_ports() {
    let patch = |peer: &str| {
        let options = [("peer".to_owned(), peer.to_owned())].into();
        with_ports(vec![Port { name: "a".into(), kind: "patch".into(), options, ..Port::default() }])
    };
    assert!(patch("b").is_empty(), "the peer may come later");
    assert_eq!(
        patch("a"),
        ["bridge br0, port a: options.peer: the port itself, expected the name of another patch port"]
    );
    assert_eq!(patch("").len(), 1);
}

#[test]
fn mirrors() {
    let mirror = |mirror: Mirror| {
        let ports = vec![dpdk("p0", "x"), dpdk("p1", "y")];
        let mirrors = vec![Mirror { name: "m0".into(), ..mirror }];
        found(vec![Bridge { mirrors, ports, ..Bridge::new("br0") }])
    };
    let to = |port: &str| Mirror { output_port: Some(port.into()), ..Mirror::default() };
    assert!(mirror(Mirror { select_all: true, ..to("p1") }).is_empty());
    assert!(mirror(Mirror { select_src_port: vec!["p0".into(), "br0".into()], ..to("p1") }).is_empty());
    assert!(mirror(Mirror { output_vlan: Some(4095), select_vlan: vec![0], ..Mirror::default() }).is_empty());
    for (bad, what) in [
        (
            Mirror { select_dst_port: vec!["p1".into()], ..to("p1") },
            "p1 is the output_port, expected another port",
        ),
        (Mirror { select_dst_port: vec!["p0".into(), "p0".into()], ..to("p1") }, "p0 stands twice"),
        (Mirror { select_vlan: vec![7, 7], ..to("p1") }, "VLAN 7 stands twice"),
        (Mirror { output_vlan: Some(0), ..Mirror::default() }, "found 0, expected a number from 1 to 4095"),
        (to("p2"), "bridge br0 has no port \"p2\""),
        (Mirror::default(), "expected output_port or output_vlan"),
    ] {
        let problems = mirror(bad);
        assert!(problems.len() == 1 && problems[0].ends_with(what), "{what}: {problems:?}");
    }
    let twice = vec![Mirror { name: "m".into(), ..to("p0") }; 2];
    let problems = found(vec![Bridge { ports: vec![dpdk("p0", "x")], mirrors: twice, ..Bridge::new("br0") }]);
    assert_eq!(problems, ["bridge br0, mirror m: name: there is another mirror named m"]);
}

#[test]
fn macs_of_bridges() {
    let with =
        |mac: [u8; 6]| found(vec![Bridge { hwaddr: Some(wire::addr::MacAddr(mac)), ..Bridge::new("br0") }]);
    assert!(with([2, 0, 0, 0, 0, 1]).is_empty());
    assert_eq!(with([3, 0, 0, 0, 0, 1]).len(), 1);
    assert_eq!(with([0; 6]).len(), 1);
}

#[test]
fn other_config() {
    let with = |name: &str, value: &str| {
        let other_config = [(name.to_owned(), value.to_owned())].into();
        found(vec![Bridge { other_config, ..Bridge::new("br0") }])
    };
    for (name, value) in [
        ("mac-aging-time", "1"),
        ("mac-table-size", "8192"),
        ("mac-port-limit", "1"),
        ("mac-learning-rate", "500"),
        ("forward-bpdu", "true"),
        ("hwaddr", "02:00:00:00:00:01"),
        ("evpn-netns", "frr"),
        ("datapath-id", "00000000000000aB"),
        ("datapath-id", "0xab"),
        ("dp-desc", ""),
        ("dp-sn", "7"),
        ("neigh-suppress", "false"),
    ] {
        assert!(with(name, value).is_empty(), "{name}");
    }
    for (name, value) in [
        ("mac-aging-time", "0"),
        ("mac-aging-time", "0x10"),
        ("mac-table-size", "x"),
        ("mac-port-limit", "0"),
        ("mac-learning-rate", "0"),
        ("forward-bpdu", "1"),
        ("hwaddr", "01:00:00:00:00:01"),
        ("hwaddr", "x"),
        ("evpn-netns", ""),
        ("datapath-id", "ab"),
        ("datapath-id", "0x0"),
        ("datapath-id", "+00000000000000a"),
        ("datapath-id", "0x00000000000000001"),
        ("neigh-suppress", "yes"),
        ("evpn-netns", "../frr"),
        ("stp", "true"),
    ] {
        assert_eq!(with(name, value).len(), 1, "{name}={value}");
    }
    let mut bridge = Bridge::new("br0");
    bridge.other_config.insert("mac-aging-time".into(), "15".into());
    assert_eq!(
        (bridge.mac_aging_time(), bridge.mac_table_size(), bridge.forward_bpdu()),
        (15, mac_table::SIZE_DEFAULT, false)
    );
    bridge.other_config.insert("mac-table-size".into(), "100".into());
    assert_eq!((bridge.mac_port_limit(), bridge.mac_learning_rate()), (100, mac_table::RATE_DEFAULT));
}

#[test]
fn addresses() {
    assert!(
        found(vec![
            bridge("a", &["10.0.0.1/24", "10.0.0.2/24", "2001:db8::1/64"]),
            bridge("b", &["10.0.1.1/31"])
        ])
        .is_empty()
    );
    assert_eq!(
        found(vec![bridge("a", &["10.0.0.1/16"]), bridge("b", &["10.0.1.1/24"])]),
        [
            "bridge b: address[0]: 10.0.1.1/24 overlaps 10.0.0.1/16 of bridge a, expected networks that do not overlap"
        ]
    );
    // However the bridges and networks are ordered, an overlap is told once, at the later bridge.
    for (a, b) in [
        ("10.0.1.1/24", "10.0.0.1/16"),
        ("10.0.0.1/24", "10.0.0.2/24"),
        ("2001:db8::1/32", "2001:db8:1::1/64"),
    ] {
        let problems = found(vec![bridge("a", &["10.9.0.1/24", a]), bridge("b", &["192.168.0.1/24", b])]);
        assert_eq!(
            problems,
            [format!(
                "bridge b: address[1]: {b} overlaps {a} of bridge a, expected networks that do not overlap"
            )]
        );
    }
    for bad in ["10.0.0.0/24", "10.0.0.255/24", "224.0.0.1/24", "0.0.0.0/0", "127.0.0.1/8", "ff02::1/64"] {
        assert_eq!(found(vec![bridge("a", &[bad])]).len(), 1, "{bad}");
    }
    assert_eq!(found(vec![bridge("a", &["10.0.0.1/24", "10.0.0.1/25"])]).len(), 1);
}

#[test]
fn routes_and_neighbours_are_on_link() {
    let with = |to: &str, via: Option<&str>| {
        let routes = vec![Route { to: to.parse().unwrap(), via: via.map(|via| via.parse().unwrap()) }];
        found(vec![Bridge { routes, ..bridge("a", &["10.0.0.1/24"]) }])
    };
    assert!(with("0.0.0.0/0", Some("10.0.0.254")).is_empty());
    assert!(with("10.1.0.0/16", None).is_empty());
    assert_eq!(
        with("0.0.0.0/0", Some("10.0.1.254")),
        [
            "bridge a: route[0].via: 10.0.1.254 is not on-link, expected an address in 10.0.0.0/24, one that a route without via leads to, or that of a static neighbour"
        ]
    );
    assert_eq!(with("0.0.0.0/0", Some("10.0.0.1")).len(), 1, "its own address");
    assert_eq!(with("::/0", Some("10.0.0.2")).len(), 1, "another family");
    assert_eq!(with("2001:db8::/32", None).len(), 1, "no address of that family");

    let with = |ip: &str, mac: [u8; 6]| {
        let neighbours = vec![Neighbour { ip: ip.parse().unwrap(), mac: wire::addr::MacAddr(mac), vlan: 0 }];
        found(vec![Bridge { neighbours, ..bridge("a", &["10.0.0.1/24"]) }])
    };
    assert!(with("10.0.0.2", [2, 0, 0, 0, 0, 2]).is_empty());
    assert_eq!(with("10.0.1.2", [2, 0, 0, 0, 0, 2]).len(), 1, "not on-link");
    assert_eq!(with("10.0.0.1", [2, 0, 0, 0, 0, 2]).len(), 1, "its own address");
    assert_eq!(with("10.0.0.2", [0xff; 6]).len(), 1, "broadcast");
}

#[test]
fn a_tunnel_without_an_underlay_is_allowed() {
    assert!(with_ports(vec![vxlan("v0", &[("remote_ip", "10.0.0.1")])]).is_empty());
}
