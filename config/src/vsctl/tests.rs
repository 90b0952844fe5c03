//! Command lines as OVS users type them.

use proptest::prelude::*;

use super::*;
use crate::document::{Document, VlanMode};

/// A command line split at blanks, as these tests need no quoting by a shell.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn run(document: &mut Document, line: &str) -> Result<Applied, VsctlError> {
    let commands = parse_transaction(&words(line))?;
    // What goes over the control API is what was parsed.
    let json = serde_json::to_string(&commands).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Command>>(&json).unwrap(), commands);
    apply(document, &commands)
}

fn error(document: &mut Document, line: &str) -> String {
    let before = document.clone();
    let message = run(document, line).unwrap_err().to_string();
    assert_eq!(*document, before, "a failed transaction changes nothing");
    message
}

/// A switch with bridges br0 (p0, vxlan1) and br-phy (uplink).
fn switch() -> Document {
    let mut document = Document::default();
    run(&mut document, "add-br br0 -- add-port br0 p0 -- set interface p0 type=dpdk options:dpdk-devargs=net_tap0,iface=tap0 \
        -- add-port br0 vxlan1 -- set interface vxlan1 type=vxlan options:remote_ip=192.168.1.2 options:key=flow options:dst_port=8472 \
        -- add-br br-phy -- set bridge br-phy hwaddr=02:00:00:00:0a:01 address=192.168.1.1/24 \
        -- add-port br-phy uplink -- set Interface uplink type=dpdk options:dpdk-devargs=0000:01:00.0").unwrap();
    document
}

#[test]
fn the_contract_s_line() {
    let mut document = Document::default();
    let line = "add-br br0 -- add-port br0 vxlan1 -- set interface vxlan1 type=vxlan options:remote_ip=192.168.1.2 options:key=flow options:dst_port=8472";
    let applied = run(&mut document, line).unwrap();
    assert_eq!(applied, Applied { changed: true, outputs: vec![Output::None; 3] });
    let (bridge, port) = document.port("vxlan1").unwrap();
    assert_eq!((bridge.name.as_str(), port.kind.as_str()), ("br0", "vxlan"));
    assert_eq!(port.options["key"], "flow");
    assert_eq!(port.options["dst_port"], "8472");
}

#[test]
fn values_keep_their_colons_and_equal_signs() {
    let document = switch();
    assert_eq!(document.port("p0").unwrap().1.options["dpdk-devargs"], "net_tap0,iface=tap0");
    assert_eq!(document.port("uplink").unwrap().1.options["dpdk-devargs"], "0000:01:00.0");
    let phy = document.bridge("br-phy").unwrap();
    assert_eq!(phy.hwaddr.unwrap().to_string(), "02:00:00:00:0a:01");
    assert_eq!(phy.address, ["192.168.1.1/24".parse().unwrap()]);
}

#[test]
fn vlans_as_people_set_them() {
    let mut document = switch();
    run(&mut document, "add-port br0 p1 tag=10 -- set interface p1 type=dpdk options:dpdk-devargs=net_tap1")
        .unwrap();
    assert_eq!(document.port("p1").unwrap().1.tag, Some(10));
    run(&mut document, "set port p1 vlan_mode=native-untagged trunks=20,30").unwrap();
    run(&mut document, "add Port p1 trunks 40 -- remove port p1 trunks 20").unwrap();
    let port = document.port("p1").unwrap().1;
    assert_eq!((port.vlan_mode, port.trunks.as_slice()), (Some(VlanMode::NativeUntagged), &[30, 40][..]));
    run(&mut document, "clear port p1 vlan_mode tag -- set port p1 trunks=[5]").unwrap();
    let port = document.port("p1").unwrap().1;
    assert_eq!((port.tag, port.vlan_mode, port.trunks.as_slice()), (None, None, &[5][..]));
    run(&mut document, "remove port p1 trunks 5 -- set port p1 tag=7 -- remove port p1 tag 8").unwrap();
    assert_eq!(document.port("p1").unwrap().1.tag, Some(7));
    run(&mut document, "remove port p1 tag 7").unwrap();
    assert_eq!(document.port("p1").unwrap().1.tag, None);
}

