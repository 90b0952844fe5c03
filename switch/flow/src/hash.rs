//! Hashes of a flow: for the flow cache, for the VXLAN source port, for select groups.
//!
//! All hashing here is *folded multiplication* (as in wyhash): two key words, each XORed with a secret,
//! are multiplied to 128 bits, and the halves are XORed. One multiplication takes in 16 bytes where a
//! CRC32 instruction takes in eight, it mixes into the high bits as well as the low, it needs no target
//! feature, and the pairs are independent of each other, so nothing waits. Unlike a CRC, whose collisions
//! are the same under every seed, it can be keyed: the megaflow table draws its secrets at random.

use wire::key::{FRAG_ANY, FRAG_LATER, FlowKey, TUN_IPV6};
use wire::plain::PlainWords;

/// Secrets of the two hashes below: the first hexadecimal digits of pi, any odd-looking numbers would do.
/// They are fixed, so that a flow keeps its source port and its select bucket over a restart.
const SECRET: [u64; 14] = [
    0x243f6a8885a308d3,
    0x13198a2e03707344,
    0xa4093822299f31d0,
    0x082efa98ec4e6c89,
    0x452821e638d01377,
    0xbe5466cf34e90c6c,
    0xc0ac29b7c97c50dd,
    0x3f84d5b5b5470917,
    0x9216d5d98979fb1b,
    0xd1310ba698dfb5ac,
    0x2ffd72dbd01adfb7,
    0xb8e1afed6a267e96,
    0xba7c9045f12c7f99,
    0x24a19947b3916cf7,
];

/// EtherType of IPv6.
const ETH_IPV6: u16 = 0x86dd;

/// The bytes of key word 5 that identify a flow: `tp_src`, `tp_dst`, `nw_proto`, not TOS, TTL, fragment bits.
const TRANSPORT: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]);
/// The same without the ports.
const PROTOCOL: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0xff, 0, 0, 0]);

/// Multiplies to 128 bits and XORs the halves.
#[inline(always)]
pub(crate) const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// What is hashed of a flow, before the last multiplication.
#[inline(always)]
fn flow_pairs(key: &FlowKey) -> u64 {
    let words = key.words();
    let transport = if key.nw_frag & (FRAG_ANY | FRAG_LATER) == 0 { TRANSPORT } else { PROTOCOL };
    let mut pairs = fold(words[2] ^ SECRET[0], words[3] ^ SECRET[1])
        ^ fold(words[4] ^ SECRET[2], (words[5] & transport) ^ SECRET[3]);
    if key.dl_type.get() == ETH_IPV6 {
        pairs ^= fold(words[8] ^ SECRET[4], words[9] ^ SECRET[5])
            ^ fold(words[10] ^ SECRET[6], words[11] ^ SECRET[7]);
    }
    pairs
}

/// The last multiplication: one alone leaves a run of addresses or ports a little lumpy.
#[inline(always)]
fn finish(pairs: u64) -> u64 {
    fold(pairs ^ SECRET[4], SECRET[0])
}

/// Hash of what makes a flow a flow: MAC addresses, EtherType, VLAN tag, IP addresses (IPv6 ones when
/// the packet is IPv6), IP protocol and ports.
///
/// TTL, TOS, TCP flags and tunnel fields do not count, so all packets of a connection hash alike. No
/// fragment counts its ports: only the first has them, and all fragments of a datagram must go one way.
/// All 32 bits are well mixed.
#[inline]
pub fn flow_hash(key: &FlowKey) -> u32 {
    let hash = finish(flow_pairs(key));
    (hash ^ (hash >> 32)) as u32
}

/// [`flow_hash`] of an ordinary frame, without its key.
#[inline(always)]
pub fn plain_flow_hash(words: &PlainWords) -> u32 {
    let hash = finish(plain_pairs(words));
    (hash ^ (hash >> 32)) as u32
}

/// Where the ordinary frames of a burst came from, all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainOrigin {
    /// [`FlowKey::in_port`].
    pub in_port: u32,
    /// [`FlowKey::tun_id`]: 0 out of no tunnel.
    pub tun_id: u32,
    /// Word 1 of a [`FlowKey`]: outer addresses, 0 out of no tunnel.
    pub addresses: u64,
}

impl PlainOrigin {
    /// What [`cache_hash`] has in it of the origin.
    #[inline(always)]
    fn hash(&self) -> u64 {
        let key = FlowKey { in_port: self.in_port, tun_id: self.tun_id, ..FlowKey::ZERO };
        fold(key.words()[0] ^ SECRET[8], self.addresses ^ SECRET[9])
    }
}

