//! Rules, groups and meters, as with `ovs-ofctl`.

use crate::running::{BASE, Daemon};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn many_rules_load_in_no_time() {
    const RULES: usize = 20_000;
    let daemon = Daemon::start(BASE);
    let lines = |cookie: u32| {
        (0..RULES).fold(String::new(), |text, n| {
            let address = format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
            text + &format!("cookie={cookie},ip,in_port=p1,nw_dst={address},actions=output:p0\n")
        })
    };
    let file = daemon.dir.path().join("flows");
    let start = Instant::now();
    // New rules, the same ones with other cookies, and another port on a bridge that has them.
    for cookie in 1..=2 {
        fs::write(&file, lines(cookie)).unwrap();
        daemon.ctl(&format!("add-flows br0 {}", file.display()));
    }
    daemon.ctl("add-port br0 vx -- set interface vx type=vxlan options:remote_ip=1.2.3.4");
    daemon.ctl("del-port br0 p0");
    let took = start.elapsed();
    let document = daemon.ctl("document");
    assert_eq!(document.matches("cookie=0x2,").count(), RULES);
    assert_eq!(document.matches("output:1").count(), RULES);
    println!("{took:?}");
    // An eighth of a minute without optimisation; minutes where each rule is compared with all others.
    assert!(took < Duration::from_secs(40), "{took:?}");
    daemon.stop();
}

#[test]
fn nobody_waits_for_the_reading_of_many_rules() {
    const RULES: usize = 20_000;
    let daemon = Daemon::start(BASE);
    let lines = (0..RULES).fold(String::new(), |text, n| {
        text + &format!("ip,in_port=p1,nw_dst=10.0.{}.{},actions=output:p0\n", n >> 8, n & 255)
    });
    let file = daemon.dir.path().join("flows");
    fs::write(&file, lines).unwrap();
    // How long the slow path lets others wait, as a part of what the command takes.
    let share = |command: &str| {
        let (start, mut longest) = (Instant::now(), Duration::ZERO);
        std::thread::scope(|scope| {
            let running = scope.spawn(|| daemon.ctl(command));
            while !running.is_finished() {
                let asked = Instant::now();
                daemon.ctl("upcall show");
                longest = longest.max(asked.elapsed());
            }
        });
        let took = start.elapsed();
        println!("{command}: {took:?}, others waited {longest:?}");
        longest.as_secs_f64() / took.as_secs_f64()
    };
    for command in [
        &format!("replace-flows br0 {}", file.display()),
        "add-port br0 vx -- set interface vx type=vxlan options:remote_ip=1.2.3.4",
        "dump-flows br0",
    ] {
        let share = share(command);
        assert!(share < 0.6, "{command}: others waited for {share} of it");
    }
    daemon.stop();
}

#[test]
fn flows_as_with_ovs_ofctl() {
    let daemon = Daemon::start(BASE);
    daemon.wait_for("p1", "tx_packets", 100);
    daemon.ctl("add-flow br0 priority=20,in_port=p0,actions=drop");
    // Acknowledged means that no packet goes by the old rules any more.
    let sent = daemon.ctl("get interface p1 statistics:tx_packets");
    daemon.wait_for_more("p0", "rx_packets", 100);
    assert_eq!(daemon.ctl("get interface p1 statistics:tx_packets"), sent);
    assert!(daemon.ctl("drops").contains("rule"));
    let rows = daemon.json("dump-flows br0 in_port=p0");
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
    assert!(rows[0]["packets"].as_u64().unwrap() > 0, "{rows}");
    assert!(daemon.ctl("document").contains("priority=20"));
    daemon.ctl("--strict del-flows br0 priority=20,in_port=p0");
    assert!(!daemon.ctl("document").contains("priority=20"));
    daemon.wait_for("p1", "tx_packets", sent.trim().parse::<u64>().unwrap() + 100);
    let error = daemon.refused("add-flow br0 in_port=nowhere,actions=drop");
    assert!(error.contains("in_port=nowhere: expected"), "{error}");
    fs::write(daemon.dir.path().join("flows"), "# all\nin_port=p0,actions=LOCAL\n\nactions=drop # rest\n")
        .unwrap();
    let file = daemon.dir.path().join("flows");
    daemon.ctl(&format!("replace-flows br0 {}", file.display()));
    assert_eq!(daemon.json("dump-flows br0").as_array().unwrap().len(), 2);
    daemon.ctl("add-flow br0 priority=5,hard_timeout=1,actions=NORMAL");
    assert!(!daemon.ctl("document").contains("hard_timeout"), "it goes by itself");
    daemon.eventually("the rule has gone by itself", || {
        daemon.json("dump-flows br0").as_array().unwrap().len() == 2
    });
    daemon.ctl("del-flows br0");
    assert_eq!(daemon.ctl("dump-flows br0"), "");
    daemon.stop();
}

