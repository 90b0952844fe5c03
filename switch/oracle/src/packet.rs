//! A packet on its way through the switch: its bytes, its fields, and what was said about a tunnel for it.

use crate::field::{Field, TAG};
use crate::parse::{Parsed, parse};
use crate::tunnel::Header;

/// A packet.
#[derive(Debug, Clone)]
pub struct Packet {
    /// The frame.
    pub bytes: Vec<u8>,
    /// What is known of it: as it was when it came in, but for what actions have changed.
    pub parsed: Parsed,
    /// It came with a VNI, or an action set one.
    pub has_vni: bool,
    /// An action set `tun_dst`.
    pub has_remote: bool,
    /// An action set `tun_src`.
    pub has_local: bool,
    /// A malformed network header was written to: from that header to the end, so many bytes, nobody promises which
    /// change, since where its fields and checksums are is not defined. All in front of it is.
    pub free: Option<usize>,
    /// It is a tunnel packet of our own.
    pub header: Option<Header>,
}

/// A VLAN tag: the TCI without the bit that says that it is there.
pub type Tag = Option<u16>;

impl Packet {
    /// A packet of these bytes; `None` when they are no frame.
    pub fn new(bytes: &[u8]) -> Option<Packet> {
        let parsed = parse(bytes)?;
        Some(Packet {
            bytes: bytes.to_vec(),
            parsed,
            has_vni: false,
            has_remote: false,
            has_local: false,
            free: None,
            header: None,
        })
    }

    /// What a packet forgets on its way through a patch: everything that does not stand in its bytes.
    pub fn forget_metadata(&mut self) {
        let fields = [
            Field::TunId,
            Field::TunSrc,
            Field::TunDst,
            Field::TunGbpId,
            Field::TunGbpFlags,
            Field::Metadata,
            Field::Reg0,
            Field::Reg1,
            Field::Reg7,
        ];
        for field in fields {
            self.parsed.fields.put(field, 0);
        }
        (self.has_vni, self.has_remote, self.has_local) = (false, false, false);
    }

    /// A field.
    pub fn get(&self, field: Field) -> u128 {
        self.parsed.fields.get(field)
    }

    /// The outermost tag.
    pub fn tag(&self) -> Tag {
        let tci = self.get(Field::VlanTci);
        (tci & TAG != 0).then_some((tci & !TAG) as u16)
    }

    /// Puts a tag in front.
    pub fn push_tag(&mut self, tpid: u16, tci: u16) {
        let tag = [tpid.to_be_bytes(), (tci & 0xefff).to_be_bytes()].concat();
        self.bytes.splice(12..12, tag);
        self.shift(4);
        self.parsed.second_tag = self.get(Field::VlanTci);
        self.parsed.fields.put(Field::VlanTci, u128::from(tci) | TAG);
    }

    /// Takes the outermost tag off, if there is one.
    pub fn pop_tag(&mut self) {
        if self.tag().is_some() {
            self.bytes.drain(12..16);
            self.shift(-4);
            let second = std::mem::take(&mut self.parsed.second_tag);
            self.parsed.fields.put(Field::VlanTci, second);
        }
    }

    /// Sets bits of the outermost tag's TCI, if there is a tag.
    pub fn edit_tag(&mut self, value: u16, mask: u16) {
        if let Some(tci) = self.tag() {
            let tci = tci & !mask | value & mask & 0xefff;
            self.bytes[14..16].copy_from_slice(&tci.to_be_bytes());
            self.parsed.fields.put(Field::VlanTci, u128::from(tci) | TAG);
        }
    }

    /// The same, of a new tag if there is none.
    pub fn edit_or_push_tag(&mut self, value: u16, mask: u16) {
        if self.tag().is_none() {
            self.push_tag(0x8100, 0);
        }
        self.edit_tag(value, mask);
    }

    /// Makes the outermost tag this.
    pub fn retag(&mut self, tag: Tag) {
        if self.tag() == tag {
            return;
        }
        match tag {
            Some(tci) => self.edit_or_push_tag(tci, 0xefff),
            None => self.pop_tag(),
        }
    }

    fn shift(&mut self, by: isize) {
        self.parsed.l3 = self.parsed.l3.saturating_add_signed(by);
        self.parsed.end = self.parsed.end.saturating_add_signed(by);
        self.parsed.l4 = self.parsed.l4.map(|at| at.saturating_add_signed(by));
    }
}
