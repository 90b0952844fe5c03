//! Our own tap port against the kernel's stack, in namespaces of our own. Needs root and `/dev/net/tun`.

mod common;

use common::{eal, pool};
use rte::offload::{TX_TCP_SEG, TX_TUNNEL_VXLAN};
use rte::{Burst, RxQueue, TapConfig, TapPort, TxQueue};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Whether taps can be made here.
fn able() -> bool {
    let tun = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let root =
        Command::new("ip").args(["netns", "list"]).output().is_ok_and(|output| output.status.success());
    if tun.is_err() || !root {
        eprintln!("SKIPPED: taps need root and /dev/net/tun");
        return false;
    }
    true
}

fn run(line: &str) -> Output {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    Command::new(program).args(words).output().expect(program)
}

fn ok(line: &str) -> String {
    let output = run(line);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {out}{err}");
    out.into_owned()
}

/// Waits until something holds, for a time in which it surely does.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// A namespace that goes with this.
struct Namespace(String);

impl Namespace {
    fn new(suffix: &str) -> Namespace {
        let name = format!("rte{}{suffix}", std::process::id());
        ok(&format!("ip netns add {name}"));
        Namespace(name)
    }

    /// Gives it the interface, up, with these addresses.
    fn take(&self, interface: &str, mac: &str, addresses: &[&str]) {
        let name = &self.0;
        ok(&format!("ip link set {interface} netns {name}"));
        ok(&format!(
            "ip netns exec {name} sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0"
        ));
        ok(&format!("ip -n {name} link set {interface} address {mac} up"));
        for address in addresses {
            ok(&format!("ip -n {name} address add {address} dev {interface} nodad"));
        }
    }

    /// What its stack counted of wrong checksums and headers.
    fn errors(&self) -> Vec<String> {
        let text = ok(&format!("ip netns exec {} nstat -as", self.0));
        let bad = |line: &&str| line.contains("CsumErrors") || line.contains("HdrErrors");
        text.lines().filter(bad).map(str::to_owned).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.0));
    }
}

/// What a relay saw.
#[derive(Default)]
struct Seen {
    packets: AtomicU64,
    segments: AtomicU64,
    longest: AtomicU64,
    tunnelled: AtomicU64,
}

/// Two taps' packets, each sent by the other one, until this goes.
struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    seen: Arc<Seen>,
}

impl Relay {
    fn start(mut rx: Vec<RxQueue>, mut tx: Vec<TxQueue>) -> Relay {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let (until, notes) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let mut burst = Burst::<32>::new();
            while !until.load(Ordering::Relaxed) {
                let mut received = 0;
                for (rx, tx) in rx.iter_mut().zip(&mut tx) {
                    received += rx.rx_burst(&mut burst);
                    for mbuf in &burst {
                        notes.packets.fetch_add(1, Ordering::Relaxed);
                        let flags = mbuf.ol_flags();
                        notes.segments.fetch_add(u64::from(flags & TX_TCP_SEG != 0), Ordering::Relaxed);
                        let tunnelled = flags & TX_TCP_SEG != 0 && flags & TX_TUNNEL_VXLAN != 0;
                        notes.tunnelled.fetch_add(u64::from(tunnelled), Ordering::Relaxed);
                        notes.longest.fetch_max(mbuf.len().into(), Ordering::Relaxed);
                        assert_eq!(mbuf.segments().map(<[u8]>::len).sum::<usize>(), mbuf.len() as usize);
                        assert_eq!(mbuf.segments().count(), usize::from(mbuf.segment_count()));
                    }
                    tx.tx_burst(&mut burst);
                    burst.clear();
                }
                if received == 0 {
                    std::thread::yield_now();
                }
            }
        });
        Relay { stop, thread: Some(thread), seen }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Two taps in two namespaces, and a relay between them.
fn pair(name: &str, offloads: bool) -> (Namespace, Namespace, Relay, [TapPort; 2], rte::Mempool) {
    eal("0", &["-m", "256"]);
    let pool = pool(name, 2047);
    let (mut ports, mut rx, mut tx) = (Vec::new(), Vec::new(), Vec::new());
    for side in ["a", "b"] {
        let config = TapConfig { offloads, ..TapConfig::new(&format!("{name}{side}%d"), pool.clone()) };
        let (port, r, t) = TapPort::open(&config).expect("a tap");
        ports.push(port);
        rx.extend(r);
        tx.extend(t);
    }
    tx.reverse();
    let ports: [TapPort; 2] = ports.try_into().expect("two");
    let (a, b) = (Namespace::new(&format!("{name}a")), Namespace::new(&format!("{name}b")));
    a.take(ports[0].name(), "02:00:00:00:01:01", &["10.9.0.1/24", "fd09::1/64"]);
    b.take(ports[1].name(), "02:00:00:00:01:02", &["10.9.0.2/24", "fd09::2/64"]);
    (a, b, Relay::start(rx, tx), ports, pool)
}