#[test]
fn flows_change_in_place() {
    let daemon = Daemon::start(BASE);
    daemon.wait_for("p1", "tx_packets", 100);
    daemon.ctl("add-flow br0 priority=20,cookie=7,tcp,in_port=p0,actions=p1");
    daemon.ctl("add-flow br0 table=4,priority=1,actions=drop");
    daemon.ctl("mod-flows br0 in_port=p0,actions=drop");
    let sent = daemon.ctl("get interface p1 statistics:tx_packets");
    daemon.wait_for_more("p0", "rx_packets", 100);
    assert_eq!(daemon.ctl("get interface p1 statistics:tx_packets"), sent, "acknowledged means done");
    let rows = daemon.json("dump-flows br0 in_port=p0,cookie=0/-1");
    assert_eq!(rows[0]["flow"], "priority=10,in_port=p0,actions=drop");
    assert!(rows[0]["packets"].as_u64().unwrap() >= 100, "{rows}");
    assert!(daemon.ctl("document").contains("cookie=0x7, priority=20,tcp,in_port=p0,actions=drop"));
    daemon.ctl("--strict mod-flows br0 priority=10,cookie=9,in_port=p0,actions=output:p1");
    assert!(daemon.ctl("document").contains("cookie=0x9, priority=10,in_port=p0,actions=output:p1"));
    daemon.wait_for("p1", "tx_packets", sent.trim().parse::<u64>().unwrap() + 100);
    let sum = daemon.json("dump-aggregate br0");
    assert_eq!(sum["flow_count"], 3);
    assert!(sum["packet_count"].as_u64().unwrap() > 100);
    assert!(daemon.ctl("dump-aggregate br0 table=4").ends_with("flow_count=1\n"));
    let before = daemon.ctl("document");
    assert!(
        daemon.refused("mod-flows br0 table=4,actions=goto_table:3").contains("a table above the flow's own")
    );
    assert!(
        daemon.refused("mod-flows br0 actions=goto_table:4").contains("a table above the flow's own (4)")
    );
    assert!(daemon.refused("mod-flows br0 actions=meter:3,NORMAL").contains("meter:3: expected"));
    assert!(daemon.refused("mod-flows br0 in_port=p0").contains("actions="));
    daemon.ctl("mod-flows br0 cookie=99/-1,udp,actions=drop");
    assert_eq!(daemon.ctl("document"), before);

    // A file with one bad line changes nothing and names the line.
    let file = daemon.dir.path().join("flows");
    let name = file.display().to_string();
    fs::write(&file, "# one\nactions=drop\n\nin_port=p9,actions=drop\n").unwrap();
    for command in ["add-flows", "replace-flows"] {
        let error = daemon.refused(&format!("{command} br0 {name}"));
        assert!(error.contains(&format!("{name}:4: in_port=p9: expected")), "{error}");
    }
    fs::write(&file, "\nmeter=1,actions=drop\n").unwrap();
    assert!(
        daemon.refused(&format!("add-flows br0 {name}")).contains(&format!("{name}:2: meter=1: expected"))
    );
    assert_eq!(daemon.ctl("document"), before);

    fs::write(&file, "priority=10,cookie=9,in_port=p0,actions=p1\ntable=4,priority=1,actions=p1\n").unwrap();
    let output = daemon.try_ctl(&format!("diff-flows br0 {name}"));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "-priority=20,tcp,in_port=p0 cookie=0x7 actions=drop\n\
         -table=4 priority=1 actions=drop\n+table=4 priority=1 actions=output:p1\n"
    );
    daemon.ctl(&format!("replace-flows br0 {name}"));
    assert_eq!(daemon.ctl(&format!("diff-flows {name} br0")), "");
    assert!(daemon.refused("diff-flows br0 br9").contains("no bridge named br9"));
    assert!(daemon.ctl("dump-flows br0").contains("idle_age="));
    // As with ovs-ofctl: where there is nothing to change, it adds.
    daemon.ctl("mod-flows br0 udp,cookie=5,actions=NORMAL");
    assert!(daemon.ctl("document").contains("cookie=0x5, udp,actions=NORMAL"));
    assert_eq!(daemon.json("dump-aggregate br0")["flow_count"], 3);
    daemon.stop();
}