#[test]
fn interface_and_bridge_columns() {
    let mut document = switch();
    run(&mut document, "set int p0 mtu_request=1400 ofport_request=7 -- set Bridge br0 fail-mode=secure other_config:mac-aging-time=60 other-config:hwaddr=02:00:00:00:00:07 datapath_type=netdev").unwrap();
    let (bridge, port) = document.port("p0").unwrap();
    assert_eq!((port.mtu, port.ofport_request), (Some(1400), Some(7)));
    assert_eq!((bridge.fail_mode, bridge.mac_aging_time()), (FailMode::Secure, 60));
    assert_eq!(bridge.mac().unwrap().to_string(), "02:00:00:00:00:07");
    run(&mut document, "set bridge br0 addresses-from=kernel").unwrap();
    assert!(document.bridge("br0").unwrap().has_device());
    run(&mut document, "set bridge br0 addresses_from=document").unwrap();
    assert!(!document.bridge("br0").unwrap().has_device());
    run(&mut document, "remove bridge br0 other_config mac-aging-time hwaddr -- del-fail-mode br0 -- clear interface p0 mtu_request").unwrap();
    let (bridge, port) = document.port("p0").unwrap();
    assert!(bridge.other_config.is_empty());
    assert_eq!((bridge.fail_mode, port.mtu), (FailMode::Standalone, None));
    run(&mut document, "set interface vxlan1 options={remote_ip=\"192.168.1.3\",key=5}").unwrap();
    let options = &document.port("vxlan1").unwrap().1.options;
    assert_eq!(
        (options.len(), options["remote_ip"].as_str(), options["key"].as_str()),
        (2, "192.168.1.3", "5")
    );
    run(&mut document, "set interface vxlan1 options:remote_ip=192.168.1.2,192.168.1.3").unwrap();
    assert_eq!(document.port("vxlan1").unwrap().1.options["remote_ip"], "192.168.1.2,192.168.1.3");
    run(&mut document, "remove interface vxlan1 options key=6").unwrap();
    assert!(document.port("vxlan1").unwrap().1.options.contains_key("key"), "only with that value");
}

#[test]
fn options_in_front() {
    let mut document = switch();
    for line in [
        "--may-exist add-br br0",
        "-- --may-exist add-port br0 p0",
        "--if-exists del-br br9",
        "--if-exists del-port p9",
        "--if-exists set port p9 tag=1",
        "--no-wait init",
        "add-br x -- del-br x",
    ] {
        assert!(!run(&mut document, line).unwrap().changed, "{line}");
    }
}

#[test]
fn a_port_that_may_exist_stays_as_it_is() {
    let mut document = switch();
    run(&mut document, "set port p0 tag=10").unwrap();
    assert!(!run(&mut document, "--may-exist add-port br0 p0 tag=20").unwrap().changed);
    assert_eq!(document.port("p0").unwrap().1.tag, Some(10));
    run(
        &mut document,
        "--may-exist add-port br0 p1 tag=20 -- set interface p1 type=dpdk options:dpdk-devargs=net_tap1",
    )
    .unwrap();
    assert_eq!(document.port("p1").unwrap().1.tag, Some(20), "it was made");
}

