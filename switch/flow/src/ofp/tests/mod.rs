//! The rule language as a whole: texts in, texts out.

mod groups;
mod random;

use super::*;
use std::time::Duration;
use wire::addr::MacAddr;
use wire::key::{FlowKey, TUN_PRESENT, VLAN_PRESENT};

struct Names;

impl PortNames for Names {
    fn number(&self, name: &str) -> Option<u32> {
        (1..=4).find(|n| self.name(*n).as_deref() == Some(name))
    }

    fn name(&self, number: u32) -> Option<String> {
        let names = ["p0", "p1", "vxlan1", "a, \"b\" (c"];
        names.get((number as usize).checked_sub(1)?).map(|name| (*name).to_owned())
    }
}

fn flow(text: &str) -> FlowSpec {
    parse_flow(text, &Names).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What is expected when `text` is refused.
fn refusal(text: &str) -> String {
    match parse_flow(text, &Names) {
        Ok(flow) => panic!("{text}: accepted as {flow:?}"),
        Err(error) => {
            let at = error.position..error.position + error.token.len();
            assert_eq!(text.get(at), Some(error.token.as_str()), "{text}: the position is not the token's");
            error.to_string()
        }
    }
}

#[test]
fn matches_print_as_in_ovs() {
    for (text, printed) in [
        ("", ""),
        ("in_port=p0", "in_port=p0"),
        ("in_port=1", "in_port=p0"),
        ("in_port=9", "in_port=9"),
        ("in_port=LOCAL", "in_port=LOCAL"),
        ("in_port=\"a, \\\"b\\\" (c\"", "in_port=\"a, \\\"b\\\" (c\""),
        ("in_port=p0,tcp,tp_dst=80", "tcp,in_port=p0,tp_dst=80"),
        ("dl_type=0x800,nw_proto=6,tcp_dst=80", "tcp,tp_dst=80"),
        ("tp_dst=0x50/0xfff0,udp6", "udp6,tp_dst=0x50/0xfff0"),
        (
            "eth_src=02:00:00:00:00:01,eth_dst=01:00:00:00:00:00/01:00:00:00:00:00",
            "dl_src=02:00:00:00:00:01,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
        ),
        ("dl_type=0x88cc", "dl_type=0x88cc"),
        ("dl_vlan=5", "dl_vlan=5"),
        ("dl_vlan=0", "dl_vlan=0"),
        ("dl_vlan=0xffff", "vlan_tci=0x0000"),
        ("dl_vlan=5,dl_vlan_pcp=3", "dl_vlan=5,dl_vlan_pcp=3"),
        ("vlan_pcp=0", "dl_vlan_pcp=0"),
        ("vlan_vid=0x1005", "dl_vlan=5"),
        ("vlan_vid=0", "vlan_tci=0x0000/0x1fff"),
        ("vlan_vid=0x1000/0x1000", "vlan_tci=0x1000/0x1000"),
        ("vlan_tci=0x1123", "dl_vlan=291,dl_vlan_pcp=0"),
        ("vlan_tci=0x0123/0x0fff", "vlan_tci=0x0123/0x0fff"),
        (
            "ip,nw_src=10.1.2.3/8,nw_dst=10.0.0.1/255.0.0.255",
            "ip,nw_src=10.0.0.0/8,nw_dst=10.0.0.1/255.0.0.255",
        ),
        ("ip,nw_src=*,nw_dst=ANY", "ip"),
        ("ip,nw_proto=47", "ip,nw_proto=47"),
        (
            "ipv6,ipv6_src=2001:db8::1/32,ipv6_dst=::1,ipv6_label=0x00005",
            "ipv6,ipv6_src=2001:db8::/32,ipv6_dst=::1,ipv6_label=0x00005",
        ),
        ("ip,nw_tos=184,nw_ecn=1,nw_ttl=64", "ip,nw_tos=184,nw_ecn=1,nw_ttl=64"),
        ("ip,ip_dscp=46", "ip,nw_tos=184"),
        ("ip,ip_frag=no", "ip,nw_frag=no"),
        ("udp,nw_frag=not_later", "udp,nw_frag=not_later"),
        ("tcp,tcp_flags=+syn-ack", "tcp,tcp_flags=+syn-ack"),
        ("icmp,icmp_type=8,icmp_code=0", "icmp,icmp_type=8,icmp_code=0"),
        (
            "icmp6,icmpv6_type=135,nd_target=fe80::1,nd_sll=02:00:00:00:00:01",
            "icmp6,icmp_type=135,nd_target=fe80::1,nd_sll=02:00:00:00:00:01",
        ),
        (
            "icmp6,icmp_type=136,icmp_code=0,nd_tll=02:00:00:00:00:01",
            "icmp6,icmp_type=136,icmp_code=0,nd_tll=02:00:00:00:00:01",
        ),
        (
            "arp,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.0/24,arp_sha=02:00:00:00:00:01,arp_tha=00:00:00:00:00:00",
            "arp,arp_spa=10.0.0.1,arp_tpa=10.0.0.0/24,arp_op=1,arp_sha=02:00:00:00:00:01,arp_tha=00:00:00:00:00:00",
        ),
        ("arp,nw_src=10.0.0.1,nw_proto=2", "arp,arp_spa=10.0.0.1,arp_op=2"),
        ("rarp", "rarp"),
        (
            "tun_id=100,tun_src=192.168.1.2,tun_dst=192.168.1.1",
            "tun_id=0x64,tun_src=192.168.1.2,tun_dst=192.168.1.1",
        ),
        ("tunnel_id=0x100/0xff00", "tun_id=0x100/0xff00"),
        (
            "tun_ipv6_src=2001:db8::2,tun_ipv6_dst=2001:db8::/64",
            "tun_ipv6_src=2001:db8::2,tun_ipv6_dst=2001:db8::/64",
        ),
        ("tun_gbp_id=7,tun_gbp_flags=0x8,tun_flags=+csum", "tun_gbp_id=7,tun_gbp_flags=0x8,tun_flags=+csum"),
        ("metadata=0x5/0xf,reg0=1,reg7=0x10/0xfff0", "reg0=0x1,reg7=0x10/0xfff0,metadata=0x5/0xf"),
        ("sctp,sctp_src=5", "sctp,tp_src=5"),
        ("reg15=1,pkt_mark=0x10/0xf0,tcp,conj_id=9", "pkt_mark=0x10/0xf0,conj_id=9,tcp,reg15=0x1"),
        ("xreg4=0x100000002", "reg8=0x1,reg9=0x2"),
        ("xxreg3=0x5/0xffff", "reg15=0x5/0xffff"),
    ] {
        let filter = parse_flow_match(text, &Names).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(format_match(&filter.matches, None, &Names), printed, "{text}");
        let again = parse_flow_match(printed, &Names).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again.matches, filter.matches, "{text}");
    }
}