#[test]
fn groups_and_meters_as_with_ovs_ofctl() {
    let daemon = Daemon::start(BASE);
    daemon.ctl("add-group br0 group_id=1,type=select,bucket=weight:3,output:p1,bucket=output:p0");
    daemon.ctl("add-meter br0 meter=1,pktps,burst,stats,bands=type=drop rate=1000 burst_size=10");
    daemon.ctl("add-flow br0 priority=5,tcp,in_port=p1,actions=meter:1,group:1");
    daemon.ctl("add-flow br0 priority=6,tcp,in_port=p1,idle_timeout=900,actions=meter:1,p0");
    // As in OVS, what a rule names has to be there.
    assert!(
        daemon
            .refused("add-flow br0 actions=clone(group:2)")
            .contains("group:2: expected a group of the bridge")
    );
    assert!(
        daemon
            .refused("add-flow br0 actions=meter:2,NORMAL")
            .contains("meter:2: expected a meter of the bridge")
    );
    let group = "group_id=1,type=select,bucket=bucket_id:0,weight:3,actions=output:p1,bucket=bucket_id:1,actions=output:p0";
    assert_eq!(daemon.ctl("dump-groups br0"), format!(" {group}\n"));
    assert_eq!(daemon.ctl("dump-groups br0 2"), "");
    let meter = "meter=1,pktps,burst,stats,bands=type=drop rate=1000 burst_size=10";
    assert_eq!(
        daemon.ctl("dump-meters br0"),
        "meter=1 pktps burst stats bands=\ntype=drop rate=1000 burst_size=10\n"
    );
    let document = daemon.ctl("document");
    assert!(document.contains(group) && document.contains(meter), "{document}");
    let stats = daemon.ctl("dump-group-stats br0 group_id=1");
    assert!(
        stats.starts_with(" group_id=1,duration=") && stats.contains(",ref_count=1,packet_count=0"),
        "{stats}"
    );
    let stats = daemon.ctl("meter-stats br0");
    assert!(stats.starts_with("meter:1 flow_count:2 packet_in_count:0 byte_in_count:0 duration:"), "{stats}");
    let metrics = daemon.http("/metrics");
    assert!(metrics.contains("vxswitch_group_packets_total{bridge=\"br0\",group=\"1\"} 0"), "{metrics}");
    assert!(
        metrics.contains("vxswitch_meter_dropped_packets_total{bridge=\"br0\",meter=\"1\"} 0"),
        "{metrics}"
    );

    // Refusals change nothing.
    assert_eq!(
        daemon.refused("add-group br0 group_id=1,type=all").trim_end(),
        "vxctl: group 1 is there already, expected mod-group"
    );
    assert!(
        daemon
            .refused("mod-group br0 group_id=2,type=all")
            .contains("there is no group 2, expected add-group")
    );
    assert!(daemon.refused("mod-meter br0 meter=2,bands=type=drop rate=1").contains("there is no meter 2"));
    assert!(
        daemon.refused("add-group br0 group_id=3,type=all,bucket=output:p9").contains("output:p9: expected")
    );
    let file = daemon.dir.path().join("groups");
    let name = file.display().to_string();
    fs::write(&file, "group_id=7,type=all\n# two\ngroup_id=1,type=all\n").unwrap();
    let error = daemon.refused(&format!("add-groups br0 {name}"));
    assert_eq!(error.trim_end(), format!("vxctl: {name}:3: group 1 is there already, expected mod-group"));
    assert_eq!(daemon.ctl("document"), document);

    daemon.ctl("--may-create mod-group br0 group_id=2,type=all,bucket=output:p1");
    daemon.ctl("insert-buckets br0 group_id=2,command_bucket_id=last,bucket=bucket_id:7,drop");
    assert!(daemon.ctl("dump-groups br0 2").contains("bucket_id:0,actions=output:p1,bucket=bucket_id:7,"));
    daemon.ctl("remove-buckets br0 group_id=2,command_bucket_id=first");
    assert!(daemon.ctl("dump-groups br0 2").trim_end().ends_with("bucket=bucket_id:7,actions=drop"));
    assert!(
        daemon.refused("remove-buckets br0 group_id=2,command_bucket_id=3").contains("there is no bucket 3")
    );
    daemon.ctl("mod-group br0 group_id=1,type=ff,bucket=watch_port:p1,output:p1");
    assert!(daemon.ctl("dump-groups br0 1").contains("type=ff"));
    daemon.ctl("mod-meter br0 meter=1,kbps,bands=type=drop rate=5");
    assert!(daemon.ctl("dump-meter br0 meter=1").contains("rate=5"));
    // A port that goes is one by number to the group that watches it.
    daemon.ctl("del-port br0 p1");
    assert!(daemon.ctl("dump-groups br0 1").contains("watch_port:2,actions=output:2"));
    assert!(daemon.ctl("document").contains("watch_port:2,actions=output:2"));
    // Rules go with what they name.
    let rules = || daemon.json("dump-flows br0 tcp").as_array().unwrap().len();
    daemon.ctl("add-flow br0 priority=7,tcp,actions=clone(group:2)");
    assert_eq!(rules(), 3);
    daemon.ctl("del-meters br0 meter=1");
    assert_eq!((rules(), daemon.ctl("dump-meters br0")), (1, String::new()));
    daemon.ctl("del-groups br0");
    assert_eq!((rules(), daemon.ctl("dump-groups br0")), (0, String::new()));
    daemon.ctl("del-groups br0 group_id=7");
    daemon.stop();
}
