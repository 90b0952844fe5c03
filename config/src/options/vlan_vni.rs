//! `vlan-vni` of a vxlan port: which VLAN of the bridge is which VNI on the wire.

use std::collections::BTreeMap;

/// VLANs and VNIs, each at most once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VlanVni {
    by_vlan: BTreeMap<u16, u32>,
    by_vni: BTreeMap<u32, u16>,
}

impl VlanVni {
    /// Reads pairs such as `10:10010,20:20020`. Ranges of one length stand for pairs: `100-199:10100-10199`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str =
            "expected VLAN:VNI pairs joined by commas, such as 10:10010,20:20020 or 100-199:10100-10199";
        let mut map = Self::default();
        for pair in text.split(',').map(str::trim) {
            let wrong = || format!("found {pair:?}, {EXPECTED}");
            let (vlans, vnis) = pair.split_once(':').ok_or_else(wrong)?;
            let vlans = range(vlans, 1, 4094).ok_or_else(|| format!("{}; VLANs are 1 to 4094", wrong()))?;
            let vnis =
                range(vnis, 1, 0xff_ffff).ok_or_else(|| format!("{}; VNIs are 1 to 16777215", wrong()))?;
            if vlans.1 - vlans.0 != vnis.1 - vnis.0 {
                return Err(format!("found {pair:?}, expected ranges of one length"));
            }
            for (vlan, vni) in (vlans.0..=vlans.1).zip(vnis.0..=vnis.1) {
                let vlan = vlan as u16;
                if map.by_vlan.insert(vlan, vni).is_some() {
                    return Err(format!("VLAN {vlan} stands twice"));
                }
                if map.by_vni.insert(vni, vlan).is_some() {
                    return Err(format!("VNI {vni} stands twice"));
                }
            }
        }
        Ok(map)
    }

    /// The VNI of a VLAN.
    pub fn vni(&self, vlan: u16) -> Option<u32> {
        self.by_vlan.get(&vlan).copied()
    }

    /// The VLAN of a VNI.
    pub fn vlan(&self, vni: u32) -> Option<u16> {
        self.by_vni.get(&vni).copied()
    }
}

/// A number, or two joined by `-` of which the first is not the larger.
fn range(text: &str, low: u32, high: u32) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| (low..=high).contains(n));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_ranges_are_read_both_ways() {
        let map = VlanVni::parse("10:10010, 20:20020,100-102:500-502").unwrap();
        for (vlan, vni) in [(10, 10010), (20, 20020), (100, 500), (102, 502)] {
            assert_eq!((map.vni(vlan), map.vlan(vni)), (Some(vni), Some(vlan)));
        }
        assert_eq!((map.vni(11), map.vlan(10011), map.vni(103)), (None, None, None));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (text, why) in [
            ("", "expected VLAN:VNI"),
            ("10", "expected VLAN:VNI"),
            ("0:7", "VLANs are 1 to 4094"),
            ("4095:7", "VLANs are 1 to 4094"),
            ("1:16777216", "VNIs are 1 to"),
            ("1:0", "VNIs are 1 to"),
            ("1-3:7-8", "one length"),
            ("3-1:7-9", "VLANs are"),
            ("1:7,1:8", "VLAN 1 stands twice"),
            ("1:7,2:7", "VNI 7 stands twice"),
        ] {
            let message = VlanVni::parse(text).unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
    }
}