#[test]
fn matches_set_the_bits_they_say() {
    let what =
        flow("in_port=vxlan1,tun_id=5,dl_vlan=10,tcp,nw_dst=10.0.0.0/8,tp_src=80,actions=drop").matches;
    let full = FlowKey {
        in_port: 3,
        tun_id: 5,
        dl_type: 0x0800.into(),
        vlan_tci: (VLAN_PRESENT + 10).into(),
        nw_dst: 0x0a00_0000.into(),
        nw_proto: 6,
        tp_src: 80.into(),
        ..FlowKey::ZERO
    };
    assert_eq!(what.key().flow, full);
    let mask = FlowKey {
        in_port: u32::MAX,
        tun_id: u32::MAX,
        dl_type: 0xffff.into(),
        vlan_tci: 0x1fff.into(),
        nw_dst: 0xff00_0000.into(),
        nw_proto: 0xff,
        tp_src: 0xffff.into(),
        ..FlowKey::ZERO
    };
    assert_eq!(*what.mask(), mask.into());
}

#[test]
fn actions_print_as_in_ovs() {
    for (what, text, printed) in [
        ("", "drop", "drop"),
        ("", "", "drop"),
        ("", "output:vxlan1", "output:vxlan1"),
        ("", "3,output:9,p0", "output:vxlan1,output:9,output:p0"),
        ("", "\"a, \\\"b\\\" (c\"", "output:\"a, \\\"b\\\" (c\""),
        ("", "normal", "NORMAL"),
        ("", "output:NORMAL,FLOOD,ALL,in_port,LOCAL,65534", "NORMAL,FLOOD,ALL,IN_PORT,LOCAL,LOCAL"),
        ("", "CONTROLLER", "CONTROLLER:65535"),
        ("", "controller:128", "CONTROLLER:128"),
        ("", "output:reg0[0..15],output:NXM_NX_REG1[]", "output:NXM_NX_REG0[0..15],output:NXM_NX_REG1[]"),
        ("", "set_tunnel:100", "set_tunnel:0x64"),
        ("", "set_tunnel64:0x64", "set_tunnel:0x64"),
        ("", "resubmit(,2)", "resubmit(,2)"),
        ("", "resubmit(p1,2)", "resubmit(p1,2)"),
        ("", "resubmit(\"a, \\\"b\\\" (c\",2)", "resubmit(\"a, \\\"b\\\" (c\",2)"),
        ("", "resubmit:9", "resubmit:9"),
        ("", "resubmit:in_port", "resubmit:IN_PORT"),
        ("", "mod_dl_dst:02:00:00:00:00:05,goto_table:5", "mod_dl_dst:02:00:00:00:00:05,goto_table:5"),
        ("", "set_field:02:00:00:00:00:05->eth_src", "mod_dl_src:02:00:00:00:00:05"),
        (
            "",
            "set_field:02:00:00:00:00:00/ff:00:00:00:00:00->dl_dst",
            "set_field:02:00:00:00:00:00/ff:00:00:00:00:00->eth_dst",
        ),
        ("ip,", "set_field:10.0.0.1->ip_dst,dec_ttl", "mod_nw_dst:10.0.0.1,dec_ttl"),
        ("ip,", "dec_ttl(1, 2),exit", "dec_ttl(1,2),exit"),
        ("", "controller(max_len=9,reason=action)", "CONTROLLER:9"),
        (
            "",
            "controller(userdata=0102.ff,id=7,max_len=9,reason=group)",
            "controller(reason=group,max_len=9,id=7,userdata=01.02.ff)",
        ),
        ("", "set_queue:3,pop_queue", "set_queue:3,pop_queue"),
        ("", "mod_nw_dst:10.0.0.1", "mod_nw_dst:10.0.0.1"),
        (
            "",
            "mod_tp_dst:80,mod_nw_tos:184,mod_nw_ttl:3,mod_nw_ecn:1",
            "mod_tp_dst:80,mod_nw_tos:184,mod_nw_ttl:3,mod_nw_ecn:1",
        ),
        ("udp,", "mod_tp_dst:80,set_field:81->udp_src", "mod_tp_dst:80,mod_tp_src:81"),
        (
            "",
            "set_field:192.168.1.9->tun_dst,set_field:7->tun_id",
            "set_field:192.168.1.9->tun_dst,set_field:0x7->tun_id",
        ),
        ("", "set_field:2001:db8::9->tun_ipv6_dst", "set_field:2001:db8::9->tun_ipv6_dst"),
        ("ipv6,", "set_field:2001:db8::9->ipv6_dst", "set_field:2001:db8::9->ipv6_dst"),
        ("", "set_field:0x5/0xff->reg3,write_metadata:9", "set_field:0x5/0xff->reg3,write_metadata:0x9"),
        (
            "dl_vlan=3,",
            "set_field:4101->vlan_vid,set_field:2->vlan_pcp",
            "set_field:4101->vlan_vid,set_field:2->vlan_pcp",
        ),
        ("", "push_vlan:0x8100,set_field:5->vlan_vid", "push_vlan:0x8100,set_field:4101->vlan_vid"),
        ("", "mod_vlan_vid:7,mod_vlan_pcp:1,pop_vlan", "mod_vlan_vid:7,mod_vlan_pcp:1,strip_vlan"),
        (
            "",
            "load:5->NXM_NX_REG0[0..15],load:1->reg1[3],load:100->NXM_NX_TUN_ID[]",
            "load:0x5->NXM_NX_REG0[0..15],load:0x1->NXM_NX_REG1[3],load:0x64->NXM_NX_TUN_ID[]",
        ),
        (
            "arp,",
            "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:arp_sha[]->NXM_NX_ARP_THA[],load:0x2->NXM_OF_ARP_OP[]",
            "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],load:0x2->NXM_OF_ARP_OP[]",
        ),
        ("", "meter:1,group:5", "meter:1,group:5"),
        (
            "",
            "load:5->xreg7,load:1->NXM_NX_XXREG1[127],move:OXM_OF_PKT_REG0[0..31]->reg8[],set_field:1->reg9",
            "load:0x5->OXM_OF_PKT_REG7[],load:0x1->NXM_NX_XXREG1[127],move:OXM_OF_PKT_REG0[0..31]->NXM_NX_REG8[],set_field:0x1->reg9",
        ),
        (
            "",
            "clone(set_field:1->reg0,clone(output:1,2)),3",
            "clone(set_field:0x1->reg0,clone(output:p0,output:p1)),output:vxlan1",
        ),
        ("", "clone()", "clone(drop)"),
        (
            "",
            "output:2,clear_actions,write_actions(output:1,load:5->reg0),write_metadata:1,goto_table:9",
            "output:p1,clear_actions,write_actions(output:p0,load:0x5->NXM_NX_REG0[]),write_metadata:0x1,goto_table:9",
        ),
        ("", "push:NXM_NX_REG2[0..5],pop:reg3[]", "push:NXM_NX_REG2[0..5],pop:NXM_NX_REG3[]"),
        ("", "note:00.1a.ff,note:", "note:00.1a.ff,note:"),
        (
            "",
            "multipath(eth_src,50,modulo_n,12,0,NXM_NX_REG0[0..3])",
            "multipath(eth_src,50,modulo_n,12,0,NXM_NX_REG0[0..3])",
        ),
        (
            "",
            "bundle(symmetric_l4, 60, hrw, ofport, slaves:p0,2),bundle_load(eth_src,0,active_backup,ofport,reg0[0..15],members:1)",
            "bundle(symmetric_l4,60,hrw,ofport,members:p0,p1),bundle_load(eth_src,0,active_backup,ofport,NXM_NX_REG0[0..15],members:p0)",
        ),
        (
            "",
            "conjunction(10,1/2),note:01,conjunction(0xb, 2/3)",
            "conjunction(10,1/2),note:01,conjunction(11,2/3)",
        ),
        (
            "",
            "output(port=p0,max_len=100),output(max_len=0x40, port=LOCAL),output(port=in_port,max_len=14)",
            "output(port=p0,max_len=100),output(port=LOCAL,max_len=64),output(port=IN_PORT,max_len=14)",
        ),
        (
            "",
            "enqueue:p0:7,enqueue(LOCAL,3),enqueue:in_port:0",
            "enqueue:p0:7,enqueue:LOCAL:3,enqueue:IN_PORT:0",
        ),
        ("tcp,", "fin_timeout(idle_timeout=5,hard_timeout=9)", "fin_timeout(idle_timeout=5,hard_timeout=9)"),
        (
            "",
            "check_pkt_larger(1500)->reg0[7],resubmit(,3)",
            "check_pkt_larger(1500)->NXM_NX_REG0[7],resubmit(,3)",
        ),
        (
            "",
            "learn(table=2,idle_timeout=10,hard_timeout=20,fin_idle_timeout=1,fin_hard_timeout=2,priority=6,send_flow_rem,\
             delete_learned,cookie=7,limit=9,result_dst=reg0[3],NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],\
             eth_type=0x800,reg1[0..7]=5,load:0->NXM_OF_VLAN_TCI[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[])",
            "learn(table=2,idle_timeout=10,hard_timeout=20,fin_idle_timeout=1,fin_hard_timeout=2,priority=6,send_flow_rem,\
             delete_learned,cookie=0x7,limit=9,result_dst=NXM_NX_REG0[3],NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],\
             eth_type=0x800,NXM_NX_REG1[0..7]=0x5,load:0x0->NXM_OF_VLAN_TCI[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[])",
        ),
    ] {
        let spec = flow(&format!("{what}actions={text}"));
        assert_eq!(format_actions(&spec.actions, &Names), printed, "{text}");
        assert_eq!(flow(&format!("{what}actions={printed}")).actions, spec.actions, "{text}");
    }
}

