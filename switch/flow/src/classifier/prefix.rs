//! Prefix tracking: ruling a subtable out by the first bits of an address, as OVS does.
//!
//! A subtable with `nw_dst=10.0.0.0/8` and nothing else of that length cannot have a rule for 192.168.0.1,
//! and the first bit of the address shows it: the megaflow needs no more of it than `128.0.0.0/1`. So a
//! table keeps the prefixes of its rules in a [`Trie`] for each field that is matched by prefixes.

use super::stage::STAGE_MASKS;
use super::trie::{Trie, Walk, leading};
use crate::ofp::MatchKey;

/// A field whose prefixes are tracked. ARP's protocol addresses are in `nw_src` and `nw_dst`, the type and
/// code of ICMP in `tp_src` and `tp_dst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    TunSrc,
    TunDst,
    TunIpv6Src,
    TunIpv6Dst,
    NwSrc,
    NwDst,
    Ipv6Src,
    Ipv6Dst,
    TpSrc,
    TpDst,
}

/// Every field, in the order of its number.
const FIELDS: [Field; 10] = [
    Field::TunSrc,
    Field::TunDst,
    Field::TunIpv6Src,
    Field::TunIpv6Dst,
    Field::NwSrc,
    Field::NwDst,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::TpSrc,
    Field::TpDst,
];

impl Field {
    /// The field's value in a key, or its mask in a mask, left-aligned.
    #[inline]
    fn get(self, key: &MatchKey) -> u128 {
        let flow = &key.flow;
        match self {
            Field::TunSrc => u128::from(flow.tun_src.get()) << 96,
            Field::TunDst => u128::from(flow.tun_dst.get()) << 96,
            Field::TunIpv6Src => u128::from_be_bytes(flow.tun_ipv6_src),
            Field::TunIpv6Dst => u128::from_be_bytes(flow.tun_ipv6_dst),
            Field::NwSrc => u128::from(flow.nw_src.get()) << 96,
            Field::NwDst => u128::from(flow.nw_dst.get()) << 96,
            Field::Ipv6Src => u128::from_be_bytes(flow.ipv6_src),
            Field::Ipv6Dst => u128::from_be_bytes(flow.ipv6_dst),
            Field::TpSrc => u128::from(flow.tp_src.get()) << 112,
            Field::TpDst => u128::from(flow.tp_dst.get()) << 112,
        }
    }

    /// Sets the field, of which `value` has the left-aligned bits.
    fn set(self, key: &mut MatchKey, value: u128) {
        let flow = &mut key.flow;
        match self {
            Field::TunSrc => flow.tun_src.set((value >> 96) as u32),
            Field::TunDst => flow.tun_dst.set((value >> 96) as u32),
            Field::TunIpv6Src => flow.tun_ipv6_src = value.to_be_bytes(),
            Field::TunIpv6Dst => flow.tun_ipv6_dst = value.to_be_bytes(),
            Field::NwSrc => flow.nw_src.set((value >> 96) as u32),
            Field::NwDst => flow.nw_dst.set((value >> 96) as u32),
            Field::Ipv6Src => flow.ipv6_src = value.to_be_bytes(),
            Field::Ipv6Dst => flow.ipv6_dst = value.to_be_bytes(),
            Field::TpSrc => flow.tp_src.set((value >> 112) as u16),
            Field::TpDst => flow.tp_dst.set((value >> 112) as u16),
        }
    }

    /// ORs into `wc` what `mask` has of the fields that say what this one is. The answer would be the same
    /// without them, but nobody could read a megaflow with a port number of no protocol.
    fn look_at_prerequisites(self, mask: &MatchKey, wc: &mut MatchKey) {
        match self {
            Field::TunSrc | Field::TunDst | Field::TunIpv6Src | Field::TunIpv6Dst => return,
            Field::NwSrc | Field::NwDst | Field::Ipv6Src | Field::Ipv6Dst => {}
            Field::TpSrc | Field::TpDst => wc.flow.nw_proto |= mask.flow.nw_proto,
        }
        wc.flow.dl_type = (wc.flow.dl_type.get() | mask.flow.dl_type.get()).into();
    }
}

/// What a subtable's mask has of a field: its first bits, and no others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefix {
    field: Field,
    /// Length, at least 1.
    len: u8,
    /// Which of the subtable's stages the field is in.
    stage: u8,
}

