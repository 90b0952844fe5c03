//! The VXLAN header: RFC 7348, with the group policy (draft-smith-vxlan-group-policy) and generic protocol
//! (draft-ietf-nvo3-vxlan-gpe) extensions.

/// Bytes of a VXLAN header.
pub const VXLAN_LEN: usize = 8;
/// IANA's UDP port for VXLAN.
pub const VXLAN_PORT: u16 = 4789;
/// The largest VNI.
pub const VNI_MAX: u32 = 0x00ff_ffff;

/// First byte: the VNI is valid. Must be set.
pub const FLAG_VNI: u8 = 0x08;
/// First byte: a group policy ID is present (GBP).
pub const FLAG_GBP: u8 = 0x80;
/// First byte: the last byte of the first word is the next protocol (GPE).
pub const FLAG_GPE: u8 = 0x04;
/// GPE: operations and maintenance (the O bit), no packet of the overlay's.
pub const FLAG_OAM: u8 = 0x01;
/// GPE: version, of which only 0 is known.
pub const GPE_VERSION: u8 = 0x30;
/// Second byte with GBP: don't learn.
pub const GBP_DONT_LEARN: u8 = 0x40;
/// Second byte with GBP: policy was applied.
pub const GBP_APPLIED: u8 = 0x08;
/// GPE next protocol: Ethernet.
pub const GPE_ETHERNET: u8 = 3;

/// A VXLAN header as it came. Whether an extension's fields mean anything is for the socket's configuration
/// to say: without it they are reserved bits, which RFC 7348 ignores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VxlanHeader {
    /// First byte, reserved bits included: [`FLAG_VNI`], [`FLAG_GBP`], [`FLAG_GPE`].
    pub flags: u8,
    /// Second byte; with GBP [`GBP_DONT_LEARN`] and [`GBP_APPLIED`].
    pub gbp_flags: u8,
    /// Third and fourth byte; with GBP the group policy ID.
    pub gbp_id: u16,
    /// VNI, 24 bits.
    pub vni: u32,
}

impl VxlanHeader {
    /// Reads the eight bytes; every value is accepted.
    #[inline(always)]
    pub const fn from_bytes(bytes: [u8; VXLAN_LEN]) -> VxlanHeader {
        let [flags, gbp_flags, id0, id1, v0, v1, v2, _] = bytes;
        VxlanHeader {
            flags,
            gbp_flags,
            gbp_id: u16::from_be_bytes([id0, id1]),
            vni: u32::from_be_bytes([0, v0, v1, v2]),
        }
    }

    /// The eight bytes; bits of `vni` beyond 24 are cut off.
    #[inline(always)]
    pub const fn to_bytes(self) -> [u8; VXLAN_LEN] {
        let [id0, id1] = self.gbp_id.to_be_bytes();
        let [_, v0, v1, v2] = self.vni.to_be_bytes();
        [self.flags, self.gbp_flags, id0, id1, v0, v1, v2, 0]
    }

    /// Whether the I flag, without which there is no VNI, is set.
    #[inline]
    pub const fn has_vni(self) -> bool {
        self.flags & FLAG_VNI != 0
    }

    /// Whether a group policy ID is present.
    #[inline]
    pub const fn has_gbp(self) -> bool {
        self.flags & FLAG_GBP != 0
    }

    /// The next protocol of a GPE header (P bit set), [`GPE_ETHERNET`] for a frame.
    #[inline]
    pub const fn next_protocol(self) -> Option<u8> {
        if self.flags & FLAG_GPE != 0 { Some(self.gbp_id as u8) } else { None }
    }

    /// Whether an Ethernet frame follows, read as a GPE header: next protocol Ethernet, or a clear P bit, behind
    /// which is what RFC 7348 says (draft-ietf-nvo3-vxlan-gpe, section 3.1). OAM packets and unknown versions are
    /// for nobody here.
    #[inline]
    pub const fn has_gpe_ethernet(self) -> bool {
        self.flags & (FLAG_OAM | GPE_VERSION) == 0
            && matches!(self.next_protocol(), None | Some(GPE_ETHERNET))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_headers() {
        let plain = VxlanHeader { flags: FLAG_VNI, vni: 0x123456, ..VxlanHeader::default() };
        assert_eq!(plain.to_bytes(), [8, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        assert_eq!(VxlanHeader::from_bytes(plain.to_bytes()), plain);
        let gbp = VxlanHeader::from_bytes([0x88, 0x48, 0x01, 0x02, 0, 0, 7, 0]);
        assert!(gbp.has_gbp() && gbp.has_vni());
        assert_eq!((gbp.gbp_flags, gbp.gbp_id, gbp.vni), (GBP_DONT_LEARN | GBP_APPLIED, 0x0102, 7));
        assert_eq!(gbp.next_protocol(), None);
        let gpe = |flags, next| VxlanHeader::from_bytes([flags, 0, 0, next, 0, 0, 0, 0]);
        assert_eq!(gpe(0x0c, 3).next_protocol(), Some(GPE_ETHERNET));
        for (flags, next, is_ethernet) in [
            (0x0c, 3, true),
            (0x08, 0, true),
            (0x0c, 1, false),
            (0x0c, 2, false),
            (0x0c, 4, false),
            (0x0d, 3, false),
            (0x1c, 3, false),
            (0x2c, 3, false),
        ] {
            assert_eq!(gpe(flags, next).has_gpe_ethernet(), is_ethernet, "{flags:#x} {next}");
        }
    }
}
