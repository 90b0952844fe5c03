//! Packets for which a guest's ring has no room wait for it, in order and bounded; a ring between two ports stands for the guest's.

use datapath::counters::WorkerCounters;
use datapath::retry::Retries;
use datapath::tx::{PortTx, TxPath, TxStage};
use flow::drop::DropReason;
use flow::program::PortId;
use rte::{Burst, Mempool, PortConfig, RxQueue, ring};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, OnceLock};

const PORT: PortId = PortId(7);
/// Packets for which the guest has room.
const ROOM: usize = 63;

/// A worker's output by one port, and the guest's end.
struct Output {
    stage: TxStage,
    counters: WorkerCounters,
    retries: Arc<Retries>,
    guest: RxQueue,
    pool: Mempool,
    _ports: [rte::PortHandle; 2],
}

impl Output {
    fn new(name: &str, max: u32) -> Output {
        static EAL: OnceLock<Mutex<()>> = OnceLock::new();
        let one = EAL.get_or_init(|| {
            let args =
                ["test", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "64", "-l", "0"];
            std::thread::spawn(move || rte::Eal::init(&args.map(String::from)).map(drop).expect("EAL"))
                .join()
                .expect("EAL");
            Mutex::new(())
        });
        let _one = one.lock();
        let pool = Mempool::create(name, 4095, 0, 256, rte::mempool::ANY_SOCKET).expect("a pool");
        let [a, b] = ["a", "b"].map(|end| format!("{name}_{end}"));
        let (a, b) = ring::pair(&a, &b, ROOM as u32 + 1, 1).expect("ports");
        let config = PortConfig::new(pool.clone());
        let (ours, _, mut tx) = a.configure_and_start(&config).expect("it starts");
        let (theirs, mut rx, _) = b.configure_and_start(&config).expect("it starts");
        let path = TxPath::Queue { queue: tx.remove(0), from_others: None };
        let retries = Arc::new(Retries { max: max.into(), ..Retries::default() });
        let mut port = PortTx::new(path, 1500);
        port.set_retries(&retries);
        let mut stage = TxStage::new(pool.clone());
        stage.add(PORT, port);
        let counters = WorkerCounters::default();
        Output { stage, counters, retries, guest: rx.remove(0), pool, _ports: [ours, theirs] }
    }

    /// Packets with these numbers are to be sent.
    fn stage(&mut self, numbers: std::ops::Range<u16>) {
        for number in numbers {
            let mut frame = [0; 60];
            frame[..2].copy_from_slice(&number.to_be_bytes());
            let mbuf = self.pool.alloc_with(&frame).expect("an mbuf");
            assert!(self.stage.stage(PORT, mbuf, PortId(1), &self.counters));
        }
    }

    /// The end of a loop.
    fn flush(&mut self) {
        self.stage.flush(&self.counters);
    }

    /// What the guest takes.
    fn take(&mut self) -> Vec<u16> {
        let mut burst = Burst::<64>::new();
        self.guest.rx_burst(&mut burst);
        burst.drain().map(|mbuf| u16::from_be_bytes([mbuf.data()[0], mbuf.data()[1]])).collect()
    }

    fn counted(&self) -> (u64, u64) {
        assert_eq!(self.counters.held.get(), self.stage.waiting() as u64);
        (self.counters.port(PORT).tx.packets.get(), self.counters.drops(PORT, DropReason::TxFull))
    }
}

#[test]
fn a_ring_that_is_full_for_moments_loses_nothing() {
    let mut output = Output::new("moments", 32);
    output.stage(0..500);
    output.flush();
    assert!(output.stage.waits());
    assert_eq!(output.counted(), (ROOM as u64, 0));
    let mut taken = output.take();
    // More comes while others wait: it goes behind them.
    output.stage(500..700);
    while output.stage.waits() {
        output.flush();
        taken.extend(output.take());
    }
    output.flush();
    taken.extend(output.take());
    assert_eq!(taken, (0..700).collect::<Vec<u16>>());
    assert_eq!(output.counted(), (700, 0));
}

#[test]
fn a_guest_that_takes_nothing_has_its_retries_and_no_more() {
    let mut output = Output::new("gone", 2);
    output.stage(0..100);
    while output.stage.waits() || output.retries.count.load(Relaxed) == 0 {
        output.flush();
    }
    assert_eq!(output.retries.count.load(Relaxed), 2);
    assert_eq!(output.counted(), (ROOM as u64, 100 - ROOM as u64));
    // What comes then does not wait.
    output.stage(100..110);
    output.flush();
    assert!(!output.stage.waits());
    assert_eq!(output.counted(), (ROOM as u64, 110 - ROOM as u64));
    // Until it takes something.
    assert_eq!(output.take(), (0..ROOM as u16).collect::<Vec<u16>>());
    output.stage(200..300);
    output.flush();
    assert!(output.stage.waits());
    output.take();
    output.flush();
    assert_eq!(output.take(), (200 + ROOM as u16..300).collect::<Vec<u16>>());
}

#[test]
fn without_retries_nothing_waits_and_not_all_can() {
    let mut output = Output::new("never", 0);
    output.stage(0..100);
    output.flush();
    assert!(!output.stage.waits());
    assert_eq!(output.counted(), (ROOM as u64, 100 - ROOM as u64));
    let mut output = Output::new("bounded", 32);
    output.stage(0..1500);
    output.flush();
    assert_eq!(output.counted(), (ROOM as u64, 1500 - ROOM as u64 - 1024), "1024 wait");
    // A port that goes takes none with it that is not counted.
    output.stage.remove(PORT, &output.counters);
    assert_eq!(output.counted().1, 1500 - ROOM as u64);
    assert_eq!(output.counters.held.get(), 0);
    output.take();
    assert_eq!(output.pool.in_use(), 0);
    // Nor does a worker that ends.
    let mut output = Output::new("ends", 32);
    output.stage(0..100);
    output.flush();
    output.stage.drop_waiting(&output.counters);
    assert_eq!((output.counted(), output.stage.waiting()), ((ROOM as u64, 0), 0));
    assert_eq!(output.counters.drops(PORT, DropReason::Shutdown), 100 - ROOM as u64);
    output.take();
    assert_eq!(output.pool.in_use(), 0);
}
