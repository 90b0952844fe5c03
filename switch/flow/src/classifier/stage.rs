//! The stages in which a subtable is searched.
//!
//! As in OVS: what is known about every packet first, then layer by layer. A subtable in which nothing
//! agrees with the packet's MAC addresses says so without looking at its ports, so that a table of L2
//! rules never makes a megaflow look at L4.

use crate::ofp::MatchKey;
use wire::addr::MacAddr;
use wire::key::FlowKey;
use zerocopy::byteorder::network_endian::{U16, U32};

/// Number of stages.
pub(super) const STAGES: usize = 4;

const MAC: MacAddr = MacAddr([0xff; 6]);
const ALL16: U16 = U16::from_bytes([0xff; 2]);
const ALL32: U32 = U32::from_bytes([0xff; 4]);
const ALL128: [u8; 16] = [0xff; 16];

/// Every bit of a [`MatchKey`] by the stage it belongs to: metadata (where the packet came from, the
/// tunnel, registers), L2, L3, L4. Reserved bytes belong to none, so a mask must not have bits there.
pub(super) static STAGE_MASKS: [MatchKey; STAGES] = [
    MatchKey {
        flow: FlowKey {
            in_port: u32::MAX,
            tun_id: u32::MAX,
            tun_src: ALL32,
            tun_dst: ALL32,
            tun_flags: u16::MAX,
            tun_tos: 0xff,
            tun_ttl: 0xff,
            tun_gbp_id: ALL16,
            tun_gbp_flags: 0xff,
            tun_ipv6_src: ALL128,
            tun_ipv6_dst: ALL128,
            ..FlowKey::ZERO
        },
        metadata: u64::MAX,
        reg: [u32::MAX; 8],
        reserved: [0; 3],
    },
    MatchKey {
        flow: FlowKey {
            dl_dst: MAC,
            dl_src: MAC,
            dl_type: ALL16,
            vlan_tci: ALL16,
            vlan_tci2: ALL16,
            ..FlowKey::ZERO
        },
        ..MatchKey::ZERO
    },
    MatchKey {
        flow: FlowKey {
            nw_src: ALL32,
            nw_dst: ALL32,
            nw_proto: 0xff,
            nw_tos: 0xff,
            nw_ttl: 0xff,
            nw_frag: 0xff,
            ipv6_label: ALL32,
            ipv6_src: ALL128,
            ipv6_dst: ALL128,
            arp_sha: MAC,
            arp_tha: MAC,
            ..FlowKey::ZERO
        },
        ..MatchKey::ZERO
    },
    MatchKey {
        flow: FlowKey { tp_src: ALL16, tp_dst: ALL16, tcp_flags: ALL16, nd_target: ALL128, ..FlowKey::ZERO },
        ..MatchKey::ZERO
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn stages_partition_the_key() {
        let mut all = MatchKey::ZERO;
        for mask in &STAGE_MASKS {
            for (a, m) in all.words_mut().iter_mut().zip(mask.words()) {
                assert_eq!(*a & m, 0, "stages overlap");
                *a |= m;
            }
        }
        let stored: u32 = all.words().iter().map(|word| word.count_ones()).sum();
        assert_eq!(stored, 8 * (28 * 8 - (1 + 4 + 24)), "only the reserved bytes are in no stage");
        assert!(all.as_bytes().iter().all(|b| *b == 0 || *b == 0xff));
    }
}
