//! Values and masks of fields as text.

use super::field::{Field, Format};
use super::port::{PORT_ANY, PORT_CONTROLLER, PORT_LOCAL, PORT_MAX, PortNames, format_port, parse_port};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use wire::addr::MacAddr;
use wire::key::{FRAG_ANY, FRAG_LATER, VLAN_PRESENT};

/// The largest key that a tunnel type has: of GRE.
pub(super) const TUNNEL_KEY_MAX: u128 = 0xffff_ffff;

/// TCP flags from bit 0 up, with the names of OVS.
const TCP_FLAGS: &[&str] = &["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];
/// `wire::key::TUN_*` from bit 0 up.
const TUNNEL_FLAGS: &[&str] = &["present", "csum", "df", "gbp", "ipv6"];

/// `ip_frag`'s words, each with value and mask, in the order in which the printer tries them.
const FRAGMENTS: &[(&str, u8, u8)] = &[
    ("no", 0, FRAG_ANY),
    ("yes", FRAG_ANY, FRAG_ANY),
    ("first", FRAG_ANY, FRAG_ANY | FRAG_LATER),
    ("later", FRAG_LATER, FRAG_LATER),
    ("not_later", 0, FRAG_LATER),
    // What a packet's own key and a megaflow's full mask add.
    ("no", 0, FRAG_ANY | FRAG_LATER),
    ("later", FRAG_ANY | FRAG_LATER, FRAG_ANY | FRAG_LATER),
];

/// A number in decimal or, after `0x`, in hexadecimal.
pub(super) fn number(text: &str) -> Option<u128> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // from_str_radix would take a sign.
    if digits.starts_with('+') { None } else { u128::from_str_radix(digits, radix).ok() }
}

/// A number up to `max`, and what to say when it is not.
pub(super) fn number_up_to(text: &str, max: u128) -> Result<u128, String> {
    number(text).filter(|n| *n <= max).ok_or_else(|| format!("a number from 0 to {max}"))
}

fn flag_names(format: Format) -> &'static [&'static str] {
    if format == Format::TcpFlags { TCP_FLAGS } else { TUNNEL_FLAGS }
}

/// `+syn-ack` (value, mask), or `syn|ack` (value, every bit).
fn flags(text: &str, format: Format, exact: u128) -> Option<(u128, u128)> {
    let names = flag_names(format);
    let bit = |name: &str| names.iter().position(|n| *n == name).map(|i| 1u128 << i);
    if !text.starts_with(['+', '-']) {
        let value = text.split('|').try_fold(0, |value, name| Some(value | bit(name)?))?;
        return Some((value, exact));
    }
    let (mut value, mut mask) = (0, 0);
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let end = rest[1..].find(['+', '-']).map_or(rest.len(), |at| at + 1);
        let bit = bit(&rest[1..end])?;
        if mask & bit != 0 {
            return None;
        }
        mask |= bit;
        value |= if sign == '+' { bit } else { 0 };
        rest = &rest[end..];
    }
    Some((value, mask))
}

/// What a value of this field looks like, for errors.
fn expected(field: Field) -> String {
    let max = field.info().max();
    match field.info().format {
        Format::Port => "a port number, a port name or LOCAL".to_owned(),
        Format::Mac => "a MAC address such as 02:00:00:00:0a:01, optionally /mask".to_owned(),
        Format::Ipv4 => "an IPv4 address, optionally /prefix or /mask".to_owned(),
        Format::Ipv6 => "an IPv6 address, optionally /prefix or /mask".to_owned(),
        Format::Fragment => "no, yes, first, later or not_later".to_owned(),
        Format::TcpFlags | Format::TunnelFlags => format!(
            "flags such as +{0}-{1} or {0}|{1} of {2}, or a number up to {max:#x}, optionally /mask",
            flag_names(field.info().format)[1],
            flag_names(field.info().format)[2],
            flag_names(field.info().format).join(" ")
        ),
        Format::Decimal | Format::Hexadecimal if field == Field::TunId => {
            "a VNI or key from 0 to 4294967295 (0xffffffff), optionally /mask".to_owned()
        }
        Format::Hexadecimal if !field.is_maskable() => format!("a number from 0 to {max:#x}"),
        Format::Decimal if !field.is_maskable() => format!("a number from 0 to {max}"),
        Format::Decimal => format!("a number from 0 to {max}, optionally /mask"),
        Format::Hexadecimal => format!("a number from 0 to {max:#x}, optionally /mask"),
    }
}

/// An address's mask: a prefix length or an address.
fn address_mask(text: &str, bits: u32, address: impl Fn(&str) -> Option<u128>) -> Option<u128> {
    let Some(prefix) = text.parse::<u32>().ok().filter(|_| !text.starts_with('+')) else {
        return address(text);
    };
    let ones = u128::MAX >> (128 - bits);
    match prefix {
        0 => Some(0),
        _ if prefix <= bits => Some(ones & !((ones >> (prefix - 1)) >> 1)),
        _ => None,
    }
}