/// [`cache_hash`] of an ordinary frame, without its key.
#[inline(always)]
pub(crate) fn plain_cache_hash(words: &PlainWords, origin: PlainOrigin) -> u64 {
    finish(plain_pairs(words) ^ origin.hash())
}

/// [`flow_pairs`] of an ordinary frame.
#[inline(always)]
fn plain_pairs(words: &PlainWords) -> u64 {
    fold(words[0] ^ SECRET[0], words[1] ^ SECRET[1])
        ^ fold(words[2] ^ SECRET[2], (words[3] & TRANSPORT) ^ SECRET[3])
}

/// Hash for the flow cache: what [`flow_hash`] counts, and where the packet came from (`in_port`, `tun_id`,
/// outer addresses). Made of the key and not of a flow hash: that is one multiplication less to wait for.
///
/// The low 32 bits and the high 32 bits are both well mixed: one half is the signature, the other one
/// chooses the bucket.
#[inline]
pub fn cache_hash(key: &FlowKey) -> u64 {
    let words = key.words();
    let mut pairs = flow_pairs(key) ^ fold(words[0] ^ SECRET[8], words[1] ^ SECRET[9]);
    if key.tun_flags & TUN_IPV6 != 0 {
        pairs ^= fold(words[12] ^ SECRET[10], words[13] ^ SECRET[11])
            ^ fold(words[14] ^ SECRET[12], words[15] ^ SECRET[13]);
    }
    finish(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::encap::source_port;
    use wire::key::KEY_WORDS;

    fn key(words: [u64; KEY_WORDS]) -> FlowKey {
        let mut key = FlowKey::ZERO;
        *key.words_mut() = words;
        key
    }

    proptest! {
        #[test]
        fn what_is_no_part_of_the_flow_does_not_count(
            words in prop::array::uniform20(any::<u64>()), other in prop::array::uniform20(any::<u64>()), frag in 0u8..4
        ) {
            let (mut a, b) = (key(words), key(other));
            a.nw_frag = frag;
            let hash = flow_hash(&a);
            (a.nw_tos, a.nw_ttl, a.tcp_flags) = (b.nw_tos, b.nw_ttl, b.tcp_flags);
            (a.in_port, a.tun_id, a.tun_src, a.tun_dst) = (b.in_port, b.tun_id, b.tun_src, b.tun_dst);
            (a.tun_tos, a.tun_ttl, a.tun_ipv6_src, a.tun_flags) = (b.tun_tos, b.tun_ttl, b.tun_ipv6_src, b.tun_flags);
            prop_assert_eq!(flow_hash(&a), hash);
            if a.dl_type.get() != ETH_IPV6 {
                (a.ipv6_src, a.ipv6_dst) = (b.ipv6_src, b.ipv6_dst);
                prop_assert_eq!(flow_hash(&a), hash);
            }
        }

        /// An ordinary frame hashes alike with and without its key, whatever its bytes; others have no short way.
        #[test]
        fn a_frame_hashes_as_its_key(
            bytes in prop::collection::vec(any::<u8>(), 0..90), proto in prop::sample::select(vec![6u8, 17, 1, 132]),
            ihl in 5u8..7, len in 0u16..100, fragment in prop::sample::select(vec![0u16, 0x4000, 0x2000, 1]),
        ) {
            let mut frame = bytes;
            if frame.len() > 34 {
                frame[12..15].copy_from_slice(&[8, 0, 0x40 | ihl]);
                frame[16..18].copy_from_slice(&len.to_be_bytes());
                frame[20..22].copy_from_slice(&fragment.to_be_bytes());
                frame[23] = proto;
            }
            let mut key = FlowKey::ZERO;
            let parsed = wire::parse::extract_general(&frame, &mut key);
            let inner = wire::plain::plain_words(&frame);
            if let Some(words) = inner {
                prop_assert_eq!(plain_flow_hash(&words), flow_hash(&key));
                (key.in_port, key.tun_id, key.tun_dst) = (u32::from(len) + 3, u32::from(proto), 77.into());
                let origin =
                    PlainOrigin { in_port: key.in_port, tun_id: key.tun_id, addresses: key.words()[1] };
                prop_assert_eq!(plain_cache_hash(&words, origin), cache_hash(&key));
            }
            let tcp_or_udp = matches!(proto, 6 | 17) && parsed.is_ok_and(|p| p.l4 == 34 && p.anomaly.is_none());
            prop_assert_eq!(inner.is_some(), tcp_or_udp && frame.len() >= 54 && key.nw_frag == 0);
        }

        #[test]
        fn every_fragment_goes_one_way(words in prop::array::uniform20(any::<u64>())) {
            let mut first = key(words);
            first.nw_frag = FRAG_ANY;
            let mut later = first;
            later.nw_frag = FRAG_ANY | FRAG_LATER;
            (later.tp_src, later.tp_dst) = (0.into(), 0.into());
            prop_assert_eq!(flow_hash(&first), flow_hash(&later));
        }

        #[test]
        fn what_is_part_of_the_flow_counts(words in prop::array::uniform20(any::<u64>()), bit in 0u32..16) {
            let mut a = key(words);
            a.nw_frag = 0;
            a.dl_type = ETH_IPV6.into();
            let hash = flow_hash(&a);
            let mut changed = Vec::new();
            let mut change = |edit: &dyn Fn(&mut FlowKey)| { let mut b = a; edit(&mut b); changed.push(flow_hash(&b)); };
            change(&|k| k.dl_dst.0[(bit / 3) as usize] ^= 1);
            change(&|k| k.dl_src.0[(bit / 3) as usize] ^= 1);
            change(&|k| k.vlan_tci.set(k.vlan_tci.get() ^ 1 << bit));
            change(&|k| k.nw_src.set(k.nw_src.get() ^ 1 << bit));
            change(&|k| k.nw_dst.set(k.nw_dst.get() ^ 1 << bit));
            change(&|k| k.tp_src.set(k.tp_src.get() ^ 1 << bit));
            change(&|k| k.tp_dst.set(k.tp_dst.get() ^ 1 << bit));
            change(&|k| k.nw_proto ^= 1 << (bit % 8));
            change(&|k| k.ipv6_src[bit as usize] ^= 1);
            change(&|k| k.ipv6_dst[bit as usize] ^= 1);
            prop_assert!(changed.iter().all(|&other| other != hash), "{:x} against {:x?}", hash, changed);
            let cached = cache_hash(&a);
            let edits: [fn(&mut FlowKey); 3] =
                [|k| k.in_port ^= 1, |k| k.tun_id ^= 1, |k| k.tun_src.set(k.tun_src.get() ^ 1)];
            for edit in edits {
                let mut b = a;
                edit(&mut b);
                prop_assert_ne!(cache_hash(&b), cached);
            }
            let b = FlowKey { nw_dst: (a.nw_dst.get() ^ 1 << bit).into(), ..a };
            prop_assert_ne!(cache_hash(&b), cached);
        }
    }

    /// Chi-square of `counts` against an even spread, as standard deviations from its mean: an even
    /// spread gives a few at most (a spread more even than chance, as here often, a negative number), a hash that skips a quarter of the buckets gives hundreds.
    fn deviations(counts: &[u32]) -> f64 {
        let freedom = counts.len() as f64 - 1.0;
        let expected = counts.iter().sum::<u32>() as f64 / counts.len() as f64;
        let chi: f64 = counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
        (chi - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn sequential_flows_spread_over_ports_and_buckets() {
        type Vary = fn(&mut FlowKey, u32);
        let ways: [(&str, Vary); 6] = [
            ("destination address", |k, i| k.nw_dst.set(0x0a00_0000 + i)),
            ("source port", |k, i| {
                k.tp_src.set(i as u16);
                k.nw_src.set(0x0a00_0001 + (i >> 16));
            }),
            ("both addresses", |k, i| {
                k.nw_src.set(0x0a00_0000 + (i & 0x3ff));
                k.nw_dst.set(0x0a80_0000 + (i >> 10));
            }),
            ("destination MAC", |k, i| k.dl_dst.0[2..].copy_from_slice(&i.to_be_bytes())),
            ("IPv6", |k, i| {
                k.dl_type = ETH_IPV6.into();
                k.ipv6_dst[12..].copy_from_slice(&i.to_be_bytes());
            }),
            ("both ports alike", |k, i| {
                k.tp_src.set(i as u16);
                k.tp_dst.set(i as u16);
                k.nw_dst.set(i >> 16);
            }),
        ];
        for (name, vary) in ways {
            let (mut ports, mut low, mut high) = (vec![0; 16384], vec![0; 4096], vec![0; 4096]);
            for i in 0..1 << 18 {
                let mut k = FlowKey { in_port: 1, nw_proto: 17, nw_ttl: 64, ..FlowKey::ZERO };
                k.dl_type = 0x0800.into();
                vary(&mut k, i);
                let hash = flow_hash(&k);
                ports[usize::from(source_port(hash)) - 0xc000] += 1;
                let cached = cache_hash(&k);
                low[cached as usize & 4095] += 1;
                high[(cached >> 52) as usize] += 1;
            }
            for (which, counts) in [("ports", &ports), ("low bits", &low), ("high bits", &high)] {
                let deviations = deviations(counts);
                assert!(deviations < 8.0, "{name}, {which}: {deviations} standard deviations");
            }
        }
    }
}
