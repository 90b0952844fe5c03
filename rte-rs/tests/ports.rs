//! Ports: rings, refusal, probing, and coming back.

mod common;

use common::{eal, numbered, numbers, pool, start};
use rte::{Burst, Error, PortConfig, Release, Ring, port, ring};

const EAL: [&str; 2] = ["--vdev", "net_null7,no-rx=1"];

#[test]
fn what_one_port_sends_its_peer_receives() {
    eal("0", &EAL);
    let pool = pool("pair", 255);
    let (a, b) = ring::pair("pair_a", "pair_b", 64, 1).expect("a pair");
    assert_eq!(a.name(), "net_ring_pair_a");
    assert_eq!(port::by_name("net_ring_pair_b"), Ok(b));
    let (port_a, mut rx_a, mut tx_a) = start(a, &pool);
    let (port_b, mut rx_b, mut tx_b) = start(b, &pool);
    assert_eq!(port_a.driver().as_deref(), Ok("net_ring"));
    assert!(port_a.link().expect("a link").up);

    let mut burst: Burst<32> = numbered(&pool, 20);
    assert_eq!(tx_a.tx_burst(&mut burst), 20);
    assert!(burst.is_empty());
    let mut received: Burst<32> = numbered(&pool, 2);
    assert_eq!(rx_a.rx_burst(&mut received), 0);
    assert_eq!(rx_b.rx_burst(&mut received), 20);
    assert_eq!(numbers(&received), (0..2).chain(0..20).collect::<Vec<u8>>(), "appended, in order");
    assert_eq!(tx_b.tx_burst(&mut received), 22);
    let mut small = Burst::<16>::new();
    assert_eq!(rx_a.rx_burst(&mut small), 16, "no more than there is room for");
    assert_eq!(rx_a.rx_burst(&mut small), 0, "a full burst receives nothing");

    let stats = port_b.stats().expect("statistics");
    assert_eq!((stats.rx_packets, stats.tx_packets), (20, 22));
    let xstats = port_b.xstats().expect("extended statistics");
    assert!(xstats.contains(&("tx_good_packets".to_owned(), 22)), "{xstats:?}");
    assert_eq!(pool.in_use(), 22);
    drop(small);
    assert_eq!(pool.in_use(), 6, "in the ring");
    // The ports end with the last of their queues, the rings with the second port, and what is in them goes home.
    drop((port_a, rx_a, tx_a, port_b, rx_b));
    assert!(port::by_name("net_ring_pair_a").is_err());
    assert_eq!(pool.in_use(), 6);
    drop(tx_b);
    assert!(port::by_name("net_ring_pair_b").is_err());
    assert_eq!(pool.in_use(), 0);
    let (a, b) = ring::pair("pair_a", "pair_b", 64, 1).expect("the names are free again");
    assert_eq!((a.remove(), b.remove()), (Ok(()), Ok(())));
}

