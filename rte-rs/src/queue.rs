//! Queues: the only way of packets in and out of a port.
//!
//! A driver's word is checked as far as it can be: how many packets it says it received or sent, and, in a process
//! where some device may hand out the same buffer twice, that each received packet is alone with its bytes.

use crate::burst::Burst;
use crate::device::{Device, fast_path};
use crate::mempool::Mempool;
use crate::sanitize;
use crate::tap::{TapRx, TapTx};
use crate::vhost::{VhostRx, VhostTx};
use dpdk_sys as sys;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Drivers that receive into mbufs from the queue's pool, or pass on what another port of this process was given to
/// send: nobody else has such an mbuf. Not among them is `net_bonding`, which in broadcast mode gives one buffer to
/// several ports at once.
const EXCLUSIVE: [&str; 35] = [
    "mlx5_pci",
    "net_af_packet",
    "net_af_xdp",
    "net_atlantic",
    "net_avp",
    "net_bnxt",
    "net_cxgbe",
    "net_e1000_em",
    "net_e1000_igb",
    "net_e1000_igb_vf",
    "net_ena",
    "net_enic",
    "net_fm10k",
    "net_hinic",
    "net_i40e",
    "net_i40e_vf",
    "net_iavf",
    "net_ice",
    "net_ice_dcf",
    "net_igc",
    "net_ixgbe",
    "net_ixgbe_vf",
    "net_memif",
    "net_mlx4",
    "net_netvsc",
    "net_null",
    "net_pcap",
    "net_qede",
    "net_ring",
    "net_sfc_efx",
    "net_tap",
    "net_vhost",
    "net_virtio",
    "net_virtio_user",
    "net_vmxnet3",
];

/// Whether there is, or was, a port of a driver that is not [`EXCLUSIVE`]: what it was given to send, any other port
/// may receive. Then every received packet is looked at.
static SHARED: AtomicBool = AtomicBool::new(false);

/// To be told of the driver of every port before it can send.
pub(crate) fn note_driver(name: &str) {
    if !EXCLUSIVE.contains(&name) {
        SHARED.store(true, Ordering::Relaxed);
    }
}

/// An RX queue of a running port, which it keeps running. One owner polls it.
pub struct RxQueue {
    kind: Rx,
    queue: u16,
    may_ask: bool,
}

/// A TX queue of a running port, which it keeps running. One owner sends on it.
pub struct TxQueue {
    kind: Tx,
    queue: u16,
}

enum Rx {
    Ethdev {
        ops: *const sys::rte_eth_fp_ops,
        device: Arc<Device>,
        /// Where its packets come from.
        pool: Mempool,
    },
    Tap(Box<TapRx>),
    Vhost(Box<VhostRx>),
}

enum Tx {
    Ethdev { ops: *const sys::rte_eth_fp_ops, device: Arc<Device> },
    Tap(Box<TapTx>),
    Vhost(Box<VhostTx>),
}

// SAFETY: a queue may be polled from any thread, by one at a time, which `&mut` sees to; `ops` points into a static.
unsafe impl Send for RxQueue {}
// SAFETY: as for RxQueue.
unsafe impl Send for TxQueue {}

impl RxQueue {
    /// # Safety
    /// The queue is set up and started, and there is no other `RxQueue` for it.
    pub(crate) unsafe fn new(queue: u16, device: Arc<Device>, pool: Mempool) -> RxQueue {
        RxQueue { kind: Rx::Ethdev { ops: fast_path(device.id()), device, pool }, queue, may_ask: false }
    }

    pub(crate) fn tap(tap: TapRx, queue: u16) -> RxQueue {
        RxQueue { kind: Rx::Tap(Box::new(tap)), queue, may_ask: true }
    }

    pub(crate) fn vhost(vhost: VhostRx, queue: u16) -> RxQueue {
        RxQueue { kind: Rx::Vhost(Box::new(vhost)), queue, may_ask: true }
    }

