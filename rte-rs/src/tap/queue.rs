//! A tap's queues, as a worker sees them.

use super::kernel::Features;
use super::wake::Wake;
use crate::burst::Burst;
use crate::counters::Counters;
use crate::mbuf::Mbuf;
use crate::mempool::{HEADROOM, Mempool};
use crate::offload::{TX_REQUESTS, TxOffload};
use crate::packet::socket::{self, Tag};
use crate::virtio::header::{self, Header};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest frame that the kernel hands over in one piece: 64 KiB of packet, an Ethernet header, two VLAN tags.
const LONGEST: usize = 65_536 + 14 + 8;
/// Longest frame without offloads.
const LONGEST_PLAIN: usize = 65_535 + 14 + 8;
/// Pieces of memory, the header's among them, that the kernel takes without allocating (`UIO_FASTIOV`).
const FAST_PIECES: usize = 8;
/// A frame has an Ethernet header.
const ETHERNET: usize = 14;
/// Both Ethernet addresses, and a VLAN tag.
const ADDRESSES: usize = 12;
const TAG: usize = 4;
/// Bytes after which a burst takes no more: others wait while large segments are copied, and what is copied stays in the CPU's
/// cache.
const BURST_BYTES: u64 = 128 * 1024;
/// Most pieces of memory in one read or write (`UIO_MAXIOV`).
const MAX_PIECES: usize = 1024;

/// Receives what the kernel sends through the tap, or what comes by the interface of a packet socket.
pub(crate) struct TapRx {
    file: Arc<File>,
    /// It is a packet socket, whose frames come without their outermost VLAN tag.
    is_socket: bool,
    features: Features,
    /// Empty mbufs in which the next frame is received, as many as the longest one takes.
    posted: Vec<Mbuf>,
    /// After what came from it.
    pool: Mempool,
    wanted: usize,
    /// How many the longest frame takes. Without segments frames are of the MTU's size, which is known to nobody here: a few mbufs
    /// have room for any usual one, and are faster to read into.
    most: usize,
    /// Where a read goes: the header, and the room of each posted mbuf.
    pieces: Vec<libc::iovec>,
    wake: Wake,
    gone: Arc<AtomicBool>,
    pub(crate) counters: Arc<Counters>,
}

// SAFETY: the entries of `pieces` point into mbufs of `posted`, which go along, or to a local of a call.
unsafe impl Send for TapRx {}