#[test]
fn actions_that_are_no_rule_s_are_refused_by_name() {
    for (actions, expected) in [
        ("ct(commit)", "which ct is not"),
        ("ct_clear", "which ct_clear is not"),
        ("controller(pause)", "no pause"),
        ("controller(meter_id=3)", "no meter_id"),
        ("controller(reason=late)", "reason=no_match"),
        ("dec_ttl()", "numbers of controllers"),
        ("write_actions(clone(1))", "which clone(output:p0) is not"),
        ("write_actions(1),clear_actions", "in this order"),
        ("write_actions(1),write_actions(2)", "in this order"),
        ("clear_actions,output:1", "in this order"),
        ("write_actions(1),write_metadata:1,resubmit(,1)", "in this order"),
        ("write_actions(write_actions(1))", "outside of other actions"),
        ("clone(clear_actions)", "outside of other actions"),
        ("conjunction(1,1/2),output:1", "no other actions but note"),
        ("conjunction(1,3/2)", "K from 1 to N"),
        ("conjunction(1,1/65)", "K from 1 to N"),
        ("push:reg99[]", "the name of a field"),
        ("pop:eth_type[]", "which eth_type cannot"),
        ("note:0", "pairs of hexadecimal digits"),
        ("note:xy", "pairs of hexadecimal digits"),
        ("multipath(eth_src,50,modulo_n,17,0,reg0[0..3])", "enough bits for 17 links"),
        ("multipath(eth_src,50,modulo,1,0,reg0[])", "modulo_n"),
        ("bundle(eth_src,0,hrw,ifindex,members:1)", "ofport"),
        ("bundle_load(eth_src,0,hrw,ofport,reg0[0..3],members:1)", "16 bits or more"),
        ("fin_timeout(idle_timeout=5)", "tcp"),
        ("check_pkt_larger(1500)->reg0[0..1]", "one bit"),
        ("check_pkt_larger(1500)", "check_pkt_larger(LENGTH)->FIELD[BIT]"),
        ("learn(table=255)", "a number from 0 to 254"),
        ("learn(NXM_OF_ETH_DST[]=NXM_OF_IN_PORT[])", "as many bits"),
        ("learn(load:256->reg0[0..7])", "a number of 8 bits"),
        ("learn(result_dst=reg0[0..1])", "one bit"),
        ("learn(colour=red)", "output:FIELD[A..B]"),
        ("learn(NXM_OF_TCP_SRC[])", "tcp"),
        ("learn(NXM_OF_IP_SRC[])", "ip (dl_type=0x0800) or arp"),
        ("learn(NXM_OF_ETH_SRC[],load:1->NXM_OF_IP_TTL[])", "the name of a field"),
        ("learn(NXM_OF_ETH_SRC[],load:1->nw_ttl[])", "ip or ipv6"),
    ] {
        let error = refusal(&format!("ip,actions={actions}"));
        assert!(error.contains(expected), "{actions}: {error}");
    }
}

