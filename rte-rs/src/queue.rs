//! Queues: the only way of packets in and out of a port.

use crate::burst::Burst;
use crate::port::{Device, PortId, fast_path};
use dpdk_sys as sys;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

/// An RX queue of a running port, which it keeps running. One owner polls it.
pub struct RxQueue {
    ops: *const sys::rte_eth_fp_ops,
    queue: u16,
    device: Arc<Device>,
}

/// A TX queue of a running port, which it keeps running. One owner sends on it.
pub struct TxQueue {
    ops: *const sys::rte_eth_fp_ops,
    queue: u16,
    device: Arc<Device>,
}

// SAFETY: a queue may be polled from any thread, by one at a time, which `&mut` sees to; `ops` points into a static.
unsafe impl Send for RxQueue {}
// SAFETY: as for RxQueue.
unsafe impl Send for TxQueue {}

impl RxQueue {
    /// # Safety
    /// The queue is set up and started, and there is no other `RxQueue` for it.
    pub(crate) unsafe fn new(queue: u16, device: Arc<Device>) -> RxQueue {
        RxQueue { ops: fast_path(device.id()), queue, device }
    }

    /// Receives packets into the free room of the burst, behind what it holds, and returns how many came. Does not
    /// wait. This is `rte_eth_rx_burst`, inlined. Some drivers receive 4 or 8 at a time: with less room than that
    /// they give none.
    #[inline(always)]
    pub fn rx_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let room = (N - burst.len()) as u16;
        // SAFETY: the port runs as long as `device`, so its entry has a burst function, `data` has a pointer for
        // every queue that is set up, and nobody writes either; `&mut self` is the only poller. The driver writes at
        // most `room` pointers to mbufs that are ours from then on.
        unsafe {
            let ops = &*self.ops;
            let receive = ops.rx_pkt_burst.unwrap_unchecked();
            let queue = usize::from(self.queue);
            let mut received = receive(*ops.rxq.data.add(queue), burst.spare_raw(), room);
            let callback = callback(ops.rxq.clbk, queue);
            if !callback.is_null() {
                received = self.callbacks(burst.spare_raw(), received, room, callback);
            }
            burst.set_len(burst.len() + usize::from(received));
            received.into()
        }
    }

    /// What others hooked into the queue, `dpdk-dumpcap` for one.
    ///
    /// # Safety
    /// `mbufs` has room for `room` pointers, the first `received` are mbufs; `callback` is this queue's.
    #[cold]
    unsafe fn callbacks(
        &self,
        mbufs: *mut *mut sys::rte_mbuf,
        received: u16,
        room: u16,
        callback: *mut c_void,
    ) -> u16 {
        // SAFETY: as promised by the caller.
        unsafe {
            sys::rte_eth_call_rx_callbacks(
                self.port_id().number(),
                self.queue,
                mbufs,
                received,
                room,
                callback,
            )
        }
    }

    /// The port.
    pub fn port_id(&self) -> PortId {
        self.device.id()
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
        TxQueue { ops: fast_path(device.id()), queue, device }
    }

    /// Sends packets from the front of the burst and returns how many the device took. The others stay, moved to
    /// the front, in order: clear them or try again (but never for ever: a device may refuse a packet for good).
    /// This is `rte_eth_tx_burst`, inlined.
    #[inline(always)]
    pub fn tx_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let mut count = burst.len() as u16;
        // SAFETY: the port runs as long as `device`, so its entry has a burst function, `data` has a pointer for
        // every queue that is set up, and nobody writes either; `&mut self` is the only sender. The driver owns the
        // mbufs that it says it took, and the burst forgets exactly these.
        unsafe {
            let ops = &*self.ops;
            let queue = usize::from(self.queue);
            let callback = callback(ops.txq.clbk, queue);
            if !callback.is_null() {
                count = self.callbacks(burst.start_raw(), count, callback);
            }
            let send = ops.tx_pkt_burst.unwrap_unchecked();
            let sent = usize::from(send(*ops.txq.data.add(queue), burst.start_raw(), count));
            burst.forget_front(sent);
            sent
        }
    }

    /// What others hooked into the queue, `dpdk-dumpcap` for one. Returns how many to send: all, as the callbacks of
    /// DPDK's own libraries do, which look but do not take.
    ///
    /// # Safety
    /// `mbufs` holds `count` mbufs; `callback` is this queue's.
    #[cold]
    unsafe fn callbacks(&self, mbufs: *mut *mut sys::rte_mbuf, count: u16, callback: *mut c_void) -> u16 {
        // SAFETY: as promised by the caller.
        unsafe { sys::rte_eth_call_tx_callbacks(self.port_id().number(), self.queue, mbufs, count, callback) }
    }

    /// The port.
    pub fn port_id(&self) -> PortId {
        self.device.id()
    }

    /// Number of the queue in its port, from 0.
    pub fn queue_id(&self) -> u16 {
        self.queue
    }
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
        write!(f, "RxQueue({:?}, {})", self.device.name(), self.queue)
    }
}

impl std::fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TxQueue({:?}, {})", self.device.name(), self.queue)
    }
}