#[test]
fn what_a_device_refuses_stays() {
    eal("0", &EAL);
    let pool = pool("refuse", 255);
    let (rx, tx) =
        (Ring::create("refuse_rx", 64).expect("a ring"), Ring::create("refuse_tx", 8).expect("a ring"));
    let id = ring::port("refuse", std::slice::from_ref(&rx), std::slice::from_ref(&tx)).expect("a port");
    let (port, mut rx_queue, mut tx_queue) = start(id, &pool);

    let mut burst: Burst<32> = numbered(&pool, 20);
    assert_eq!(tx_queue.tx_burst(&mut burst), 7, "a ring of 8 holds 7");
    assert_eq!(numbers(&burst), (7..20).collect::<Vec<u8>>(), "the others moved to the front, in order");
    assert_eq!(tx_queue.tx_burst(&mut burst), 0);
    assert_eq!((burst.len(), tx.len(), pool.in_use()), (13, 7, 20));
    for expected in 0..7 {
        assert_eq!(tx.dequeue().expect("sent").data(), [expected]);
    }
    assert!(tx.dequeue().is_none());
    assert_eq!(pool.in_use(), 13);
    assert_eq!(tx_queue.tx_burst(&mut burst), 7);
    assert_eq!(burst[0].data(), [14]);

    for mbuf in burst.drain() {
        rx.enqueue(mbuf).expect("the ring has room");
    }
    assert_eq!(rx_queue.rx_burst(&mut burst), 6, "injected");
    assert_eq!(numbers(&burst), (14..20).collect::<Vec<u8>>());
    assert_eq!(port.close(vec![rx_queue], vec![tx_queue]), Ok(()));
    drop((burst, rx, tx));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_device_can_be_probed_closed_and_probed_again() {
    eal("0", &EAL);
    let pool = pool("again", 1023);
    for round in 0..3 {
        let ids = port::probe("net_null3,size=100,copy=1").expect("it probes");
        assert_eq!(ids.len(), 1);
        assert_eq!(ids[0].name(), "net_null3");
        let error = port::probe("net_null3").expect_err("it is there already");
        assert_eq!(error.to_string(), "device \"net_null3\" cannot be probed: File exists (error 17)");
        let (port, mut rx, tx) = start(ids[0], &pool);
        assert_eq!(
            ids[0].configure_and_start(&PortConfig::new(pool.clone())).err(),
            Some(Error::PortInUse { name: "net_null3".into() })
        );
        assert_eq!(ids[0].remove(), Err(Error::PortInUse { name: "net_null3".into() }));
        let mut burst = Burst::<32>::new();
        assert_eq!(rx.rx_burst(&mut burst), 32, "net_null makes packets, round {round}");
        assert_eq!((burst[31].len(), burst[31].port()), (100, ids[0].number()));
        assert_eq!(
            port.close(vec![], vec![]),
            Err(Error::PortInUse { name: "net_null3".into() }),
            "the queues are left"
        );
        assert_eq!(rx.rx_burst(&mut Burst::<4>::new()), 4, "and still work");
        drop((rx, tx));
        assert_eq!(port::by_name("net_null3"), Err(Error::UnknownPort { name: "net_null3".into() }));
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_port_that_eal_made_can_be_restarted_and_closed() {
    eal("0", &EAL);
    let pool = pool("vdev", 255);
    let id = port::by_name("net_null7").expect("EAL made it");
    assert!(port::list().contains(&id));
    let stop = PortConfig { release: Release::Stop, ..PortConfig::new(pool.clone()) };
    for _ in 0..2 {
        let (port, _rx, mut tx) = id.configure_and_start(&stop).expect("it starts");
        assert_eq!(port.mtu(), Ok(1500));
        assert_ne!(port.mac(), Ok([0; 6]));
        let mut burst: Burst<32> = numbered(&pool, 32);
        assert_eq!(tx[0].tx_burst(&mut burst), 32);
    }
    assert_eq!(port::by_name("net_null7"), Ok(id), "only stopped");
    assert_eq!(id.remove(), Ok(()));
    assert!(port::by_name("net_null7").is_err());
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn queues_of_one_port_live_in_several_threads() {
    eal("0", &EAL);
    let pool = pool("threads", 2047);
    let (a, b) = ring::pair("threads_a", "threads_b", 512, 2).expect("a pair");
    let config = PortConfig { rx_queues: 2, tx_queues: 2, ..PortConfig::new(pool.clone()) };
    let (_port_a, _rx_a, tx_a) = a.configure_and_start(&config).expect("it starts");
    let (port_b, rx_b, _tx_b) = b.configure_and_start(&config).expect("it starts");
    std::thread::scope(|scope| {
        for (mut tx, mut rx) in tx_a.into_iter().zip(rx_b) {
            let pool = &pool;
            scope.spawn(move || {
                assert_eq!(tx.queue_id(), rx.queue_id());
                let (mut sent, mut received) = (0, 0);
                while received < 10_000 {
                    let mut burst: Burst<32> = Burst::new();
                    if sent < 10_000 && pool.alloc_bulk(&mut burst, 20) {
                        sent += tx.tx_burst(&mut burst);
                    }
                    burst.clear();
                    received += rx.rx_burst(&mut burst);
                }
                assert_eq!(sent, received);
            });
        }
    });
    assert_eq!(port_b.stats().map(|stats| stats.rx_packets), Ok(20_000));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn errors_say_what_was_expected() {
    eal("0", &EAL);
    let pool = pool("errors", 255);
    let error = port::probe("no_such_driver0,x=1").expect_err("nobody drives it");
    assert!(error.to_string().starts_with("device \"no_such_driver0,x=1\" cannot be probed: "), "{error}");
    let error = port::probe("net_null9,nonsense=1").expect_err("a bad argument");
    assert!(matches!(error, Error::Probe { .. }), "{error}");
    let error = port::probe("net_pcap9,rx_pcap=/no/such/file.pcap").expect_err("no file");
    assert!(matches!(error, Error::Probe { .. }), "{error}");
    assert_eq!(
        port::by_name("net_none0").expect_err("no port").to_string(),
        "there is no DPDK port named \"net_none0\""
    );

    let id = port::probe("net_null8").expect("it probes")[0];
    let base = PortConfig::new(pool.clone());
    let many = PortConfig { rx_queues: 5000, ..base.clone() };
    let max = id.info().expect("information");
    assert_eq!(
        id.configure_and_start(&many).expect_err("too many queues").to_string(),
        format!(
            "port net_null8 cannot have 5000 RX and 1 TX queues: expected 1 to {} RX and 1 to {} TX queues",
            max.max_rx_queues, max.max_tx_queues
        )
    );
    assert!(id.configure_and_start(&PortConfig { tx_queues: 0, ..base.clone() }).is_err());
    let no_pool = PortConfig { pools: vec![], ..base.clone() };
    assert_eq!(
        id.configure_and_start(&no_pool).expect_err("no pool").to_string(),
        "port net_null8 has 1 RX queues and 0 mempools: expected one for all or one a queue"
    );
    let tiny = PortConfig { mtu: Some(1), ..base.clone() };
    assert!(matches!(id.configure_and_start(&tiny), Err(Error::Mtu { mtu: 1, .. })));
    // None of these spoiled the port.
    let jumbo = PortConfig { mtu: Some(1600), multi_segment: true, ..base };
    let (port, rx, tx) = id.configure_and_start(&jumbo).expect("it starts after all");
    assert_eq!(port.mtu(), Ok(1600));
    assert_eq!(port.close(rx, tx), Ok(()));
}
