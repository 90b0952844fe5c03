//! Hashes of a flow: for the flow cache, for the UDP source port of tunnel packets, for select groups.
//!
//! All hashing here is *folded multiplication* (as in wyhash): two key words, each XORed with a secret,
//! are multiplied to 128 bits, and the halves are XORed. One multiplication takes in 16 bytes where a
//! CRC32 instruction takes in eight, it mixes into the high bits as well as the low, it needs no target
//! feature, and the pairs are independent of each other, so nothing waits. Unlike a CRC, whose collisions
//! are the same under every seed, it can be keyed, and here it always is: with known secrets a sender could make one
//! factor zero, and all such packets would have one hash.

use std::hash::{BuildHasher, RandomState};
use wire::hot::HotKey;
use wire::key::{FRAG_ANY, FRAG_LATER, FlowKey, TUN_IPV6};

/// EtherType of IPv6.
const ETH_IPV6: u16 = 0x86dd;

/// The bytes of key word 5 that identify a flow: `tp_src`, `tp_dst`, `nw_proto`, not TOS, TTL, fragment bits.
const TRANSPORT: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]);

/// Multiplies to 128 bits and XORs the halves.
#[inline(always)]
pub(crate) const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Where the ordinary frames of a burst came from, all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HotOrigin {
    /// [`FlowKey::in_port`].
    pub in_port: u32,
    /// [`FlowKey::tun_id`]: 0 out of no tunnel.
    pub tun_id: u32,
    /// Word 1 of a [`FlowKey`]: outer addresses, 0 out of no tunnel.
    pub addresses: u64,
}

/// Hashes of flows under secrets.
///
/// The flow cache draws its own ([`FlowHasher::random`]). Source ports and select buckets are hashed under those of a
/// seed ([`FlowHasher::new`]), so that a flow keeps them over a restart; whoever does not know the seed cannot choose
/// packets that collide.
#[derive(Clone, Debug)]
pub struct FlowHasher {
    secrets: [u64; 14],
}

impl FlowHasher {
    /// The hashes of a seed.
    pub fn new(seed: u64) -> FlowHasher {
        // SplitMix64 (Steele, Lea, Flood 2014): every seed gives well mixed words.
        let mut state = seed;
        let secrets = std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        FlowHasher { secrets }
    }

    /// Hashes under secrets that are drawn now.
    pub fn random() -> FlowHasher {
        // Each RandomState has keys of its own, which the standard library draws from the operating system.
        let state = RandomState::new();
        let mut hasher = FlowHasher::new(0);
        for (n, secret) in hasher.secrets.iter_mut().enumerate() {
            *secret = state.hash_one(n);
        }
        hasher
    }

    /// What is hashed of a flow, before the last multiplication.
    #[inline(always)]
    fn flow_pairs(&self, key: &FlowKey) -> u64 {
        let (words, secrets) = (key.words(), &self.secrets);
        let transport = if key.nw_frag & (FRAG_ANY | FRAG_LATER) == 0 { TRANSPORT } else { 0 };
        let mut pairs = fold(words[2] ^ secrets[0], words[3] ^ secrets[1])
            ^ fold(words[4] ^ secrets[2], (words[5] & transport) ^ secrets[3]);
        if key.dl_type.get() == ETH_IPV6 {
            pairs ^= fold(words[8] ^ secrets[4], words[9] ^ secrets[5])
                ^ fold(words[10] ^ secrets[6], words[11] ^ secrets[7]);
        }
        pairs
    }

    /// [`FlowHasher::flow_pairs`] of an ordinary frame.
    #[inline(always)]
    fn hot_pairs(&self, hot: &HotKey) -> u64 {
        let secrets = &self.secrets;
        fold(hot[0] ^ secrets[0], hot[1] ^ secrets[1])
            ^ fold(hot[2] ^ secrets[2], (hot[3] & TRANSPORT) ^ secrets[3])
    }

    /// The last multiplication: one alone leaves a run of addresses or ports a little lumpy.
    #[inline(always)]
    fn finish(&self, pairs: u64) -> u64 {
        fold(pairs ^ self.secrets[4], self.secrets[0])
    }

    /// Hash of what makes a flow a flow: MAC addresses, EtherType, VLAN tag, IP addresses (IPv6 ones when
    /// the packet is IPv6), IP protocol and ports.
    ///
    /// TTL, TOS, TCP flags and tunnel fields do not count, so all packets of a connection hash alike. No
    /// fragment counts its ports or protocol: only the first has ports, a later one of IPv6 has protocol 44, and all
    /// fragments of a datagram must go one way.
    /// All 32 bits are well mixed.
    #[inline]
    pub fn flow_hash(&self, key: &FlowKey) -> u32 {
        let hash = self.finish(self.flow_pairs(key));
        (hash ^ (hash >> 32)) as u32
    }

    /// [`FlowHasher::flow_hash`] of an ordinary frame, by its hot key.
    #[inline(always)]
    pub fn hot_flow_hash(&self, hot: &HotKey) -> u32 {
        let hash = self.finish(self.hot_pairs(hot));
        (hash ^ (hash >> 32)) as u32
    }