/// Bytes that `iperf3` carries from one namespace to the other; more of its options in `options`.
fn iperf(from: &Namespace, to: &Namespace, address: &str, options: &str) -> u64 {
    let mut server = Command::new("ip")
        .args(["netns", "exec", &to.0, "iperf3", "-s", "-1", "--forceflush"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("iperf3");
    // It listens when it says so.
    let mut line = String::new();
    let mut said = std::io::BufReader::new(server.stdout.take().expect("piped"));
    while !line.contains("listening") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut said, &mut line).expect("text") > 0, "the server ended");
    }
    let text = ok(&format!("ip netns exec {} iperf3 -c {address} -J {options}", from.0));
    server.wait().expect("it ends");
    let sum = text.split("\"sum_received\"").nth(1).or_else(|| text.split("\"sum\"").nth(1)).expect("a sum");
    let bytes = sum.split("\"bytes\":").nth(1).expect("bytes").split(',').next().expect("a number");
    bytes.trim().parse().expect("a number")
}

#[test]
fn the_kernels_traffic_crosses_in_large_pieces() {
    if !able() {
        return;
    }
    let (a, b, relay, ports, pool) = pair("big", true);
    ok(&format!("ip netns exec {} ping -c 3 -i 0.05 -W 5 10.9.0.2", a.0));
    ok(&format!("ip netns exec {} ping -c 3 -i 0.05 -W 5 fd09::2", a.0));
    // Frames of 9,000 bytes and fragments.
    ok(&format!("ip netns exec {} ping -c 2 -i 0.05 -W 5 -s 20000 10.9.0.2", a.0));
    for (address, options, least) in [
        ("10.9.0.2", "-n 64M", 10_000_000),
        ("fd09::2", "-n 64M", 10_000_000),
        ("10.9.0.2", "-n 64M -R", 10_000_000),
        // Datagrams may be lost on a busy machine.
        ("10.9.0.2", "-u -b 10M -n 1M", 1000),
        ("fd09::2", "-u -b 10M -n 1M", 1000),
    ] {
        assert!(iperf(&a, &b, address, options) >= least, "{address} {options}");
    }
    assert_eq!([a.errors(), b.errors()], [Vec::<String>::new(), Vec::new()]);
    assert!(relay.seen.segments.load(Ordering::Relaxed) > 100, "TCP segments in one piece");
    assert!(relay.seen.longest.load(Ordering::Relaxed) > 60_000);
    let stats = [ports[0].stats(), ports[1].stats()];
    assert_eq!(stats.map(|s| (s.rx_errors, s.rx_nombuf, s.tx_errors)), [(0, 0, 0); 2], "{stats:?}");
    drop(relay);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn without_offloads_frames_are_complete_and_small() {
    if !able() {
        return;
    }
    let (a, b, relay, ports, _pool) = pair("small", false);
    assert!(iperf(&a, &b, "10.9.0.2", "-n 16M") > 1_000_000);
    assert_eq!([a.errors(), b.errors()], [Vec::<String>::new(), Vec::new()]);
    assert!(relay.seen.longest.load(Ordering::Relaxed) <= 1514);
    assert_eq!(relay.seen.segments.load(Ordering::Relaxed), 0);
    assert_eq!(ports[0].stats().rx_errors, 0);
}

#[test]
fn a_tunnel_of_the_kernels_crosses_in_large_pieces() {
    if !able() {
        return;
    }
    let (a, b, relay, ports, _pool) = pair("tun", true);
    let ends = [
        (&a, "10.9.0.1", "10.9.0.2", 1, "fd09::1", "fd09::2"),
        (&b, "10.9.0.2", "10.9.0.1", 2, "fd09::2", "fd09::1"),
    ];
    for (space, local, remote, number, local6, remote6) in ends {
        let n = &space.0;
        ok(&format!("ip -n {n} link add vx type vxlan id 5 dstport 4789 local {local} remote {remote}"));
        ok(&format!("ip -n {n} address add 10.10.0.{number}/24 dev vx"));
        ok(&format!("ip -n {n} link add vx6 type vxlan id 6 dstport 4790 local {local6} remote {remote6}"));
        ok(&format!("ip -n {n} address add 10.11.0.{number}/24 dev vx6"));
    }
    for space in [&a, &b] {
        for link in ["vx", "vx6"] {
            ok(&format!("ip -n {} link set {link} up", space.0));
        }
    }
    for address in ["10.10.0.2", "10.11.0.2"] {
        ok(&format!("ip netns exec {} ping -c 3 -i 0.05 -W 5 {address}", a.0));
        assert!(iperf(&a, &b, address, "-n 64M") > 10_000_000, "{address}");
    }
    assert_eq!([a.errors(), b.errors()], [Vec::<String>::new(), Vec::new()]);
    let stats = [ports[0].stats(), ports[1].stats()];
    assert_eq!(stats.map(|s| (s.rx_errors, s.rx_nombuf, s.tx_errors)), [(0, 0, 0); 2], "{stats:?}");
    if ports[0].tx_offloads() & rte::offload::capability::VXLAN_TNL_TSO != 0 {
        assert!(relay.seen.tunnelled.load(Ordering::Relaxed) > 100, "segments inside VXLAN in one piece");
    } else {
        eprintln!("this kernel has no tunnel GSO for taps");
    }
}

#[test]
fn a_tap_is_known_wherever_it_goes() {
    if !able() {
        return;
    }
    eal("0", &["-m", "256"]);
    let pool = pool("where", 1023);
    let config = TapConfig {
        mtu: Some(1400),
        mac: Some([2, 0, 0, 0, 7, 7]),
        up: true,
        ..TapConfig::new("rtew%d", pool.clone())
    };
    let (port, mut rx, mut tx) = TapPort::open(&config).expect("a tap");
    assert_eq!((port.mtu(), port.mac()), (Ok(1400), Ok([2, 0, 0, 0, 7, 7])));
    let up = || port.link().expect("a link").up;
    // The kernel notes a carrier a moment later.
    eventually("up", up);
    let there = Namespace::new("where");
    ok(&format!("ip link set {} netns {}", port.name(), there.0));
    assert!(!up(), "the kernel sets down what moves");
    ok(&format!("ip -n {} link set {} name other up", there.0, port.name()));
    assert_eq!(port.interface().as_deref(), Ok("other"));
    eventually("up there", up);
    port.set_mtu(1300).expect("it is reached there");
    assert!(ok(&format!("ip -n {} link show other", there.0)).contains("mtu 1300"));
    // Down: what is sent stays, and is not lost.
    ok(&format!("ip -n {} link set other down", there.0));
    assert!(!up());
    let mut burst = common::numbered::<4>(&pool, 2);
    burst.iter_mut().for_each(|mbuf| mbuf.append(60).expect("room").fill(0));
    assert_eq!((tx[0].tx_burst(&mut burst), burst.len()), (0, 2));
    assert!(!port.is_gone());
    drop(there);
    eventually("its namespace takes it along", || port.is_gone());
    assert!(!up());
    assert_eq!((rx[0].rx_burst(&mut Burst::<4>::new()), tx[0].tx_burst(&mut burst)), (0, 0));
    burst.clear();
    drop((rx, tx));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn queues_and_interfaces_that_are_there() {
    if !able() {
        return;
    }
    eal("0", &["-m", "256"]);
    let pool = pool("queues", 1023);
    let name = format!("rteq{}", std::process::id() % 100_000);
    ok(&format!("ip tuntap add mode tap multi_queue name {name}"));
    for queues in [1, 3] {
        let config = TapConfig { queues, up: true, ..TapConfig::new(&name, pool.clone()) };
        let (port, rx, tx) = TapPort::open(&config).expect("it is attached to");
        assert_eq!((port.name(), rx.len(), tx.len()), (name.as_str(), queues.into(), queues.into()));
        // It sends something by itself: router solicitations.
        assert!(TapPort::open(&TapConfig::new("a/b", pool.clone())).is_err());
    }
    assert!(run(&format!("ip link show {name}")).status.success(), "it was there before, and stays");
    ok(&format!("ip link del {name}"));
    drop(
        TapPort::open(&TapConfig { persist: true, ..TapConfig::new(&name, pool.clone()) })
            .expect("it is made"),
    );
    assert!(run(&format!("ip link show {name}")).status.success(), "persistent");
    ok(&format!("ip link del {name}"));
    drop(TapPort::open(&TapConfig::new(&name, pool.clone())).expect("it is made"));
    assert!(!run(&format!("ip link show {name}")).status.success(), "gone");
    let busy = TapPort::open(&TapConfig::new("lo", pool)).expect_err("no tap").to_string();
    assert!(busy.starts_with("port lo: attaching to the tap failed: "), "{busy}");
}

#[test]
fn frames_longer_than_usual_are_received_behind_the_first() {
    if !able() {
        return;
    }
    eal("0", &["-m", "256"]);
    let pool = pool("long", 4095);
    let config =
        TapConfig { up: true, mtu: Some(50_000), offloads: false, ..TapConfig::new("rtel%d", pool.clone()) };
    let (port, mut rx, tx) = TapPort::open(&config).expect("a tap");
    let there = Namespace::new("long");
    there.take(port.name(), "02:00:00:00:07:08", &["10.9.0.1/24"]);
    ok(&format!("ip -n {} neigh add 10.9.0.2 lladdr 02:00:00:00:07:07 dev {}", there.0, port.name()));
    let mut receive = |len: u32| {
        let send = format!(
            "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes({len}), ('10.9.0.2', 9))"
        );
        let sent = Command::new("ip")
            .args(["netns", "exec", &there.0, "python3", "-c", &send])
            .output()
            .expect("python3");
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
        let mut burst = Burst::<32>::new();
        while rx[0].rx_burst(&mut burst) > 0 || port.stats().rx_errors == 0 && burst.is_empty() {}
        burst.iter().filter(|mbuf| mbuf.len() == len + 42).count()
    };
    assert_eq!(receive(9000), 1, "jumbo frames are usual");
    assert_eq!(receive(40_000), 0);
    assert_eq!(port.stats().rx_errors, 1);
    for len in [40_000, 49_000, 100] {
        assert_eq!(receive(len), 1, "{len} bytes");
    }
    assert_eq!(port.stats().rx_errors, 1);
    drop((rx, tx));
    assert_eq!(pool.in_use(), 0);
}
