use super::*;
use wire::tunnel::{geneve, gre, vxlan};

fn parse_as(of: &'static TunnelType, options: &[(&str, &str)]) -> Result<TunnelOptions, Vec<String>> {
    let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    TunnelOptions::parse(of, &options).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn parse(options: &[(&str, &str)]) -> Result<TunnelOptions, Vec<String>> {
    parse_as(&vxlan::TYPE, options)
}

fn good(options: &[(&str, &str)]) -> TunnelOptions {
    parse(options).unwrap()
}

/// The one error of `remote_ip=192.168.1.2 OPTION=VALUE`.
fn error(option: &str, value: &str) -> String {
    let mut options = vec![(option, value)];
    if option != "remote_ip" {
        options.push(("remote_ip", "192.168.1.2"));
    }
    let errors = parse(&options).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].clone()
}

#[test]
fn defaults_are_those_of_ovs() {
    let options = good(&[("remote_ip", "192.168.1.2")]);
    assert_eq!(
        options,
        TunnelOptions {
            format: &vxlan::FORMAT,
            tunnel_type: &vxlan::TYPE,
            remote_ip: RemoteIp::Addrs(vec!["192.168.1.2".parse().unwrap()]),
            local_ip: LocalIp::Any,
            dev: None,
            in_key: TunnelKey::Vni(0),
            out_key: TunnelKey::Vni(0),
            transport: Transport::udp(4789),
            tos: Inheritable::Value(0),
            ttl: Inheritable::Value(64),
            df_default: true,
            header: HeaderOptions::NONE,
            egress_pkt_mark: 0,
            split_horizon: true,
            mss_clamp: false,
            udp6zerocsumrx: false,
            reassemble: true,
            vlan_vni: None,
        }
    );
    assert!(good(&[("remote_ip", "2001:db8::2")]).header.csum, "IPv6 needs the UDP checksum");
}

#[test]
fn every_option() {
    let options = good(&[
        ("remote_ip", "192.168.1.2, 192.168.1.3"),
        ("local_ip", "192.168.1.1"),
        ("key", "0xffffff"),
        ("out_key", "flow"),
        ("dst_port", "8472"),
        ("tos", "inherit"),
        ("ttl", "1"),
        ("df_default", "false"),
        ("csum", "true"),
        ("exts", "gbp"),
        ("egress_pkt_mark", "0x10"),
        ("split-horizon", "false"),
        ("mss-clamp", "true"),
        ("udp6zerocsumrx", "true"),
        ("reassemble", "false"),
    ]);
    assert_eq!(options.remotes().len(), 2);
    assert_eq!((options.in_key, options.out_key), (TunnelKey::Vni(0xffffff), TunnelKey::Flow));
    assert_eq!((options.tos, options.ttl), (Inheritable::Inherit, Inheritable::Value(1)));
    assert_eq!((options.df_default, options.header.csum, options.split_horizon), (false, true, false));
    assert!(options.mss_clamp && options.udp6zerocsumrx && !options.reassemble);
    assert_eq!(
        (options.transport, options.format, options.egress_pkt_mark),
        (Transport::udp(8472), &vxlan::FORMAT_GBP, 16)
    );
    assert_eq!(options.local_ip, LocalIp::Addr("192.168.1.1".parse().unwrap()));
}

#[test]
fn in_key_beats_key() {
    let options = good(&[("remote_ip", "10.0.0.1"), ("key", "5"), ("in_key", "6")]);
    assert_eq!((options.in_key, options.out_key), (TunnelKey::Vni(6), TunnelKey::Vni(5)));
}

