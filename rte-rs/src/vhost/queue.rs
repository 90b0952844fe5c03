//! The queues of a vhost-user port, as a worker sees them.

use super::connection::{Active, Shared};
use super::features::Features;
use crate::burst::Burst;
use crate::counters::Counters;
use crate::mbuf::Mbuf;
use crate::mempool::{HEADROOM, Mempool};
use crate::virtio::header::{self, Header, Segmentation};
use crate::virtio::{MAX_CHAIN, Piece};
use std::sync::Arc;

/// Longest frame of a guest: 64 KiB of packet, an Ethernet header, two VLAN tags.
const LONGEST: usize = 65_536 + 14 + 8;
/// A frame has an Ethernet header.
const ETHERNET: usize = 14;
/// Fewest bytes in a segment of TCP that a guest may ask for, as Linux' `tcp_min_snd_mss`: with fewer one packet could keep a
/// worker busy with tens of thousands.
const MIN_SEGMENT: u16 = 48;
/// Empty mbufs that are fetched at a time.
const FRESH: usize = 32;
/// Where the header says how many chains a packet uses.
const NUM_BUFFERS: usize = 10;

/// Receives what the guest sends.
pub(crate) struct VhostRx {
    shared: Arc<Shared>,
    /// The guest's pairs that are polled: this one, and each of so many after it.
    first: usize,
    step: usize,
    /// The pair to begin with.
    turn: usize,
    pool: Mempool,
    /// Empty mbufs.
    fresh: Vec<Mbuf>,
    pieces: Vec<Piece>,
    /// Chains that are no packet: see [`crate::RxQueue::take_malformed`].
    pub(crate) malformed: u64,
    pub(crate) counters: Arc<Counters>,
}

// SAFETY: the entries of `pieces` are used within one call only.
unsafe impl Send for VhostRx {}

/// What became of a chain.
enum Received {
    Packet(Mbuf),
    /// No packet, or one that cannot be.
    Bad,
    /// There is no mbuf for it now.
    NoMbuf,
}

impl VhostRx {
    pub(crate) fn new(shared: Arc<Shared>, (first, step): (u16, u16), pool: Mempool) -> VhostRx {
        let room = usize::from(pool.data_room() - HEADROOM);
        VhostRx {
            shared,
            first: first.into(),
            step: step.into(),
            turn: first.into(),
            pool,
            fresh: Vec::with_capacity(LONGEST.div_ceil(room) + FRESH),
            pieces: Vec::with_capacity(MAX_CHAIN),
            malformed: 0,
            counters: Arc::default(),
        }
    }

    /// As [`crate::RxQueue::rx_burst`].
    #[inline]
    pub(crate) fn rx_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let pairs = self.shared.sending();
        if self.first >= pairs {
            return 0;
        }
        let before = burst.len();
        // Each of the guest's queues has its turn to be the first.
        for _ in 0..(pairs - self.first).div_ceil(self.step) {
            if self.turn >= pairs {
                self.turn = self.first;
            }
            let pair = self.turn;
            self.turn += self.step;
            self.receive(2 * pair + 1, burst);
            if burst.is_full() {
                break;
            }
        }
        burst.len() - before
    }

    fn receive<const N: usize>(&mut self, number: usize, burst: &mut Burst<N>) {
        let shared = Arc::clone(&self.shared);
        let Some(mut place) = shared.ring(number) else { return };
        let Some(active) = place.as_mut() else { return };
        let from = active.ring.next();
        let (mut packets, mut bytes, mut malformed) = (0, 0, 0);
        for _ in 0..active.ring.available().min((N - burst.len()) as u16) {
            self.pieces.clear();
            let Ok(head) = active.ring.chain(0, false, &mut self.pieces) else {
                malformed += 1;
                break;
            };
            match self.take(active.features) {
                Received::Packet(mbuf) => {
                    packets += 1;
                    bytes += u64::from(mbuf.len());
                    // There is room: the loop asked.
                    drop(burst.push(mbuf));
                }
                Received::Bad => malformed += 1,
                Received::NoMbuf => {
                    Counters::add(&self.counters.nombuf, 1);
                    break;
                }
            }
            active.ring.give_back(head, 0);
        }
        self.malformed += malformed;
        Counters::add(&self.counters.errors, malformed);
        Counters::add(&self.counters.packets, packets);
        Counters::add(&self.counters.bytes, bytes);
        active.publish(from);
    }

    /// The packet that lies in `pieces`, behind its header.
    fn take(&mut self, features: Features) -> Received {
        let header_len = features.header_len();
        let total: usize = self.pieces.iter().map(|piece| piece.len).sum();
        let Some(len) = total.checked_sub(header_len).filter(|len| (ETHERNET..=LONGEST).contains(len)) else {
            return Received::Bad;
        };
        let room = usize::from(self.pool.data_room() - HEADROOM);
        let needed = len.div_ceil(room);
        if !self.refill(needed) {
            return Received::NoMbuf;
        }
        let mut reader = Reader { pieces: &self.pieces, offset: 0 };
        let mut head = [0; header::LEN];
        // SAFETY: `head` takes the header, and the pieces are as long.
        unsafe { reader.copy(head.as_mut_ptr(), header_len) };
        // Known to taps only.
        head[NUM_BUFFERS..].fill(0);
        let at = self.fresh.len() - needed;
        let mut left = len;
        for mbuf in &mut self.fresh[at..] {
            let (start, room) = mbuf.room();
            let count = left.min(room);
            // SAFETY: `start` has room for so many bytes, and as many are left in the pieces.
            unsafe { reader.copy(start, count) };
            left -= count;
        }
        // SAFETY: empty mbufs of one segment, which were filled one after the other with `len` bytes.
        let Some(mut mbuf) = (unsafe { Mbuf::from_filled(self.fresh.drain(at..), len) }) else {
            return Received::Bad;
        };
        let header = Header::from_bytes(&head);
        if may_send(features, &header) && header.apply(&mut mbuf) {
            Received::Packet(mbuf)
        } else {
            Received::Bad
        }
    }

    /// Fetches empty mbufs; whether there are as many as needed.
    fn refill(&mut self, needed: usize) -> bool {
        while self.fresh.len() < needed {
            let mut fresh = Burst::<FRESH>::new();
            if !self.pool.alloc_bulk(&mut fresh, FRESH) {
                return false;
            }
            self.fresh.extend(fresh.drain());
        }
        true
    }
}