#[test]
fn mod_tp_follows_the_protocol() {
    let set = |text: &str| match flow(text).actions.as_slice() {
        [Action::SetField { field, value: 80, .. }] => *field,
        other => panic!("{other:?}"),
    };
    assert_eq!(set("tcp,actions=mod_tp_src:80"), Field::TcpSrc);
    assert_eq!(set("udp6,actions=mod_tp_dst:80"), Field::UdpDst);
    assert_eq!(set("sctp,actions=mod_tp_dst:80"), Field::SctpDst);
    assert_eq!(set("ip,actions=mod_tp_dst:80"), Field::TpDst);
}

#[test]
fn lines_of_dump_flows() {
    let spec = flow("priority=10,in_port=p0,tcp,tp_dst=80,actions=output:vxlan1");
    let stats = FlowStats { duration: Duration::from_millis(12300), packets: 5, bytes: 490, idle_age: None };
    let line = format_flow(&spec, Some(&stats), &Names);
    assert_eq!(
        line,
        " cookie=0x0, duration=12.3s, table=0, n_packets=5, n_bytes=490, priority=10,tcp,in_port=p0,tp_dst=80 \
         actions=output:vxlan1"
    );
    assert_eq!(flow(&line), spec);
    let spec = flow(
        "table=3 cookie=0xab idle_timeout=5, hard_timeout=60 send_flow_rem check_overlap reset_counts actions=NORMAL",
    );
    assert_eq!((spec.priority, spec.table, spec.cookie), (DEFAULT_PRIORITY, 3, 0xab));
    let stats =
        FlowStats { duration: Duration::from_secs(2), idle_age: Some(Duration::from_secs(1)), ..stats };
    let line = format_flow(&spec, Some(&stats), &());
    assert_eq!(
        line,
        " cookie=0xab, duration=2s, table=3, n_packets=5, n_bytes=490, idle_timeout=5, hard_timeout=60, \
         send_flow_rem check_overlap reset_counts idle_age=1, actions=NORMAL"
    );
    assert_eq!(flow(&line), spec);
    assert_eq!(
        format_flow(&flow("priority=0 actions=drop"), None, &()),
        " cookie=0x0, priority=0 actions=drop"
    );
    let spec = flow("importance=9,no_byte_counts,no_packet_counts,actions=drop");
    let line = format_flow(&spec, None, &());
    assert_eq!(line, " cookie=0x0, no_packet_counts no_byte_counts importance=9, actions=drop");
    assert_eq!(flow(&line), spec);
}