    /// Hash for the flow cache: what [`FlowHasher::flow_hash`] counts, and where the packet came from (`in_port`,
    /// `tun_id`, outer addresses). Made of the key and not of a flow hash: that is one multiplication less to wait for.
    ///
    /// The low 32 bits and the high 32 bits are both well mixed: one half is the signature, the other one
    /// chooses the bucket.
    #[inline]
    pub fn cache_hash(&self, key: &FlowKey) -> u64 {
        let (words, secrets) = (key.words(), &self.secrets);
        let mut pairs = self.flow_pairs(key) ^ fold(words[0] ^ secrets[8], words[1] ^ secrets[9]);
        if key.tun_flags & TUN_IPV6 != 0 {
            pairs ^= fold(words[12] ^ secrets[10], words[13] ^ secrets[11])
                ^ fold(words[14] ^ secrets[12], words[15] ^ secrets[13]);
        }
        self.finish(pairs)
    }

    /// What [`FlowHasher::cache_hash`] has in it of the origin.
    #[inline(always)]
    pub(crate) fn origin(&self, origin: HotOrigin) -> u64 {
        let key = FlowKey { in_port: origin.in_port, tun_id: origin.tun_id, ..FlowKey::ZERO };
        fold(key.words()[0] ^ self.secrets[8], origin.addresses ^ self.secrets[9])
    }

    /// [`FlowHasher::cache_hash`] of an ordinary frame, by its hot key and [`FlowHasher::origin`].
    #[inline(always)]
    pub(crate) fn hot_cache_hash(&self, hot: &HotKey, origin: u64) -> u64 {
        self.finish(self.hot_pairs(hot) ^ origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use wire::key::KEY_WORDS;
    use wire::tunnel::encap::source_port;

    fn hasher() -> FlowHasher {
        FlowHasher::new(7)
    }

    fn flow_hash(key: &FlowKey) -> u32 {
        hasher().flow_hash(key)
    }

    fn cache_hash(key: &FlowKey) -> u64 {
        hasher().cache_hash(key)
    }

    fn key(words: [u64; KEY_WORDS]) -> FlowKey {
        let mut key = FlowKey::ZERO;
        *key.words_mut() = words;
        key
    }

    proptest! {
        #[test]
        fn what_is_no_part_of_the_flow_does_not_count(
            words in prop::array::uniform32(any::<u64>()), other in prop::array::uniform32(any::<u64>()), frag in 0u8..4
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

        /// An ordinary frame hashes alike by its hot key and by its whole key, whatever its bytes; others have no hot key.
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
            let inner = wire::hot::hot_key(&frame);
            if let Some(words) = inner {
                prop_assert_eq!(hasher().hot_flow_hash(&words), flow_hash(&key));
                (key.in_port, key.tun_id, key.tun_dst) = (u32::from(len) + 3, u32::from(proto), 77.into());
                let origin =
                    HotOrigin { in_port: key.in_port, tun_id: key.tun_id, addresses: key.words()[1] };
                prop_assert_eq!(hasher().hot_cache_hash(&words, hasher().origin(origin)), cache_hash(&key));
            }
            let tcp_or_udp = matches!(proto, 6 | 17) && parsed.is_ok_and(|p| p.l4 == 34 && p.anomaly.is_none());
            prop_assert_eq!(inner.is_some(), tcp_or_udp && frame.len() >= 54 && key.nw_frag == 0);
        }

        #[test]
        fn every_fragment_goes_one_way(words in prop::array::uniform32(any::<u64>())) {
            let mut first = key(words);
            first.nw_frag = FRAG_ANY;
            let mut later = first;
            later.nw_frag = FRAG_ANY | FRAG_LATER;
            (later.tp_src, later.tp_dst, later.nw_proto) = (0.into(), 0.into(), 44);
            prop_assert_eq!(flow_hash(&first), flow_hash(&later));
        }

        #[test]
        fn what_is_part_of_the_flow_counts(words in prop::array::uniform32(any::<u64>()), bit in 0u32..16) {
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

    /// These addresses made a factor zero under the secrets that were once fixed and public: whatever the ports, the hash
    /// was the same. Under a seed of its own each pair of ports has its hash.
    #[test]
    fn nobody_can_aim_at_a_hash() {
        let mut aimed = FlowKey { nw_proto: 17, in_port: 1, ..FlowKey::ZERO };
        aimed.dl_type = 0x0800.into();
        aimed.nw_src = u32::from(std::net::Ipv4Addr::new(208, 49, 159, 41)).into();
        aimed.nw_dst = u32::from(std::net::Ipv4Addr::new(34, 56, 9, 164)).into();
        for hasher in [FlowHasher::random(), FlowHasher::new(0), FlowHasher::new(u64::MAX)] {
            let (mut flow, mut cache) = (HashSet::new(), HashSet::new());
            for n in 0..10_000u16 {
                (aimed.tp_src, aimed.tp_dst) = (n.into(), (!n).into());
                flow.insert(hasher.flow_hash(&aimed));
                cache.insert(hasher.cache_hash(&aimed));
            }
            assert!(flow.len() > 9_990);
            assert_eq!(cache.len(), 10_000);
        }
        assert_ne!(FlowHasher::random().secrets, FlowHasher::random().secrets);
    }
}
