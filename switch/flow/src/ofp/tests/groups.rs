//! Groups and meters as text. What is accepted, refused and left out was compared with `ovs-ofctl parse-group` 3.1.

use super::*;

#[test]
fn groups_print_as_in_ovs() {
    for (text, expected) in [
        (
            "group_id=1,type=select,bucket=output:1,bucket=weight:5,actions=output:2",
            "group_id=1,type=select,bucket=bucket_id:0,actions=output:p0,bucket=bucket_id:1,weight:5,actions=output:p1",
        ),
        (
            "group_id=1,type=select,bucket=output:1,weight:7",
            "group_id=1,type=select,bucket=bucket_id:0,weight:7,actions=output:p0",
        ),
        ("group_id=0,type=all", "group_id=0,type=all"),
        (
            "group_id=4294967040,type=all,bucket=drop",
            "group_id=4294967040,type=all,bucket=bucket_id:0,actions=drop",
        ),
        (
            "group_id=1,type=fast_failover,bucket=watch_group:4,set_field:1->reg0,2 bucket=bucket_id=9,watch_port=p0,actions=LOCAL",
            "group_id=1,type=ff,bucket=bucket_id:0,watch_group:4,actions=set_field:0x1->reg0,output:p1,\
             bucket=bucket_id:9,watch_port:p0,actions=LOCAL",
        ),
        (
            "group_id=3 type=indirect bucket=actions=push_vlan:0x8100,set_field:5->vlan_vid,output:p0",
            "group_id=3,type=indirect,bucket=bucket_id:0,actions=push_vlan:0x8100,set_field:4101->vlan_vid,output:p0",
        ),
        (
            "group_id=3,type=all,bucket=clone(set_tunnel:5,output:1),group:2",
            "group_id=3,type=all,bucket=bucket_id:0,actions=clone(set_tunnel:0x5,output:p0),group:2",
        ),
    ] {
        let group = parse_group(text, &Names).unwrap_or_else(|error| panic!("{text}: {error}"));
        let printed = format_group(&group, &Names);
        assert_eq!(printed, expected, "{text}");
        assert_eq!(parse_group(&printed, &Names), Ok(group), "{printed}");
    }
}

#[test]
fn groups_that_are_refused() {
    for (text, expected) in [
        ("type=all,bucket=drop", "end of text: expected group_id=N, from 0 to 4294967040"),
        ("group_id=1,bucket=drop", "end of text: expected type=all, select, indirect or ff"),
        ("group_id=4294967041,type=all", "group_id=4294967041: expected a number from 0 to 4294967040"),
        ("group_id=1,type=any", "type=any: expected type=all, select, indirect or ff"),
        (
            "group_id=1,type=all,command_bucket_id=3",
            "command_bucket_id=3: expected group_id=N, type=TYPE, selection_method=METHOD, selection_method_param=N, fields(FIELD,...) or bucket=BUCKET",
        ),
        (
            "group_id=1,type=select,selection_method=rr",
            "selection_method=rr: expected selection_method=hash or selection_method=dp_hash",
        ),
        ("group_id=1,type=all,bucket=weight:3,1", "weight:3: expected weight in a group of type select only"),
        ("group_id=1,type=select,bucket=weight:65536,1", "weight:65536: expected a number from 0 to 65535"),
        (
            "group_id=1,type=ff,bucket=output:1",
            "bucket=output:1: expected watch_port:PORT or watch_group:N in every bucket of a group of type ff",
        ),
        (
            "group_id=1,type=ff,bucket=watch_port:1",
            "bucket=watch_port:1: expected actions=ACTION,... in every bucket (actions=drop to drop)",
        ),
        (
            "group_id=1,type=all,bucket=watch_port:1,2",
            "bucket=watch_port:1: expected watch_port and watch_group in groups of type ff and select only",
        ),
        (
            "group_id=1,type=ff,bucket=watch_port:p9,2",
            "watch_port:p9: expected a port number, a port name or LOCAL",
        ),
        (
            "group_id=1,type=indirect,bucket=1,bucket=2",
            "bucket=2: expected one bucket in a group of type indirect",
        ),
        (
            "group_id=1,type=all,bucket=bucket_id:3,1,bucket=bucket_id:3,2",
            "bucket=bucket_id:3: expected a bucket_id that is not in use: 3 is",
        ),
        (
            "group_id=1,type=all,bucket=actions=meter:1,1",
            "actions=meter:1: expected an action that a bucket may have: goto_table and meter belong into flows",
        ),
        (
            "group_id=1,type=all,bucket=1,goto_table:4",
            "goto_table:4: expected an action that a bucket may have: goto_table and meter belong into flows",
        ),
    ] {
        let error = parse_group(text, &Names).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
        assert_eq!(text.get(error.position..error.position + error.token.len()), Some(error.token.as_str()));
    }
    let error = parse_group("group_id=1,type=all,bucket=weight", &Names).expect_err("no action");
    assert_eq!(error.token, "weight");
}

