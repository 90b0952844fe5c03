//! `multipath`, `bundle` and `bundle_load`: actions that choose by a hash of the packet's fields (`ovs-actions(7)`).

use super::error::ParseError;
use super::field::Subfield;
use super::parse_action::subfield;
use super::port::{PORT_MAX, PortNames, format_port, parse_port};
use super::print::format_subfield;
use super::token::{Syntax, Token, Tokens};
use super::value::number;
use std::fmt::Write;

/// Which fields are hashed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HashFields {
    /// Ethernet source.
    EthSrc,
    /// Addresses, VLAN, EtherType and protocol, and TCP's and SCTP's ports; the same in both directions.
    SymmetricL4,
    /// IP addresses, protocol, and TCP's and SCTP's ports; the same in both directions.
    SymmetricL3L4,
    /// The same with UDP's ports.
    SymmetricL3L4Udp,
    /// IPv4 or IPv6 source.
    NwSrc,
    /// IPv4 or IPv6 destination.
    NwDst,
    /// IP addresses; the same in both directions.
    SymmetricL3,
}

impl HashFields {
    const ALL: [(&str, HashFields); 7] = [
        ("eth_src", HashFields::EthSrc),
        ("symmetric_l4", HashFields::SymmetricL4),
        ("symmetric_l3l4", HashFields::SymmetricL3L4),
        ("symmetric_l3l4+udp", HashFields::SymmetricL3L4Udp),
        ("nw_src", HashFields::NwSrc),
        ("nw_dst", HashFields::NwDst),
        ("symmetric_l3", HashFields::SymmetricL3),
    ];

    /// As actions have it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, fields)| *fields == self).map_or("", |(name, _)| name)
    }

    /// As messages have it (`enum nx_hash_fields`).
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Of a message.
    pub fn from_number(number: u16) -> Option<HashFields> {
        Self::ALL.get(usize::from(number)).map(|(_, fields)| *fields)
    }
}

/// How a link is chosen by the hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MultipathAlgorithm {
    /// The rest of a division.
    ModuloN,
    /// The range of the hash.
    HashThreshold,
    /// Highest random weight: a link more or less moves few flows.
    Hrw,
    /// Hashing again until the result is below the number of links.
    IterHash,
}

impl MultipathAlgorithm {
    const ALL: [(&str, MultipathAlgorithm); 4] = [
        ("modulo_n", MultipathAlgorithm::ModuloN),
        ("hash_threshold", MultipathAlgorithm::HashThreshold),
        ("hrw", MultipathAlgorithm::Hrw),
        ("iter_hash", MultipathAlgorithm::IterHash),
    ];

    /// As actions have it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, algorithm)| *algorithm == self).map_or("", |(name, _)| name)
    }

    /// As messages have it (`enum nx_mp_algorithm`).
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Of a message.
    pub fn from_number(number: u16) -> Option<MultipathAlgorithm> {
        Self::ALL.get(usize::from(number)).map(|(_, algorithm)| *algorithm)
    }
}

/// `multipath(FIELDS,BASIS,ALGORITHM,LINKS,ARG,DST)`: writes the number of a link into a field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Multipath {
    /// What is hashed.
    pub fields: HashFields,
    /// Hashed as well, so that switches choose differently.
    pub basis: u16,
    /// How a link is chosen.
    pub algorithm: MultipathAlgorithm,
    /// Number of links, 1 to 65536.
    pub links: u32,
    /// Argument of the algorithm, which none needs.
    pub arg: u32,
    /// Where the number goes: wide enough for `links - 1`.
    pub to: Subfield,
}

/// How a member is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BundleAlgorithm {
    /// The first that is up.
    ActiveBackup,
    /// Of those that are up, the one with the highest random weight.
    Hrw,
}

impl BundleAlgorithm {
    /// As messages have it (`enum nx_bd_algorithm`).
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Of a message.
    pub fn from_number(number: u16) -> Option<BundleAlgorithm> {
        [BundleAlgorithm::ActiveBackup, BundleAlgorithm::Hrw].get(usize::from(number)).copied()
    }
}

/// `bundle(FIELDS,BASIS,ALGORITHM,ofport,members:PORT,...)`, or with a destination `bundle_load`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Bundle {
    /// What is hashed.
    pub fields: HashFields,
    /// Hashed as well.
    pub basis: u16,
    /// How a member is chosen.
    pub algorithm: BundleAlgorithm,
    /// OpenFlow numbers of the ports.
    pub members: Vec<u32>,
    /// `bundle_load`: where the port's number goes, instead of the packet to the port. At least 16 bits.
    pub to: Option<Subfield>,
}

impl Bundle {
    /// Members at most (`BUNDLE_MAX_MEMBERS`).
    pub const MOST_MEMBERS: u16 = 2048;
}

/// The parts of an argument list, each as a token to complain about.
fn parts<'a>(token: &Token<'a>) -> Result<Vec<Token<'a>>, ParseError> {
    let Some(text) = token.value.filter(|_| token.text.ends_with(')')) else {
        return Err(token.error(format!("{}(...)", token.key)));
    };
    let mut tokens = Tokens::new(text, token.value_position, Syntax::Actions);
    let mut all = Vec::new();
    while let Some(part) = tokens.next()? {
        all.push(part);
    }
    Ok(all)
}

