//! `multipath`: a link by a hash of the packet's fields. `bundle`: a port that is up.

use super::Translator;
use crate::bridge::{Bridge, Port};
use flow::drop::DropReason;
use flow::ofp::{
    Bundle, BundleAlgorithm, Field, HashFields, Multipath, MultipathAlgorithm, Selection, SelectionMethod,
};
use wire::proto::{ETH_IPV4, ETH_IPV6, IP_SCTP, IP_TCP, IP_UDP};

/// A good mix of 64 bits (the finaliser of MurmurHash3).
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

fn fold(value: u128) -> u64 {
    mix(value as u64) ^ mix((value >> 64) as u64).rotate_left(29)
}

/// The link that an algorithm takes for a hash.
fn link(algorithm: MultipathAlgorithm, hash: u32, links: u32) -> u32 {
    let again = |n: u32| mix(u64::from(hash) << 32 | u64::from(n)) as u32;
    match algorithm {
        MultipathAlgorithm::ModuloN => hash % links,
        MultipathAlgorithm::HashThreshold => ((u64::from(hash) * u64::from(links)) >> 32) as u32,
        MultipathAlgorithm::Hrw => (0..links).max_by_key(|n| again(*n)).unwrap_or(0),
        MultipathAlgorithm::IterHash => {
            let bits = links.next_power_of_two() - 1;
            // Each round has at least an even chance.
            (0..64).map(|n| again(n) & bits).find(|n| *n < links).unwrap_or(0)
        }
    }
}

/// What `bundle_load` loads when no member is up (`OFPP_NONE`).
const NO_PORT: u32 = 0xffff;

/// The member that an algorithm takes of those that are up.
fn member(
    algorithm: BundleAlgorithm,
    members: &[u32],
    is_up: impl Fn(u32) -> bool,
    hash: u32,
) -> Option<u32> {
    let mut up = members.iter().enumerate().filter(|(_, number)| is_up(**number));
    let chosen = match algorithm {
        BundleAlgorithm::ActiveBackup => up.next(),
        // By its place, so that others keep their flows when one goes.
        BundleAlgorithm::Hrw => up.max_by_key(|(at, _)| mix(u64::from(hash) << 32 | *at as u64) as u32),
    };
    chosen.map(|(_, number)| *number)
}

impl<'w> Translator<'w> {
    /// `bundle`, `bundle_load`: as `multipath`, among ports that are up. Who changes that has everything looked at again.
    pub(super) fn bundle(&mut self, bridge: &'w Bridge, bundle: &Bundle) {
        let hash = match bundle.algorithm {
            BundleAlgorithm::ActiveBackup => 0,
            BundleAlgorithm::Hrw => self.hash(bundle.fields, bundle.basis),
        };
        let state = self.state;
        let is_up = |number: u32| {
            bridge.ports.get(&number).is_some_and(|id| state.port(*id).is_some_and(Port::is_live))
        };
        let chosen = member(bundle.algorithm, &bundle.members, is_up, hash);
        match (chosen, bundle.to) {
            (chosen, Some(to)) => self.load(chosen.unwrap_or(NO_PORT).into(), to),
            (Some(number), None) => self.output_number(bridge, number),
            (None, None) => {
                self.note(|| "no member is up".into());
                self.drop = DropReason::LinkDown;
            }
        }
    }

    /// `multipath`: every field that goes into the hash is looked at.
    pub(super) fn multipath(&mut self, multipath: &Multipath) {
        let hash = self.hash(multipath.fields, multipath.basis);
        let link = link(multipath.algorithm, hash, multipath.links);
        self.load(u128::from(link), multipath.to);
    }

    /// The hash of the fields that a group names, which are looked at; nothing if it names none, or leaves it to the datapath.
    pub(super) fn hash_of(&mut self, selection: &Selection) -> Option<u32> {
        if selection.method != SelectionMethod::Hash || selection.fields.is_empty() {
            return None;
        }
        let mut sum = mix(selection.param);
        for (field, mask) in &selection.fields {
            // As in Open vSwitch, a field that the packet does not have is not hashed.
            if self.meets(field.info().prerequisite) {
                sum = mix(sum.rotate_left(7) ^ fold(self.read_masked(*field, *mask)));
            }
        }
        Some(sum as u32)
    }

