//! Capture files in the pcapng format (draft-ietf-opsawg-pcapng), whose packets can have comments, and interfaces names.

use std::time::Duration;

/// Longest packet in a file.
pub const SNAPLEN: u32 = 262_144;

/// Block types and options, as the draft names them.
mod field {
    pub const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    pub const INTERFACE_DESCRIPTION: u32 = 1;
    pub const ENHANCED_PACKET: u32 = 6;
    pub const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
    pub const LINKTYPE_ETHERNET: u16 = 1;
    pub const OPT_ENDOFOPT: u16 = 0;
    pub const OPT_COMMENT: u16 = 1;
    pub const EPB_FLAGS: u16 = 2;
    pub const IF_NAME: u16 = 2;
    pub const IF_DESCRIPTION: u16 = 3;
    pub const IF_TSRESOL: u16 = 9;
    pub const SHB_USERAPPL: u16 = 4;
    /// The time's unit is ten to the power of minus this.
    pub const NANOSECONDS: u8 = 9;
}

/// A packet of a file.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Name of its interface.
    pub interface: &'a str,
    /// What the interface is, said once.
    pub description: &'a str,
    /// When, since 1970.
    pub time: Duration,
    /// Whether it was leaving.
    pub outgoing: bool,
    /// Length on the wire.
    pub length: usize,
    /// Its bytes, or the first of them.
    pub bytes: &'a [u8],
    /// Text for who reads the file.
    pub comment: &'a str,
}

/// What of a file has been written: the interfaces, by number.
#[derive(Debug, Default)]
pub struct Writer {
    interfaces: Vec<String>,
}

impl Writer {
    /// Appends the head of a file.
    pub fn head(out: &mut Vec<u8>) {
        block(out, field::SECTION_HEADER, |out| {
            out.extend(field::BYTE_ORDER_MAGIC.to_le_bytes());
            // Version 1.0; the section's length is not known.
            out.extend([1, 0, 0, 0]);
            out.extend(u64::MAX.to_le_bytes());
            option(out, field::SHB_USERAPPL, concat!("vxswitch ", env!("CARGO_PKG_VERSION")).as_bytes());
            option(out, field::OPT_ENDOFOPT, &[]);
        });
    }

    /// Appends a packet, behind its interface when that is new.
    pub fn packet(&mut self, out: &mut Vec<u8>, packet: &Packet<'_>) {
        let interface = self.interface(out, packet);
        let nanoseconds = u64::try_from(packet.time.as_nanos()).unwrap_or(u64::MAX);
        let bytes = &packet.bytes[..packet.bytes.len().min(SNAPLEN as usize)];
        block(out, field::ENHANCED_PACKET, |out| {
            let (high, low) = ((nanoseconds >> 32) as u32, nanoseconds as u32);
            for word in [interface, high, low, bytes.len() as u32, packet.length as u32] {
                out.extend(word.to_le_bytes());
            }
            padded(out, bytes);
            if !packet.comment.is_empty() {
                option(out, field::OPT_COMMENT, packet.comment.as_bytes());
            }
            let direction: u32 = if packet.outgoing { 2 } else { 1 };
            option(out, field::EPB_FLAGS, &direction.to_le_bytes());
            option(out, field::OPT_ENDOFOPT, &[]);
        });
    }

    /// The number of the packet's interface.
    fn interface(&mut self, out: &mut Vec<u8>, packet: &Packet<'_>) -> u32 {
        if let Some(number) = self.interfaces.iter().position(|name| name == packet.interface) {
            return number as u32;
        }
        block(out, field::INTERFACE_DESCRIPTION, |out| {
            out.extend(field::LINKTYPE_ETHERNET.to_le_bytes());
            out.extend([0, 0]);
            out.extend(SNAPLEN.to_le_bytes());
            option(out, field::IF_NAME, packet.interface.as_bytes());
            option(out, field::IF_DESCRIPTION, packet.description.as_bytes());
            option(out, field::IF_TSRESOL, &[field::NANOSECONDS]);
            option(out, field::OPT_ENDOFOPT, &[]);
        });
        self.interfaces.push(packet.interface.to_owned());
        self.interfaces.len() as u32 - 1
    }
}

