//! The VXLAN header: RFC 7348, with the group policy (draft-smith-vxlan-group-policy) and generic protocol
//! (draft-ietf-nvo3-vxlan-gpe) extensions.

use super::encap::EncapPatch;
use super::outer::OuterError;
use super::udp4::VXLAN;
use super::{TunnelFormat, TunnelHeader, TunnelType};
use crate::bytes::{array, put};
use crate::key::TUN_GBP;
use crate::proto::IP_UDP;

/// The port type `vxlan`.
pub static TYPE: TunnelType = TunnelType {
    name: "vxlan",
    formats: &[("", &FORMAT), ("gbp", &FORMAT_GBP), ("gpe", &FORMAT_GPE)],
    dst_port: Some(VXLAN_PORT),
    key_name: "VNI",
    key_max: VNI_MAX,
    csum_over_ipv6: true,
    options: &["dst_port", "exts", "packet_type", "udp6zerocsumrx", "vlan-vni"],
    only_ipv6: false,
};

/// RFC 7348 as it is.
pub static FORMAT: TunnelFormat = TunnelFormat {
    name: "vxlan",
    protocol: IP_UDP,
    len: |_| VXLAN_LEN,
    checksum_at: None,
    init: |out, _| put(out, 0, [FLAG_VNI]),
    patch: |out, _, patch| put_vni(out, patch.vni),
    read: |bytes| Ok(header(VxlanHeader::read(bytes)?)),
    pattern: Some(VXLAN),
    text: |out, _, patch| write!(out, "vxlan(vni={})", patch.vni),
};

/// With group policy: the G bit, ID and flags are sent when the packet has an ID or flags other than 0.
pub static FORMAT_GBP: TunnelFormat = TunnelFormat {
    name: "vxlan-gbp",
    patch: |out, _, patch| {
        put_vni(out, patch.vni);
        if has_policy(patch) {
            let [id0, id1] = patch.gbp_id.to_be_bytes();
            put(out, 0, [FLAG_VNI | FLAG_GBP, patch.gbp_flags, id0, id1]);
        } else {
            put(out, 0, [FLAG_VNI, 0, 0, 0]);
        }
    },
    read: |bytes| {
        let vxlan = VxlanHeader::read(bytes)?;
        Ok(if vxlan.has_gbp() {
            let VxlanHeader { gbp_id, gbp_flags, .. } = vxlan;
            TunnelHeader { flags: TUN_GBP, gbp_id, gbp_flags, ..header(vxlan) }
        } else {
            header(vxlan)
        })
    },
    pattern: None,
    text: |out, _, patch| {
        if !has_policy(patch) {
            return write!(out, "vxlan(vni={})", patch.vni);
        }
        write!(out, "vxlan(vni={},gbp(id={},flags={:#x}))", patch.vni, patch.gbp_id, patch.gbp_flags)
    },
    ..FORMAT
};

/// The generic protocol extension: the P bit is set and the next protocol is Ethernet.
pub static FORMAT_GPE: TunnelFormat = TunnelFormat {
    name: "vxlan-gpe",
    init: |out, _| put(out, 0, [FLAG_VNI | FLAG_GPE, 0, 0, GPE_ETHERNET]),
    read: |bytes| {
        let vxlan = VxlanHeader::read(bytes)?;
        if vxlan.has_gpe_ethernet() { Ok(header(vxlan)) } else { Err(OuterError::Protocol) }
    },
    pattern: None,
    text: |out, _, patch| write!(out, "vxlan-gpe(vni={},np=ethernet)", patch.vni),
    ..FORMAT
};

fn header(vxlan: VxlanHeader) -> TunnelHeader {
    TunnelHeader { id: vxlan.vni, len: VXLAN_LEN as u16, ..TunnelHeader::default() }
}

/// The VNI in the place that VXLAN and Geneve have for it.
#[inline]
pub(super) fn put_vni(out: &mut [u8], vni: u32) {
    put(out, 4, (vni << 8).to_be_bytes());
}

#[inline]
const fn has_policy(patch: &EncapPatch) -> bool {
    patch.gbp_id != 0 || patch.gbp_flags != 0
}

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
    /// Reads a header that names a VNI.
    fn read(bytes: &[u8]) -> Result<VxlanHeader, OuterError> {
        let vxlan = VxlanHeader::from_bytes(array(bytes, 0).ok_or(OuterError::Truncated)?);
        if vxlan.has_vni() { Ok(vxlan) } else { Err(OuterError::VxlanNoVniFlag) }
    }

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
