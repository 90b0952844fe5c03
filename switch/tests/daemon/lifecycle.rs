//! How it starts and ends: files, sockets, devices, workers.

use crate::running::{BASE, Daemon, EAL, command, read_pcap, write_pcap};
use crate::support::vxctl;
use std::fs;
use std::process::Command;

#[test]
fn starts_switches_and_says_what_it_decided() {
    let daemon = Daemon::start(BASE);
    let log = daemon.lines.join("\n");
    for expected in ["lcores: worker 0", "no hugepages", "port p0: net_null0 (net_null), MAC ", "control: "] {
        assert!(log.contains(expected), "no {expected:?} in {log}");
    }
    daemon.wait_for("p1", "tx_packets", 1000);
    let show = daemon.ctl("show");
    assert!(show.contains("Bridge br0\n") && show.contains("    Port p0\n"), "{show}");
    assert!(daemon.ctl("megaflow show").contains("in_port(p0)"));
    assert!(daemon.ctl("megaflow show").contains("actions:p1"));
    let lcore = &daemon.json("lcore show")[0];
    assert!(
        lcore["megaflow_hits"].as_u64().unwrap() + lcore["cache_hits"].as_u64().unwrap() > 1000,
        "{lcore}"
    );
    assert!(daemon.ctl("lcore show").contains("p0/0"));
    assert!(daemon.ctl("dump-ports br0 p1").contains("tx pkts="));
    assert!(daemon.ctl("top -n 1 -d 0.1").contains("rx pkt/s"));
    assert!(daemon.ctl("trace br0 in_port=p0").contains("Datapath actions: p1"));

    let metrics = daemon.http("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("vxswitch_port_tx_packets_total{bridge=\"br0\",port=\"p1\",type=\"dpdk\"}") >= 1000.0);
    assert!(value("vxswitch_worker_iterations_total{lcore=\"0\"}") > 0.0);
    assert!(value("vxswitch_megaflows{lcore=\"0\"}") >= 1.0);
    assert!(value("vxswitch_malformed_frames_total{kind=\"ipv4_header\"}").abs() < 0.5);
    assert!(daemon.http("/healthz").starts_with("HTTP/1.1 200"));
    assert!(daemon.http("/readyz").starts_with("HTTP/1.1 200"));
    assert!(daemon.http("/nothing").starts_with("HTTP/1.1 404"));
    daemon.stop();
}

#[test]
fn captures_are_complete_when_it_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<Vec<u8>> = (0..20u8)
        .map(|i| {
            let mut frame = vec![0xff; 6];
            frame.extend([2, 0, 0, 0, 0, i, 0x88, 0xb5]);
            frame.extend([i; 50]);
            frame
        })
        .collect();
    write_pcap(&dir.path().join("in.pcap"), &frames);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let config = format!(
        "[[bridge]]\nname = \"br0\"\n\
         [[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_pcap0,rx_pcap={}\" }}\n\
         [[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_pcap1,tx_pcap={}\" }}\n",
        path("in.pcap"),
        path("out.pcap"),
    );
    let daemon = Daemon::start_in(dir, &config);
    daemon.wait_for("p1", "tx_packets", 20);
    let dir = daemon.stop();
    assert_eq!(read_pcap(&dir.path().join("out.pcap")), frames);
}

/// A device that has always another new flow, as long as nothing is decided: what comes before the first decision waits.
#[test]
fn starts_under_a_flood_without_losing_a_packet() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<Vec<u8>> = (0..5000u16)
        .map(|flow| {
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 1];
            frame.extend(flow.to_be_bytes());
            frame.extend([0x88, 0xb5]);
            frame.resize(64, 0);
            frame
        })
        .collect();
    let input = dir.path().join("in.pcap");
    write_pcap(&input, &frames);
    let config = format!(
        "[[bridge]]\nname = \"br0\"\nfail_mode = \"secure\"\nflows = [\"in_port=p0,actions=output:p1\"]\n\
         [[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\n\
         options = {{ dpdk-devargs = \"net_pcap0,rx_pcap={},infinite_rx=1\" }}\n\
         [[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_null0,no-rx=1\" }}\n",
        input.display(),
    );
    // A hundred of them on a quiet machine: VXSWITCH_STARTS=100.
    let starts = std::env::var("VXSWITCH_STARTS").map_or(5, |starts| starts.parse().expect("a number"));
    for start in 0..starts {
        let daemon = Daemon::start(&config);
        daemon.wait_for("p1", "tx_packets", 20_000);
        let drops = daemon.json("drops");
        let lost = drops["drops"].as_array().unwrap().iter().find(|reason| reason["packets"] != 0);
        assert!(lost.is_none(), "start {start}: {lost:?}");
        daemon.stop();
    }
}

