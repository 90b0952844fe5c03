//! Features of virtio-net devices (virtio 1.2, section 5.1.3) and of vhost-user, as bits.

use crate::offload::capability;

const CSUM: u64 = 1;
const GUEST_CSUM: u64 = 1 << 1;
const GUEST_TSO4: u64 = 1 << 7;
const GUEST_TSO6: u64 = 1 << 8;
const GUEST_ECN: u64 = 1 << 9;
const GUEST_UFO: u64 = 1 << 10;
const HOST_TSO4: u64 = 1 << 11;
const HOST_TSO6: u64 = 1 << 12;
const HOST_ECN: u64 = 1 << 13;
const HOST_UFO: u64 = 1 << 14;
const MERGEABLE: u64 = 1 << 15;
const LOG_ALL: u64 = 1 << 26;
const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;
const IOMMU: u64 = 1 << 33;
const PACKED: u64 = 1 << 34;
const IN_ORDER: u64 = 1 << 35;
/// General segmentation, of virtio's legacy.
const GSO: u64 = 1 << 6;

/// What librte_vhost would offer that our rings do not do: other rings, an IOMMU, fragmentation of UDP.
pub(super) const NEVER: u64 = GUEST_UFO | HOST_UFO | GSO | IOMMU | PACKED | IN_ORDER;
/// Checksums and segmentation.
pub(super) const OFFLOADS: u64 =
    CSUM | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | HOST_TSO4 | HOST_TSO6 | HOST_ECN;

/// What was negotiated with a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Features(pub u64);

impl Features {
    fn all(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// The guest takes partial checksums.
    pub(super) fn takes_checksums(self) -> bool {
        self.all(GUEST_CSUM)
    }

    /// The guest takes large segments of TCP over IPv4.
    pub(super) fn takes_tso4(self) -> bool {
        self.all(GUEST_CSUM | GUEST_TSO4)
    }

    /// The guest takes large segments of TCP over IPv6.
    pub(super) fn takes_tso6(self) -> bool {
        self.all(GUEST_CSUM | GUEST_TSO6)
    }

    /// The guest takes large segments with CWR, which the first of their parts alone gets (`VIRTIO_NET_F_GUEST_ECN`).
    pub(super) fn takes_ecn(self) -> bool {
        self.all(GUEST_ECN)
    }

    /// The guest may send partial checksums.
    pub(super) fn sends_checksums(self) -> bool {
        self.all(CSUM)
    }

    /// The guest may send large segments of TCP over IPv4.
    pub(super) fn sends_tso4(self) -> bool {
        self.all(CSUM | HOST_TSO4)
    }

    /// The guest may send large segments of TCP over IPv6.
    pub(super) fn sends_tso6(self) -> bool {
        self.all(CSUM | HOST_TSO6)
    }

    /// A packet may use several of the guest's chains.
    pub(super) fn is_mergeable(self) -> bool {
        self.all(MERGEABLE)
    }

    /// Either side says from which index on it wants a notification (`VIRTIO_F_EVENT_IDX`).
    pub(super) fn has_event_idx(self) -> bool {
        self.all(EVENT_IDX)
    }

    /// What is written to the guest's memory is logged, as while it migrates.
    pub(super) fn logs(self) -> bool {
        self.all(LOG_ALL)
    }

    /// Bytes of the header before each frame.
    pub(super) fn header_len(self) -> usize {
        if self.0 & (MERGEABLE | VERSION_1) != 0 { 12 } else { 10 }
    }

    /// What packets to the guest may ask (`capability`). One that segments either family alone is given none.
    pub(super) fn tx_offloads(self) -> u64 {
        let when = |is: bool, what: u64| if is { what } else { 0 };
        capability::MULTI_SEGS
            | when(self.takes_checksums(), capability::TCP_CKSUM | capability::UDP_CKSUM)
            | when(self.takes_tso4() && self.takes_tso6(), capability::TCP_TSO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_asked_what_it_took() {
        let of = |bits| Features(bits).tx_offloads();
        let checksums = capability::MULTI_SEGS | capability::TCP_CKSUM | capability::UDP_CKSUM;
        assert_eq!(of(0), capability::MULTI_SEGS);
        assert_eq!(of(GUEST_CSUM), checksums);
        assert_eq!(of(GUEST_CSUM | GUEST_TSO4), checksums);
        assert_eq!(of(GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6), checksums | capability::TCP_TSO);
        // Virtio makes no sense of segmentation without checksums.
        assert_eq!(of(GUEST_TSO4 | GUEST_TSO6), capability::MULTI_SEGS);
        assert_eq!((Features(0).header_len(), Features(VERSION_1).header_len()), (10, 12));
        assert_eq!(NEVER & OFFLOADS, 0);
    }
}