    /// Receives packets into the free room of the burst, behind what it holds, and returns how many came. Does not
    /// wait. This is `rte_eth_rx_burst`, inlined. Some drivers receive 4 or 8 at a time: with less room than that
    /// they give none.
    #[inline(always)]
    pub fn rx_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let (ops, device, pool) = match &mut self.kind {
            Rx::Ethdev { ops, device, pool } => (*ops, &*device, &*pool),
            Rx::Tap(tap) => return tap.rx_burst(burst),
            Rx::Vhost(vhost) => return vhost.rx_burst(burst),
        };
        let room = (N - burst.len()) as u16;
        // SAFETY: the port runs as long as `device`, so its entry has a burst function, `data` has a pointer for
        // every queue that is set up, and nobody writes either; `&mut self` is the only poller. The driver writes at
        // most `room` pointers to mbufs that are ours from then on.
        unsafe {
            let ops = &*ops;
            let receive = ops.rx_pkt_burst.unwrap_unchecked();
            let queue = usize::from(self.queue);
            let mut received = receive(*ops.rxq.data.add(queue), burst.spare_raw(), room);
            let callback = callback(ops.rxq.clbk, queue);
            if !callback.is_null() {
                let port = device.id().number();
                received = rx_callbacks(port, self.queue, burst.spare_raw(), received, room);
            }
            if received > room {
                too_many(received, room);
            }
            let before = burst.len();
            sanitize::taken(burst.spare_raw(), received.into());
            burst.set_len(before + usize::from(received));
            if SHARED.load(Ordering::Relaxed) {
                return unshare(burst, before, device, pool);
            }
            received.into()
        }
    }

    /// Packets that were there since this was asked last, but contradict themselves, so that none was received: of virtual machines,
    /// whose queues [`RxQueue::may_ask`].
    pub fn take_malformed(&mut self) -> u64 {
        match &mut self.kind {
            Rx::Vhost(vhost) => std::mem::take(&mut vhost.malformed),
            Rx::Ethdev { .. } | Rx::Tap(_) => 0,
        }
    }

    /// Whether received packets may ask something of the device that sends them ([`crate::offload`]). Of a queue that says
    /// no, nobody needs to look.
    #[inline(always)]
    pub fn may_ask(&self) -> bool {
        self.may_ask
    }

    /// Says that received packets may ask: for a ring, where its other end leaves something to do.
    pub fn set_may_ask(&mut self, may_ask: bool) {
        self.may_ask = may_ask;
    }

    /// Number of the queue in its port, from 0.
    pub fn queue_id(&self) -> u16 {
        self.queue
    }
}

impl TxQueue {
    /// # Safety
    /// The queue is set up and started, and there is no other `TxQueue` for it.
    pub(crate) unsafe fn new(queue: u16, device: Arc<Device>) -> TxQueue {
        TxQueue { kind: Tx::Ethdev { ops: fast_path(device.id()), device }, queue }
    }

    pub(crate) fn tap(tap: TapTx, queue: u16) -> TxQueue {
        TxQueue { kind: Tx::Tap(Box::new(tap)), queue }
    }

    pub(crate) fn vhost(vhost: VhostTx, queue: u16) -> TxQueue {
        TxQueue { kind: Tx::Vhost(Box::new(vhost)), queue }
    }

