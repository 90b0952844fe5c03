//! Bad files, each with the line that the user is told; round trips; arbitrary text.

use proptest::prelude::*;

use super::*;
use crate::document::{AddressesFrom, FailMode, VlanMode};
use crate::settings::{DatapathSettings, DpdkSettings};
use crate::validate::accept_flows;

const EXAMPLES: [&str; 9] = [
    include_str!("../../examples/demo.toml"),
    include_str!("../../examples/pcap.toml"),
    include_str!("../../examples/flows.toml"),
    include_str!("../../examples/trunk.toml"),
    include_str!("../../examples/groups.toml"),
    include_str!("../../examples/mirror.toml"),
    include_str!("../../examples/patch.toml"),
    include_str!("../../examples/geneve.toml"),
    include_str!("../../examples/evpn.toml"),
];

/// The problems of `text` as they are displayed.
fn problems(text: &str) -> Vec<String> {
    match parse_str("t.toml", text, &accept_flows) {
        Ok(document) => panic!("no problem found in {document:?}"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

/// The one problem of `text`.
fn problem(text: &str) -> String {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems[0].clone()
}

/// A bridge br0 in line 1 and 2 and a dpdk port in lines 3 to 6; `more` starts in line 7.
fn with_port(more: &str) -> String {
    let port =
        "[[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\noptions = { dpdk-devargs = \"net_null0\" }\n";
    format!("[[bridge]]\nname = \"br0\"\n{port}{more}")
}

/// A bridge br0 and a vxlan port whose options, one a line, start in line 6.
fn with_tunnel(options: &str) -> String {
    format!(
        "[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"vxlan1\"\ntype = \"vxlan\"\n{}",
        options.lines().map(|option| format!("options.{option}")).collect::<Vec<_>>().join("\n") + "\n"
    )
}

#[test]
fn examples_are_valid_and_round_trip() {
    for text in EXAMPLES {
        let document = parse_str("example", text, &accept_flows).unwrap_or_else(|errors| panic!("{errors}"));
        let again = parse_str("again", &document.to_toml(), &accept_flows).unwrap();
        assert_eq!(document, again);
        let json = serde_json::to_string(&document).unwrap();
        assert_eq!(document, serde_json::from_str(&json).unwrap());
    }
}

#[test]
fn the_contract_s_file() {
    let text = r#"
[[bridge]]
name = "br0"
fail_mode = "standalone"
flows = ["priority=10,in_port=p0,actions=output:vxlan1"]

[[bridge.port]]
name = "p0"
type = "dpdk"                                     # an ethdev by name, probed now unless EAL already did
options = { dpdk-devargs = "net_tap0,iface=tap0" }
tag = 10                                          # access VLAN; or trunks = [..]

[[bridge.port]]
name = "vxlan1"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = "flow", dst_port = "8472" }

[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24"]                      # the VTEP's addresses
route = [{ to = "0.0.0.0/0", via = "192.168.1.254" }]
neighbour = [{ ip = "192.168.1.2", mac = "02:00:00:00:0a:02" }]

[[bridge.port]]
name = "uplink"
type = "dpdk"
options = { dpdk-devargs = "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap" }
mtu = 1600
"#;
    let document = parse_str("t", text, &accept_flows).unwrap();
    assert_eq!(document.bridges.len(), 2);
    let (br0, phy) = (&document.bridges[0], &document.bridges[1]);
    assert_eq!((br0.fail_mode, br0.ports[0].tag), (FailMode::Standalone, Some(10)));
    assert_eq!(br0.flows, ["priority=10,in_port=p0,actions=output:vxlan1"]);
    assert_eq!(br0.ports[1].options["dst_port"], "8472");
    assert_eq!(phy.mac().unwrap().to_string(), "02:00:00:00:0a:01");
    assert_eq!((phy.routes.len(), phy.neighbours.len(), phy.ports[0].mtu), (1, 1, Some(1600)));
}

#[test]
fn option_values_may_be_numbers_and_booleans() {
    let text = with_tunnel("remote_ip = \"10.0.0.2\"\ndst_port = 8472\nkey = 0x10\ncsum = true");
    let document = parse_str("t", &text, &accept_flows).unwrap();
    let options = &document.bridges[0].ports[0].options;
    assert_eq!((options["dst_port"].as_str(), options["key"].as_str()), ("8472", "16"));
    assert_eq!(options["csum"], "true");
}

#[test]
fn unknown_keys() {
    assert_eq!(problem("bridges = []"), "t.toml:1: bridges: unknown key; did you mean bridge?");
    assert_eq!(
        problem(&with_port("tga = 10\n")),
        "t.toml:7: bridge br0, port p0: tga: unknown key; did you mean tag?"
    );
    let found = problem("[[bridge]]\nname = \"br0\"\n\nstp = true\n");
    assert!(
        found.starts_with("t.toml:4: bridge br0: stp: unknown key, expected name, fail_mode, "),
        "{found}"
    );
    assert_eq!(
        problem("[datapath]\nflow_limit = 5\n"),
        "t.toml:2: datapath.flow_limit: unknown key; did you mean flow-limit?"
    );
    // A misspelt key is not also reported missing.
    let found = problem("[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"p0\"\ntpye = \"dpdk\"\n");
    assert_eq!(found, "t.toml:5: bridge br0, port p0: tpye: unknown key; did you mean type?");
}

#[test]
fn wrong_types() {
    assert_eq!(
        problem(&with_port("tag = \"10\"\n")),
        "t.toml:7: bridge br0, port p0: tag: found the string \"10\", expected a number from 0 to 4095"
    );
    assert_eq!(
        problem(&with_port("mtu = 1.5\n")),
        "t.toml:7: bridge br0, port p0: mtu: found the float 1.5, expected a number from 68 to 9702"
    );
    assert_eq!(
        problem(&with_port("trunks = [\n  10,\n  true,\n]\n")),
        "t.toml:9: bridge br0, port p0: trunks[1]: found the boolean true, expected a number from 0 to 4095"
    );
    assert_eq!(
        problem("bridge = 5"),
        "t.toml:1: bridge: found the integer 5, expected tables, as [[bridge]]"
    );
    assert_eq!(
        problem("[[bridge]]\nname = 5\n"),
        "t.toml:2: bridge[0]: name: found the integer 5, expected a string"
    );
    assert_eq!(
        problem("\n[dpdk]\nmbufs = []\n"),
        "t.toml:3: dpdk.mbufs: found an array, expected a number from 512 to 16777216"
    );
    assert_eq!(problem("dpdk = 1"), "t.toml:1: dpdk: found the integer 1, expected a table");
    assert_eq!(
        problem("[[bridge]]\nname = \"b\"\nflows = [\n \"x\",\n 7,\n]"),
        "t.toml:5: bridge b: flows[1]: found the integer 7, expected a flow as a string"
    );
}

#[test]
fn numbers_out_of_range() {
    assert_eq!(
        problem(&with_port("tag = 4096\n")),
        "t.toml:7: bridge br0, port p0: tag: found 4096, expected a number from 0 to 4095"
    );
    assert_eq!(
        problem(&with_port("mtu = 67\n")),
        "t.toml:7: bridge br0, port p0: mtu: found 67, expected a number from 68 to 9702"
    );
    assert_eq!(
        problem(&with_port("ofport_request = 99999999999999999999\n")),
        "t.toml:7: bridge br0, port p0: ofport_request: found 99999999999999999999, expected a number from 1 to 65279"
    );
    assert_eq!(problem("[dpdk]\nrxd = 1000\n"), "t.toml:2: dpdk.rxd: found 1000, expected a power of two");
    assert_eq!(
        problem("[datapath]\nmax-idle = -1\n"),
        "t.toml:2: datapath.max-idle: found -1, expected a number from 100 to 3600000"
    );
}

#[test]
fn mac_and_ip_syntax() {
    let bridge = "[[bridge]]\nname = \"br0\"\naddress = [\"10.0.0.1/24\"]\n";
    let found = |line: &str| problem(&format!("{bridge}{line}\n"));
    assert_eq!(
        found("hwaddr = \"02:00:00:00:0a\""),
        "t.toml:4: bridge br0: hwaddr: found \"02:00:00:00:0a\", expected a MAC address such as \"02:00:00:00:0a:01\""
    );
    assert_eq!(
        found("route = [{ to = \"0.0.0.0/33\", via = \"10.0.0.2\" }]"),
        "t.toml:4: bridge br0: route[0].to: found \"0.0.0.0/33\", expected a network such as \"0.0.0.0/0\""
    );
    assert_eq!(
        found("neighbour = [\n  { ip = \"10.0.0\", mac = \"02:00:00:00:0a:02\" }]"),
        "t.toml:5: bridge br0: neighbour[0].ip: found \"10.0.0\", expected an IP address such as \"192.168.1.254\""
    );
    assert_eq!(
        found("neighbour = [{ ip = \"10.0.0.2\" }]"),
        "t.toml:4: bridge br0: neighbour[0]: mac is missing, expected a MAC address such as \"02:00:00:00:0a:01\""
    );
    assert_eq!(
        problem("[[bridge]]\nname = \"br0\"\naddress = [\n  \"192.168.1.1/24\",\n  \"192.168.2.1\",\n]"),
        "t.toml:5: bridge br0: address[1]: found \"192.168.2.1\", expected an address with its prefix length such as \"192.168.1.1/24\""
    );
}

#[test]
fn vni_over_24_bits() {
    assert_eq!(
        problem(&with_tunnel("remote_ip = \"10.0.0.2\"\nkey = 16777216")),
        "t.toml:7: bridge br0, port vxlan1: options.key: 16777216 is over 24 bits, expected 0 to 16777215 or \"flow\""
    );
}

#[test]
fn two_ports_of_one_name() {
    let second =
        "[[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\noptions = { dpdk-devargs = \"net_null1\" }\n";
    assert_eq!(
        problem(&with_port(second)),
        "t.toml:8: bridge br0, port p0: name: the name is taken by another port of bridge br0"
    );
    assert_eq!(
        problem(&with_port(&second.replace("p0", "br0"))),
        "t.toml:8: bridge br0, port br0: name: the name is taken by bridge br0"
    );
    assert_eq!(
        problem("[[bridge]]\nname = \"br0\"\n[[bridge]]\nname = \"br0\"\n"),
        "t.toml:4: bridge br0: name: there is another bridge named br0"
    );
}

#[test]
fn two_tunnels_that_cannot_be_told_apart() {
    let text = with_tunnel("remote_ip = \"10.0.0.2\"\nkey = 5")
        + "[[bridge.port]]\nname = \"vxlan2\"\ntype = \"vxlan\"\noptions = { remote_ip = \"10.0.0.2\", in_key = \"0x5\" }\n";
    assert_eq!(
        problem(&text),
        "t.toml:8: bridge br0, port vxlan2: cannot be told apart on receive from port vxlan1: both take VNI 5 from 10.0.0.2 on UDP port 4789; expected another in_key, remote_ip, local_ip or dst_port"
    );
}

#[test]
fn what_is_missing_is_told_at_what_it_is_missing_from() {
    assert_eq!(
        problem("[[bridge]]\nname = \"br0\"\n\n[[bridge.port]]\nname = \"p0\"\n"),
        "t.toml:4: bridge br0, port p0: type: expected dpdk, dpdkvhostuserclient, dpdkvhostuser, tap, system, vxlan, geneve, gre, ip6gre, internal or patch"
    );
    assert!(
        problem(&with_tunnel("key = 5"))
            .starts_with("t.toml:6: bridge br0, port vxlan1: options.remote_ip: missing, expected ")
    );
    assert!(problem("\n[[bridge]]\n").starts_with("t.toml:2: bridge[0]: name: expected a name of 1 to 15 "));
}

#[test]
fn unknown_port_type() {
    let text = |kind: &str| {
        format!("[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"p0\"\ntype = \"{kind}\"\n")
    };
    assert_eq!(
        problem(&text("vxlna")),
        "t.toml:5: bridge br0, port p0: type: \"vxlna\" is unknown, expected dpdk, dpdkvhostuserclient, dpdkvhostuser, tap, system, vxlan, geneve, gre, ip6gre, internal or patch"
    );
    assert_eq!(
        problem(&text("patch")),
        "t.toml:3: bridge br0, port p0: options.peer: missing, expected the name of the patch port that is the other end"
    );
}

#[test]
fn flows_are_judged_where_they_stand() {
    let text = "[[bridge]]\nname = \"br0\"\nflows = [\n  \"actions=NORMAL\",\n  \"actions=fly\",\n]\n";
    let check = |flow: &str, bridge: &Bridge| {
        assert_eq!(bridge.name, "br0");
        if flow.contains("fly") { Err("fly: unknown action".to_owned()) } else { Ok(()) }
    };
    let errors = parse_str("t.toml", text, &check).unwrap_err();
    assert_eq!(errors.to_string(), "t.toml:5: bridge br0: flows[1]: fly: unknown action");
}

#[test]
fn groups_meters_and_mirrors_are_judged_where_they_stand() {
    struct Judge;
    impl crate::CheckRules for Judge {
        fn check(&self, bridge: &Bridge, wrong: &mut dyn FnMut(crate::Rules, usize, String)) {
            assert_eq!((bridge.meters.len(), bridge.groups.len()), (2, 1));
            wrong(crate::Rules::Meters, 1, "no meter".to_owned());
            wrong(crate::Rules::Groups, 0, "no group".to_owned());
        }
    }
    let text = r#"[[bridge]]
name = "br0"
meters = ["meter=1,bands=type=drop rate=1",
    "meter"]
groups = ["group"]
[[bridge.mirror]]
name = "m0"
select_all = 1
select_vlan = [4096]
[[bridge.mirror]]
name = "m1"
select_src_port = ["p9"]
output_port = "p8"
output_vlan = 5
"#;
    let errors = parse_str("t.toml", text, &Judge).unwrap_err().0;
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "t.toml:4: bridge br0: meters[1]: no meter",
            "t.toml:5: bridge br0: groups[0]: no group",
            "t.toml:6: bridge br0, mirror m0: expected output_port or output_vlan",
            "t.toml:8: bridge br0, mirror m0: select_all: found the integer 1, expected true or false",
            "t.toml:9: bridge br0, mirror m0: select_vlan[0]: found 4096, expected a number from 0 to 4095",
            "t.toml:10: bridge br0, mirror m1: output_port and output_vlan, expected one of them",
            "t.toml:12: bridge br0, mirror m1: select_src_port[0]: bridge br0 has no port \"p9\"",
            "t.toml:13: bridge br0, mirror m1: output_port: bridge br0 has no port \"p8\"",
        ]
    );
}

#[test]
fn several_errors_at_once_sorted_by_line() {
    let text = r#"
[dpdk]
mbufs = "many"

[[bridge]]
name = "br0"
fail_mode = "open"

[[bridge.port]]
name = "p0"
type = "dpkd"

[[bridge.port]]
name = "vxlan1"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 16777216, ttl = 0, colour = "red" }
tagg = 5

[[bridge]]
name = "br-phy"
hwaddr = "01:00:00:00:0a:01"
address = ["192.168.1.1/24"]
route = [{ to = "0.0.0.0/0", via = "192.168.2.254" }]
"#;
    let found = problems(text);
    let lines: Vec<&str> = found.iter().map(|p| p.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["3", "7", "11", "16", "16", "16", "17", "21", "23"], "{found:#?}");
}

