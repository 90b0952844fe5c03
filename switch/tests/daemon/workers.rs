//! Workers: how long they sleep.

use crate::running::{BASE, Daemon, EAL, read_pcap, write_pcap};

/// Two workers on one CPU.
fn crowded() -> String {
    EAL.replace("-l 0", "--lcores 0@0,1@0,2@0")
}

/// The numbers of this name of all workers.
fn of_lcores(daemon: &Daemon, name: &str) -> Vec<u64> {
    let rows = daemon.json("lcore show");
    rows.as_array().unwrap().iter().map(|row| row[name].as_u64().unwrap()).collect()
}

#[test]
fn workers_on_a_shared_cpu_sleep_while_there_is_nothing_and_lose_nothing() {
    const FRAMES: u16 = 2000;
    let dir = tempfile::tempdir().unwrap();
    let frame = |n: u16| {
        let mut frame = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
        frame.extend(n.to_be_bytes());
        frame.resize(64, 0);
        frame
    };
    let frames: Vec<Vec<u8>> = (0..FRAMES).map(frame).collect();
    let [input, output] = ["in.pcap", "out.pcap"].map(|name| dir.path().join(name));
    write_pcap(&input, &frames);
    let config = format!(
        "[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\n\
         options = {{ dpdk-devargs = \"net_pcap1,tx_pcap={}\" }}\n",
        output.display()
    );
    let daemon = Daemon::start_on(&crowded(), dir, &config);
    assert_eq!(of_lcores(&daemon, "sleep_max"), [250, 250], "the default of a shared CPU");
    daemon.eventually("both sleep most of the time", || {
        let before = daemon.json("lcore show");
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = daemon.json("lcore show");
        let more =
            |at: usize, name: &str| now[at][name].as_u64().unwrap() - before[at][name].as_u64().unwrap();
        (0..2).all(|at| {
            let all = more(at, "busy_cycles") + more(at, "idle_cycles");
            more(at, "sleeps") > 10 && more(at, "sleep_cycles") * 10 > all * 8
        })
    });
    daemon.ctl(&format!(
        "add-port br0 p0 -- set interface p0 type=dpdk options:dpdk-devargs=net_pcap0,rx_pcap={}",
        input.display()
    ));
    daemon.wait_for("p1", "tx_packets", FRAMES.into());
    let dir = daemon.stop();
    assert!(read_pcap(&dir.path().join("out.pcap")) == frames, "all of them, in order");
}

#[test]
fn sleep_is_set_for_all_workers_or_for_one_while_they_run() {
    let daemon = Daemon::start_on(&crowded(), tempfile::tempdir().unwrap(), BASE);
    daemon.ctl("set Open_vSwitch . other_config:pmd-sleep-max=50,2:0");
    assert_eq!(of_lcores(&daemon, "sleep_max"), [50, 0]);
    assert_eq!(daemon.ctl("get Open_vSwitch . other_config:pmd-sleep-max"), "\"50,2:0\"\n");
    assert_eq!(
        daemon.ctl("appctl dpif-netdev/pmd-sleep-show"),
        "Default max sleep:   50 us\npmd thread numa_id 0 core_id 1:\n  max sleep:   50 us\n\
         pmd thread numa_id 0 core_id 2:\n  max sleep:    0 us\n"
    );
    assert!(daemon.ctl("document").contains("[other_config]\npmd-sleep-max = \"50,2:0\"\n"));
    let metrics = daemon.http("/metrics");
    assert!(metrics.contains("vxswitch_worker_sleep_cycles_total{lcore=\"1\"}"), "{metrics}");
    // One that may not sleep does not, whatever it did before.
    daemon.ctl("set Open_vSwitch . other_config:pmd-sleep-max=0");
    assert_eq!(of_lcores(&daemon, "sleep_max"), [0, 0]);
    daemon.eventually("no sleep any more", || {
        let before = of_lcores(&daemon, "sleeps");
        std::thread::sleep(std::time::Duration::from_millis(100));
        before == of_lcores(&daemon, "sleeps")
    });
    daemon.ctl("remove Open_vSwitch . other_config pmd-sleep-max");
    assert_eq!(of_lcores(&daemon, "sleep_max"), [250, 250]);
    for (line, expected) in [
        ("set Open_vSwitch . other_config:pmd-sleep-max=10001", "from 0 to 10000"),
        ("set Open_vSwitch . other_config:dpdk-init=true", "unknown key"),
        ("set Open_vSwitch br0 other_config:pmd-sleep-max=1", "no row"),
        ("appctl dpif-netdev/nonsense", "is not a valid command"),
    ] {
        let error = daemon.refused(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
    daemon.stop();
}