fn named<T: Copy>(part: &Token<'_>, all: &[(&str, T)]) -> Result<T, ParseError> {
    let found = all.iter().find(|(name, _)| *name == part.text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        part.error(names.join(", "))
    })
}

fn up_to(part: &Token<'_>, low: u128, high: u128) -> Result<u32, ParseError> {
    match number(part.text) {
        Some(n) if (low..=high).contains(&n) => Ok(n as u32),
        _ => Err(part.error(format!("a number from {low} to {high}"))),
    }
}

pub(super) fn parse_multipath(token: &Token<'_>, names: &dyn PortNames) -> Result<Multipath, ParseError> {
    let parts = parts(token)?;
    let [fields, basis, algorithm, links, arg, to] = parts.as_slice() else {
        return Err(token.error("multipath(FIELDS,BASIS,ALGORITHM,LINKS,ARG,DST[A..B])"));
    };
    let multipath = Multipath {
        fields: named(fields, &HashFields::ALL)?,
        basis: up_to(basis, 0, 0xffff)? as u16,
        algorithm: named(algorithm, &MultipathAlgorithm::ALL)?,
        links: up_to(links, 1, 0x1_0000)?,
        arg: up_to(arg, 0, 0xffff_ffff)?,
        to: subfield(to.text, names).map_err(|e| to.error(e))?,
    };
    if !multipath.to.field.info().writable {
        return Err(to.error("a field that can be set"));
    }
    if multipath.to.max() < u128::from(multipath.links - 1) {
        return Err(to.error(format!("enough bits for {} links", multipath.links)));
    }
    Ok(multipath)
}

pub(super) fn parse_bundle(token: &Token<'_>, names: &dyn PortNames) -> Result<Bundle, ParseError> {
    let loads = token.key == "bundle_load";
    let parts = parts(token)?;
    let expected = if loads {
        "bundle_load(FIELDS,BASIS,ALGORITHM,ofport,DST[A..B],members:PORT,...)"
    } else {
        "bundle(FIELDS,BASIS,ALGORITHM,ofport,members:PORT,...)"
    };
    let [fields, basis, algorithm, kind, rest @ ..] = parts.as_slice() else {
        return Err(token.error(expected));
    };
    if kind.text != "ofport" {
        return Err(kind.error("ofport"));
    }
    let (to, members) = match rest {
        [to, members @ ..] if loads => {
            let bits = subfield(to.text, names).map_err(|e| to.error(e))?;
            if !bits.field.info().writable || bits.bits < 16 {
                return Err(to.error("16 bits or more of a field that can be set"));
            }
            (Some(bits), members)
        }
        members => (None, members),
    };
    // `members:` (`slaves:`, before Open vSwitch 2.17) stands before the first of them.
    let mut ports = Vec::new();
    for (at, member) in members.iter().enumerate() {
        let text = match (at, member.key, member.value) {
            (0, "members" | "slaves", Some(first)) => first,
            (0, ..) => return Err(member.error("members:PORT")),
            _ => member.text,
        };
        if text.is_empty() && members.len() == 1 {
            break;
        }
        let port = parse_port(text, names).filter(|port| *port <= PORT_MAX);
        ports.push(port.ok_or_else(|| member.error("a port number or a port name"))?);
    }
    if members.is_empty() {
        return Err(token.error(expected));
    }
    if ports.len() > usize::from(Bundle::MOST_MEMBERS) {
        return Err(token.error(format!("{} members at most", Bundle::MOST_MEMBERS)));
    }
    Ok(Bundle {
        fields: named(fields, &HashFields::ALL)?,
        basis: up_to(basis, 0, 0xffff)? as u16,
        algorithm: named(
            algorithm,
            &[("active_backup", BundleAlgorithm::ActiveBackup), ("hrw", BundleAlgorithm::Hrw)],
        )?,
        members: ports,
        to,
    })
}

pub(super) fn format_multipath(out: &mut String, multipath: &Multipath) {
    let Multipath { fields, basis, algorithm, links, arg, to } = multipath;
    let _ = write!(out, "multipath({},{basis},{},{links},{arg},", fields.name(), algorithm.name());
    format_subfield(out, *to);
    out.push(')');
}

pub(super) fn format_bundle(out: &mut String, bundle: &Bundle, names: &dyn PortNames) {
    let algorithm = match bundle.algorithm {
        BundleAlgorithm::ActiveBackup => "active_backup",
        BundleAlgorithm::Hrw => "hrw",
    };
    let name = if bundle.to.is_some() { "bundle_load" } else { "bundle" };
    let _ = write!(out, "{name}({},{},{algorithm},ofport,", bundle.fields.name(), bundle.basis);
    if let Some(to) = bundle.to {
        format_subfield(out, to);
        out.push(',');
    }
    out.push_str("members:");
    for (at, member) in bundle.members.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        format_port(out, *member, names);
    }
    out.push(')');
}
