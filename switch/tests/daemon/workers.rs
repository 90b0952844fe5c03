//! Workers: how long they sleep, and which RX queues they poll.

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
    // The other worker may have the TX queue, and is handed 1024 at once at most.
    const FRAMES: u16 = 1000;
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

/// Which queues the workers poll, in the order of their lcores.
fn polled(daemon: &Daemon) -> Vec<String> {
    let rows = daemon.json("lcore show");
    let names = |row: &serde_json::Value| {
        row["rx"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    rows.as_array().unwrap().iter().map(|row| names(row).join(" ")).collect()
}

#[test]
fn queues_go_where_the_interface_says_and_are_shared_out_by_load() {
    let config = BASE.replace("net_null0,size=64\"", "net_null0,size=64\", n_rxq = \"2\"");
    let daemon = Daemon::start_on(&crowded(), tempfile::tempdir().unwrap(), &config);
    assert_eq!(polled(&daemon), ["p0/0 p1/1", "p0/1 p1/0"], "in turn");
    daemon.ctl("set interface p0 other_config:pmd-rxq-affinity=\"0:2,1:2\"");
    assert_eq!(polled(&daemon), ["p1/0 p1/1", "p0/0 p0/1"], "lcore 2 has no others");
    let show = |words: &str| daemon.ctl(&format!("appctl dpif-netdev/pmd-rxq-show{words}"));
    daemon.eventually("loads are measured", || !show("").contains("NOT AVAIL"));
    let text = show(" -pmd 2 -secs 7");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        &lines[..3],
        ["Displaying last 10 seconds pmd usage %", "pmd thread numa_id 0 core_id 2:", "  isolated : true"]
    );
    let mut usage = 0;
    for (queue, line) in lines[3..5].iter().enumerate() {
        let begin = format!("  port: p0                queue-id:  {queue} (enabled)   pmd usage: ");
        let percent = line.strip_prefix(begin.as_str()).and_then(|rest| rest.strip_suffix(" %"));
        usage += percent.unwrap_or_else(|| panic!("{text}")).trim().parse::<u32>().unwrap();
    }
    assert!(lines[5].starts_with("  overhead: ") && lines.len() == 6, "{text}");
    daemon.eventually("both queues are always full", || {
        let text = show(" -pmd 2 -secs 5");
        let numbers = text.lines().filter_map(|line| {
            line.split("usage: ").nth(1)?.trim_end_matches(" %").trim().parse::<u32>().ok()
        });
        numbers.sum::<u32>() > 60
    });
    assert!(usage <= 101, "{text}");
    let metrics = daemon.http("/metrics");
    assert!(
        metrics.contains("vxswitch_rx_queue_load_ratio{lcore=\"2\",port=\"p0\",queue=\"0\"}"),
        "{metrics}"
    );
    // Queues stay where they are until they are told otherwise.
    daemon.ctl("clear interface p0 other_config");
    assert_eq!(polled(&daemon), ["p1/0 p1/1", "p0/0 p0/1"]);
    daemon.ctl("set Open_vSwitch . other_config:pmd-rxq-assign=group -- set interface p1 other_config:pmd-rxq-affinity=0:1");
    assert_eq!(polled(&daemon), ["p1/0", "p0/0 p0/1 p1/1"], "an isolated lcore has no others");
    daemon.ctl("set Open_vSwitch . other_config:pmd-rxq-isolate=false");
    daemon.ctl("appctl dpif-netdev/pmd-rxq-rebalance");
    let after = polled(&daemon);
    assert!(after.iter().all(|queues| queues.matches("p0/").count() == 1), "one busy queue each: {after:?}");
    // Both are polled.
    daemon.wait_for_more("p1", "tx_packets", 1000);
    for (line, expected) in [
        ("set interface p0 other_config:pmd-rxq-affinity=3", "QUEUE:LCORE"),
        ("set interface p0 other_config:priority-tags=always", "is a key of table Port"),
        ("set port p0 other_config:pmd-rxq-affinity=0:1", "is a key of table Interface"),
        ("set Open_vSwitch . other_config:pmd-rxq-assign=best", "roundrobin, cycles or group"),
        ("set Open_vSwitch . other_config:pmd-auto-lb-load-threshold=101", "from 0 to 100"),
        ("appctl dpif-netdev/pmd-rxq-show nothing", "existing datapath"),
    ] {
        let error = daemon.refused(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
    daemon.stop();
}

/// Frames of a file with the times at which they were written, in nanoseconds.
fn timed(path: &std::path::Path) -> Vec<(u64, Vec<u8>)> {
    let file = std::fs::read(path).unwrap();
    assert_eq!(file[..4], [0x4d, 0x3c, 0xb2, 0xa1], "a file with nanoseconds");
    let (mut rest, mut frames) = (&file[24..], Vec::new());
    while let Some((head, tail)) = rest.split_at_checked(16) {
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let len = word(8) as usize;
        frames.push((u64::from(word(0)) * 1_000_000_000 + u64::from(word(4)), tail[..len].to_vec()));
        rest = &tail[len..];
    }
    frames
}

#[test]
fn a_queue_that_goes_from_worker_to_worker_loses_nothing_and_keeps_the_order() {
    const FRAMES: u16 = 512;
    let dir = tempfile::tempdir().unwrap();
    let frame = |n: u16| {
        let mut frame = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
        frame.extend(n.to_be_bytes());
        frame.resize(60, 0);
        frame
    };
    let [input, first, second] = ["in.pcap", "out0.pcap", "out1.pcap"].map(|name| dir.path().join(name));
    write_pcap(&input, &(0..FRAMES).map(frame).collect::<Vec<_>>());
    let config = format!(
        "[[bridge]]\nname = \"br0\"\nflows = [\"in_port=p0,actions=output:p1\"]\n\
         [[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\n\
         options = {{ dpdk-devargs = \"net_pcap0,rx_pcap={},infinite_rx=1\" }}\n\
         [[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\n\
         options = {{ dpdk-devargs = \"net_pcap1,tx_pcap={},tx_pcap={}\" }}\n",
        input.display(),
        first.display(),
        second.display()
    );
    let daemon = Daemon::start_on(&crowded(), dir, &config);
    for lcore in [2, 1, 2, 1, 2] {
        daemon.wait_for_more("p1", "tx_packets", 100);
        daemon.ctl(&format!("set interface p0 other_config:pmd-rxq-affinity=0:{lcore}"));
        assert!(polled(&daemon)[lcore - 1].contains("p0/0"), "lcore {lcore}");
    }
    daemon.wait_for_more("p1", "tx_packets", 100);
    daemon.ctl("del-port p0");
    let sent = daemon.ctl("get interface p1 statistics:tx_packets").trim().parse::<usize>().unwrap();
    let dir = daemon.stop();
    let mut frames = timed(&dir.path().join("out0.pcap"));
    let of_first = frames.len();
    frames.extend(timed(&dir.path().join("out1.pcap")));
    assert!(of_first > 0 && of_first < frames.len(), "both workers sent some");
    assert_eq!(frames.len(), sent);
    frames.sort_by_key(|(when, _)| *when);
    for (n, (_, got)) in frames.into_iter().enumerate() {
        assert!(got == frame((n % usize::from(FRAMES)) as u16), "frame {n} of {sent} is {:?}", &got[14..16]);
    }
}