#[test]
fn syntax_errors_have_lines_and_do_not_hide_others() {
    let text = "[[bridge]]\nname = \"br0\"\nhwaddr = 02:00:zz\n\n[[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\noptions = { dpdk-devargs = \"net_null0\" }\ntag = 4096\n";
    let errors = parse_str("t.toml", text, &accept_flows).unwrap_err().0;
    assert_eq!((errors[0].kind, errors[0].line), (Kind::Syntax, Some(3)), "{errors:#?}");
    assert!(errors.iter().all(|error| error.line == Some(3) || error.line == Some(9)), "{errors:#?}");
    assert_eq!(
        errors.last().unwrap().to_string(),
        "t.toml:9: bridge br0, port p0: tag: found 4096, expected a number from 0 to 4095"
    );
    let twice = problems("[[bridge]]\nname = \"br0\"\nname = \"br1\"\n");
    assert!(twice[0].starts_with("t.toml:3: "), "{twice:#?}");
}

#[test]
fn deep_and_wide_files_end_quickly() {
    let deep = format!("bridge = {}", "[".repeat(200_000));
    assert!(!problems(&deep).is_empty());
    assert!(!problems(&"[a.".repeat(100_000)).is_empty());
    let wide = format!("trunks = [{}]\n", "7, ".repeat(200_000));
    assert!(problems(&with_port(&wide)).len() > 1000);
}