    /// Has the driver check what the packets ask of the device ([`crate::offload`]), and put what it wants where the
    /// checksums will be. To be called before [`TxQueue::tx_burst`] for a burst in which a packet asks for something;
    /// returns how many packets from the front can be sent: the one behind them asks what the device cannot do. This is
    /// `rte_eth_tx_prepare`. Taps and virtual machines need none.
    pub fn tx_prepare<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let Tx::Ethdev { ops, .. } = &mut self.kind else { return burst.len() };
        let count = burst.len() as u16;
        // SAFETY: as in `tx_burst`; the driver changes packets that stay ours.
        let prepared = unsafe {
            let ops = &**ops;
            let Some(prepare) = ops.tx_pkt_prepare else { return burst.len() };
            prepare(*ops.txq.data.add(self.queue.into()), burst.start_raw(), count)
        };
        prepared.min(count).into()
    }

    /// Sends packets from the front of the burst and returns how many the device took. The others stay, moved to
    /// the front, in order: clear them or try again (but never for ever: a device may refuse a packet for good).
    /// This is `rte_eth_tx_burst`, inlined.
    #[inline(always)]
    pub fn tx_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let (ops, device) = match &mut self.kind {
            Tx::Ethdev { ops, device } => (*ops, &*device),
            Tx::Tap(tap) => return tap.tx_burst(burst),
            Tx::Vhost(vhost) => return vhost.tx_burst(burst),
        };
        let mut count = burst.len() as u16;
        // SAFETY: the port runs as long as `device`, so its entry has a burst function, `data` has a pointer for
        // every queue that is set up, and nobody writes either; `&mut self` is the only sender. The driver owns the
        // mbufs that it says it took, and the burst forgets exactly these.
        unsafe {
            let ops = &*ops;
            let queue = usize::from(self.queue);
            let callback = callback(ops.txq.clbk, queue);
            if !callback.is_null() {
                let port = device.id().number();
                count = tx_callbacks(port, self.queue, burst.start_raw(), count).min(count);
            }
            let send = ops.tx_pkt_burst.unwrap_unchecked();
            sanitize::given(burst.start_raw(), burst.len());
            let sent = usize::from(send(*ops.txq.data.add(queue), burst.start_raw(), count));
            // A driver that says more has them all.
            let sent = sent.min(burst.len());
            burst.forget_front(sent);
            sanitize::taken(burst.start_raw(), burst.len());
            sent
        }
    }

    /// Of the packets that were taken since this was asked last, those that a virtual machine can never have, and their bytes: they
    /// were freed.
    pub fn take_refused(&mut self) -> (u64, u64) {
        match &mut self.kind {
            Tx::Vhost(vhost) => std::mem::take(&mut vhost.refused),
            Tx::Ethdev { .. } | Tx::Tap(_) => (0, 0),
        }
    }

    /// Number of the queue in its port, from 0.
    pub fn queue_id(&self) -> u16 {
        self.queue
    }
}

/// Replaces packets from `first` on whose buffers others may have, too, with copies; frees those for which the
/// pool has no room, and counts them in [`crate::port::Stats::rx_nombuf`]. Returns how many packets are left.
#[cold]
fn unshare<const N: usize>(burst: &mut Burst<N>, first: usize, device: &Device, pool: &Mempool) -> usize {
    let mut at = first;
    while let Some(mbuf) = burst.get_mut(at) {
        if !mbuf.is_unshared() {
            let Some(copy) = mbuf.copy_to(pool) else {
                drop(burst.remove(at));
                device.count_nombuf();
                continue;
            };
            *mbuf = copy;
        }
        at += 1;
    }
    at - first
}

/// What others hooked into the queue, `dpdk-dumpcap` for one.
///
/// # Safety
/// `mbufs` has room for `room` pointers, the first `received` are mbufs; the calling thread polls this queue.
#[cold]
unsafe fn rx_callbacks(
    port: u16,
    queue: u16,
    mbufs: *mut *mut sys::rte_mbuf,
    received: u16,
    room: u16,
) -> u16 {
    // SAFETY: as promised by the caller.
    unsafe { sys::vxs_rx_callbacks(port, queue, mbufs, received, room) }
}

/// What others hooked into the queue, `dpdk-dumpcap` for one. Returns how many to send: all, as the callbacks of
/// DPDK's own libraries do, which look but do not take.
///
/// # Safety
/// `mbufs` holds `count` mbufs; the calling thread sends by this queue.
#[cold]
unsafe fn tx_callbacks(port: u16, queue: u16, mbufs: *mut *mut sys::rte_mbuf, count: u16) -> u16 {
    // SAFETY: as promised by the caller.
    unsafe { sys::vxs_tx_callbacks(port, queue, mbufs, count) }
}