/// Appends a block: its type, its length in front of and behind its body.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    let length = (out.len() - start + 4) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out.extend(length.to_le_bytes());
}

/// Appends an option; a value that is too long for one is cut off.
fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(u16::MAX.into())];
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    padded(out, value);
}

/// Appends bytes, and zeros up to a multiple of four.
fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes);
    out.extend(std::iter::repeat_n(0, bytes.len().next_multiple_of(4) - bytes.len()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Blocks as type and body; each has its length in front and behind.
    fn blocks(mut file: &[u8]) -> Vec<(u32, &[u8])> {
        let mut found = Vec::new();
        while !file.is_empty() {
            let length = word(file, 4) as usize;
            assert!(length.is_multiple_of(4) && word(file, length - 4) as usize == length);
            found.push((word(file, 0), &file[8..length - 4]));
            file = &file[length..];
        }
        found
    }

    /// Options as code and value, up to the one that ends them.
    fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            let (code, length) = (word(bytes, 0) as u16, (word(bytes, 0) >> 16) as usize);
            if code == field::OPT_ENDOFOPT {
                assert_eq!((length, bytes.len()), (0, 4), "nothing stands behind the last option");
                return found;
            }
            found.push((code, bytes[4..4 + length].to_vec()));
            bytes = &bytes[4 + length.next_multiple_of(4)..];
        }
    }

    proptest! {
        /// What a plain reader of the draft finds is what was written.
        #[test]
        fn packets_are_read_back(
            packets in prop::collection::vec(
                (0..4u8, any::<u32>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..70), "[a-zü: ]{0,9}"),
                0..20,
            ),
        ) {
            let (mut file, mut writer) = (Vec::new(), Writer::default());
            Writer::head(&mut file);
            for (port, time, outgoing, bytes, comment) in &packets {
                let interface = format!("p{port}");
                writer.packet(&mut file, &Packet {
                    interface: &interface,
                    description: "bridge br0",
                    time: Duration::new((*time).into(), 7),
                    outgoing: *outgoing,
                    length: bytes.len() + 3,
                    bytes,
                    comment,
                });
            }
            let blocks = blocks(&file);
            prop_assert_eq!((blocks[0].0, word(blocks[0].1, 0)), (field::SECTION_HEADER, field::BYTE_ORDER_MAGIC));
            let (mut interfaces, mut left) = (Vec::new(), packets.iter());
            for (kind, body) in &blocks[1..] {
                if *kind == field::INTERFACE_DESCRIPTION {
                    let options = options(&body[8..]);
                    prop_assert_eq!((&options[2].0, &options[2].1), (&field::IF_TSRESOL, &vec![9]));
                    interfaces.push(String::from_utf8(options[0].1.clone()).unwrap());
                    continue;
                }
                prop_assert_eq!(*kind, field::ENHANCED_PACKET);
                let (port, time, outgoing, bytes, comment) = left.next().unwrap();
                prop_assert_eq!(&interfaces[word(body, 0) as usize], &format!("p{port}"));
                let nanoseconds = u64::from(word(body, 4)) << 32 | u64::from(word(body, 8));
                prop_assert_eq!(nanoseconds, u64::from(*time) * 1_000_000_000 + 7);
                prop_assert_eq!((word(body, 12) as usize, word(body, 16) as usize), (bytes.len(), bytes.len() + 3));
                prop_assert_eq!(&body[20..20 + bytes.len()], &**bytes);
                let mut options = options(&body[20 + bytes.len().next_multiple_of(4)..]);
                let direction = if *outgoing { 2u8 } else { 1 };
                prop_assert_eq!(options.pop().unwrap(), (field::EPB_FLAGS, vec![direction, 0, 0, 0]));
                let expected: Vec<_> =
                    (!comment.is_empty()).then(|| (field::OPT_COMMENT, comment.as_bytes().to_vec())).into_iter().collect();
                prop_assert_eq!(options, expected);
            }
            prop_assert!(left.next().is_none());
            let all = interfaces.len();
            interfaces.sort();
            interfaces.dedup();
            prop_assert_eq!(interfaces.len(), all, "an interface is described once");
        }
    }
}
