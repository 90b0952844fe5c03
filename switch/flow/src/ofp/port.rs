//! Port numbers, port names and OpenFlow's reserved ports.

use std::collections::HashMap;
use std::fmt::Write;
use wire::tunnel::geneve::TlvMap;

/// Largest number of an ordinary port (OVS `OFPP_MAX` less one).
pub const PORT_MAX: u32 = 0xfeff;
/// `IN_PORT`: the port that the packet came in by.
pub const PORT_IN_PORT: u32 = 0xfff8;
/// `NORMAL`: the learning switch.
pub const PORT_NORMAL: u32 = 0xfffa;
/// `FLOOD`: all ports that flood but the packet's own.
pub const PORT_FLOOD: u32 = 0xfffb;
/// `ALL`: all ports but the packet's own.
pub const PORT_ALL: u32 = 0xfffc;
/// `CONTROLLER`: a copy to whoever listens.
pub const PORT_CONTROLLER: u32 = 0xfffd;
/// `LOCAL`: the bridge's own port.
pub const PORT_LOCAL: u32 = 0xfffe;

/// `ANY`, in OpenFlow 1.0 `NONE`: no port has this number.
pub const PORT_ANY: u32 = 0xffff;

/// What a bridge calls its ports and the options of its tunnels, for texts that users read and write.
pub trait PortNames {
    /// OpenFlow number of the port called `name`.
    fn number(&self, name: &str) -> Option<u32>;
    /// Name of the port with OpenFlow number `number`.
    fn name(&self, number: u32) -> Option<String>;
    /// The bridge's TLV map, which says what `tun_metadata` fields are.
    fn tlvs(&self) -> &TlvMap {
        &TlvMap::EMPTY
    }
}

/// No names: ports are numbers.
impl PortNames for () {
    fn number(&self, _name: &str) -> Option<u32> {
        None
    }

    fn name(&self, _number: u32) -> Option<String> {
        None
    }
}

/// Names and OpenFlow numbers of a bridge's ports, as a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortMap {
    numbers: HashMap<String, u32>,
    names: HashMap<u32, String>,
    tlvs: TlvMap,
}

impl PortMap {
    /// The same with a TLV map.
    #[must_use]
    pub fn with_tlvs(self, tlvs: TlvMap) -> PortMap {
        PortMap { tlvs, ..self }
    }

    /// The names of all ports.
    pub fn all_names(&self) -> impl Iterator<Item = &String> {
        self.numbers.keys()
    }
}

impl FromIterator<(String, u32)> for PortMap {
    fn from_iter<I: IntoIterator<Item = (String, u32)>>(ports: I) -> PortMap {
        let mut all = PortMap::default();
        all.extend(ports);
        all
    }
}

impl Extend<(String, u32)> for PortMap {
    fn extend<I: IntoIterator<Item = (String, u32)>>(&mut self, ports: I) {
        for (name, number) in ports {
            self.names.insert(number, name.clone());
            self.numbers.insert(name, number);
        }
    }
}

impl PortNames for PortMap {
    fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn name(&self, number: u32) -> Option<String> {
        self.names.get(&number).cloned()
    }

    fn tlvs(&self) -> &TlvMap {
        &self.tlvs
    }
}

/// The reserved port of this name, in upper or lower case.
pub(super) fn reserved(name: &str) -> Option<u32> {
    let ports = [
        ("IN_PORT", PORT_IN_PORT),
        ("NORMAL", PORT_NORMAL),
        ("FLOOD", PORT_FLOOD),
        ("ALL", PORT_ALL),
        ("CONTROLLER", PORT_CONTROLLER),
        ("LOCAL", PORT_LOCAL),
    ];
    ports.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| number)
}

/// What a port is called in text: its name, quoted where it could be taken for something else, else its number.
pub(super) fn format_port(out: &mut String, number: u32, names: &dyn PortNames) {
    // Of the reserved ports, those by which a packet may come.
    if let Some(reserved) =
        [(PORT_LOCAL, "LOCAL"), (PORT_CONTROLLER, "CONTROLLER")].iter().find(|(port, _)| *port == number)
    {
        out.push_str(reserved.1);
        return;
    }
    let Some(name) = names.name(number) else {
        let _ = write!(out, "{number}");
        return;
    };
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && !["ANY", "NONE", "TABLE", "UNSET"].iter().any(|word| word.eq_ignore_ascii_case(&name))
        && reserved(&name).is_none();
    if plain {
        out.push_str(&name);
        return;
    }
    out.push('"');
    for c in name.chars() {
        if c == '"' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

/// Takes the quotes off a quoted name; other text is itself. `None`: the quotes are not in order.
pub(super) fn unquote(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        return Some(text.to_owned());
    };
    let mut out = String::new();
    let mut chars = inner.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(out),
            '\\' => out.push(chars.next()?),
            c => out.push(c),
        }
    }
}

/// The port that `text` means: a number, a reserved port's name, or a port's name, quoted or not.
pub(super) fn parse_port(text: &str, names: &dyn PortNames) -> Option<u32> {
    if let Ok(number) = text.parse::<u32>() {
        return (number <= PORT_MAX || (PORT_IN_PORT..=PORT_LOCAL).contains(&number)).then_some(number);
    }
    if let Some(number) = reserved(text) {
        return Some(number);
    }
    names.number(&unquote(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Odd;

    impl PortNames for Odd {
        fn number(&self, name: &str) -> Option<u32> {
            (1..9).find(|n| self.name(*n).as_deref() == Some(name))
        }

        fn name(&self, number: u32) -> Option<String> {
            ["p0", "7", "local", "a,b", "q\"\\x", "vxlan-1.2", ""]
                .get(number as usize - 1)
                .map(|s| (*s).to_owned())
        }
    }

    #[test]
    fn names_round_trip() {
        for number in (1..9).chain([PORT_LOCAL]) {
            let mut text = String::new();
            format_port(&mut text, number, &Odd);
            assert_eq!(parse_port(&text, &Odd), Some(number), "{text}");
        }
        assert_eq!(parse_port("normal", &Odd), Some(PORT_NORMAL));
        assert_eq!(parse_port("65279", &Odd), Some(PORT_MAX));
        for bad in ["65280", "65535", "-1", "\"p0", "\"p0\"x", "nope", "4294967296"] {
            assert_eq!(parse_port(bad, &Odd), None, "{bad}");
        }
    }
}