#[test]
fn filters() {
    let filter =
        parse_flow_match("table=1,cookie=0x15/0xf,out_port=p1,out_group=4,priority=7,ip", &Names).unwrap();
    assert_eq!(
        (filter.table, filter.priority, filter.out_port, filter.out_group),
        (Some(1), Some(7), Some(2), Some(4))
    );
    assert_eq!((filter.cookie, filter.cookie_mask), (5, 0xf));
    assert_eq!(format_match(&filter.matches, None, &()), "ip");
    assert_eq!(parse_flow_match("", &()).unwrap(), FlowFilter::default());
    assert_eq!(parse_flow_match("cookie=5/-1", &()).unwrap(), parse_flow_match("cookie=5", &()).unwrap());
    assert!(parse_flow_match("ip,actions=drop", &()).is_err());
    assert!(parse_flow_match("idle_timeout=5", &()).is_err());
    let spec = flow("table=1,priority=7,cookie=5,tcp,actions=clone(p1,group:4)");
    for (text, loose, strict) in [
        ("", true, false),
        ("table=1,ip", true, false),
        ("table=0", false, false),
        ("priority=7,tcp", true, true),
        ("priority=8,tcp", true, false),
        ("priority=7,tcp,cookie=5", true, true),
        ("priority=7,tcp,cookie=4/0xe", true, true),
        ("cookie=4", false, false),
        ("udp", false, false),
        ("tcp,tp_src=1", false, false),
        ("out_port=p1,out_group=4", true, false),
        ("out_port=p0", false, false),
        ("out_group=5", false, false),
    ] {
        let filter = parse_flow_match(text, &Names).unwrap();
        assert_eq!((filter.selects(&spec, false), filter.selects(&spec, true)), (loose, strict), "{text}");
    }
    let change = parse_flow_mod("cookie=1/3,ip,actions=1", &()).unwrap();
    assert_eq!((change.filter.cookie, change.filter.cookie_mask, change.new_cookie), (1, 3, None));
    assert_eq!(parse_flow_mod("cookie=1,actions=1", &()).unwrap().new_cookie, Some(1));
    assert!(parse_flow_mod("ip", &()).is_err());
}