#[test]
fn files_that_cannot_be_read() {
    let missing = parse_file(Path::new("/nonexistent/x.toml"), &accept_flows).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/x.toml: cannot read the file: No such file"), "{missing}");
    let endless = parse_file(Path::new("/dev/zero"), &accept_flows).unwrap_err().to_string();
    assert!(endless.contains("larger than"), "{endless}");
    let program = parse_file(Path::new("/proc/self/exe"), &accept_flows).unwrap_err().to_string();
    assert!(program.contains("not UTF-8") || program.contains("larger than"), "{program}");
}

fn map() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::collection::btree_map(any::<String>(), any::<String>(), 0..4)
}

fn net() -> impl Strategy<Value = ipnet::IpNet> {
    (any::<std::net::IpAddr>(), 0u8..=32).prop_map(|(addr, len)| ipnet::IpNet::new(addr, len).unwrap())
}

prop_compose! {
    fn any_port()(
        name in any::<String>(), kind in any::<String>(), options in map(), tag in any::<Option<u16>>(),
        trunks in prop::collection::vec(0u16..4096, 0..4), mtu in prop::option::of(68u16..9703),
        ofport_request in prop::option::of(1u16..0xff00), mac in any::<Option<[u8; 6]>>(),
        mode in prop::option::of(prop::sample::select(vec![VlanMode::Access, VlanMode::Trunk, VlanMode::Dot1qTunnel])),
        (external_ids, port_external_ids, bfd) in (map(), map(), map()),
        (cvlans, other_config) in (prop::collection::vec(0u16..4096, 0..4), map()),
    ) -> Port {
        Port { name, kind, options, tag: tag.map(|tag| tag & 0xfff), trunks, vlan_mode: mode, cvlans, other_config, mtu, ofport_request, mac: mac.map(wire::addr::MacAddr), bfd, external_ids, port_external_ids }
    }
}

