//! One EAL for a test binary.

use rte::{Burst, Eal, Mempool, PortConfig, PortHandle, PortId, RxQueue, TxQueue};
use std::sync::OnceLock;

/// The EAL of this test binary, without hugepages or root. It is started on a thread of its own: EAL pins the thread
/// that starts it, and would make one test's thread the main lcore. So no test thread is an lcore, and mbufs go past
/// the mempools' caches there.
pub fn eal(lcores: &str, more: &[&str]) -> &'static Eal {
    static EAL: OnceLock<&'static Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let base = [
            "rte-test",
            "--no-huge",
            "--no-shconf",
            "--no-pci",
            "--no-telemetry",
            "-m",
            "128",
            "--lcores",
            lcores,
        ];
        let args: Vec<String> = base.iter().chain(more).map(ToString::to_string).collect();
        let start = move || {
            let (eal, consumed) = Eal::init(&args).expect("EAL starts without hugepages");
            assert_eq!(consumed, args.len() - 1, "EAL takes all its arguments");
            eal
        };
        std::thread::spawn(start).join().expect("EAL's thread does not panic")
    })
}

/// A small pool; the test names it.
#[allow(dead_code, reason = "not every test binary uses it")]
pub fn pool(name: &str, count: u32) -> Mempool {
    Mempool::create(name, count, 32.min(count / 2), rte::mempool::DEFAULT_DATA_ROOM, rte::mempool::ANY_SOCKET)
        .expect("a pool")
}

/// Starts a port with one queue each way.
#[allow(dead_code, reason = "not every test binary uses it")]
pub fn start(id: PortId, pool: &Mempool) -> (PortHandle, RxQueue, TxQueue) {
    let (port, mut rx, mut tx) =
        id.configure_and_start(&PortConfig::new(pool.clone())).expect("the port starts");
    assert_eq!((rx.len(), tx.len()), (1, 1));
    (port, rx.remove(0), tx.remove(0))
}

/// A burst of `n` packets with one byte each: their number.
#[allow(dead_code, reason = "not every test binary uses it")]
pub fn numbered<const N: usize>(pool: &Mempool, n: usize) -> Burst<N> {
    let mut burst = Burst::new();
    assert!(pool.alloc_bulk(&mut burst, n), "the pool has {n} mbufs");
    for (number, mbuf) in burst.iter_mut().enumerate() {
        mbuf.append(1).expect("tailroom")[0] = number as u8;
    }
    burst
}

/// First bytes of the packets of a burst.
#[allow(dead_code, reason = "not every test binary uses it")]
pub fn numbers(burst: &[rte::Mbuf]) -> Vec<u8> {
    burst.iter().map(|mbuf| mbuf.data()[0]).collect()
}
