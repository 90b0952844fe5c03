//! Copies of dropped packets for who captures drops: a buffer each, which goes from the slow path to the worker and back.
//!
//! While nobody captures drops there are no buffers, and a drop costs one branch more: where packets are freed, which no
//! packet that is forwarded comes to. Megaflows that only drop do not come here either, unless translation has their programs
//! end in an [`flow::program::Op::Drop`].

use crate::counters::Counter;
use crate::message::PacketBuffer;
use crossbeam_queue::ArrayQueue;
use flow::drop::DropReason;
use flow::program::PortId;
use rte::Mbuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Copies of one worker that wait for the slow path.
const BUFFERS: usize = 256;

/// A packet that a worker has dropped.
#[derive(Debug)]
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// Length in bytes.
    pub length: usize,
    /// Its bytes, or as many as fit, and in `in_port` the port that it counts for.
    pub packet: Box<PacketBuffer>,
}

/// The copies of one worker.
#[derive(Debug)]
pub struct DropCopies {
    wanted: AtomicBool,
    empty: ArrayQueue<Box<PacketBuffer>>,
    full: ArrayQueue<Dropped>,
    /// Drops without a copy, because no buffer was left.
    pub lost: Counter,
}

impl Default for DropCopies {
    fn default() -> Self {
        DropCopies {
            wanted: AtomicBool::new(false),
            empty: ArrayQueue::new(BUFFERS),
            // One more: the worker may be filling one when drops are no more wanted, and give it when they are again.
            full: ArrayQueue::new(BUFFERS + 1),
            lost: Counter::default(),
        }
    }
}

impl DropCopies {
    /// Copies a packet that is about to be freed, if somebody wants that. For the worker.
    #[cold]
    #[inline(never)]
    pub fn copy(&self, port: PortId, reason: DropReason, mbuf: &Mbuf) {
        if !self.wanted.load(Relaxed) {
            return;
        }
        let Some(mut packet) = self.empty.pop() else { return self.lost.add(1) };
        packet.in_port = port;
        packet.set_head(mbuf.segments(), PacketBuffer::SIZE);
        // Cannot fail: there is room for as many as there are buffers.
        let _ = self.full.push(Dropped { reason, length: mbuf.len() as usize, packet });
    }

    /// Has drops copied, or not any more. For the slow path, as is what follows.
    pub fn set_wanted(&self, wanted: bool) {
        if wanted == self.wanted.load(Relaxed) {
            return;
        }
        while self.full.pop().is_some() {}
        while wanted && self.empty.push(PacketBuffer::new()).is_ok() {}
        self.wanted.store(wanted, Relaxed);
        while !wanted && self.empty.pop().is_some() {}
    }

    /// The next copy; its buffer is to be given back.
    pub fn next(&self) -> Option<Dropped> {
        self.full.pop()
    }

    /// Gives a buffer back, to be filled again.
    pub fn give_back(&self, buffer: Box<PacketBuffer>) {
        if self.wanted.load(Relaxed) {
            // One too many is freed.
            let _ = self.empty.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_there_only_while_they_are_wanted() {
        let copies = DropCopies::default();
        assert_eq!((copies.empty.len(), copies.full.len()), (0, 0));
        copies.set_wanted(true);
        copies.set_wanted(true);
        assert_eq!(copies.empty.len(), BUFFERS);
        let packet = copies.empty.pop().unwrap();
        copies.full.push(Dropped { reason: DropReason::Rule, length: 0, packet }).unwrap();
        let dropped = copies.next().unwrap();
        copies.give_back(dropped.packet);
        assert_eq!(copies.empty.len(), BUFFERS);
        let packet = copies.empty.pop().unwrap();
        copies.set_wanted(false);
        copies.give_back(packet);
        assert_eq!(copies.empty.len(), 0);
    }
}