impl TapRx {
    pub(crate) fn new(file: Arc<File>, features: Features, pool: Mempool, gone: Arc<AtomicBool>) -> TapRx {
        let room = usize::from(pool.data_room() - HEADROOM);
        let longest = if features.tso { LONGEST } else { LONGEST_PLAIN };
        let most = longest.div_ceil(room);
        let wanted = if features.tso { most } else { most.min(FAST_PIECES - 1) };
        TapRx {
            wake: Wake::new(file.as_raw_fd()),
            file,
            is_socket: false,
            features,
            pool,
            posted: Vec::with_capacity(most),
            wanted,
            most,
            pieces: {
                let mut pieces = Vec::with_capacity(most + 1);
                pieces.push(libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });
                pieces
            },
            gone,
            counters: Arc::default(),
        }
    }

    /// The same from a packet socket.
    pub(crate) fn on_socket(
        file: Arc<File>,
        features: Features,
        pool: Mempool,
        gone: Arc<AtomicBool>,
    ) -> TapRx {
        let new = TapRx::new(file, features, pool, gone);
        TapRx { is_socket: true, wanted: new.most, ..new }
    }

    /// Reads a frame into the posted mbufs: its length with the header, and the VLAN tag that was in it.
    fn read(&mut self) -> io::Result<(usize, Option<Tag>)> {
        let file = self.file.as_raw_fd();
        if self.is_socket {
            return socket::receive(file, &mut self.pieces);
        }
        // SAFETY: the descriptor is open; the first piece is the header's room, the others are the data rooms of mbufs that
        // we have, whole.
        let read = unsafe { libc::readv(file, self.pieces.as_ptr(), self.pieces.len() as i32) };
        if read < 0 { Err(io::Error::last_os_error()) } else { Ok((read as usize, None)) }
    }

    /// As [`crate::RxQueue::rx_burst`]. Makes no system call when the kernel has nothing.
    #[inline]
    pub(crate) fn rx_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        if self.wake.pending() { self.receive(burst) } else { 0 }
    }

    fn receive<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let before = burst.len();
        let mut bytes = 0;
        while !burst.is_full() && bytes < BURST_BYTES {
            if !self.post() {
                Counters::add(&self.counters.nombuf, 1);
                break;
            }
            let mut head = [0; header::LEN];
            self.pieces[0] =
                libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: self.features.header_len };
            let (read, tag) = match self.read() {
                Ok(received) => received,
                Err(error) => {
                    match error.raw_os_error() {
                        // A signal (net_tap uses one), or a socket's interface was set down: the next turn reads on.
                        Some(libc::EINTR | libc::ENETDOWN) => {}
                        Some(libc::EAGAIN) => self.wake.nothing(burst.len() > before),
                        Some(libc::EBADFD | libc::EBADF) => {
                            self.gone.store(true, Ordering::Relaxed);
                            self.wake.never();
                        }
                        // The frame is lost.
                        _ => Counters::add(&self.counters.errors, 1),
                    }
                    break;
                }
            };
            let len = read.saturating_sub(self.features.header_len);
            let room = self.posted[0].room().1;
            // A read into less than a frame needs ends where the room does, and the rest is lost.
            let is_cut = self.wanted < self.most && len == room * self.wanted;
            if is_cut {
                self.wanted = self.most;
            }
            if len < ETHERNET || is_cut {
                Counters::add(&self.counters.errors, 1);
                continue;
            }
            let Some(mbuf) = self.take(&head, len).and_then(|mbuf| with_tag(mbuf, tag)) else {
                Counters::add(&self.counters.errors, 1);
                continue;
            };
            Counters::add(&self.counters.packets, 1);
            Counters::add(&self.counters.bytes, len as u64);
            bytes += len as u64;
            // There is room: the loop asked.
            drop(burst.push(mbuf));
        }
        burst.len() - before
    }

    /// Makes the posted mbufs complete; false when the pool cannot.
    fn post(&mut self) -> bool {
        if self.posted.len() == self.wanted {
            return true;
        }
        while self.posted.len() < self.wanted {
            let mut fresh = Burst::<64>::new();
            let missing = (self.wanted - self.posted.len()).min(64);
            if !self.pool.alloc_bulk(&mut fresh, missing) {
                return false;
            }
            for mut mbuf in fresh.drain() {
                let (start, len) = mbuf.room();
                self.pieces.push(libc::iovec { iov_base: start.cast(), iov_len: len });
                self.posted.push(mbuf);
            }
        }
        true
    }

    /// The frame of `len` bytes that lies in the first posted mbufs; `None` when its header is bad.
    fn take(&mut self, head: &[u8; header::LEN], len: usize) -> Option<Mbuf> {
        let room = self.posted[0].room().1;
        let count = len.div_ceil(room);
        self.pieces.drain(1..=count);
        // SAFETY: the kernel wrote `len` bytes into the rooms of the first `count`, each filled before the next.
        let mut mbuf = unsafe { Mbuf::from_filled(self.posted.drain(..count), len) }?;
        Header::from_bytes(head).apply(&mut mbuf).then_some(())?;
        Some(mbuf)
    }
}

/// Puts a tag back behind the Ethernet addresses; `None` when there is no room for it.
fn with_tag(mut mbuf: Mbuf, tag: Option<Tag>) -> Option<Mbuf> {
    let Some((tpid, tci)) = tag else { return Some(mbuf) };
    mbuf.prepend_or_move(TAG)?;
    let frame = mbuf.data_mut();
    frame.copy_within(TAG..TAG + ADDRESSES, 0);
    frame[ADDRESSES..ADDRESSES + 2].copy_from_slice(&tpid.to_be_bytes());
    frame[ADDRESSES + 2..ADDRESSES + TAG].copy_from_slice(&tci.to_be_bytes());
    let (flags, lengths) = (mbuf.ol_flags(), mbuf.tx_offload());
    if flags & TX_REQUESTS != 0 {
        mbuf.set_offload(flags, TxOffload { l2_len: lengths.l2_len + TAG as u8, ..lengths });
    }
    Some(mbuf)
}