prop_compose! {
    fn any_mirror()(
        name in any::<String>(), select_all in any::<bool>(),
        select_src_port in prop::collection::vec(any::<String>(), 0..3),
        select_dst_port in prop::collection::vec(any::<String>(), 0..3),
        select_vlan in prop::collection::vec(0u16..4096, 0..3),
        output_port in any::<Option<String>>(), output_vlan in prop::option::of(1u16..4096),
    ) -> Mirror {
        Mirror { name, select_all, select_src_port, select_dst_port, select_vlan, output_port, output_vlan }
    }
}

prop_compose! {
    fn any_bridge()(
        name in any::<String>(), secure in any::<bool>(), mac in any::<Option<[u8; 6]>>(),
        address in prop::collection::vec(net(), 0..3),
        routes in prop::collection::vec((net(), any::<Option<std::net::IpAddr>>()), 0..3),
        neighbours in prop::collection::vec((any::<std::net::IpAddr>(), any::<[u8; 6]>(), 0u16..4096), 0..3),
        [flows, groups, meters] in prop::array::uniform3(prop::collection::vec(any::<String>(), 0..3)),
        fdb in prop::collection::vec((any::<[u8; 6]>(), 0u16..4096, any::<String>(), any::<Option<std::net::IpAddr>>()), 0..3),
        mirrors in prop::collection::vec(any_mirror(), 0..3),
        tag in prop::option::of(0u16..4096), mtu in prop::option::of(68u16..9703), [kernel, mcast_snooping_enable] in any::<[bool; 2]>(),
        ports in prop::collection::vec(any_port(), 0..3), [other_config, external_ids] in prop::array::uniform2(map()),
    ) -> Bridge {
        Bridge {
            name, mcast_snooping_enable, hwaddr: mac.map(wire::addr::MacAddr), tag, mtu, address, flows, ports, other_config, external_ids, groups, meters, tlv_map: vec!["{class=0xffff,type=0x1,len=4}->tun_metadata0".to_owned()], mirrors,
            fail_mode: if secure { FailMode::Secure } else { FailMode::Standalone },
            addresses_from: if kernel { AddressesFrom::Kernel } else { AddressesFrom::Document },
            fdb: fdb.into_iter()
                .map(|(mac, vlan, port, remote)| StaticMac { mac: wire::addr::MacAddr(mac), vlan, port, remote }).collect(),
            routes: routes.into_iter().map(|(to, via)| Route { to, via }).collect(),
            neighbours: neighbours.into_iter()
                .map(|(ip, mac, vlan)| Neighbour { ip, mac: wire::addr::MacAddr(mac), vlan }).collect(),
        }
    }
}