#[test]
fn bad_values_say_what_was_expected() {
    assert_eq!(error("key", "16777216"), "key: 16777216 is over 24 bits, expected 0 to 16777215 or \"flow\"");
    assert_eq!(error("in_key", "x"), "in_key: found \"x\", expected 0 to 16777215 or \"flow\"");
    assert_eq!(error("out_key", "-1"), "out_key: found \"-1\", expected 0 to 16777215 or \"flow\"");
    assert_eq!(error("dst_port", "0"), "dst_port: found \"0\", expected a number from 1 to 65535");
    assert_eq!(error("ttl", "0"), "ttl: found \"0\", expected a number from 1 to 255 or \"inherit\"");
    assert_eq!(error("tos", "256"), "tos: found \"256\", expected a number from 0 to 255 or \"inherit\"");
    assert_eq!(error("df_default", "yes"), "df_default: found \"yes\", expected true or false");
    assert!(error("remote_ip", "192.168.1.2,239.1.1.1").contains("multicast"));
    assert!(error("remote_ip", "224.0.0.1").contains("reserved"));
    assert!(error("remote_ip", "ff02::1").contains("reserved"));
    assert!(error("local_ip", "239.1.1.1").contains("multicast"));
    assert!(error("dev", "br-phy").contains("multicast group"));
    assert!(error("remote_ip", "0.0.0.0").contains("unicast"));
    assert!(error("remote_ip", "192.168.1.300").contains("expected an IPv4 or IPv6 address"));
    assert!(error("remote_ip", "10.0.0.1,10.0.0.1").contains("twice"));
    assert!(error("remote_ip", "10.0.0.1,2001:db8::1").contains("one family"));
    assert!(error("remote_ip", "10.0.0.1,flow").contains("\"flow\""));
    assert!(error("local_ip", "2001:db8::1").contains("family"));
    assert!(error("exts", "gbp,gpe").contains("gbp and gpe together"));
    assert!(error("exts", "gtp").contains("expected gbp or gpe"));
    assert!(error("egress_pkt_mark", "4294967296").contains("32 bits"));
    assert!(
        error("dstport", "4789")
            .starts_with("dstport: unknown option; did you mean dst_port? Expected remote_ip, ")
    );
}

#[test]
fn all_errors_at_once() {
    let errors = parse(&[("key", "x"), ("ttl", "x"), ("foo", "x")]).unwrap_err();
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(errors.iter().any(|error| error.starts_with("remote_ip: missing")));
}

#[test]
fn clashes_follow_the_receive_match() {
    let a = [("remote_ip", "10.0.0.1"), ("key", "5")];
    let clash = |b: &[(&str, &str)]| {
        let (a, b) = (good(&a), good(b));
        assert_eq!(a.clashes_with(&b), b.clashes_with(&a));
        a.clashes_with(&b)
    };
    assert!(clash(&a));
    assert!(clash(&[("remote_ip", "10.0.0.1"), ("in_key", "5"), ("out_key", "6")]), "out_key is not matched");
    assert!(clash(&[("remote_ip", "10.0.0.2,10.0.0.1"), ("key", "5")]));
    assert!(clash(&[("remote_ip", "10.0.0.1"), ("key", "0x5"), ("local_ip", "flow")]));
    assert!(!clash(&[("remote_ip", "10.0.0.1"), ("key", "6")]));
    assert!(!clash(&[("remote_ip", "10.0.0.1"), ("key", "flow")]), "a specific key beats flow");
    assert!(!clash(&[("remote_ip", "flow"), ("key", "5")]), "a specific remote beats flow");
    assert!(!clash(&[("remote_ip", "10.0.0.1"), ("key", "5"), ("local_ip", "10.0.0.9")]));
    assert!(!clash(&[("remote_ip", "10.0.0.1"), ("key", "5"), ("dst_port", "8472")]));
}