/// Sends to the kernel through the tap, or by the interface of a packet socket.
pub(crate) struct TapTx {
    file: Arc<File>,
    features: Features,
    pieces: Vec<libc::iovec>,
    gone: Arc<AtomicBool>,
    pub(crate) counters: Arc<Counters>,
}

// SAFETY: the entries of `pieces` are used within one call only.
unsafe impl Send for TapTx {}

/// What became of a packet.
enum Sent {
    Yes,
    /// Refused for good: it is counted, and freed like those that were sent.
    Never,
    /// Not now.
    Later,
}

impl TapTx {
    pub(crate) fn new(file: Arc<File>, features: Features, gone: Arc<AtomicBool>) -> TapTx {
        TapTx { file, features, pieces: Vec::with_capacity(MAX_PIECES), gone, counters: Arc::default() }
    }

    /// As [`crate::TxQueue::tx_burst`]. What the kernel refuses for good (a request that it cannot fulfil) is counted
    /// as an error and taken; where it takes nothing (the interface is down) the packets stay.
    pub(crate) fn tx_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let mut taken = 0;
        let (mut packets, mut bytes) = (0, 0);
        for mbuf in burst.iter() {
            match self.send(mbuf) {
                Sent::Yes => {
                    packets += 1;
                    bytes += u64::from(mbuf.len());
                }
                Sent::Never => Counters::add(&self.counters.errors, 1),
                Sent::Later => break,
            }
            taken += 1;
        }
        Counters::add(&self.counters.packets, packets);
        Counters::add(&self.counters.bytes, bytes);
        burst.free_front(taken);
        taken
    }

    fn send(&mut self, mbuf: &Mbuf) -> Sent {
        let Ok(header) = Header::to_send(mbuf.ol_flags(), mbuf.tx_offload(), mbuf.data()) else {
            return Sent::Never;
        };
        if !self.can(mbuf.ol_flags()) || usize::from(mbuf.segment_count()) >= MAX_PIECES {
            return Sent::Never;
        }
        let head = header.to_bytes();
        self.pieces.clear();
        self.pieces.push(libc::iovec {
            iov_base: head.as_ptr().cast_mut().cast(),
            iov_len: self.features.header_len,
        });
        self.pieces.extend(mbuf.segments().map(|segment| libc::iovec {
            iov_base: segment.as_ptr().cast_mut().cast(),
            iov_len: segment.len(),
        }));
        // SAFETY: the descriptor is open; the pieces are `head` and the packet's segments, and are only read.
        let written =
            unsafe { libc::writev(self.file.as_raw_fd(), self.pieces.as_ptr(), self.pieces.len() as i32) };
        if written >= 0 {
            return Sent::Yes;
        }
        match std::io::Error::last_os_error().raw_os_error() {
            // EIO, ENETDOWN: the interface is down.
            Some(libc::EAGAIN | libc::EINTR | libc::EIO | libc::ENETDOWN | libc::ENOBUFS | libc::ENOMEM) => {
                Sent::Later
            }
            Some(libc::EBADFD | libc::EBADF | libc::ENXIO) => {
                self.gone.store(true, Ordering::Relaxed);
                Sent::Later
            }
            _ => Sent::Never,
        }
    }

    /// Whether the kernel can do what is asked. It takes checksums and TCP segments since there are virtio headers.
    #[inline]
    fn can(&self, flags: u64) -> bool {
        use crate::offload::{TX_TCP_SEG, TX_TUNNEL_MASK, TX_UDP_SEG};
        let tunnelled = flags & (TX_TCP_SEG | TX_UDP_SEG) != 0 && flags & TX_TUNNEL_MASK != 0;
        (self.features.tunnel || !tunnelled) && (self.features.uso || flags & TX_UDP_SEG == 0)
    }
}
