//! Ordinary packets that follow one like them: those of one sender differ in a few bytes only, so a packet is compared
//! with the first of its burst as a whole, instead of being read field by field.

use super::udp4::{LEN, PATTERNS, UDP4_LEN, Udp4Outer, Udp4Tunnel};
use crate::bytes::{le64, part};
use crate::hot::HotKey;
use crate::parse::{Common, FAST_LEN, MASK48};
use crate::proto::{ETHERNET_LEN, IPV4_LEN};

/// The bits of the first [`LEN`] bytes that tell the packets to one VTEP from all others, by the number of the tunnel
/// header's pattern. Left out are source address and VNI, what differs within a tunnel (lengths, identification, checksum,
/// UDP source port), what nobody looks at (source MAC, reserved bits of the tunnel header), and the inner frame.
const SAME_VTEP: [[u8; LEN]; PATTERNS.len()] = {
    let mask = with([0; LEN], 0, 6); // destination MAC
    let mask = with(mask, 12, 16); // EtherType, version, IHL, TOS
    let mask = with(mask, 20, 24); // fragment, TTL, protocol
    let mask = with(mask, 30, 34); // destination address
    let mask = with(mask, 36, 38); // UDP destination port
    let mask = with(mask, 40, 42); // UDP checksum, which is none
    let (mut all, mut n) = ([mask; PATTERNS.len()], 0);
    while n < PATTERNS.len() {
        let mut at = 0;
        while at < 4 {
            all[n][42 + at] = PATTERNS[n].mask[at];
            at += 1;
        }
        n += 1;
    }
    all
};
/// The same for the packets of one tunnel: with source address and VNI.
const SAME_TUNNEL: [[u8; LEN]; PATTERNS.len()] = {
    let (mut all, mut n) = (SAME_VTEP, 0);
    while n < PATTERNS.len() {
        all[n] = with(with(all[n], 26, 30), 46, 49);
        n += 1;
    }
    all
};

/// [`SAME_VTEP`] and [`SAME_TUNNEL`] of each pattern.
static MASKS: [[[u8; LEN]; 2]; PATTERNS.len()] = {
    let (mut all, mut n) = ([[[0; LEN]; 2]; PATTERNS.len()], 0);
    while n < PATTERNS.len() {
        all[n] = [SAME_VTEP[n], SAME_TUNNEL[n]];
        n += 1;
    }
    all
};

/// A mask and the bytes from `at` to before `end`.
const fn with(mut mask: [u8; LEN], mut at: usize, end: usize) -> [u8; LEN] {
    while at < end {
        mask[at] = 0xff;
        at += 1;
    }
    mask
}

/// The lengths of a tunnel packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// Length of the inner frame in bytes, at least 14.
    pub inner: u16,
    /// Bytes of the frame behind the UDP datagram.
    pub trailing: u16,
}

/// What the next packets of a tunnel look like, and those of other tunnels to the same VTEP.
#[derive(Debug, Clone, Copy)]
pub struct OuterHeader {
    head: [u8; LEN],
    /// Sum of the words of the IPv4 header that all packets to the VTEP have in common.
    sum: u64,
    masks: &'static [[u8; LEN]; 2],
}

impl OuterHeader {
    /// [`Udp4Outer::read`], and the pattern for packets like this one.
    #[inline(always)]
    pub fn new(frame: &[u8]) -> Option<(Udp4Outer, OuterHeader)> {
        let outer = Udp4Outer::read(frame)?;
        let head = *frame.first_chunk::<LEN>()?;
        let common = [14, 20, 22, 30, 32];
        let sum = common.iter().map(|at| u64::from(u16::from_le_bytes([head[*at], head[*at + 1]]))).sum();
        let masks = &MASKS[usize::from(outer.pattern) % PATTERNS.len()];
        Some((outer, OuterHeader { head, sum, masks }))
    }

    /// The lengths of a packet for which [`Udp4Outer::read`] would say the same as for the first one but for lengths, and
    /// which has the same reserved IPv4 flag; `None` for all others.
    #[inline(always)]
    pub fn read(&self, frame: &[u8]) -> Option<Lengths> {
        let head = frame.first_chunk::<LEN>()?;
        if self.is_same(head, &self.masks[1]) { self.lengths(head, frame.len()) } else { None }
    }

    /// [`Self::read`] for a packet that may be of another source address and VNI: with its tunnel.
    #[inline(always)]
    pub fn read_other(&self, frame: &[u8]) -> Option<(Lengths, Udp4Tunnel)> {
        let head = frame.first_chunk::<LEN>()?;
        let lengths =
            if self.is_same(head, &self.masks[0]) { self.lengths(head, frame.len())? } else { return None };
        Some((lengths, Udp4Tunnel::of(head)))
    }

