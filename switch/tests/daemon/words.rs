//! Words that users of Open vSwitch type, against the running switch.

use crate::running::{BASE, Daemon};
use std::process::Command;
use std::time::Instant;

#[test]
fn a_file_without_an_end_is_not_read_to_it() {
    let daemon = Daemon::start(BASE);
    let before = daemon.ctl("document");
    for command in ["apply /dev/zero", "add-flows br0 /dev/zero"] {
        let said = daemon.refused(command);
        assert!(said.contains("/dev/zero: it is longer than 64 MiB"), "{said}");
    }
    // What prints takes no file that could be meant as its output.
    assert!(daemon.refused("document switch.toml").contains("vxctl apply FILE"));
    assert_eq!(daemon.ctl("document"), before);
    daemon.stop();
}

#[test]
fn records_are_found_and_waited_for() {
    let daemon = Daemon::start(BASE);
    assert_eq!(daemon.ctl("--columns=name find interface type=dpdk ofport>1"), "name                : p1\n");
    assert_eq!(daemon.ctl("find interface options:key=7"), "");
    assert_eq!(daemon.json("--columns=name find port name!=p1 name!=br0")[0]["name"], "p0");
    assert!(daemon.refused("find interface colour=red").contains("colour"));
    assert!(daemon.refused("find interface type").contains("expected COLUMN[:KEY]OPVALUE"));
    daemon.ctl("wait-until interface p0 ofport=1");
    daemon.ctl("--if-exists wait-until interface p9 ofport=1");
    let error = daemon.refused("-t 1 wait-until interface p9");
    assert!(error.contains("not so within the time"), "{error}");
    // What is joined to it comes when the record does.
    let waiting = Command::new(crate::support::vxctl())
        .arg("--control")
        .arg(daemon.dir.path().join("control.sock"))
        .args(
            "-t 30 wait-until bridge later fail_mode=secure -- set bridge br0 external_ids:seen=yes"
                .split(' '),
        )
        .spawn()
        .unwrap();
    assert_eq!(daemon.ctl("br-get-external-id br0 seen"), "");
    daemon.ctl("add-br later");
    daemon.ctl("set-fail-mode later secure");
    assert!(waiting.wait_with_output().unwrap().status.success());
    assert_eq!(daemon.ctl("br-get-external-id br0 seen"), "yes\n");
    assert!(daemon.ctl("document").contains("external_ids = { seen = \"yes\" }"));
    daemon.stop();
}

#[test]
fn neighbours_go_one_by_one_or_all() {
    let daemon = Daemon::start(BASE);
    daemon.ctl("add-br phy -- set bridge phy address=192.168.1.1/24");
    for (ip, mac) in [("192.168.1.2", "02:00:00:00:00:02"), ("192.168.1.3", "02:00:00:00:00:03")] {
        daemon.ctl(&format!("neigh set phy {ip} {mac}"));
    }
    daemon.ctl("neigh del phy 192.168.1.2");
    assert!(daemon.refused("neigh del phy 192.168.1.2").contains("has no neighbour 192.168.1.2"));
    assert!(daemon.refused("neigh del phy 192.168.1.300").contains("an IP address"));
    let shown = |daemon: &Daemon| daemon.json("neigh show phy").as_array().map_or(0, Vec::len);
    assert_eq!(shown(&daemon), 1);
    daemon.ctl("neigh flush phy");
    assert_eq!(shown(&daemon), 1, "static ones stay");
    daemon.ctl("neigh flush --all phy");
    assert_eq!(shown(&daemon), 0);
    assert!(!daemon.ctl("document").contains("neighbour"));
    daemon.stop();
}

#[test]
fn options_of_ovs_ofctl_are_taken() {
    let daemon = Daemon::start(BASE);
    daemon.ctl("del-flows br0");
    daemon.ctl("-O OpenFlow13 add-flow br0 priority=7,in_port=p0,tcp,tp_dst=80,actions=output:p1");
    daemon.ctl("--bundle add-flow br0 priority=9,in_port=p0,actions=drop -O OpenFlow15");
    let lines = |options: &str| {
        let text = daemon.ctl(&format!("-O OpenFlow13 dump-flows br0 {options} --no-stats in_port=p0"));
        text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        lines("--no-names --sort"),
        ["priority=7,tcp,in_port=1,tp_dst=80 actions=output:2", "priority=9,in_port=1 actions=drop"]
    );
    assert_eq!(
        lines("--names --rsort=priority"),
        ["priority=9,in_port=p0 actions=drop", "priority=7,tcp,in_port=p0,tp_dst=80 actions=output:p1"]
    );
    // A daemon that does not answer.
    let silent = daemon.dir.path().join("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    let began = Instant::now();
    let output = Command::new(crate::support::vxctl())
        .args(["-t", "1", "--control"])
        .arg(&silent)
        .arg("show")
        .output()
        .unwrap();
    assert!(!output.status.success() && began.elapsed().as_secs() < 20);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no answer within 1s"));
    daemon.stop();
}