/// Parses `value` or `value/mask`, right-aligned in the field. The value is not yet masked.
pub(super) fn parse(field: Field, text: &str, names: &dyn PortNames) -> Result<(u128, u128), String> {
    let info = field.info();
    // A quoted port name may have a slash in it, and a port has no mask.
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) if info.format != Format::Port => (value, Some(mask)),
        _ => (text, None),
    };
    if mask.is_some() && !field.is_maskable() {
        return Err(expected(field));
    }
    let ipv4 = |text: &str| text.parse::<Ipv4Addr>().ok().map(|a| u128::from(u32::from(a)));
    let ipv6 = |text: &str| text.parse::<Ipv6Addr>().ok().map(u128::from);
    let mac = |text: &str| {
        let MacAddr(bytes) = text.parse::<MacAddr>().ok()?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte)))
    };
    let with = |one: &dyn Fn(&str) -> Option<u128>, mask_of: &dyn Fn(&str) -> Option<u128>| {
        Some((one(value)?, mask.map_or(Some(info.exact()), mask_of)?))
    };
    let parsed = match info.format {
        // Of numbers, all that OpenFlow has: a rule may name one that no port has.
        Format::Port => match value.parse::<u16>() {
            Ok(number) => Some(number.into()),
            Err(_) if ["ANY", "NONE"].iter().any(|any| any.eq_ignore_ascii_case(value)) => Some(PORT_ANY),
            Err(_) => parse_port(value, names)
                .filter(|n| *n <= PORT_MAX || matches!(*n, PORT_LOCAL | PORT_CONTROLLER)),
        }
        .map(|port| (u128::from(port), info.exact())),
        Format::Mac => with(&mac, &mac),
        Format::Ipv4 => with(&ipv4, &|text| address_mask(text, 32, ipv4)),
        Format::Ipv6 => with(&ipv6, &|text| address_mask(text, 128, ipv6)),
        Format::Fragment => {
            let word = FRAGMENTS.iter().find(|(word, ..)| *word == text);
            word.map(|(_, value, mask)| (u128::from(*value), u128::from(*mask)))
        }
        Format::TcpFlags | Format::TunnelFlags if number(value).is_none() => {
            flags(text, info.format, info.exact())
        }
        _ => {
            let one = |text: &str| number(text).filter(|n| *n <= info.max());
            with(&one, &one)
        }
    };
    let fits = |(value, mask): &(u128, u128)| match field {
        Field::TunId => *value <= TUNNEL_KEY_MAX && (*mask <= TUNNEL_KEY_MAX || *mask == info.exact()),
        _ => true,
    };
    parsed.map(|(value, mask)| (value, mask & info.exact())).filter(fits).ok_or_else(|| expected(field))
}

/// Writes an address mask: nothing if full, a prefix length if it is one, else as the address is written.
fn format_address_mask(out: &mut String, mask: u128, bits: u32, address: impl Fn(&mut String, u128)) {
    let ones = u128::MAX >> (128 - bits);
    let prefix = mask.count_ones();
    if mask == ones {
        return;
    }
    out.push('/');
    if mask == ones & !(ones >> prefix) {
        let _ = write!(out, "{prefix}");
    } else {
        address(out, mask);
    }
}

fn format_mac(out: &mut String, value: u128) {
    let bytes = value.to_be_bytes();
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[10..]);
    let _ = write!(out, "{}", MacAddr(mac));
}

fn format_ipv4(out: &mut String, value: u128) {
    let _ = write!(out, "{}", Ipv4Addr::from(value as u32));
}

fn format_ipv6(out: &mut String, value: u128) {
    let _ = write!(out, "{}", Ipv6Addr::from(value));
}

/// Writes flags: `syn|ack` under a full mask, else `+syn-ack`; as numbers where a bit has no name.
fn format_flags(out: &mut String, value: u128, mask: u128, exact: u128, names: &[&str]) {
    let named = (1u128 << names.len()) - 1;
    if mask == exact && value & !named == 0 && value != 0 {
        let set = names.iter().enumerate().filter(|(i, _)| value >> i & 1 != 0).map(|(_, name)| *name);
        out.push_str(&set.collect::<Vec<_>>().join("|"));
    } else if mask == exact {
        let _ = write!(out, "{value:#x}");
    } else if mask & !named == 0 {
        for (i, name) in names.iter().enumerate().filter(|(i, _)| mask >> i & 1 != 0) {
            out.push(if value >> i & 1 != 0 { '+' } else { '-' });
            out.push_str(name);
        }
    } else {
        let _ = write!(out, "{value:#x}/{mask:#x}");
    }
}