    /// Whether all bits of the mask are the same: by bytes, which the compiler turns into two vectors.
    #[inline(always)]
    fn is_same(&self, head: &[u8; LEN], mask: &[u8; LEN]) -> bool {
        let mut differs = 0;
        for i in 0..LEN {
            differs |= (self.head[i] ^ head[i]) & mask[i];
        }
        differs == 0
    }

    /// The lengths, if they and the checksum are right.
    #[inline(always)]
    fn lengths(&self, head: &[u8; LEN], frame_len: usize) -> Option<Lengths> {
        let frame_len = u16::try_from(frame_len).ok()?;
        // These are pairs of words of the sum; as the upper one is worth 65,536, which is 1 modulo 65,535, they need not
        // be taken apart.
        let len_and_id = u64::from(u32::from_le_bytes(part::<16, 4, LEN>(head)));
        let source = u64::from(u32::from_le_bytes(part::<26, 4, LEN>(head)));
        let checksum = u64::from(u16::from_le_bytes(part::<24, 2, LEN>(head)));
        if !(self.sum + len_and_id + source + checksum).is_multiple_of(0xffff) {
            return None;
        }
        let total_len = u32::from(u16::from_be_bytes(part::<16, 2, LEN>(head)));
        let udp_len = u16::from_be_bytes(part::<38, 2, LEN>(head));
        let fits = total_len + ETHERNET_LEN as u32 <= u32::from(frame_len)
            && u32::from(udp_len) + IPV4_LEN as u32 <= total_len
            && udp_len >= (LEN - ETHERNET_LEN - IPV4_LEN) as u16;
        fits.then(|| Lengths {
            inner: udp_len - (UDP4_LEN - ETHERNET_LEN - IPV4_LEN) as u16,
            trailing: frame_len - (ETHERNET_LEN + IPV4_LEN) as u16 - udp_len,
        })
    }
}

/// What the next ordinary frames look like: in one of the same protocol, TOS, TTL and DF there is nothing to find out but
/// addresses, ports and length.
#[derive(Debug, Clone, Copy)]
pub struct InnerHeader {
    /// EtherType, version, IHL, TOS: bytes 12 to 15.
    type_to_tos: u32,
    /// Fragment, TTL, protocol: bytes 20 to 23.
    fragment_to_protocol: u32,
    /// The shortest IPv4 packet of the protocol, bytes.
    min_len: usize,
    /// The last of the words without the ports.
    rest: u64,
}

impl InnerHeader {
    /// The pattern for frames like this one; `None` if [`hot_key`](crate::hot::hot_key) has nothing for it.
    #[inline(always)]
    pub fn new(frame: &[u8]) -> Option<InnerHeader> {
        let common = Common::read(frame)?;
        let head = frame.first_chunk::<FAST_LEN>()?;
        Some(InnerHeader {
            type_to_tos: u32::from_le_bytes(part::<12, 4, FAST_LEN>(head)),
            fragment_to_protocol: u32::from_le_bytes(part::<20, 4, FAST_LEN>(head)),
            min_len: common.min_len(),
            rest: common.words[3] & !u64::from(u32::MAX).to_le(),
        })
    }

    /// The words of a frame that differs from the first one in addresses, ports and lengths only; `None` for all others.
    #[inline(always)]
    pub fn read(&self, frame: &[u8]) -> Option<HotKey> {
        let head = frame.first_chunk::<FAST_LEN>()?;
        if u32::from_le_bytes(part::<12, 4, FAST_LEN>(head)) != self.type_to_tos
            || u32::from_le_bytes(part::<20, 4, FAST_LEN>(head)) != self.fragment_to_protocol
        {
            return None;
        }
        let total_len = usize::from(u16::from_be_bytes(part::<16, 2, FAST_LEN>(head)));
        if total_len < self.min_len || total_len > frame.len() - ETHERNET_LEN {
            return None;
        }
        let ports = u64::from(u32::from_le_bytes(part::<34, 4, FAST_LEN>(head)));
        Some([
            ((le64::<0, FAST_LEN>(head) & MASK48) | 0x0008 << 48).to_le(),
            (le64::<6, FAST_LEN>(head) & MASK48).to_le(),
            le64::<26, FAST_LEN>(head).to_le(),
            ports.to_le() | self.rest,
        ])
    }
}
