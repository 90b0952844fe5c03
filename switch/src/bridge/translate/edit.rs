//! Actions that change the packet: its fields, its tags, its tunnel metadata. Nothing is done to the packet
//! itself here; see [`super::commit`].

use super::{Op, Translator};
use flow::drop::DropReason;
use flow::ofp::{Field, Layer, MatchKey, Prerequisite, Subfield};
use wire::key::{FRAG_LATER, FlowMask, VLAN_PRESENT};
use wire::proto::{ETH_ARP, ETH_IPV4, ETH_IPV6, IP_ICMP, IP_ICMPV6, IP_SCTP, IP_TCP, IP_UDP};

/// EtherType of RARP, whose packets are laid out as ARP's.
const ETH_RARP: u16 = 0x8035;
/// ICMPv6 type of a neighbour solicitation.
const ND_SOLICIT: u16 = 135;
/// ICMPv6 type of a neighbour advertisement.
const ND_ADVERT: u16 = 136;

impl Translator<'_> {
    /// The value of some bits of a field, which are looked at.
    pub(in crate::bridge) fn read(&mut self, bits: Subfield) -> u128 {
        let mut looked = MatchKey::ZERO;
        bits.set(&mut looked, u128::MAX);
        self.look(&looked);
        bits.get(&self.at.key)
    }

    /// The value of a field, which is looked at.
    pub(in crate::bridge) fn read_field(&mut self, field: Field) -> u128 {
        let mut looked = MatchKey::ZERO;
        field.set(&mut looked, field.info().exact());
        self.look(&looked);
        field.get(&self.at.key)
    }

    /// The value of those bits of a field that a mask has, which are looked at.
    pub(super) fn read_masked(&mut self, field: Field, mask: u128) -> u128 {
        let mut looked = MatchKey::ZERO;
        field.set(&mut looked, mask);
        self.look(&looked);
        field.get(&self.at.key) & mask
    }

    /// Gives bits of a field a value that every packet of the megaflow has.
    fn put(&mut self, field: Field, value: u128, mask: u128) {
        field.set_masked(&mut self.at.key, value, mask);
        field.set_masked(&mut self.at.set, mask, mask);
        field.set_masked(&mut self.at.dirty, mask, mask);
    }

    /// Whether the packet is one that has what the field needs; what that depends on is looked at.
    pub(super) fn meets(&mut self, needed: Prerequisite) -> bool {
        match needed {
            Prerequisite::None => return true,
            Prerequisite::Vlan => return self.has_tag(),
            _ => {}
        }
        let dl_type = self.read_field(Field::EthType) as u16;
        let (v4, v6) = (dl_type == ETH_IPV4, dl_type == ETH_IPV6);
        let arp = dl_type == ETH_ARP || dl_type == ETH_RARP;
        match needed {
            Prerequisite::None | Prerequisite::Vlan => true,
            Prerequisite::Arp => arp,
            Prerequisite::Ipv4 => v4,
            Prerequisite::Ipv4OrArp => v4 || arp,
            Prerequisite::Ipv6 => v6,
            Prerequisite::Ip => v4 || v6,
            Prerequisite::IpOrArp => v4 || v6 || arp,
            Prerequisite::Tcp => self.carries(v4 || v6, &[IP_TCP]),
            Prerequisite::Udp => self.carries(v4 || v6, &[IP_UDP]),
            Prerequisite::Sctp => self.carries(v4 || v6, &[IP_SCTP]),
            Prerequisite::Transport => self.carries(v4 || v6, &[IP_TCP, IP_UDP, IP_SCTP]),
            Prerequisite::Icmpv4 => self.carries(v4, &[IP_ICMP]),
            Prerequisite::Icmpv6 => self.carries(v6, &[IP_ICMPV6]),
            Prerequisite::Icmp => {
                if v4 {
                    self.carries(v4, &[IP_ICMP])
                } else {
                    self.carries(v6, &[IP_ICMPV6])
                }
            }
            Prerequisite::Nd => self.is_nd(v6, &[ND_SOLICIT, ND_ADVERT]),
            Prerequisite::NdSolicit => self.is_nd(v6, &[ND_SOLICIT]),
            Prerequisite::NdAdvert => self.is_nd(v6, &[ND_ADVERT]),
        }
    }

    /// Whether it has an L4 header of one of these protocols: no later fragment has one.
    fn carries(&mut self, is_ip: bool, protocols: &[u8]) -> bool {
        if !is_ip || !protocols.contains(&(self.read_field(Field::IpProto) as u8)) {
            return false;
        }
        self.look_flow(&FlowMask { nw_frag: FRAG_LATER, ..FlowMask::ZERO });
        self.at.key.flow.nw_frag & FRAG_LATER == 0
    }

    fn is_nd(&mut self, v6: bool, kinds: &[u16]) -> bool {
        self.carries(v6, &[IP_ICMPV6]) && kinds.contains(&(self.read_field(Field::TpSrc) as u16))
    }

    /// `set_field`, `load`, `mod_*`: a packet without the field stays as it is.
    pub(super) fn set_field(&mut self, field: Field, value: u128, mask: u128) {
        match field {
            Field::VlanTci => return self.set_tci(value as u16, mask as u16),
            Field::VlanVid => return self.edit_tag(value as u16, mask as u16 & 0xfff),
            Field::VlanPcp => return self.edit_tag((value as u16) << 13, (mask as u16) << 13),
            _ if field.info().layer == Layer::Register => return self.put(field, value, mask),
            Field::TunId => self.at.has_tun_id = true,
            Field::TunDst | Field::TunIpv6Dst => self.at.has_tun_dst = true,
            Field::TunSrc | Field::TunIpv6Src => self.at.has_tun_src = true,
            Field::TunMetadata(tlv) => {
                self.at.key.flow.tun_metadata_present |= tlv.bit();
                self.at.set.flow.tun_metadata_present |= tlv.bit();
            }
            _ if !self.meets(field.info().prerequisite) => return,
            _ => {}
        }
        self.at.changed = true;
        self.put(field, value, mask);
    }

    /// `load`, `move`.
    pub(super) fn load(&mut self, value: u128, to: Subfield) {
        let mask = to.max() << to.start;
        self.set_field(to.field, (value & to.max()) << to.start, mask);
    }

    /// `dec_ttl`; false when the packet has come to its end.
    pub(super) fn dec_ttl(&mut self) -> bool {
        if !self.meets(Prerequisite::Ip) {
            return true;
        }
        let ttl = self.read_field(Field::NwTtl);
        if ttl <= 1 {
            self.note(|| format!("TTL is {ttl}: the packet goes no further"));
            self.drop = DropReason::TtlExceeded;
            return false;
        }
        self.set_field(Field::NwTtl, ttl - 1, Field::NwTtl.info().exact());
        true
    }

    /// Whether the packet has a tag, which is looked at.
    fn has_tag(&mut self) -> bool {
        self.look_flow(&FlowMask { vlan_tci: VLAN_PRESENT.into(), ..FlowMask::ZERO });
        self.at.key.flow.has_vlan()
    }

    /// Takes the tag fields over that an action has made.
    fn put_tags(&mut self, outer: u16, inner: u16) {
        let key = &mut self.at.key.flow;
        key.vlan_tci.set(outer);
        key.vlan_tci2.set(inner);
        let set = &mut self.at.set.flow;
        (set.vlan_tci, set.vlan_tci2) = (u16::MAX.into(), u16::MAX.into());
        self.at.changed = true;
    }

    /// Looks at all of both tags, because they change their places.
    fn look_at_tags(&mut self) -> (u16, u16) {
        let all = u16::MAX.into();
        self.look_flow(&FlowMask { vlan_tci: all, vlan_tci2: all, ..FlowMask::ZERO });
        (self.at.key.flow.vlan_tci.get(), self.at.key.flow.vlan_tci2.get())
    }

    /// `push_vlan`: a new outermost tag with VLAN 0 and priority 0, as Open vSwitch does it.
    pub(super) fn push_vlan(&mut self, tpid: u16) {
        let (outer, _) = self.look_at_tags();
        self.put_tags(VLAN_PRESENT, outer);
        self.at.tags.push(tpid, 0);
    }

    /// `pop_vlan`, `strip_vlan`.
    pub(super) fn pop_vlan(&mut self) {
        if self.has_tag() {
            let (_, inner) = self.look_at_tags();
            self.put_tags(inner, 0);
            self.at.tags.pop();
        }
    }

    /// Sets bits of the outermost tag, of a packet that has one.
    fn edit_tag(&mut self, value: u16, mask: u16) {
        if self.has_tag() {
            self.look_flow(&FlowMask { vlan_tci: (!mask).into(), ..FlowMask::ZERO });
            let tci = self.at.key.flow.vlan_tci.get() & !mask | value & mask | VLAN_PRESENT;
            let key = &mut self.at.key.flow;
            key.vlan_tci.set(tci);
            self.at.set.flow.vlan_tci = u16::MAX.into();
            self.at.changed = true;
            self.at.tags.edit(tci & !VLAN_PRESENT);
        }
    }

    /// `mod_vlan_vid`, `mod_vlan_pcp`: of a new tag, if there is none.
    pub(super) fn mod_vlan(&mut self, value: u16, mask: u16) {
        if !self.has_tag() {
            self.push_vlan(wire::proto::ETH_VLAN);
        }
        self.edit_tag(value, mask);
    }

    /// Writes `vlan_tci`, in which the CFI bit says whether there is a tag.
    fn set_tci(&mut self, value: u16, mask: u16) {
        let has = self.has_tag();
        let will = if mask & VLAN_PRESENT != 0 { value & VLAN_PRESENT != 0 } else { has };
        match (has, will) {
            (_, true) => self.mod_vlan(value, mask & !VLAN_PRESENT),
            (true, false) => self.pop_vlan(),
            // A tag that is not there has no other bits.
            (false, false) => {}
        }
    }

    /// Counts an op that changes the packet.
    pub(super) fn push_edit(&mut self, op: Op) {
        self.edits += 1;
        self.push(op);
    }
}
