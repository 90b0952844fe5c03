//! What clients do to the sockets stays with the clients.

use crate::running::{BASE, Daemon, EAL};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

fn connect(daemon: &Daemon) -> UnixStream {
    UnixStream::connect(daemon.dir.path().join("control.sock")).unwrap()
}

/// Megabytes of memory that the daemon has in use.
fn resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// CPU time of the thread of that name.
fn cpu_time(daemon: &Daemon, thread: &str) -> Duration {
    for task in fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap() {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (head, tail) = stat.rsplit_once(')').unwrap();
        if head.ends_with(&format!("({thread}")) {
            let fields: Vec<&str> = tail.split_whitespace().collect();
            let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
            return Duration::from_millis(ticks * 10);
        }
    }
    panic!("no thread {thread}");
}

#[test]
fn a_list_is_no_document() {
    let daemon = Daemon::start(BASE);
    for body in ["[]", "[{},{}]", "{\"bridge\":[[]]}", "7"] {
        let mut client = connect(&daemon);
        let length = body.len();
        write!(
            client,
            "PUT /v1/document HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 400", "{body}");
    }
    assert!(daemon.ctl("show").contains("Bridge br0"));
    daemon.stop();
}

#[test]
fn large_bodies_are_bounded_together() {
    let daemon = Daemon::start(BASE);
    let mut long = connect(&daemon);
    write!(long, "PUT /v1/document HTTP/1.1\r\nhost: x\r\ncontent-length: 70000000\r\n\r\n").unwrap();
    let mut head = [0; 12];
    long.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 413", "refused before it is sent");

    let before = resident(&daemon);
    let piece = vec![b'#'; 1 << 20];
    let mut refused = 0;
    let mut clients: Vec<UnixStream> = Vec::new();
    for _ in 0..16 {
        let mut client = connect(&daemon);
        write!(client, "PUT /v1/document HTTP/1.1\r\nhost: x\r\ncontent-length: 60000000\r\n\r\n").unwrap();
        let whole = (0..40).all(|_| client.write_all(&piece).is_ok());
        if !whole {
            refused += 1;
        }
        clients.push(client);
    }
    // One that says nothing for ten seconds makes room for another.
    assert!(refused > 0, "none was refused");
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 200, "grew by {grown} MB");
    assert!(daemon.ctl("show").contains("Bridge br0"), "the operator is served");
    daemon.ctl("add-br br7");
    daemon.stop();
}

#[test]
fn idle_clients_neither_lock_out_the_operator_nor_make_it_spin() {
    // With fewer descriptors than there may be connections.
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_limited(EAL, dir, BASE, 64);
    let mut idle: Vec<UnixStream> = (0..100).map(|_| connect(&daemon)).collect();
    for _ in 0..5 {
        assert!(daemon.ctl("show").contains("Bridge br0"), "the operator is served");
    }
    std::thread::sleep(Duration::from_millis(300));
    let (before, start) = (cpu_time(&daemon, "control"), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let used = cpu_time(&daemon, "control").saturating_sub(before);
    assert!(used * 4 < start.elapsed(), "control used {used:?} of {:?}", start.elapsed());
    idle.extend((0..100).map(|_| connect(&daemon)));
    assert!(daemon.ctl("show").contains("Bridge br0"), "the operator is served");
    drop(idle);
    assert!(daemon.ctl("show").contains("Bridge br0"));
    daemon.stop();
}

#[test]
fn captures_that_nobody_reads_are_bounded_together() {
    let daemon = Daemon::start(BASE);
    let capture = || {
        let mut client = connect(&daemon);
        write!(client, "GET /v1/capture/port/p0 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        client
    };
    // The pages of mbufs, of the upcall queue and of the threads are touched by one that is read.
    let mut read = capture();
    let mut bytes = vec![0; 1 << 20];
    for _ in 0..20 {
        read.read_exact(&mut bytes).unwrap();
    }
    drop(read);
    let before = resident(&daemon);
    let captures: Vec<UnixStream> = (0..50).map(|_| capture()).collect();
    // Until packets have nowhere to go any more, and memory has stopped to grow while millions more came.
    let lost = || {
        let metrics = daemon.http("/metrics");
        let lost = metrics.lines().find_map(|line| line.strip_prefix("vxswitch_captures_lost_total "));
        lost.unwrap().parse::<f64>().unwrap()
    };
    let mut last = (0.0, 0);
    crate::support::eventually("captures are full", Duration::from_mins(1), || {
        let now = lost();
        if now < last.0 + 2e6 {
            return None;
        }
        let used = resident(&daemon);
        let full = used == last.1;
        last = (now, used);
        full.then_some(())
    });
    // 32 MB of copies that wait, 50 times 0.4 MB of queues and pieces, and as much again for an allocator's pages.
    let grown = last.1.saturating_sub(before);
    assert!(grown < 104, "grew by {grown} MB");
    let more: Vec<UnixStream> = (0..20).map(|_| connect(&daemon)).collect();
    let mut refused = 0;
    for mut client in &more {
        write!(client, "GET /v1/capture/port/p0 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).unwrap();
        refused += usize::from(&head == b"HTTP/1.1 503");
    }
    assert_eq!(refused, 6, "64 captures at most");
    drop((captures, more));
    daemon.stop();
}

#[test]
fn who_asks_openflow_and_does_not_read_costs_nothing() {
    const REQUESTS: usize = 277;
    let daemon = Daemon::start(BASE);
    let path = daemon.dir.path().join("br0.mgmt");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(Instant::now() < deadline, "no socket br0.mgmt");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut client = UnixStream::connect(path).unwrap();
    // OFPT_HELLO, and OFPMP_TABLE_FEATURES of all tables.
    client.write_all(&[4, 0, 0, 8, 0, 0, 0, 1]).unwrap();
    let request = |n: usize| [&[4, 18, 0, 16, 0, 0, 1, n as u8][..], &[0, 12, 0, 0, 0, 0, 0, 0]].concat();
    let before = resident(&daemon);
    client.write_all(&(0..REQUESTS).flat_map(request).collect::<Vec<u8>>()).unwrap();
    // Others are served meanwhile.
    for _ in 0..10 {
        daemon.ctl("show");
        std::thread::sleep(Duration::from_millis(50));
    }
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 8, "{grown} MB more");
    // Every request has its whole answer when it is read.
    let mut answered = 0;
    while answered < REQUESTS {
        let mut header = [0; 8];
        client.read_exact(&mut header).unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - 8];
        client.read_exact(&mut body).unwrap();
        if header[1] == 19 {
            assert_eq!(header[7], answered as u8);
            let more = body[3] & 1 != 0;
            // The last table's features end the answer.
            answered += usize::from(!more);
        }
    }
    daemon.stop();
}