/// Whether a guest with these features may send such a header.
fn may_send(features: Features, header: &Header) -> bool {
    let segments = match header.segmentation() {
        None => true,
        Some(Segmentation::Tcp4) => features.sends_tso4() && header.segment_size() >= MIN_SEGMENT,
        Some(Segmentation::Tcp6) => features.sends_tso6() && header.segment_size() >= MIN_SEGMENT,
        Some(Segmentation::Other) => false,
    };
    segments && (header.checksum().is_none() || features.sends_checksums())
}

/// Sends to the guest.
pub(crate) struct VhostTx {
    shared: Arc<Shared>,
    queue: usize,
    pieces: Vec<Piece>,
    /// Chains that the packet uses, and the length of each.
    chains: Vec<(u16, usize)>,
    /// Packets that the guest can never have, and their bytes: see [`crate::TxQueue::take_refused`].
    pub(crate) refused: (u64, u64),
    pub(crate) counters: Arc<Counters>,
}

// SAFETY: the entries of `pieces` are used within one call only.
unsafe impl Send for VhostTx {}

/// What became of a packet.
enum Sent {
    Yes,
    /// Refused for good: it is counted, and freed like those that were sent.
    Never,
    /// Not now: the guest has no room.
    Later,
}

impl VhostTx {
    pub(crate) fn new(shared: Arc<Shared>, queue: u16) -> VhostTx {
        VhostTx {
            shared,
            queue: queue.into(),
            pieces: Vec::with_capacity(MAX_CHAIN),
            chains: Vec::with_capacity(MAX_CHAIN),
            refused: (0, 0),
            counters: Arc::default(),
        }
    }