#[test]
fn keys() {
    let key = parse_key(
        "in_port=p0,dl_src=02:00:00:00:00:01,dl_vlan=7,tcp,nw_dst=10.0.0.1,tp_dst=80,ip_frag=later",
        &Names,
    )
    .unwrap()
    .flow;
    let expected = FlowKey {
        in_port: 1,
        dl_src: MacAddr([2, 0, 0, 0, 0, 1]),
        dl_type: 0x0800.into(),
        vlan_tci: 0x1007.into(),
        nw_dst: 0x0a00_0001.into(),
        nw_proto: 6,
        tp_dst: 80.into(),
        nw_frag: 3,
        ..FlowKey::ZERO
    };
    assert_eq!(key, expected);
    let text = format_key(&key.into(), &Names);
    assert_eq!(
        text,
        "tcp,in_port=p0,dl_vlan=7,dl_vlan_pcp=0,dl_src=02:00:00:00:00:01,nw_dst=10.0.0.1,nw_frag=later,tp_dst=80"
    );
    assert_eq!(parse_key(&text, &Names).unwrap().flow, expected);
    let tunnelled = parse_key("tun_id=5,reg1=3", &()).unwrap();
    assert_eq!(
        (tunnelled.flow.tun_flags, tunnelled.flow.dl_type.get(), tunnelled.reg[1]),
        (TUN_PRESENT, 0x05ff, 3)
    );
    for bad in [
        "ip,nw_src=10.0.0.0/8",
        "priority=5",
        "tp_dst=80",
        "tcp,tcp_flags=+syn",
        "ip,ip_frag=yes",
        "ip actions=drop",
    ] {
        assert!(parse_key(bad, &()).is_err(), "{bad}");
    }
}

#[test]
fn refusals_name_the_token_and_what_was_expected() {
    let ports = "a port number, a port name, LOCAL, IN_PORT, NORMAL, FLOOD, ALL, CONTROLLER, or a field such as reg0[0..15]";
    for (text, message) in [
        (
            "ip,nw_src=10.0.0.300,actions=drop",
            "nw_src=10.0.0.300: expected an IPv4 address, optionally /prefix or /mask",
        ),
        ("tp_src=80,actions=drop", "tp_src=80: expected tcp, udp, sctp, tcp6, udp6 or sctp6 in the match"),
        ("udp,tcp_src=80,actions=drop", "tcp_src=80: expected tcp or tcp6 in the match"),
        ("nw_src=10.0.0.1,actions=drop", "nw_src=10.0.0.1: expected ip (dl_type=0x0800) or arp in the match"),
        (
            "icmp6,nd_target=fe80::1,actions=drop",
            "nd_target=fe80::1: expected icmp6,icmp_type=135 or icmp6,icmp_type=136 in the match",
        ),
        ("ip,arp,actions=drop", "arp: expected nothing that contradicts the match before it"),
        (
            "dl_vlan=4096,actions=drop",
            "dl_vlan=4096: expected a VLAN ID from 0 to 4095, or 0xffff for packets without a tag",
        ),
        (
            "vlan_vid=5,actions=drop",
            "vlan_vid=5: expected 0x1000 (a tag is present) plus a VLAN ID, or 0 for packets without a tag, optionally /mask",
        ),
        (
            "dl_src=02:00:00,actions=drop",
            "dl_src=02:00:00: expected a MAC address such as 02:00:00:00:0a:01, optionally /mask",
        ),
        ("in_port=p9,actions=drop", "in_port=p9: expected a port number, a port name or LOCAL"),
        (
            "tun_id=0x100000000,actions=drop",
            "tun_id=0x100000000: expected a VNI or key from 0 to 4294967295 (0xffffffff), optionally /mask",
        ),
        ("priority=65536,actions=drop", "priority=65536: expected a number from 0 to 65535"),
        ("table=255,actions=drop", "table=255: expected a number from 0 to 254"),
        (
            "cookie=1/2,actions=drop",
            "cookie=1/2: expected a cookie without a mask: the mask is for choosing flows",
        ),
        ("ip", "end of text: expected actions=ACTION,... (actions=drop to drop)"),
        ("actions=output:p9", &format!("output:p9: expected {ports}")),
        ("actions=drop,output:1", "drop: expected no action behind it"),
        ("actions=output:1,drop", "drop: expected drop to stand alone"),
        ("table=2,actions=goto_table:2", "goto_table:2: expected a table above the flow's own (2)"),
        ("actions=goto_table:2,output:1", "goto_table:2: expected no action behind it"),
        (
            "actions=set_field:10.0.0.1->nw_dst",
            "set_field:10.0.0.1->nw_dst: expected ip (dl_type=0x0800) in the match",
        ),
        (
            "actions=set_field:5->nw_proto",
            "set_field:5->nw_proto: expected a field that can be set, which nw_proto cannot",
        ),
        ("actions=load:16->reg0[0..3]", "load:16->reg0[0..3]: expected a number from 0 to 15"),
        ("actions=load:1->reg0[32]", "load:1->reg0[32]: expected bits from 0 to 31 of reg0"),
        (
            "actions=move:reg0[]->eth_dst[]",
            "move:reg0[]->eth_dst[]: expected as many bits from (32) as to (48)",
        ),
        ("actions=output:1,meter:1", "meter:1: expected meter to come before all other actions"),
        ("actions=clone(output:1", "clone(output:1: expected a closing parenthesis"),
        ("actions=clone(output:p9)", &format!("output:p9: expected {ports}")),
        ("actions=clone(output:1)x", "clone(output:1)x: expected nothing behind the ) that closes it"),
        (
            "actions=resubmit(,255)",
            "resubmit(,255): expected resubmit:PORT or resubmit(PORT,TABLE), either of the two left out if as before",
        ),
        (
            "actions=set_tunnel:0x100000000",
            "set_tunnel:0x100000000: expected a VNI or key from 0 to 4294967295 (0xffffffff)",
        ),
        (
            "actions=mod_nw_tos:3",
            "mod_nw_tos:3: expected a multiple of 4 from 0 to 252 (the ECN bits are nw_ecn)",
        ),
        ("actions=mod_vlan_vid:4096", "mod_vlan_vid:4096: expected a number from 0 to 4095"),
    ] {
        assert_eq!(refusal(text), message, "{text}");
    }
    assert!(refusal("actions=fly(table=1)").starts_with("fly(table=1): expected one of output, LOCAL"));
    assert!(refusal("colour=red,actions=drop").starts_with("colour=red: expected a field"));
    assert!(refusal(&format!("actions={}", "clone(".repeat(100))).contains("closing parenthesis"));
    assert!(
        refusal(&format!("actions={}{}", "clone(".repeat(100), ")".repeat(100))).contains("at most 16 deep")
    );
}