#[test]
fn a_select_group_takes_as_many_buckets_as_its_hash_tells_apart() {
    let of = |kind: &str, buckets: u32| {
        let buckets: Vec<String> = (1..=buckets).map(|port| format!("bucket=output:{port}")).collect();
        parse_group(&format!("group_id=1,type={kind},{}", buckets.join(",")), &Names)
    };
    assert_eq!(of("select", 256).map(|group| group.buckets.len()), Ok(256));
    assert_eq!(of("all", 300).map(|group| group.buckets.len()), Ok(300));
    let error = of("select", 257).expect_err("one too many");
    assert_eq!(
        error.to_string(),
        "bucket=output:257: expected at most 256 buckets in a group of type select"
    );
}

#[test]
fn meters_print_as_add_meter_takes_them() {
    for (text, expected) in [
        (
            "meter=1,kbps,burst,stats,bands=type=drop rate=1000 burst_size=200",
            "meter=1,kbps,burst,stats,bands=type=drop rate=1000 burst_size=200",
        ),
        (
            "meter=4294901760 pktps bands= type=drop,rate=0x10",
            "meter=4294901760,pktps,bands=type=drop rate=16",
        ),
        (
            "meter=2,band=type=drop,rate=1,burst_size=3",
            "meter=2,kbps,burst,bands=type=drop rate=1 burst_size=3",
        ),
        (
            "meter=2,kbps,burst,bands=type=drop rate=4294967295",
            "meter=2,kbps,bands=type=drop rate=4294967295",
        ),
    ] {
        let meter = parse_meter(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(format_meter(&meter), expected);
        assert_eq!(parse_meter(expected), Ok(meter));
    }
    for (text, expected) in [
        ("kbps,bands=type=drop rate=1", "end of text: expected meter=N, from 1 to 4294901760"),
        ("meter=0,bands=type=drop rate=1", "meter=0: expected meter=N, from 1 to 4294901760"),
        ("meter=slowpath,bands=type=drop rate=1", "meter=slowpath: expected meter=N, from 1 to 4294901760"),
        ("meter=1,kbps,pktps,bands=type=drop rate=1", "pktps: expected kbps or pktps, not both"),
        ("meter=1", "end of text: expected bands=type=drop rate=N [burst_size=N]"),
        ("meter=1,bands=type=drop", "end of text: expected bands=type=drop rate=N [burst_size=N]"),
        ("meter=1,bands=type=drop rate=0", "rate=0: expected a number from 1 to 4294967295"),
        (
            "meter=1,bands=type=dscp_remark rate=1",
            "bands=type=dscp_remark: expected one band, bands=type=drop rate=N [burst_size=N]",
        ),
        (
            "meter=1,bands=type=drop rate=1 type=drop rate=2",
            "type=drop: expected one band, bands=type=drop rate=N [burst_size=N]",
        ),
        ("meter=1,bands=type=drop rate=1 kbps", "kbps: expected rate=N or burst_size=N"),
        (
            "meter=1,rate=5",
            "rate=5: expected meter=N, kbps, pktps, burst, stats or bands=type=drop rate=N [burst_size=N]",
        ),
    ] {
        assert_eq!(parse_meter(text).expect_err(text).to_string(), expected, "{text}");
    }
}

#[test]
fn which_group_or_meter() {
    assert_eq!(parse_group_filter(""), Ok(None));
    assert_eq!(parse_group_filter("all"), Ok(None));
    assert_eq!(parse_group_filter("group_id=7"), Ok(Some(7)));
    assert_eq!(parse_group_filter("0x7"), Ok(Some(7)));
    assert!(parse_group_filter("group_id=7,type=all").is_err() && parse_group_filter("x").is_err());
    assert_eq!(parse_meter_filter("meter=7"), Ok(Some(7)));
    assert_eq!(parse_meter_filter("meter=all"), Ok(None));
    assert_eq!(parse_meter_filter("7"), Ok(Some(7)));
    assert!(parse_meter_filter("meter=0").is_err() && parse_meter_filter("meter=7 kbps").is_err());
}