    fn hash(&mut self, fields: HashFields, basis: u16) -> u32 {
        let both =
            |t: &mut Self, one: Field, other: Field| fold(t.read_field(one)) ^ fold(t.read_field(other));
        let sum = match fields {
            HashFields::EthSrc => fold(self.read_field(Field::EthSrc)),
            HashFields::NwSrc => self.address(Field::IpSrc, Field::Ipv6Src),
            HashFields::NwDst => self.address(Field::IpDst, Field::Ipv6Dst),
            HashFields::SymmetricL3 => self.addresses(),
            HashFields::SymmetricL3L4 => self.addresses() ^ self.ports(&[IP_TCP, IP_SCTP]),
            HashFields::SymmetricL3L4Udp => self.addresses() ^ self.ports(&[IP_TCP, IP_SCTP, IP_UDP]),
            HashFields::SymmetricL4 => {
                let macs = both(self, Field::EthSrc, Field::EthDst);
                let vlan = fold(self.read_field(Field::VlanTci) & 0x1fff);
                let kind = fold(self.read_field(Field::EthType));
                macs ^ vlan.rotate_left(7)
                    ^ kind.rotate_left(13)
                    ^ self.addresses()
                    ^ self.ports(&[IP_TCP, IP_SCTP])
            }
        };
        mix(sum ^ u64::from(basis) << 48) as u32
    }

    /// The IP address in the packet's family; 0 of what is no IP.
    fn address(&mut self, v4: Field, v6: Field) -> u64 {
        match self.read_field(Field::EthType) as u16 {
            ETH_IPV4 => fold(self.read_field(v4)),
            ETH_IPV6 => fold(self.read_field(v6)),
            _ => 0,
        }
    }

    /// Both IP addresses and the protocol, the same in both directions.
    fn addresses(&mut self) -> u64 {
        let both = self.address(Field::IpSrc, Field::Ipv6Src) ^ self.address(Field::IpDst, Field::Ipv6Dst);
        match self.read_field(Field::EthType) as u16 {
            ETH_IPV4 | ETH_IPV6 => both ^ fold(self.read_field(Field::IpProto)).rotate_left(19),
            _ => both,
        }
    }

    /// Both ports of these protocols, the same in both directions.
    fn ports(&mut self, protocols: &[u8]) -> u64 {
        let known = [
            (IP_TCP, flow::ofp::Prerequisite::Tcp),
            (IP_UDP, flow::ofp::Prerequisite::Udp),
            (IP_SCTP, flow::ofp::Prerequisite::Sctp),
        ];
        let has = known.into_iter().any(|(proto, needed)| protocols.contains(&proto) && self.meets(needed));
        if !has {
            return 0;
        }
        (fold(self.read_field(Field::TpSrc)) ^ fold(self.read_field(Field::TpDst))).rotate_left(31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_spread_evenly_by_each_algorithm() {
        use MultipathAlgorithm::{HashThreshold, Hrw, IterHash, ModuloN};
        for algorithm in [ModuloN, HashThreshold, Hrw, IterHash] {
            let mut counts = [0; 5];
            for n in 0..10_000u64 {
                let hash = mix(n) as u32;
                let link = link(algorithm, hash, 5);
                assert_eq!(link, self::link(algorithm, hash, 5));
                counts[link as usize] += 1;
            }
            assert!(counts.iter().all(|n| (1700..2300).contains(n)), "{algorithm:?}: {counts:?}");
            assert_eq!(link(algorithm, 77, 1), 0);
        }
    }

    #[test]
    fn members_that_are_up_share_what_a_bundle_sends() {
        let (members, down) = ([4, 5, 6], 5);
        let of =
            |algorithm, n: u64, all: bool| member(algorithm, &members, |p| all || p != down, mix(n) as u32);
        assert_eq!(of(BundleAlgorithm::ActiveBackup, 1, true), Some(4));
        assert_eq!(member(BundleAlgorithm::ActiveBackup, &members, |p| p == 6, 0), Some(6));
        assert_eq!(member(BundleAlgorithm::Hrw, &members, |_| false, 0), None);
        let mut counts = [0; 7];
        for n in 0..3000 {
            let before = of(BundleAlgorithm::Hrw, n, true).unwrap();
            counts[before as usize] += 1;
            let after = of(BundleAlgorithm::Hrw, n, false).unwrap();
            assert!(after == before || before == down, "only flows of the port that went move");
        }
        assert!(counts[4..].iter().all(|n| (800..1200).contains(n)), "{counts:?}");
    }

    #[test]
    fn a_link_more_moves_few_flows_by_the_highest_weight() {
        let moved = (0..10_000u64).filter(|n| {
            let hash = mix(*n) as u32;
            let (five, six) =
                (link(MultipathAlgorithm::Hrw, hash, 5), link(MultipathAlgorithm::Hrw, hash, 6));
            assert!(five == six || six == 5, "flows go to the new link only");
            five != six
        });
        let moved = moved.count();
        assert!((1400..2000).contains(&moved), "{moved}");
    }
}