#[test]
fn megaflows_print_as_in_dpctl() {
    let key = parse_key("in_port=p0,tun_id=100,tun_src=192.168.1.2,dl_src=02:00:00:00:00:01,dl_vlan=7,tcp,nw_src=10.0.0.1,tp_dst=80", &Names)
        .unwrap()
        .flow;
    let mask = |text: &str| parse_flow_match(text, &Names).unwrap().matches.mask().flow;
    assert_eq!(format_megaflow(&key, &FlowKey::ZERO, &()), "");
    assert_eq!(
        format_megaflow(&key, &mask("in_port=1,tcp,nw_src=0.0.0.0/24,tp_dst=0,ip_frag=no"), &Names),
        "in_port(p0),eth_type(0x0800),ipv4(src=10.0.0.0/24,proto=6,frag=no),tcp(dst=80)"
    );
    assert_eq!(
        format_megaflow(
            &key,
            &mask("tun_id=1,tun_src=1.1.1.1,in_port=1,dl_src=00:00:00:00:00:00,dl_vlan=1,ip"),
            &()
        ),
        "tunnel(tun_id=0x64,src=192.168.1.2),in_port(1),eth(src=02:00:00:00:00:01),vlan(vid=7),encap(eth_type(0x0800))"
    );
    let double = FlowKey { vlan_tci2: 0x1009.into(), ..key };
    let tags = FlowKey {
        vlan_tci: 0x1fff.into(),
        vlan_tci2: 0x1fff.into(),
        dl_type: 0xffff.into(),
        ..FlowKey::ZERO
    };
    assert_eq!(
        format_megaflow(&double, &tags, &()),
        "vlan(vid=7),encap(vlan(vid=9),encap(eth_type(0x0800)))"
    );
    let untagged = FlowKey { vlan_tci: 0.into(), ..key };
    assert_eq!(
        format_megaflow(&untagged, &mask("dl_vlan=1,dl_type=0"), &()),
        "vlan(vid=0,cfi=0),eth_type(0x0800)"
    );
    let solicit =
        parse_key("icmp6,icmp_type=135,nd_target=fe80::1,nd_sll=02:00:00:00:00:01", &()).unwrap().flow;
    assert_eq!(
        format_megaflow(&solicit, &mask("icmp6,icmp_type=135,nd_target=::,nd_sll=00:00:00:00:00:00"), &()),
        "eth_type(0x86dd),ipv6(proto=58),icmpv6(type=135),nd(target=fe80::1,sll=02:00:00:00:00:01)"
    );
}