/// Writes `value` or `value/mask`, so that [`parse`] gives the same again.
pub(super) fn format(out: &mut String, field: Field, value: u128, mask: u128, names: &dyn PortNames) {
    let info = field.info();
    match info.format {
        Format::Port => format_port(out, value as u32, names),
        Format::Mac => {
            format_mac(out, value);
            if mask != info.exact() {
                out.push('/');
                format_mac(out, mask);
            }
        }
        Format::Ipv4 => {
            format_ipv4(out, value);
            format_address_mask(out, mask, 32, format_ipv4);
        }
        Format::Ipv6 => {
            format_ipv6(out, value);
            format_address_mask(out, mask, 128, format_ipv6);
        }
        Format::Fragment => {
            let word = FRAGMENTS.iter().find(|(_, v, m)| (u128::from(*v), u128::from(*m)) == (value, mask));
            out.push_str(word.map_or("<error>", |(word, ..)| word));
        }
        Format::TcpFlags | Format::TunnelFlags => {
            format_flags(out, value, mask, info.exact(), flag_names(info.format));
        }
        Format::Decimal if mask == info.exact() => {
            let _ = write!(out, "{value}");
        }
        // OVS prints all 20 bits.
        Format::Hexadecimal if field == Field::Ipv6Label => {
            let _ = write!(out, "{value:#07x}");
            if mask != info.exact() {
                let _ = write!(out, "/{mask:#07x}");
            }
        }
        Format::Hexadecimal => {
            out.push_str(&hexadecimal(value));
            if mask != info.exact() {
                let _ = write!(out, "/{mask:#x}");
            }
        }
        Format::Decimal => {
            let _ = write!(out, "{value:#x}/{mask:#x}");
        }
    }
}

/// A number as C's `%#x` prints it: zero without the `0x`.
pub(super) fn hexadecimal(value: u128) -> String {
    if value == 0 { "0".to_owned() } else { format!("{value:#x}") }
}

/// The tag of a VLAN ID, as it stands in a key.
pub(super) fn tag(vid: u128) -> u128 {
    vid | u128::from(VLAN_PRESENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(field: Field, text: &str) -> Option<String> {
        let (value, mask) = parse(field, text, &()).ok()?;
        let mut out = String::new();
        format(&mut out, field, value & mask, mask, &());
        Some(out)
    }

    #[test]
    fn values() {
        use Field::{
            EthDst, IcmpType, InPort, IpFrag, IpSrc, Ipv6Src, NwTos, Reg0, TcpFlags, TcpSrc, TunFlags, TunId,
        };
        for (field, text, printed) in [
            (IpSrc, "10.1.2.3/8", "10.0.0.0/8"),
            (IpSrc, "10.1.2.3/255.0.255.0", "10.0.2.0/255.0.255.0"),
            (IpSrc, "10.1.2.3/255.255.255.255", "10.1.2.3"),
            (IpSrc, "10.1.2.3/32", "10.1.2.3"),
            (Ipv6Src, "2001:db8::1/64", "2001:db8::/64"),
            (Ipv6Src, "::1/::ff", "::1/::ff"),
            (EthDst, "01:00:00:00:00:00/01:00:00:00:00:00", "01:00:00:00:00:00/01:00:00:00:00:00"),
            (TcpSrc, "0x1050/0xff00", "0x1000/0xff00"),
            (TcpSrc, "80", "80"),
            (InPort, "65535", "65535"),
            (InPort, "any", "65535"),
            (InPort, "65533", "CONTROLLER"),
            (InPort, "65280", "65280"),
            (TunId, "100", "0x64"),
            (TunId, "0x5/0xf", "0x5/0xf"),
            (TunId, "0x5/0xffffffffffffffff", "0x5"),
            (TcpFlags, "+syn-ack", "+syn-ack"),
            (TcpFlags, "syn|ack", "syn|ack"),
            (TcpFlags, "0x2/0x12", "+syn-ack"),
            (TcpFlags, "0x800", "0x800"),
            (TcpFlags, "0", "0x0"),
            (TunFlags, "+df-csum", "-csum+df"),
            (IpFrag, "not_later", "not_later"),
            (IpFrag, "first", "first"),
            (IcmpType, "8", "8"),
            (NwTos, "184", "184"),
            (NwTos, "187", "184"),
            (Reg0, "0x10/0xf", "0/0xf"),
        ] {
            assert_eq!(round(field, text).as_deref(), Some(printed), "{text}");
        }
    }

    #[test]
    fn refusals() {
        use Field::{EthDst, InPort, IpFrag, IpSrc, Ipv6Src, NwTos, NwTtl, Reg0, TcpFlags, TcpSrc, TunId};
        for (field, text) in [
            (IpSrc, "10.0.0.300"),
            (IpSrc, "10.0.0.0/33"),
            (IpSrc, "10.0.0.0/+8"),
            (IpSrc, "10.0.0.0/"),
            (Ipv6Src, "2001:db8::/129"),
            (EthDst, "02:00:00:00:00"),
            (TcpSrc, "65536"),
            (TcpSrc, "+80"),
            (TcpSrc, "0x"),
            (TcpSrc, "80/0x10000"),
            (TunId, "4294967296"),
            (TcpFlags, "+syn+syn"),
            (TcpFlags, "+syn-"),
            (TcpFlags, "syn|"),
            (TcpFlags, "0x1000"),
            (IpFrag, "0"),
            (InPort, "NORMAL"),
            (InPort, "65536"),
            (NwTos, "256"),
            (NwTtl, "64/0xff"),
            (Reg0, "0x100000000"),
        ] {
            assert!(parse(field, text, &()).is_err(), "{text}");
        }
    }
}
