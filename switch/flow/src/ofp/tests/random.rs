//! Random flows, and text that is hardly a flow.

use super::*;
use proptest::prelude::*;
use proptest::sample::Select;

/// One of the words of a text.
fn one_of(words: &'static str) -> Select<&'static str> {
    prop::sample::select(words.split_whitespace().collect::<Vec<_>>())
}

/// Pieces that flows are made of: most combinations are refused, many are not.
fn piece() -> impl Strategy<Value = String> {
    let words = one_of(
        "ip tcp udp ipv6 tcp6 icmp icmp6 arp send_flow_rem check_overlap tcp_flags=+syn-ack \
         ip_frag=first ip_frag=no in_port=p0 in_port=LOCAL in_port=77 icmp_type=135 arp_op=1 \
         tun_flags=+df dl_vlan=0xffff vlan_vid=0x1000/0x1000",
    );
    let numbered = one_of(
        "priority table cookie idle_timeout hard_timeout reg0 reg5 reg13 xreg3 xxreg1 pkt_mark conj_id metadata tun_id tp_src tp_dst \
         tcp_dst udp_src icmp_code nw_ttl nw_tos nw_proto ip_dscp nw_ecn dl_vlan dl_vlan_pcp \
         vlan_tci dl_type tun_gbp_id tun_gbp_flags ipv6_label tcp_flags",
    );
    let masked = one_of("reg1 reg15 xreg7 xxreg0 pkt_mark metadata tun_id tp_src tp_dst vlan_tci tcp_flags");
    let ipv4 = one_of("nw_src nw_dst arp_spa arp_tpa tun_src tun_dst");
    let ipv6 = one_of("ipv6_src ipv6_dst nd_target tun_ipv6_src");
    let mac = one_of("dl_src dl_dst arp_sha arp_tha nd_sll");
    let address = (any::<u128>(), any::<u128>(), 0u32..=128);
    prop_oneof![
        4 => words.prop_map(str::to_owned),
        4 => (numbered, prop_oneof![0u32..8, 0u32..300, 0u32..70000])
            .prop_map(|(name, value)| format!("{name}={value}")),
        1 => (masked, 0u16..0xfff, 0u16..0xfff)
            .prop_map(|(name, value, mask)| format!("{name}={value:#x}/{mask:#x}")),
        2 => (ipv4, address.clone(), any::<bool>()).prop_map(|(name, (ip, mask, prefix), cidr)| {
            let (ip, mask) = (std::net::Ipv4Addr::from(ip as u32), std::net::Ipv4Addr::from(mask as u32));
            if cidr { format!("{name}={ip}/{}", prefix % 33) } else { format!("{name}={ip}/{mask}") }
        }),
        1 => (ipv6, address, any::<bool>()).prop_map(|(name, (ip, mask, prefix), cidr)| {
            let (ip, mask) = (std::net::Ipv6Addr::from(ip), std::net::Ipv6Addr::from(mask));
            if cidr { format!("{name}={ip}/{prefix}") } else { format!("{name}={ip}/{mask}") }
        }),
        1 => (mac, any::<[u8; 6]>(), any::<[u8; 6]>())
            .prop_map(|(name, mac, mask)| format!("{name}={}/{}", MacAddr(mac), MacAddr(mask))),
    ]
}

fn action_piece() -> impl Strategy<Value = String> {
    let words = one_of(
        "NORMAL drop LOCAL pop_vlan dec_ttl push_vlan:0x8100 CONTROLLER output:p0 resubmit(,9) \
         resubmit(p1,9) resubmit:p1 output:reg0[3..9] clone(output:p1,set_field:5->reg0) \
         move:reg0[0..7]->nw_ttl[] move:eth_src[]->eth_dst[] set_field:02:00:00:00:00:01->eth_dst \
         set_field:::5->tun_ipv6_dst mod_nw_src:10.0.0.1 set_field:10.0.0.1->ip_src \
         set_field:10.0.0.0/255.0.0.0->arp_spa dec_ttl(1,7) controller(max_len=64,id=5,reason=no_match) \
         exit set_queue:7 pop_queue controller(userdata=01.02.ff) controller(max_len=9,reason=action) controller(reason=invalid_ttl) \
         write_actions(output:p1,dec_ttl,group:5) clear_actions push:reg9[3..9] pop:xreg2[] note:01.02 note: \
         multipath(symmetric_l3l4+udp,1,iter_hash,7,0,reg3[0..3]) bundle(nw_src,1,hrw,ofport,members:p0,77) \
         bundle_load(eth_src,0,active_backup,ofport,reg1[0..15],members:) conjunction(7,2/3) \
         fin_timeout(idle_timeout=3) fin_timeout() check_pkt_larger(1500)->reg0[7] \
         learn(table=9,limit=3,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:1->reg0[],output:in_port[],eth_type=0x800,nw_proto=6,in_port=p1)",
    );
    let numbered = one_of(
        "output:{} goto_table:{} mod_tp_src:{} mod_nw_ttl:{} mod_vlan_vid:{} mod_vlan_pcp:{} \
         set_tunnel:{} group:{} meter:{} load:{}->NXM_NX_REG2[3..11] load:{}->tun_id \
         set_field:{}->tcp_dst set_field:{}->vlan_vid set_field:{}/0x3->metadata set_field:{}/0x7->xxreg2 load:{}->xreg5[3..40] load:{}->pkt_mark \
         set_field:{}->ip_dscp set_field:{}->icmpv6_code mod_nw_tos:{}",
    );
    prop_oneof![
        words.prop_map(str::to_owned),
        (numbered, prop_oneof![0u32..8, 0u32..300])
            .prop_map(|(form, value)| form.replace("{}", &value.to_string())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn printed_flows_parse_to_the_same(
        pieces in prop::collection::vec(piece(), 0..5), actions in prop::collection::vec(action_piece(), 0..4),
    ) {
        // Pieces that do not go with those before them are left out, so that most flows are accepted.
        let mut text = String::new();
        for piece in pieces {
            let longer = format!("{text}{piece},");
            if parse_flow(&format!("{longer}actions=drop"), &Names).is_ok() {
                text = longer;
            }
        }
        text.push_str("actions=");
        for action in actions {
            let longer = format!("{text}{action},");
            if parse_flow(&longer, &Names).is_ok() {
                text = longer;
            }
        }
        let spec = parse_flow(&text, &Names);
        prop_assert!(spec.is_ok(), "{}: {:?}", text, spec);
        let spec = spec.expect("just checked");
        for stats in [None, Some(FlowStats::default())] {
            for names in [&Names as &dyn PortNames, &()] {
                let line = format_flow(&spec, stats.as_ref(), names);
                let again = parse_flow(&line, names);
                prop_assert_eq!(again.as_ref(), Ok(&spec), "{}\n{}", text, line);
            }
        }
    }

    #[test]
    fn printed_groups_parse_to_the_same(
        id in 0u32..=0xffff_ff00, kind in one_of("all select indirect ff"),
        selection in one_of("none ,selection_method=hash ,selection_method=dp_hash,selection_method_param=7 \
                             ,selection_method=hash,fields=eth_src ,selection_method=hash,fields(tcp_dst,ip_src=255.0.0.0)"),
        buckets in prop::collection::vec(
            (
                prop::collection::vec(one_of("weight:0 weight:9 watch_port:p1 watch_group:7 bucket_id:40"), 0..3),
                prop::collection::vec(action_piece(), 1..4),
            ),
            0..4,
        ),
    ) {
        let mut text = format!("group_id={id},type={kind}");
        if kind == "select" && selection != "none" {
            text.push_str(selection);
        }
        for (settings, actions) in buckets {
            let mut bucket = ",bucket=".to_owned();
            for piece in settings.into_iter().map(str::to_owned).chain(actions) {
                let longer = format!("{bucket}{piece},");
                // A bucket of a failover group needs something to watch and is accepted once it has.
                let begun = format!("{longer}drop");
                let reads = |bucket: &str| parse_group(&format!("{text}{bucket}"), &Names).is_ok();
                if reads(&longer) || reads(&begun) {
                    bucket = longer;
                }
            }
            if parse_group(&format!("{text}{bucket}"), &Names).is_ok() {
                text.push_str(&bucket);
            }
        }
        let spec = match parse_group(&text, &Names) {
            Ok(spec) => spec,
            // The only thing that can be missing.
            Err(error) => {
                prop_assert!(kind == "indirect" && error.token.is_empty(), "{text}: {error}");
                return Ok(());
            }
        };
        for names in [&Names as &dyn PortNames, &()] {
            let line = format_group(&spec, names);
            let again = parse_group(&line, names);
            prop_assert_eq!(again.as_ref(), Ok(&spec), "{}\n{}", text, line);
        }
    }

    #[test]
    fn printed_meters_parse_to_the_same(
        id in 1u32..=0xffff_0000, pktps in any::<bool>(), rate in 1u32..,
        burst in prop::option::of(1u32..), stats in any::<bool>(),
    ) {
        let unit = if pktps { MeterUnit::Pktps } else { MeterUnit::Kbps };
        let spec = MeterSpec { id, unit, rate, burst, stats };
        prop_assert_eq!(parse_meter(&format_meter(&spec)), Ok(spec));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        everything(&text);
        everything(&format!("group_id=1,type=select,bucket={text}"));
        everything(&format!("meter=1,bands={text}"));
    }

    #[test]
    fn no_mangled_flow_panics(
        pieces in prop::collection::vec(piece(), 0..4), actions in prop::collection::vec(action_piece(), 0..4),
        at in any::<prop::sample::Index>(), with in "[-a-z0-9:=,/()\"\\\\>*\\[\\].é ]{0,3}", cut in 0usize..4,
    ) {
        let text = format!("{},actions={}", pieces.join(","), actions.join(","));
        let mut chars: Vec<char> = text.chars().collect();
        let start = at.index(chars.len());
        let end = (start + cut).min(chars.len());
        chars.splice(start..end, with.chars());
        everything(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn printed_keys_parse_to_the_same(pieces in prop::collection::vec(piece(), 0..6)) {
        let mut text = String::new();
        for piece in pieces {
            let longer = format!("{text}{piece},");
            if parse_key(&longer, &Names).is_ok() {
                text = longer;
            }
        }
        let key = parse_key(&text, &Names).expect("only accepted pieces");
        let printed = format_key(&key, &Names);
        prop_assert_eq!(parse_key(&printed, &Names), Ok(key), "{}\n{}", text, printed);
    }
}

/// All ways in.
fn everything(text: &str) {
    for error in [
        parse_flow(text, &Names).err(),
        parse_flow_match(text, &Names).err(),
        parse_flow_mod(text, &Names).err(),
        parse_key(text, &Names).err(),
        parse_group(text, &Names).err(),
        parse_group_filter(text).err(),
        parse_meter(text).err(),
        parse_meter_filter(text).err(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!error.expected.is_empty());
        assert_eq!(text.get(error.position..error.position + error.token.len()), Some(error.token.as_str()));
    }
}