#[test]
fn one_remote_of_many_comes_and_goes() {
    let mut document = switch();
    let remotes = |document: &Document| document.port("vxlan1").unwrap().1.options.get("remote_ip").cloned();
    run(&mut document, "add interface vxlan1 options remote_ip=192.168.1.3").unwrap();
    assert_eq!(remotes(&document).as_deref(), Some("192.168.1.2,192.168.1.3"));
    assert!(!run(&mut document, "add interface vxlan1 options remote_ip=192.168.1.3").unwrap().changed);
    run(&mut document, "add interface vxlan1 options remote_ip=192.168.1.4 -- remove interface vxlan1 options remote_ip=192.168.1.2")
        .unwrap();
    assert_eq!(remotes(&document).as_deref(), Some("192.168.1.3,192.168.1.4"));
    assert!(!run(&mut document, "remove interface vxlan1 options remote_ip=192.168.1.9").unwrap().changed);
    run(&mut document, "remove interface vxlan1 options remote_ip=192.168.1.3").unwrap();
    let text = error(&mut document, "remove interface vxlan1 options remote_ip=192.168.1.4");
    assert!(text.contains("remote_ip: missing"), "{text}");
    // Another option's value stays, as in OVS, and a key alone goes whatever it has.
    assert!(!run(&mut document, "add interface vxlan1 options key=7").unwrap().changed);
    run(
        &mut document,
        "remove interface vxlan1 options remote_ip -- add interface vxlan1 options remote_ip=flow",
    )
    .unwrap();
    assert_eq!(remotes(&document).as_deref(), Some("flow"));
}

#[test]
fn the_local_port_has_a_tag() {
    let mut document = switch();
    run(&mut document, "set port br0 tag=10").unwrap();
    assert_eq!(document.bridge("br0").unwrap().tag, Some(10));
    assert!(run(&mut document, "set port br0 tag=x").is_err());
    assert!(run(&mut document, "set port br0 trunks=5").unwrap_err().to_string().contains("only tag"));
    run(&mut document, "clear port br0 tag").unwrap();
    assert_eq!(document.bridge("br0").unwrap().tag, None);
}

#[test]
fn external_ids_are_kept_for_their_owner() {
    let mut document = switch();
    run(&mut document, "set interface p0 external_ids:iface-id=a7 -- set port p0 external-ids:x=1 -- br-set-external-id br0 owner me -- set bridge br0 external_ids:more=2").unwrap();
    let (bridge, port) = document.port("p0").unwrap();
    assert_eq!((port.external_ids["iface-id"].as_str(), port.port_external_ids["x"].as_str()), ("a7", "1"));
    assert_eq!(bridge.external_ids["owner"], "me");
    let again = crate::parse_str("file", &document.to_toml(), &crate::accept_flows).unwrap();
    assert_eq!(again, document);
    let mut lines = |line: &str| run(&mut document, line).unwrap().outputs.remove(0);
    assert_eq!(lines("br-get-external-id br0 owner"), Output::Lines(vec!["me".into()]));
    assert_eq!(lines("br-get-external-id br0"), Output::Lines(vec!["more=2".into(), "owner=me".into()]));
    run(&mut document, "br-set-external-id br0 owner -- clear interface p0 external_ids").unwrap();
    assert!(!document.bridge("br0").unwrap().external_ids.contains_key("owner"));
    assert!(document.port("p0").unwrap().1.external_ids.is_empty());
}