#[test]
fn each_type_has_its_own_defaults_and_options() {
    let remote = ("remote_ip", "192.168.1.2");
    let geneve = parse_as(&geneve::TYPE, &[remote, ("key", "5")]).unwrap();
    assert_eq!((geneve.format, geneve.transport), (&geneve::FORMAT, Transport::udp(6081)));
    assert!(parse_as(&geneve::TYPE, &[remote, ("exts", "gbp")]).unwrap_err()[0].contains("unknown option"));
    let gre =
        parse_as(&gre::TYPE, &[remote, ("key", "4294967295"), ("seq", "true"), ("packet_type", "legacy_l2")]);
    let gre = gre.unwrap();
    assert_eq!(gre.transport, Transport { protocol: 47, port: 0 });
    assert_eq!(
        (gre.out_key, gre.header),
        (TunnelKey::Vni(u32::MAX), HeaderOptions { key: true, csum: false, sequence: true })
    );
    assert!(!parse_as(&gre::TYPE, &[remote]).unwrap().header.key, "no key is sent where none is given");
    assert!(parse_as(&gre::TYPE, &[remote, ("out_key", "flow")]).unwrap().header.key);
    let of = |option, value| parse_as(&gre::TYPE, &[remote, (option, value)]).unwrap_err();
    assert!(of("dst_port", "47")[0].contains("unknown option"));
    assert_eq!(
        of("key", "4294967296"),
        ["key: 4294967296 is over 32 bits, expected 0 to 4294967295 or \"flow\""]
    );
    assert!(of("packet_type", "legacy_l3")[0].contains("without an Ethernet header"));
    let v6 = ("remote_ip", "2001:db8::2");
    assert!(!parse_as(&gre::TYPE, &[v6]).unwrap().header.csum, "GRE needs none over IPv6");
    assert!(parse_as(&gre::TYPE_IPV6, &[v6]).is_ok());
    assert!(parse_as(&gre::TYPE_IPV6, &[remote]).unwrap_err()[0].contains("ip6gre runs over IPv6"));
}

#[test]
fn a_map_of_vlans_takes_the_place_of_keys() {
    let options = good(&[("remote_ip", "192.168.1.2"), ("vlan-vni", "10:10010")]);
    assert_eq!((options.in_key, options.out_key), (TunnelKey::Flow, TunnelKey::Flow));
    assert_eq!(options.vlan_vni.and_then(|map| map.vni(10)), Some(10010));
    for (name, value) in [("key", "7"), ("in_key", "7"), ("out_key", "7"), ("vlan-vni", "10:x")] {
        let all = [("remote_ip", "192.168.1.2"), ("vlan-vni", "10:10010"), (name, value)];
        let map = all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let errors = TunnelOptions::parse(&vxlan::TYPE, &map).expect_err(name);
        assert_eq!(errors.iter().map(|error| error.option.as_str()).collect::<Vec<_>>(), [name]);
    }
}

#[test]
fn frames_to_many_may_go_to_a_multicast_group() {
    let options = good(&[("remote_ip", "239.1.1.1"), ("dev", "br-phy"), ("key", "7")]);
    assert_eq!(options.remote_ip, RemoteIp::Group("239.1.1.1".parse().unwrap()));
    assert_eq!((options.dev.as_deref(), options.remotes()), (Some("br-phy"), &[][..]));
    let six = good(&[("remote_ip", "ff05::1:1"), ("key", "7")]);
    assert!(six.header.csum, "IPv6 needs the UDP checksum");
    let errors = |of, more: (&str, &str)| {
        parse_as(of, &[("remote_ip", "239.1.1.1"), ("key", "7"), more]).unwrap_err().join("\n")
    };
    assert!(errors(&geneve::TYPE, ("ttl", "3")).contains("expected type vxlan"));
    assert!(errors(&vxlan::TYPE, ("local_ip", "flow")).contains("expected an address"));
    assert!(errors(&vxlan::TYPE, ("local_ip", "2001:db8::1")).contains("family"));
    // Packets to the group are for both, whatever their own addresses are; other groups and VNIs are told apart.
    let of = |group: &str, local: &str, key: &str| {
        good(&[("remote_ip", group), ("local_ip", local), ("key", key)])
    };
    let one = of("239.1.1.1", "192.168.1.1", "7");
    assert!(one.clashes_with(&of("239.1.1.1", "192.168.1.9", "7")));
    assert!(!one.clashes_with(&of("239.1.1.1", "192.168.1.1", "8")));
    assert!(!one.clashes_with(&of("239.1.1.2", "192.168.1.9", "7")));
    assert!(options.clashes_with(&good(&[("remote_ip", "flow"), ("key", "7")])));
    assert!(!options.clashes_with(&good(&[("remote_ip", "192.168.1.2"), ("key", "7")])));
}
