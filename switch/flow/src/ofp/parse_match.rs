//! The match part of a flow's text.

use super::error::ParseError;
use super::field::Field;
use super::key::{Match, MatchKey};
use super::port::PortNames;
use super::prerequisite::Prerequisite;
use super::token::Token;
use super::value;
use wire::key::VLAN_PRESENT;

/// Shorthands: name, `dl_type`, `nw_proto`.
pub(super) const PROTOCOLS: &[(&str, u16, Option<u8>)] = &[
    ("ip", 0x0800, None),
    ("ipv4", 0x0800, None),
    ("ip4", 0x0800, None),
    ("arp", 0x0806, None),
    ("rarp", 0x8035, None),
    ("icmp", 0x0800, Some(1)),
    ("igmp", 0x0800, Some(2)),
    ("tcp", 0x0800, Some(6)),
    ("udp", 0x0800, Some(17)),
    ("sctp", 0x0800, Some(132)),
    ("ipv6", 0x86dd, None),
    ("ip6", 0x86dd, None),
    ("icmp6", 0x86dd, Some(58)),
    ("tcp6", 0x86dd, Some(6)),
    ("udp6", 0x86dd, Some(17)),
    ("sctp6", 0x86dd, Some(132)),
];

/// Collects the fields of a match, in any order, and checks at the end that they go together.
#[derive(Default)]
pub(super) struct MatchBuilder<'a> {
    key: MatchKey,
    mask: MatchKey,
    /// What each field needs, and where to complain.
    needs: Vec<(Prerequisite, Token<'a>)>,
}

impl<'a> MatchBuilder<'a> {
    /// Adds a token. `Ok(false)`: it is none of a match's.
    pub fn add(&mut self, token: &Token<'a>, names: &dyn PortNames) -> Result<bool, ParseError> {
        let Some(text) = token.value else {
            if token.key.starts_with("tun_metadata") {
                return self.has_option(token, names).map(|()| true);
            }
            let Some((_, dl_type, nw_proto)) = PROTOCOLS.iter().find(|(name, ..)| *name == token.key) else {
                return Ok(false);
            };
            self.merge(token, Field::EthType, u128::from(*dl_type), 0xffff)?;
            if let Some(proto) = nw_proto {
                self.merge(token, Field::IpProto, u128::from(*proto), 0xff)?;
            }
            return Ok(true);
        };
        if token.key == "dl_vlan"
            || token.key == "vlan_vid"
            || token.key == "vlan_pcp"
            || token.key == "dl_vlan_pcp"
        {
            return self.add_vlan(token, text).map(|()| true);
        }
        let field = match Field::named(token.key, names.tlvs()) {
            Ok(field) => field,
            Err(None) => return Ok(false),
            Err(Some(expected)) => return Err(token.error(expected)),
        };
        if any(text) {
            return Ok(true);
        }
        let (value, mask) = value::parse(field, text, names).map_err(|expected| token.error(expected))?;
        self.needs.push((field.info().match_prerequisite, *token));
        self.merge(token, field, value, mask)?;
        Ok(true)
    }

    /// The VLAN fields that are not simply bits of the tag: they also say that there is one.
    fn add_vlan(&mut self, token: &Token<'_>, text: &str) -> Result<(), ParseError> {
        if any(text) {
            return Ok(());
        }
        let full = value::tag(0xfff);
        match token.key {
            "dl_vlan" => match value::number(text) {
                Some(0xffff) => self.merge(token, Field::VlanTci, 0, 0xffff),
                Some(vid) if vid <= 0xfff => self.merge(token, Field::VlanTci, value::tag(vid), full),
                _ => Err(token.error("a VLAN ID from 0 to 4095, or 0xffff for packets without a tag")),
            },
            "vlan_vid" => {
                let (vid, mask) = text.split_once('/').map_or((text, None), |(vid, mask)| (vid, Some(mask)));
                let limit = |text| value::number(text).filter(|n| *n <= full);
                match (limit(vid), mask.map_or(Some(full), limit)) {
                    // A VLAN ID without a tag to stand in can match nothing.
                    (Some(vid), Some(mask)) if vid & mask & 0xfff == 0 || vid & 0x1000 != 0 || mask & 0x1000 == 0 => self.merge(token, Field::VlanTci, vid, mask),
                    _ => Err(token.error(
                        "0x1000 (a tag is present) plus a VLAN ID, or 0 for packets without a tag, optionally /mask",
                    )),
                }
            }
            _ => match value::number(text).filter(|pcp| *pcp <= 7) {
                Some(pcp) => self.merge(token, Field::VlanTci, value::tag(pcp << 13), value::tag(7 << 13)),
                None => Err(token.error("a VLAN priority from 0 to 7")),
            },
        }
    }

    /// `tun_metadata0` without a value: the packet has the option.
    fn has_option(&mut self, token: &Token<'_>, names: &dyn PortNames) -> Result<(), ParseError> {
        let field = Field::named(token.key, names.tlvs());
        let field = field.map_err(|expected| token.error(expected.unwrap_or_else(|| "a field".into())))?;
        self.merge(token, field, 0, 0)
    }

    /// Adds bits, unless some of them have already been given another value.
    fn merge(&mut self, token: &Token<'_>, field: Field, value: u128, mask: u128) -> Result<(), ParseError> {
        let both = field.get(&self.mask) & mask;
        if (field.get(&self.key) ^ value) & both != 0 {
            return Err(token.error("nothing that contradicts the match before it"));
        }
        field.set_masked(&mut self.key, value, mask);
        field.set_masked(&mut self.mask, mask, mask);
        if let Field::TunMetadata(tlv) = field {
            self.key.flow.tun_metadata_present |= tlv.bit();
            self.mask.flow.tun_metadata_present |= tlv.bit();
        }
        Ok(())
    }

    /// The match, once everything that its fields need is there.
    pub fn finish(self) -> Result<Match, ParseError> {
        let what = Match::new(&self.key, &self.mask);
        match self.needs.iter().find(|(needed, _)| !needed.is_met(&what)) {
            Some((needed, token)) => Err(token.error(needed.needs())),
            None => Ok(what),
        }
    }
}

/// Whether a field's value is written to match anything.
fn any(text: &str) -> bool {
    text == "*" || text == "ANY"
}

/// The packet that a user describes by a match: everything else is zero, or follows from it.
pub(super) fn concrete(what: &Match) -> MatchKey {
    use wire::key::{FRAG_ANY, FRAG_LATER, TUN_IPV6, TUN_PRESENT};
    let mut key = *what.key();
    let flow = &mut key.flow;
    if flow.dl_type.get() < 0x600 {
        // A frame with an 802.3 length, as key extraction has it.
        flow.dl_type = 0x05ff.into();
    }
    if flow.nw_frag & FRAG_LATER != 0 {
        flow.nw_frag |= FRAG_ANY;
    }
    if flow.tun_ipv6_src != [0; 16] || flow.tun_ipv6_dst != [0; 16] {
        flow.tun_flags |= TUN_IPV6 | TUN_PRESENT;
    }
    if flow.tun_id != 0
        || flow.tun_metadata_present != 0
        || flow.tun_src.get() != 0
        || flow.tun_dst.get() != 0
    {
        flow.tun_flags |= TUN_PRESENT;
    }
    if flow.vlan_tci.get() != 0 {
        flow.vlan_tci = (flow.vlan_tci.get() | VLAN_PRESENT).into();
    }
    key
}