/// Two workers poll a queue each of one port, and send by the only TX queue of another: it belongs to one of
/// them, and the other hands its packets over.
#[test]
fn two_workers_share_a_tx_queue_and_keep_each_flow_in_order() {
    const FRAMES: u16 = 400;
    let dir = tempfile::tempdir().unwrap();
    let frame = |queue: u8, n: u16| {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, queue, 0x88, 0xb5]);
        frame.extend(n.to_be_bytes());
        frame.resize(64, queue);
        frame
    };
    for queue in 0..2u8 {
        let frames: Vec<Vec<u8>> = (0..FRAMES).map(|n| frame(queue, n)).collect();
        write_pcap(&dir.path().join(format!("in{queue}.pcap")), &frames);
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let config = format!(
        "[[bridge]]\nname = \"br0\"\n\
         [[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\noptions = {{ n_rxq = 2, dpdk-devargs = \"net_pcap0,rx_pcap={},rx_pcap={}\" }}\n\
         [[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_pcap1,tx_pcap={}\" }}\n",
        path("in0.pcap"),
        path("in1.pcap"),
        path("out.pcap"),
    );
    let eal = EAL.replace("-l 0", "--lcores 0@0,1@0,2@0");
    let daemon = Daemon::start_on(&eal, dir, &config);
    daemon.wait_for("p1", "tx_packets", u64::from(FRAMES) * 2);
    let lcores = daemon.json("lcore show");
    let handed = |way: &str| -> Vec<u64> {
        lcores.as_array().unwrap().iter().map(|lcore| lcore[way].as_u64().unwrap()).collect()
    };
    assert_eq!(
        handed("tx_handoff_sent"),
        [0, u64::from(FRAMES)],
        "the second worker has no queue of its own"
    );
    assert_eq!(handed("tx_handoff_received"), [u64::from(FRAMES), 0]);
    let dir = daemon.stop();
    let sent = read_pcap(&dir.path().join("out.pcap"));
    for queue in 0..2u8 {
        let of_queue: Vec<&Vec<u8>> = sent.iter().filter(|f| f[11] == queue).collect();
        assert_eq!(of_queue.len(), usize::from(FRAMES), "{lcores}");
        assert!(of_queue.into_iter().zip(0..).all(|(got, n)| *got == frame(queue, n)), "in order");
    }
    assert_eq!(sent.len(), usize::from(FRAMES) * 2);
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused_and_a_stale_socket_is_not_in_the_way() {
    let mut daemon = Daemon::start("");
    let second = command(daemon.dir.path(), &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another vxswitch answers"), "{second:?}");
    assert_eq!(daemon.ctl("list-br"), "", "the first one does not mind");
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().unwrap());
    assert!(dir.path().join("control.sock").exists());
    Daemon::start_in(dir, "").stop();
}

#[test]
fn bad_files_end_it_with_every_error() {
    let dir = tempfile::tempdir().unwrap();
    let bad = r#"
[[bridge]]
name = "br0"
colour = "red"
flows = ["in_port=p9,actions=drop"]
[[bridge.port]]
name = "vx1"
type = "vxlan"
options = { remote_ip = "1.2.3.4", key = 16777216 }
[[bridge]]
name = "br0"
hwaddr = "nothing"
"#;
    fs::write(dir.path().join("bad.toml"), bad).unwrap();
    for own in [&["--config", "bad.toml"][..], &["--config", "bad.toml", "--check"]] {
        let output = command(dir.path(), own).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        for expected in ["bad.toml:4: ", "p9", "24 bits", "another bridge named br0", "hwaddr"] {
            assert!(errors.contains(expected), "no {expected:?} in {errors}");
        }
    }
    assert_eq!(command(dir.path(), &["--config", "none.toml"]).output().unwrap().status.code(), Some(2));
    fs::write(dir.path().join("good.toml"), BASE).unwrap();
    let good = command(dir.path(), &["--config", "good.toml", "--check"]).output().unwrap();
    assert_eq!(good.status.code(), Some(0), "{good:?}");
}

#[test]
fn what_cannot_be_had_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\n\
                  options = { dpdk-devargs = \"net_pcap0,rx_pcap=/no/such/file\" }\n";
    fs::write(dir.path().join("config.toml"), config).unwrap();
    // A device that cannot be had is its interface's error.
    let daemon = Daemon::start_in(dir, config);
    assert!(
        daemon.lines.iter().any(|line| line.contains("port p0: dpdk does not run: ")),
        "{:?}",
        daemon.lines
    );
    let ready = daemon.http("/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.contains("port p0: ") && ready.contains("net_pcap0"),
        "{ready}"
    );
    assert!(daemon.ctl("show").contains("error: "));
    // It is down, also for those who watch it, and what goes there is dropped for that.
    assert_eq!(daemon.ctl("get interface p0 link_state"), "down\n");
    let metrics = daemon.http("/metrics");
    assert!(
        metrics.contains("vxswitch_port_link_up{bridge=\"br0\",port=\"p0\",type=\"dpdk\"} 0"),
        "{metrics}"
    );
    daemon.ctl("add-port br0 p1 -- set interface p1 type=dpdk options:dpdk-devargs=net_null1,no-rx=1");
    daemon.ctl(
        "add-group br0 group_id=1,type=ff,bucket=watch_port:p0,actions=output:p0,bucket=watch_port:p1,actions=output:p1",
    );
    daemon.ctl("add-flow br0 ip,actions=group:1");
    daemon.ctl("add-flow br0 arp,actions=output:p0");
    let trace = daemon.ctl("trace br0 in_port=LOCAL,ip");
    assert!(trace.contains("Datapath actions: p1\n"), "{trace}");
    let trace = daemon.ctl("trace br0 in_port=LOCAL,arp");
    assert!(
        trace.contains("the device of port p0 does not run") && trace.contains("drop(link_down)"),
        "{trace}"
    );
    let dir = daemon.stop();

    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_vxswitch"))
        .args(EAL.split(' '))
        .args(["--", "--metrics", &address, "--control"])
        .arg(dir.path().join("c2.sock"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains(&format!("metrics address {address}")), "{errors}");

    let none = Command::new(vxctl()).args(["--control", "/no/such.sock", "show"]).output().unwrap();
    assert!(!none.status.success());
    assert!(String::from_utf8_lossy(&none.stderr).contains("no vxswitch answers on /no/such.sock"));
}