#[test]
fn options_have_fields_where_the_tlv_map_says() {
    let mut tlvs = wire::tunnel::geneve::TlvMap::EMPTY;
    tlvs.add((0xffff, 1, 4), 0).unwrap();
    tlvs.add((0x102, 0x80, 16), 63).unwrap();
    let names = PortMap::default().with_tlvs(tlvs);
    for text in [
        "tun_metadata0=0x1234,actions=drop",
        "tun_metadata0=0x1200/0xff00,actions=drop",
        "tun_metadata0,tun_metadata63=0x1,actions=drop",
        "actions=set_field:0x5->tun_metadata0,set_field:0x6/0xf->tun_metadata63,output:1",
        "actions=load:0x7->NXM_NX_TUN_METADATA0[0..15],move:NXM_NX_TUN_METADATA63[0..31]->NXM_NX_TUN_METADATA0[],output:1",
    ] {
        let flow = parse_flow(text, &names).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(
            format_flow(&flow, None, &names).trim().trim_start_matches("cookie=0x0, "),
            text.replacen(",actions", " actions", 1)
        );
    }
    let flow = parse_flow("tun_metadata0=0x1234,actions=drop", &names).unwrap();
    let (key, mask) = (flow.matches.key().flow, flow.matches.mask().flow);
    assert_eq!((key.tun_metadata_present, mask.tun_metadata_present), (1, 1));
    assert_eq!(
        (&key.tun_metadata[..5], &mask.tun_metadata[..5]),
        (&[0, 0, 0x12, 0x34, 0][..], &[0xff, 0xff, 0xff, 0xff, 0][..])
    );
    for (text, expected) in [
        ("tun_metadata1=5,actions=drop", "give tun_metadata1 one by add-tlv-map first"),
        ("tun_metadata1,actions=drop", "give tun_metadata1 one by add-tlv-map first"),
        ("actions=set_field:5->tun_metadata7", "give tun_metadata7 one by add-tlv-map first"),
        ("tun_metadata0=0x100000000,actions=drop", "a number from 0 to 0xffffffff"),
    ] {
        let error = parse_flow(text, &names).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(parse_flow("tun_metadata64=5,actions=drop", &names).is_err());
    let mut out = format_megaflow(&key, &mask, &names);
    assert_eq!(out, "tunnel(geneve({class=0xffff,type=0x1,len=4,0x1234}))");
    out = format_megaflow(&FlowKey::ZERO, &mask, &names);
    assert_eq!(out, "tunnel(geneve({class=0xffff,type=0x1,len=4,absent}))");
}

/// The time that a text takes grows with its length, and its length has a bound.
#[test]
fn long_lists_are_read_in_no_time_or_refused() {
    let start = std::time::Instant::now();
    for (actions, good) in [(8192, true), (8193, false), (300_000, false)] {
        let flow = parse_flow(&format!("actions={}", vec!["1"; actions].join(",")), &Names);
        assert_eq!(flow.is_ok(), good, "{actions}");
    }
    for (buckets, good) in [(4096, true), (4097, false), (100_000, false)] {
        let group = parse_group(&format!("group_id=6,type=all{}", ",bucket=1".repeat(buckets)), &Names);
        assert_eq!(group.is_ok(), good, "{buckets}");
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
}

/// The flow that a `learn` makes of a packet.
fn learned(what: &str, learn: &str, packet: &str) -> FlowSpec {
    let Action::Learn(learn) = flow(&format!("{what},actions=learn({learn})")).actions.remove(0) else {
        panic!("{learn}")
    };
    let packet = parse_key(packet, &Names).unwrap();
    learn.flow(|bits| bits.get(&packet))
}

#[test]
fn learned_flows_are_made_of_the_packet() {
    let tcp = "in_port=p1,tcp,dl_vlan=7,dl_vlan_pcp=3,dl_src=02:00:00:00:00:01,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_src=5,tp_dst=80";
    for (learn, expected) in [
        (
            "NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]",
            "table=1,vlan_tci=0x0007/0x0fff,dl_dst=02:00:00:00:00:01,actions=output:p1",
        ),
        (
            "table=3,priority=5,cookie=9,hard_timeout=60,send_flow_rem,eth_type=0x800,nw_proto=6,ip_src=ip_dst,ip_dst=ip_src,\
             tcp_src=tcp_dst,in_port",
            "table=3,priority=5,cookie=9,hard_timeout=60,send_flow_rem,tcp,in_port=p1,nw_src=10.0.0.2,nw_dst=10.0.0.1,tp_src=80,\
             actions=drop",
        ),
        (
            "fin_idle_timeout=3,eth_type=0x800,nw_proto=6,reg1[0..7]=5,load:in_port[]->reg0[16..31],load:7->reg2[]",
            "table=1,tcp,reg1=0x5/0xff,actions=fin_timeout(idle_timeout=3),load:2->reg0[16..31],load:7->reg2[]",
        ),
        ("vlan_vid,in_port=7,output:reg0[0..15]", "table=1,in_port=7,dl_vlan=7,actions=output:0"),
        (
            "load:0xfffc->reg3[0..15],output:vlan_tci[0..11]",
            "table=1,actions=load:0xfffc->reg3[0..15],output:7",
        ),
        ("idle_timeout=9,limit=4,result_dst=reg0[0]", "table=1,idle_timeout=9,actions=drop"),
    ] {
        assert_eq!(learned("tcp,dl_vlan=7", learn, tcp), flow(expected), "{learn}");
    }
    let wide = "eth_type=0x86dd,ipv6_dst=ipv6_src,load:ipv6_src[]->xxreg0[]";
    let expected =
        "table=1,ipv6,ipv6_dst=2001:db8::1,actions=set_field:0x20010db8000000000000000000000001->xxreg0";
    assert_eq!(learned("ipv6", wide, "ipv6,ipv6_src=2001:db8::1"), flow(expected));
}
