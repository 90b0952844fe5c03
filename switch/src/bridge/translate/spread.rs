//! `multipath`: a link by a hash of the packet's fields.

use super::Translator;
use flow::ofp::{Field, HashFields, Multipath, MultipathAlgorithm};
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

impl Translator<'_> {
    /// `multipath`: every field that goes into the hash is looked at.
    pub(super) fn multipath(&mut self, multipath: &Multipath) {
        let hash = self.hash(multipath.fields, multipath.basis);
        let link = link(multipath.algorithm, hash, multipath.links);
        self.load(u128::from(link), multipath.to);
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
