//! Outer fragments: where the underlay's MTU is small, tunnel packets without DF come and leave divided. The oracle is given them
//! in one piece, and what leaves, put together again, is what it sends.

use crate::compare::hex;
use crate::frames::{Body, Frame, Part};
use crate::plan::UNDERLAY_MAC;
use oracle::checksum::sum;
use std::collections::HashMap;

/// The smaller of the underlay's MTUs: all frames that must not be divided fit, in one segment or in several.
pub const SMALL_MTU: u16 = 420;
/// Bytes of frames that may be divided, where the MTU is that: they leave in three pieces.
pub const LONG: usize = 900;
/// Where the IP header begins, its length, and fields in it.
const L3: usize = 14;
const HEADER: usize = 20;
const ID: usize = 4;
const FRAGMENT: usize = 6;
const CHECKSUM: usize = 10;
const MORE: u16 = 0x2000;

/// Whether somebody else than its sender may divide a frame, and more bytes leave it the same kind of frame.
pub fn may_be_divided(frame: &Frame) -> bool {
    let divides = match frame.body {
        Body::Ip6 { .. } => false,
        Body::Ip4 { part, .. } => part != Part::Whole,
        Body::Other(_) | Body::Llc | Body::Snap | Body::Arp { .. } => true,
    };
    divides && frame.cut == 0
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// Whether a packet is one of IPv4 that is longer than an MTU, and no fragment.
pub fn is_divisible(packet: &[u8], mtu: u16) -> bool {
    packet.len() > L3 + usize::from(mtu)
        && packet[12..15] == [8, 0, 0x45]
        && usize::from(word(packet, L3 + 2)) == packet.len() - L3
        && word(packet, L3 + FRAGMENT) & (MORE | 0x1fff) == 0
        && sum(&packet[L3..L3 + HEADER]) == 0xffff
}

/// The fragments of a packet for which [`is_divisible`], under this identification.
pub fn divided(packet: &[u8], mtu: u16, id: u16) -> Vec<Vec<u8>> {
    let (head, payload) = packet.split_at(L3 + HEADER);
    let step = (usize::from(mtu) - HEADER) / 8 * 8;
    let pieces = payload.len().div_ceil(step);
    let piece = |(n, part): (usize, &[u8])| {
        let mut head = head.to_vec();
        let fragment = (n * step / 8) as u16 | if n + 1 < pieces { MORE } else { 0 };
        let mut set =
            |at: usize, value: u16| head[L3 + at..L3 + at + 2].copy_from_slice(&value.to_be_bytes());
        set(2, (HEADER + part.len()) as u16);
        set(ID, id);
        set(FRAGMENT, fragment);
        set(CHECKSUM, 0);
        let checksum = !sum(&head[L3..]);
        head[L3 + CHECKSUM..L3 + CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        [head, part.to_vec()].concat()
    };
    payload.chunks(step).enumerate().map(piece).collect()
}

/// Datagrams of which fragments have come so far, by addresses, protocol and identification.
#[derive(Default)]
struct Reassembly(HashMap<Vec<u8>, Vec<u8>>);

impl Reassembly {
    /// Takes a frame; gives back what is no fragment of the underlay's own, or the datagram that is whole now.
    fn take(&mut self, frame: Vec<u8>, mtu: u16) -> Result<Option<Vec<u8>>, String> {
        let is_own =
            frame.len() >= L3 + HEADER && frame[6..12] == UNDERLAY_MAC && frame[12..15] == [8, 0, 0x45];
        if !is_own {
            return Ok(Some(frame));
        }
        let fragment = word(&frame, L3 + FRAGMENT);
        if fragment & (MORE | 0x1fff) == 0 {
            return Ok(Some(frame));
        }
        let wrong = |what: &str| Err(format!("a fragment {what}: {}", hex(&frame)));
        let len = usize::from(word(&frame, L3 + 2));
        if len != frame.len() - L3 || len > usize::from(mtu) {
            return wrong("of the wrong length");
        }
        if fragment & 0xc000 != 0 || sum(&frame[L3..L3 + HEADER]) != 0xffff {
            return wrong("with a wrong header");
        }
        let key =
            [&frame[L3 + 12..L3 + HEADER], &frame[L3 + 9..L3 + 10], &frame[L3 + ID..L3 + ID + 2]].concat();
        let offset = 8 * usize::from(fragment & 0x1fff);
        let mut whole = self.0.remove(&key).unwrap_or_else(|| frame[..L3 + HEADER].to_vec());
        if offset != whole.len() - L3 - HEADER {
            return wrong("that does not follow the one before");
        }
        // Type of service and time to live are the same in all.
        if whole[L3 + 1] != frame[L3 + 1] || whole[L3 + 8] != frame[L3 + 8] || whole[..L3] != frame[..L3] {
            return wrong("with another header");
        }
        whole.extend(&frame[L3 + HEADER..]);
        if fragment & MORE != 0 {
            if !(len - HEADER).is_multiple_of(8) {
                return wrong("that ends between");
            }
            self.0.insert(key, whole);
            return Ok(None);
        }
        let len = (whole.len() - L3) as u16;
        whole[L3 + 2..L3 + 4].copy_from_slice(&len.to_be_bytes());
        whole[L3 + FRAGMENT..L3 + FRAGMENT + 2].fill(0);
        whole[L3 + CHECKSUM..L3 + CHECKSUM + 2].fill(0);
        let checksum = !sum(&whole[L3..L3 + HEADER]);
        whole[L3 + CHECKSUM..L3 + CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        Ok(Some(whole))
    }
}

/// The frames of one port with outer fragments put together, each datagram in the place of its last one; and how many those were.
pub fn reassembled(frames: Vec<Vec<u8>>, mtu: u16) -> Result<(Vec<Vec<u8>>, usize), String> {
    let mut reassembly = Reassembly::default();
    let before = frames.len();
    let mut whole = Vec::new();
    for frame in frames {
        let is_long = frame.len() > L3 + usize::from(mtu);
        let long = is_long.then(|| hex(&frame));
        whole.extend(reassembly.take(frame, mtu)?);
        if let Some(frame) = long {
            return Err(format!("longer than an MTU of {mtu}: {frame}"));
        }
    }
    if let Some(part) = reassembly.0.values().next() {
        return Err(format!("the rest is missing: {}", hex(part)));
    }
    let divided = before - whole.len();
    Ok((whole, divided))
}