#[test]
fn types_of_open_vswitch_say_what_to_use_instead() {
    let mut document = switch();
    for (kind, expected) in [
        ("stt", "Open vSwitch has removed it too"),
        ("lisp", "Open vSwitch has removed it too"),
        ("afxdp", "net_af_xdp0"),
    ] {
        let text = error(&mut document, &format!("add-port br0 x -- set interface x type={kind}"));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn questions() {
    let mut document = switch();
    let mut lines = |line: &str| match run(&mut document, line).unwrap().outputs.remove(0) {
        Output::Lines(lines) => lines.join(" "),
        other => panic!("{other:?}"),
    };
    assert_eq!(lines("list-br"), "br-phy br0");
    assert_eq!(lines("list-ports br0"), "p0 vxlan1");
    assert_eq!(lines("port-to-br uplink"), "br-phy");
    assert_eq!(lines("get-fail-mode br0"), "standalone");
    assert_eq!(run(&mut document, "br-exists br0").unwrap().outputs, [Output::Exists(true)]);
    assert_eq!(run(&mut document, "br-exists br7").unwrap().outputs, [Output::Exists(false)]);
    for line in [
        "show",
        "list interface",
        "list Interface p0",
        "get interface p0 statistics:rx_packets ofport",
        "--columns=name,type list int",
        "--columns=name find interface type=vxlan options:key!=7 ofport>=1",
        "wait-until interface p0 link_state=up",
    ] {
        let outputs = run(&mut document, line).unwrap().outputs;
        assert!(matches!(outputs.as_slice(), [Output::Query(_)]), "{line}: {outputs:?}");
    }
    let get = parse_transaction(&words("get interface p0 statistics:rx_packets")).unwrap();
    let Command::Get { selectors, .. } = &get[0] else { panic!("{get:?}") };
    assert_eq!(selectors[0], Selector { column: "statistics".into(), key: Some("rx_packets".into()) });
}

#[test]
fn columns_print_as_in_ovs() {
    let mut document = switch();
    run(&mut document, "set port p0 tag=10").unwrap();
    let print = |table, record| {
        columns(&document, table, record)
            .unwrap()
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        print(Table::Port, "p0"),
        [
            "name: p0",
            "tag: 10",
            "trunks: []",
            "vlan_mode: []",
            "cvlans: []",
            "other_config: {}",
            "external_ids: {}"
        ]
    );
    assert_eq!(
        print(Table::Interface, "vxlan1")[2],
        "options: {dst_port=\"8472\", key=flow, remote_ip=\"192.168.1.2\"}"
    );
    assert_eq!(print(Table::Interface, "br0")[1], "type: internal");
    assert_eq!(print(Table::Bridge, "br0")[1], "fail_mode: standalone");
    assert_eq!(columns(&document, Table::Port, "p9").unwrap_err().to_string(), "no row \"p9\" in table Port");
}

#[test]
fn errors_read_as_those_of_ovs_vsctl() {
    let mut document = switch();
    for (line, expected) in [
        ("add-br br0", "cannot create a bridge named br0 because a bridge named br0 already exists"),
        ("add-br p0", "cannot create a bridge named p0 because a port named p0 already exists on bridge br0"),
        (
            "add-port br-phy p0",
            "cannot create a port named p0 because a port named p0 already exists on bridge br0",
        ),
        ("add-port br0 br0", "cannot create a port named br0 because a bridge named br0 already exists"),
        (
            "--may-exist add-port br-phy p0",
            "\"--may-exist add-port br-phy p0\" but p0 is actually attached to bridge br0",
        ),
        ("add-port br7 x", "no bridge named br7"),
        ("del-br br7", "no bridge named br7"),
        ("list-ports br7", "no bridge named br7"),
        ("del-port x", "no port named x"),
        ("del-port br-phy p0", "bridge br-phy does not have a port p0 (it is attached to bridge br0)"),
        ("set port x tag=1", "no row \"x\" in table Port"),
        (
            "set interface p0 tag=1",
            "Interface does not contain a column whose name matches \"tag\"; table Port has it",
        ),
        ("set interface p0 name=x", "cannot modify read-only column name in table Interface"),
        ("set port p0 tag=x", "Port p0: tag: found \"x\", expected a VLAN from 0 to 4095"),
        ("set port p0 tag:x=1", "Port p0: tag: cannot specify key \"x\", the column is not a map"),
        (
            "set port p0 tag",
            "tag: argument does not end in \"=\" followed by a value, expected COLUMN[:KEY]=VALUE",
        ),
        (
            "set bridge br0 datapath_type=system",
            "Bridge br0: datapath_type: found \"system\", expected netdev",
        ),
        (
            "add-port br0 x",
            "bridge br0, port x: type: expected dpdk, dpdkvhostuserclient, dpdkvhostuser, tap, system, vxlan, geneve, gre, ip6gre, internal or patch",
        ),
        (
            "set interface vxlan1 options:key=16777216",
            "bridge br0, port vxlan1: options.key: 16777216 is over 24 bits, expected 0 to 16777215 or \"flow\"",
        ),
        (
            "add-br br1 -- add-port br1 p0",
            "cannot create a port named p0 because a port named p0 already exists on bridge br0",
        ),
        ("", "missing command name; use --help for help"),
        ("add-brr x", "unknown command 'add-brr'; did you mean 'add-br'?"),
        ("fly", "unknown command 'fly'; use --help for help"),
        (
            "set-controller br0 tcp:1.2.3.4",
            "'set-controller' is a command of Open vSwitch that this switch does not have",
        ),
        ("add-br", "'add-br' command requires at least 1 arguments"),
        ("del-br a b", "'del-br' command takes at most 1 arguments"),
        ("--if-exists add-br x", "'add-br' command has no '--if-exists' option"),
        (
            "set queue x y=1",
            "unknown table \"queue\", expected Bridge, Port, Interface, Mirror or Open_vSwitch",
        ),
        ("set-fail-mode br0 open", "fail-mode must be \"standalone\" or \"secure\", found \"open\""),
    ] {
        assert_eq!(error(&mut document, line), expected, "{line}");
    }
    assert!(error(&mut document, "set Open_vSwitch . other_config:dpdk-init=true").contains("[dpdk]"));
    assert!(
        error(&mut document, "del-port br0")
            .starts_with("cannot delete port br0 because it is the local port")
    );
    assert!(error(&mut document, "set interface br0 mtu_request=1400").contains("local port"));
    assert!(error(&mut document, "add-br fake br0 10").contains("fake bridge"));
}

#[test]
fn mirrors_as_in_the_man_page() {
    let mut document = switch();
    // The example of ovs-vsctl(8), with names in front of the commands that give them.
    run(
        &mut document,
        "-- set bridge br0 mirrors=@m -- --id=@p0 get port p0 -- --id=@vx get port vxlan1 \
         -- --id=@m create Mirror name=m0 select-dst-port=@p0 select-src-port=@p0,br0 output-port=@vx select-vlan=5",
    )
    .unwrap();
    let mirror = document.mirror("m0").unwrap().1.clone();
    assert_eq!(mirror.select_src_port, ["p0", "br0"]);
    assert_eq!((mirror.output_port.as_deref(), mirror.select_vlan.as_slice()), (Some("vxlan1"), &[5][..]));
    run(
        &mut document,
        "--id=@n create mirror name=m1 select_all=true output_vlan=9 -- add bridge br0 mirrors @n -- set mirror m0 select_all=true",
    )
    .unwrap();
    let list = columns(&document, Table::Mirror, "m1").unwrap();
    let list: Vec<String> = list.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        list.join(" "),
        "name=m1 output_port=[] output_vlan=9 select_all=true select_dst_port=[] select_src_port=[] select_vlan=[]"
    );
    assert!(document.mirror("m0").unwrap().1.select_all);
    // Mirrors hold ports weakly.
    run(&mut document, "del-port p0").unwrap();
    assert_eq!(document.mirror("m0").unwrap().1.select_src_port, ["br0"]);
    run(&mut document, "--id=@x get mirror m1 -- remove bridge br0 mirrors @x").unwrap();
    assert!(document.mirror("m1").is_none());
    run(&mut document, "del-port vxlan1").unwrap();
    assert!(document.mirror("m0").is_none(), "it has no output");
    run(
        &mut document,
        "--id=@m create mirror name=m0 output_vlan=9 -- set bridge br-phy mirrors=@m -- --id=@m2 create mirror name=m2 output_vlan=9 -- add bridge br-phy mirrors @m2",
    )
    .unwrap();
    run(&mut document, "destroy mirror m0").unwrap();
    assert!(document.mirror("m0").is_none() && document.mirror("m2").is_some());
    run(&mut document, "clear bridge br-phy mirrors").unwrap();
    assert!(document.mirror("m2").is_none());
    for (line, expected) in [
        ("destroy mirror m0", "no row \"m0\" in table Mirror"),
        ("destroy mirror", "'destroy' needs the names of mirrors, or --all in front"),
        (
            "create port name=x",
            "'create' is for table Mirror; bridges and ports come and go by add-br, add-port, del-br, del-port",
        ),
        ("create mirror output_vlan=1", "create mirror: expected name=NAME"),
        (
            "create mirror name=m colour=1",
            "Mirror does not contain a column whose name matches \"colour\"; expected name, output_port, output_vlan, select_all, select_dst_port, select_src_port or select_vlan",
        ),
        ("--id=m get port uplink", "'--id' needs a name that begins with \"@\", as --id=@m"),
        ("set bridge br0 mirrors=@m", "row id \"@m\" is given by no command, expected one with --id=@m"),
        ("set bridge br0 mirrors=m7", "no row \"m7\" in table Mirror"),
        (
            "--id=@m get port uplink -- set bridge br0 mirrors=@m",
            "row id \"@m\" is a row of table Port, expected one of Mirror",
        ),
        (
            "--id=@m create mirror name=m output_vlan=x -- set bridge br0 mirrors=@m",
            "Mirror m: output_vlan: found \"x\", expected a VLAN from 1 to 4095",
        ),
        (
            "--id=@m create mirror name=m output_vlan=1 output_port=uplink -- set bridge br-phy mirrors=@m",
            "bridge br-phy, mirror m: output_port and output_vlan, expected one of them",
        ),
    ] {
        assert_eq!(error(&mut document, line), expected, "{line}");
    }
}

#[test]
fn ports_of_type_internal_and_patch() {
    let mut document = switch();
    run(
        &mut document,
        "add-port br0 host0 -- set interface host0 type=internal mac=\"02:00:00:00:00:09\" \
         -- add-port br0 to-phy -- set interface to-phy type=patch options:peer=to-br0 \
         -- add-port br-phy to-br0 vlan_mode=trunk -- set interface to-br0 type=patch options:peer=to-phy",
    )
    .unwrap();
    assert_eq!(document.port("host0").unwrap().1.mac.unwrap().to_string(), "02:00:00:00:00:09");
    assert_eq!(document.port("to-br0").unwrap().1.options["peer"], "to-phy");
    run(&mut document, "clear interface host0 mac").unwrap();
    assert_eq!(document.port("host0").unwrap().1.mac, None);
}

#[test]
fn only_the_end_of_a_transaction_counts() {
    let mut document = switch();
    run(
        &mut document,
        "del-port p0 -- add-port br-phy p0 -- set interface p0 type=dpdk options:dpdk-devargs=net_tap0",
    )
    .unwrap();
    assert_eq!(document.port("p0").unwrap().0.name, "br-phy");
    run(&mut document, "del-br br0").unwrap();
    assert!(document.bridge("br0").is_none() && document.port("vxlan1").is_none());
}

proptest! {
    #[test]
    fn arbitrary_words_never_panic(args in prop::collection::vec(any::<String>(), 0..6), name in prop::sample::select(vec!["set", "add-port", "remove", "get", "--", "list", "add"])) {
        let mut document = switch();
        for args in [args.clone(), [vec![name.to_owned()], args.clone()].concat(), [words("set interface p0"), args.clone()].concat(), [words("remove interface p0 options"), args].concat()] {
            if let Ok(commands) = parse_transaction(&args) {
                let _ = apply(&mut document, &commands);
            }
        }
    }

    #[test]
    fn values_of_any_shape_never_panic(value in "[\\[\\]{}\"=,:a-c1 \\\\é]{0,12}") {
        let mut document = switch();
        for target in ["set interface p0 options", "set interface p0 options:x", "set port p0 trunks", "set bridge br0 address"] {
            let mut args = words(target);
            args.push(args.last().unwrap().clone() + "=" + &value);
            let unset = args.len() - 2;
            args.remove(unset);
            if let Ok(commands) = parse_transaction(&args) {
                let _ = apply(&mut document, &commands);
            }
        }
    }
}