impl Prefix {
    /// The prefixes of a mask among the fields of a stage, which is the subtable's `number`th. A mask that
    /// is not a prefix is not tracked: its subtable is searched.
    pub(super) fn of_stage(mask: &MatchKey, stage: usize, number: usize) -> impl Iterator<Item = Prefix> {
        let of_stage = mask.masked(&STAGE_MASKS[stage]);
        FIELDS.into_iter().filter_map(move |field| {
            let bits = field.get(&of_stage);
            let len = bits.leading_ones() as u8;
            (bits != 0 && bits == leading(len)).then_some(Prefix { field, len, stage: number as u8 })
        })
    }

    /// How many of the field's first bits are known when the bits of `wc` are.
    #[inline]
    fn known(self, wc: &MatchKey) -> u8 {
        self.field.get(wc).leading_ones() as u8
    }
}

/// The prefixes of a table's rules, by field.
#[derive(Debug, Clone, Default)]
pub(super) struct Tries([Trie; FIELDS.len()]);

impl Tries {
    /// A rule with this key is in the subtable with these prefixes.
    pub(super) fn insert(&mut self, prefixes: &[Prefix], key: &MatchKey) {
        for prefix in prefixes {
            self.0[prefix.field as usize].insert(prefix.field.get(key), prefix.len);
        }
    }

    /// It no longer is.
    pub(super) fn remove(&mut self, prefixes: &[Prefix], key: &MatchKey) {
        for prefix in prefixes {
            self.0[prefix.field as usize].remove(prefix.field.get(key), prefix.len);
        }
    }
}

/// What the tries have for one key, found out when it is first asked for.
#[derive(Debug)]
pub(super) struct Asked<'t> {
    tries: &'t Tries,
    key: &'t MatchKey,
    /// Nothing yet, so that a table without prefixes does not set up what it never needs.
    walks: Option<[Option<Walk>; FIELDS.len()]>,
}

impl<'t> Asked<'t> {
    #[inline]
    pub(super) fn new(tries: &'t Tries, key: &'t MatchKey) -> Self {
        Asked { tries, key, walks: None }
    }

    /// How many of the field's first bits show that no rule with a prefix of this length is for the key.
    #[inline]
    fn excludes(&mut self, Prefix { field, len, .. }: Prefix) -> Option<u8> {
        let walks = self.walks.get_or_insert([const { None }; FIELDS.len()]);
        let walk = walks[field as usize]
            .get_or_insert_with(|| self.tries.0[field as usize].walk(field.get(self.key)));
        walk.excludes(len)
    }

    /// Whether the bits of `wc` show that no rule of the subtable is for the key, so that it costs the
    /// megaflow nothing to leave the subtable out.
    #[inline]
    pub(super) fn known_to_exclude(&mut self, prefixes: &[Prefix], wc: &MatchKey) -> bool {
        prefixes.iter().any(|prefix| {
            let known = prefix.known(wc);
            known > 0 && self.excludes(*prefix).is_some_and(|bits| bits <= known)
        })
    }

    /// Whether a field of stage `number` alone shows that no rule of the subtable with this mask is for
    /// the key. `wc` gains the bits that show it: of the fields that do, the one that adds fewest.
    #[inline]
    pub(super) fn exclude(
        &mut self,
        prefixes: &[Prefix],
        number: usize,
        mask: &MatchKey,
        wc: &mut MatchKey,
    ) -> bool {
        let of_stage = prefixes.iter().filter(|prefix| usize::from(prefix.stage) == number);
        let excluding = of_stage.filter_map(|prefix| Some((prefix, self.excludes(*prefix)?)));
        let fewest = excluding.min_by_key(|(prefix, bits)| bits.saturating_sub(prefix.known(wc)));
        let Some((Prefix { field, .. }, bits)) = fewest else { return false };
        field.set(wc, field.get(wc) | leading(bits));
        field.look_at_prerequisites(mask, wc);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_numbered_and_separate() {
        let mut all = MatchKey::ZERO;
        for (number, field) in FIELDS.into_iter().enumerate() {
            assert_eq!(field as usize, number);
            assert_eq!(field.get(&all), 0, "{field:?} shares storage");
            field.set(&mut all, u128::MAX);
            let width = field.get(&all).leading_ones() as u8;
            assert_eq!(field.get(&all), leading(width));
            let stages = STAGE_MASKS.iter().filter(|stage| field.get(stage) != 0);
            assert_eq!(stages.map(|stage| field.get(stage)).collect::<Vec<_>>(), [leading(width)]);
        }
    }
}