/// A driver that received more than there was room for has written over what lies behind the burst.
#[cold]
fn too_many(received: u16, room: u16) -> ! {
    panic!("a driver says that it received {received} packets where it was asked for at most {room}")
}

/// The head of a queue's list of callbacks, null for none.
///
/// # Safety
/// `table` has an entry for `queue`, as DPDK's has for every queue number.
#[inline(always)]
unsafe fn callback(table: *mut *mut c_void, queue: usize) -> *mut c_void {
    // SAFETY: as promised by the caller. Other threads change the entry atomically; relaxed is DPDK's own order here,
    // as what it points to is reached through the value loaded.
    unsafe { AtomicPtr::from_ptr(table.add(queue)) }.load(Ordering::Relaxed)
}

impl std::fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            Rx::Ethdev { device, .. } => write!(f, "RxQueue({:?}, {})", device.name(), self.queue),
            Rx::Tap(_) => write!(f, "RxQueue(tap, {})", self.queue),
            Rx::Vhost(_) => write!(f, "RxQueue(vhost, {})", self.queue),
        }
    }
}

impl std::fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            Tx::Ethdev { device, .. } => write!(f, "TxQueue({:?}, {})", device.name(), self.queue),
            Tx::Tap(_) => write!(f, "TxQueue(tap, {})", self.queue),
            Tx::Vhost(_) => write!(f, "TxQueue(vhost, {})", self.queue),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mempool::ANY_SOCKET;
    use crate::{Mbuf, PortConfig, ring};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// A driver that says one more than it was asked for, and does nothing.
    unsafe extern "C" fn one_more(_: *mut c_void, _: *mut *mut sys::rte_mbuf, count: u16) -> u16 {
        count + 1
    }

    /// A driver whose queue is a list of mbufs to receive.
    unsafe extern "C" fn deliver(queue: *mut c_void, mbufs: *mut *mut sys::rte_mbuf, count: u16) -> u16 {
        // SAFETY: the test made the queue, and there is room for `count` pointers.
        unsafe {
            let list = &mut *queue.cast::<Vec<*mut sys::rte_mbuf>>();
            let given = list.len().min(count.into());
            list.drain(..given).enumerate().for_each(|(at, mbuf)| *mbufs.add(at) = mbuf);
            given as u16
        }
    }

    fn fake(
        data: &mut [*mut c_void; 1],
        clbk: &mut [*mut c_void; 1],
        burst: unsafe extern "C" fn(*mut c_void, *mut *mut sys::rte_mbuf, u16) -> u16,
    ) -> sys::rte_eth_fp_ops {
        let queues = sys::rte_ethdev_qdata { data: data.as_mut_ptr(), clbk: clbk.as_mut_ptr() };
        sys::rte_eth_fp_ops {
            rx_pkt_burst: Some(burst),
            tx_pkt_burst: Some(burst),
            tx_pkt_prepare: Some(burst),
            rxq: queues,
            txq: queues,
            ..sys::rte_eth_fp_ops::default()
        }
    }

    /// Makes both queues the fake driver's.
    fn drive(rx: &mut RxQueue, tx: &mut TxQueue, fake: &sys::rte_eth_fp_ops) {
        let (Rx::Ethdev { ops: rx, .. }, Tx::Ethdev { ops: tx, .. }) = (&mut rx.kind, &mut tx.kind) else {
            panic!("ethdevs");
        };
        (*rx, *tx) = (fake, fake);
    }

    #[test]
    fn a_buffer_that_somebody_else_has_is_copied() {
        crate::testing::eal();
        let make = |name, count| Mempool::create(name, count, 0, 256, ANY_SOCKET).expect("a pool");
        let (pool, copies) = (make("shared", 15), make("copies", 3));
        let (a, _b) = ring::pair("shared_a", "shared_b", 64, 1).expect("ports");
        let (port, mut rx, mut tx) =
            a.configure_and_start(&PortConfig::new(copies.clone())).expect("it starts");
        // Packets 0 to 4: 0 is alone, the second segment of 1 and 2, 3 and 4 themselves are held by somebody else.
        // SAFETY: the packet is the test's.
        let share = |mbuf: &Mbuf| unsafe { (*mbuf.as_ptr().cast_mut()).refcnt = 2 };
        let make = |number| {
            let mut mbuf = pool.alloc_with(&[number; 4]).expect("an mbuf");
            match number {
                0 => {}
                1 => {
                    let tail = pool.alloc_with(&[10]).expect("an mbuf");
                    share(&tail);
                    mbuf.chain(tail).expect("one more segment");
                }
                _ => share(&mbuf),
            }
            mbuf.into_raw().as_ptr()
        };
        let mut received: Vec<*mut sys::rte_mbuf> = (0..5).map(make).collect();
        let others = received.clone();
        let (mut clbk, mut data) = ([std::ptr::null_mut::<c_void>(); 1], [(&raw mut received).cast(); 1]);
        let ops = fake(&mut data, &mut clbk, deliver);
        drive(&mut rx[0], &mut tx[0], &ops);

        note_driver("net_bonding");
        let mut burst = Burst::<8>::new();
        // Of four copies the pool has room for three.
        assert_eq!(rx[0].rx_burst(&mut burst), 4);
        assert_eq!(port.stats().expect("statistics").rx_nombuf, 1);
        let first: Vec<u8> = burst.iter().map(|mbuf| mbuf.data()[0]).collect();
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!(burst[1].segments().flatten().copied().collect::<Vec<_>>(), [1, 1, 1, 1, 10]);
        assert_eq!(burst[0].as_ptr(), others[0].cast_const(), "it was alone");
        assert!(burst.iter().all(Mbuf::is_unshared));
        burst.iter_mut().for_each(|mbuf| mbuf.data_mut()[0] = 99);
        for (number, other) in others.iter().enumerate().skip(2) {
            // SAFETY: a reference is left, the last one now.
            let other = unsafe { Mbuf::from_raw(std::ptr::NonNull::new_unchecked(*other)) };
            assert!(other.is_unshared());
            assert_eq!(other.data(), [number as u8; 4]);
        }
        burst.clear();
        // The segment that somebody else has is left.
        assert_eq!((pool.in_use(), copies.in_use()), (1, 0));
    }

    #[test]
    fn a_driver_that_cannot_count_is_not_believed() {
        crate::testing::eal();
        let pool = Mempool::create("count", 255, 0, 256, ANY_SOCKET).expect("a pool");
        let (a, _b) = ring::pair("count_a", "count_b", 64, 1).expect("ports");
        let (_port, mut rx, mut tx) =
            a.configure_and_start(&PortConfig::new(pool.clone())).expect("it starts");
        let (mut clbk, mut data) = ([std::ptr::null_mut::<c_void>(); 1], [std::ptr::null_mut::<c_void>(); 1]);
        let ops = fake(&mut data, &mut clbk, one_more);
        drive(&mut rx[0], &mut tx[0], &ops);

        let mut burst = Burst::<4>::new();
        let received = catch_unwind(AssertUnwindSafe(|| rx[0].rx_burst(&mut burst)));
        let message = *received.expect_err("it is noticed").downcast::<String>().expect("a message");
        assert_eq!(message, "a driver says that it received 5 packets where it was asked for at most 4");
        assert!(burst.is_empty(), "nothing is taken for a packet");

        let before = pool.in_use();
        assert!(pool.alloc_bulk(&mut burst, 3));
        let kept: Vec<_> = burst.iter().map(Mbuf::as_ptr).collect();
        assert_eq!(tx[0].tx_prepare(&mut burst), 3);
        assert_eq!(tx[0].tx_burst(&mut burst), 3);
        assert!(burst.is_empty());
        assert_eq!(pool.in_use(), before + 3, "they are the driver's");
        for mbuf in kept {
            // SAFETY: the driver did nothing with them, and nobody else has them.
            drop(unsafe { Mbuf::from_raw(std::ptr::NonNull::new_unchecked(mbuf.cast_mut())) });
        }
    }
}
