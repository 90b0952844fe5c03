//! Entries of a bridge's TLV map, as `ovs-ofctl add-tlv-map` takes them: `{class=0xffff,type=0,len=4}->tun_metadata0`.

use crate::options::number;
use wire::tunnel::geneve::{TlvError, TlvMap};

/// What an entry looks like.
const EXPECTED: &str = "expected {class=CLASS,type=TYPE,len=LEN}->tun_metadataN";

/// An option and the number of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlvEntry {
    /// Option class.
    pub class: u16,
    /// Option type, with the critical bit (0x80).
    pub kind: u8,
    /// Bytes of the value.
    pub len: u8,
    /// Number of the `tun_metadata` field.
    pub field: u8,
}

impl TlvEntry {
    /// Reads an entry. The field may be left out where only the option counts.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn parse(text: &str) -> Result<TlvEntry, String> {
        let wrong = || format!("found {text:?}, {EXPECTED}");
        let (option, field) = text.trim().split_once("->").ok_or_else(wrong)?;
        let option = option.trim().strip_prefix('{').and_then(|o| o.strip_suffix('}')).ok_or_else(wrong)?;
        let (mut class, mut kind, mut len) = (None, None, None);
        for pair in option.split(',') {
            let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
            let (place, max) = match key.trim() {
                "class" => (&mut class, 0xffff),
                "type" => (&mut kind, 0xff),
                "len" => (&mut len, 0xff),
                _ => return Err(wrong()),
            };
            let value = number(value.trim()).filter(|value| *value <= max);
            *place = Some(value.ok_or_else(|| format!("{key}: expected a number from 0 to {max:#x}"))?);
        }
        let (Some(class), Some(kind), Some(len)) = (class, kind, len) else { return Err(wrong()) };
        let field = field.trim().strip_prefix("tun_metadata").ok_or_else(wrong)?;
        let field = field.parse().map_err(|_| TlvError::Field.to_string())?;
        Ok(TlvEntry { class: class as u16, kind: kind as u8, len: len as u8, field })
    }

    /// Adds it to a map.
    ///
    /// # Errors
    /// [`TlvError`].
    pub fn add_to(&self, map: &mut TlvMap) -> Result<(), TlvError> {
        map.add((self.class, self.kind, self.len), self.field)
    }
}

impl std::fmt::Display for TlvEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TlvEntry { class, kind, len, field } = self;
        write!(f, "{{class={class:#x},type={kind:#x},len={len}}}->tun_metadata{field}")
    }
}

/// The entries of a list joined by commas, as `ovs-ofctl` takes several at once.
pub fn split_tlvs(text: &str) -> impl Iterator<Item = &str> {
    // A comma between entries is one behind a field, those inside of braces are not.
    let mut depth = 0;
    text.split(move |c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_and_print() {
        let entry = TlvEntry::parse("{class=0xffff, type=1,len=4} -> tun_metadata12").unwrap();
        assert_eq!(entry, TlvEntry { class: 0xffff, kind: 1, len: 4, field: 12 });
        assert_eq!(TlvEntry::parse(&entry.to_string()), Ok(entry));
        for (text, expected) in [
            ("", "expected {class="),
            ("{class=1,type=2}->tun_metadata0", "expected {class="),
            ("{class=1,type=2,len=4}", "expected {class="),
            ("{class=0x10000,type=2,len=4}->tun_metadata0", "class: expected a number from 0 to 0xffff"),
            ("{class=1,type=2,len=4}->reg0", "expected {class="),
            ("{class=1,type=2,len=4}->tun_metadata300", "tun_metadata0 to tun_metadata63"),
        ] {
            assert!(TlvEntry::parse(text).unwrap_err().contains(expected), "{text}");
        }
        let two = "{class=1,type=2,len=4}->tun_metadata0,{class=1,type=3,len=4}->tun_metadata1";
        assert_eq!(split_tlvs(two).count(), 2);
    }
}