    /// As [`crate::TxQueue::tx_burst`]. What the guest has not negotiated is completed, or else counted as an error and taken.
    pub(crate) fn tx_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let pairs = self.shared.receiving();
        if pairs == 0 {
            return 0;
        }
        let shared = Arc::clone(&self.shared);
        // The guest may use fewer pairs than there are queues: several queues share one.
        let Some(mut place) = shared.ring(2 * (self.queue % pairs)) else { return 0 };
        let Some(active) = place.as_mut() else { return 0 };
        let from = active.ring.next();
        let (mut taken, mut packets, mut bytes) = (0, 0, 0);
        for mbuf in burst.iter_mut() {
            match self.send(active, mbuf) {
                Sent::Yes => {
                    packets += 1;
                    bytes += u64::from(mbuf.len());
                }
                Sent::Never => {
                    Counters::add(&self.counters.errors, 1);
                    self.refused.0 += 1;
                    self.refused.1 += u64::from(mbuf.len());
                }
                Sent::Later => break,
            }
            taken += 1;
        }
        Counters::add(&self.counters.packets, packets);
        Counters::add(&self.counters.bytes, bytes);
        active.publish(from);
        burst.free_front(taken);
        taken
    }

    fn send(&mut self, active: &mut Active, mbuf: &mut Mbuf) -> Sent {
        let features = active.features;
        let header_len = features.header_len();
        let needed = header_len + mbuf.len() as usize;
        match self.reserve(active, needed) {
            Ok(true) => {}
            Ok(false) => return Sent::Later,
            // Without mergeable buffers the guest's are as long as it wants packets to be.
            Err(TooLong) => return Sent::Never,
        }
        let Some(header) = to_guest(features, mbuf) else { return Sent::Never };
        let mut head = header.to_bytes();
        head[NUM_BUFFERS..NUM_BUFFERS + 2].copy_from_slice(&(self.chains.len() as u16).to_le_bytes());
        let mut writer = Writer { pieces: &self.pieces, offset: 0 };
        let logged = features.logs().then_some(&*active);
        // SAFETY: the pieces take `needed` bytes: the header's and the packet's.
        unsafe {
            writer.copy(&head[..header_len], logged);
            mbuf.segments().for_each(|segment| writer.copy(segment, logged));
        }
        let mut left = needed;
        for (head, len) in self.chains.drain(..) {
            let used = left.min(len);
            active.ring.give_back(head, used as u32);
            left -= used;
        }
        Sent::Yes
    }

    /// Collects chains of the guest that take so many bytes; false when it has too few now.
    fn reserve(&mut self, active: &mut Active, needed: usize) -> Result<bool, TooLong> {
        self.pieces.clear();
        self.chains.clear();
        let most = if active.features.is_mergeable() { active.ring.size() } else { 1 };
        let available = active.ring.available();
        let mut room = 0;
        while room < needed {
            let count = self.chains.len() as u16;
            if count == most || self.pieces.len() == MAX_CHAIN {
                return Err(TooLong);
            }
            if count == available {
                return Ok(false);
            }
            let from = self.pieces.len();
            let Ok(head) = active.ring.chain(count, true, &mut self.pieces) else { return Ok(false) };
            let len: usize = self.pieces[from..].iter().map(|piece| piece.len).sum();
            self.chains.push((head, len));
            room += len;
        }
        Ok(true)
    }
}

/// The packet fits no buffers that the guest could ever give.
struct TooLong;

/// The header for a packet to a guest with these features, which may have to be completed; `None` when the guest cannot have it.
fn to_guest(features: Features, mbuf: &mut Mbuf) -> Option<Header> {
    let header = Header::to_send(mbuf.ol_flags(), mbuf.tx_offload(), mbuf.data()).ok()?;
    let takes = match header.segmentation() {
        None => true,
        Some(Segmentation::Tcp4) => features.takes_tso4(),
        Some(Segmentation::Tcp6) => features.takes_tso6(),
        Some(Segmentation::Other) => false,
    };
    match header.checksum() {
        _ if !takes => None,
        Some((start, field)) if !features.takes_checksums() => {
            mbuf.complete_checksum(start, field).then(Header::default)
        }
        _ if features.takes_ecn() => Some(header),
        _ => Some(header.without_ecn()),
    }
}

/// Reads bytes from pieces one after the other.
struct Reader<'a> {
    pieces: &'a [Piece],
    /// Bytes of the first piece that were read.
    offset: usize,
}

impl Reader<'_> {
    /// Copies the next bytes.
    ///
    /// # Safety
    /// `to` has room for `len` bytes; the pieces are mapped. Beyond their end nothing is written.
    unsafe fn copy(&mut self, mut to: *mut u8, mut len: usize) {
        while len > 0
            && let Some((piece, rest)) = self.pieces.split_first()
        {
            let count = len.min(piece.len - self.offset);
            // SAFETY: within the piece and the room. The guest may write meanwhile: what is read is checked afterwards.
            unsafe {
                piece.host.add(self.offset).copy_to_nonoverlapping(to, count);
                to = to.add(count);
            }
            len -= count;
            self.offset += count;
            if self.offset == piece.len {
                (self.pieces, self.offset) = (rest, 0);
            }
        }
    }
}

/// Writes bytes to pieces one after the other.
struct Writer<'a> {
    pieces: &'a [Piece],
    /// Bytes of the first piece that were written.
    offset: usize,
}

impl Writer<'_> {
    /// Copies bytes behind those that were written, and notes it where that is wanted.
    ///
    /// # Safety
    /// The pieces are mapped.
    #[inline]
    unsafe fn copy(&mut self, mut bytes: &[u8], logged: Option<&Active>) {
        while !bytes.is_empty()
            && let Some((piece, rest)) = self.pieces.split_first()
        {
            let (now, later) = bytes.split_at(bytes.len().min(piece.len - self.offset));
            // SAFETY: within the piece, which is memory that a guest shares, and no packet's.
            unsafe { piece.host.add(self.offset).copy_from_nonoverlapping(now.as_ptr(), now.len()) };
            if let Some(active) = logged {
                active.log(piece.guest + self.offset as u64, now.len() as u64);
            }
            bytes = later;
            self.offset += now.len();
            if self.offset == piece.len {
                (self.pieces, self.offset) = (rest, 0);
            }
        }
    }
}