prop_compose! {
    fn any_document()(
        bridges in prop::collection::vec(any_bridge(), 0..3), mbufs in 512u32..100_000, max_idle in 100u32..10_000,
        [other_config, evpn] in prop::array::uniform2(map()),
    ) -> Document {
        Document {
            bridges,
            other_config,
            evpn,
            dpdk: DpdkSettings { mbufs, ..DpdkSettings::default() },
            datapath: DatapathSettings { max_idle, ..DatapathSettings::default() },
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back_equal(document in any_document()) {
        let text = document.to_toml();
        let (again, reader) = read(&text);
        let problems = reader.finish("t");
        prop_assert!(problems.is_empty(), "{problems:?}\n{text}");
        prop_assert_eq!(&again, &document, "{}", text);
        let json = serde_json::to_string(&document).unwrap();
        prop_assert_eq!(serde_json::from_str::<Document>(&json).unwrap(), document);
    }

    #[test]
    fn what_is_written_over_another_reads_back_equal(before in any_document(), document in any_document()) {
        let text = document.update_toml(&before.to_toml());
        let (again, reader) = read(&text);
        let problems = reader.finish("t");
        prop_assert!(problems.is_empty(), "{problems:?}\n{text}");
        prop_assert_eq!(&again, &document, "{}", text);
    }

    #[test]
    fn validation_never_panics(document in any_document()) {
        let _ = crate::validate(&document);
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse_str("t", &text, &accept_flows);
    }

    #[test]
    fn mutated_examples_never_panic_and_errors_lie_in_the_file(
        which in 0..EXAMPLES.len(), at in any::<prop::sample::Index>(), length in 0usize..40,
        insert in "[\\[\\]{}=\",.a-z0-9 \n#-]{0,12}",
    ) {
        let chars: Vec<char> = EXAMPLES[which].chars().collect();
        let at = at.index(chars.len());
        let end = (at + length).min(chars.len());
        let text: String = chars[..at].iter().copied().chain(insert.chars()).chain(chars[end..].iter().copied()).collect();
        if let Err(errors) = parse_str("t", &text, &accept_flows) {
            prop_assert!(!errors.0.is_empty());
            let last = text.matches('\n').count() + 1;
            for problem in errors.0 {
                prop_assert!(problem.line.is_some_and(|line| (1..=last).contains(&line)), "{problem:?}\n{text}");
            }
        }
    }
}
