//! Setting fields in bytes. Checksums are summed up over everything that they cover, before and after.

use crate::action::Bits;
use crate::checksum::{crc32c, moved, sum};
use crate::field::{Field, TAG};
use crate::packet::Packet;

impl Packet {
    /// Sets the bits of `mask`. A packet without the field stays as it is.
    pub fn set(&mut self, field: Field, value: u128, mask: u128) {
        if !self.parsed.fields.has(field) {
            return;
        }
        match field {
            Field::VlanTci => return self.set_tci(value, mask),
            Field::VlanVid => return self.edit_tag(value as u16, (mask & 0xfff) as u16),
            Field::VlanPcp => return self.edit_tag((value as u16) << 13, ((mask & 7) as u16) << 13),
            Field::TunId => self.has_vni = true,
            Field::TunDst => self.has_remote = true,
            Field::TunSrc => self.has_local = true,
            _ => {}
        }
        let new = self.get(field) & !mask | value & mask;
        self.parsed.fields.put(field, new);
        let (before, crc) = (self.sums(), self.crc());
        self.write(field, new);
        self.patch(before);
        if let (Some((at, old)), Some((_, new))) = (crc, self.crc()) {
            for n in 0..4 {
                self.bytes[at + n] ^= old[n] ^ new[n];
            }
        }
    }

    /// Of an SCTP packet, where its CRC stands and what it should be.
    fn crc(&self) -> Option<(usize, [u8; 4])> {
        let l4 = self.parsed.l4.filter(|_| self.get(Field::IpProto) == 132)?;
        let mut message = self.bytes[l4..self.parsed.end].to_vec();
        message[8..12].fill(0);
        Some((l4 + 8, crc32c(&message)))
    }

    /// Sets some bits.
    pub fn load(&mut self, value: u128, to: Bits) {
        self.set(to.field, (value & to.ones()) << to.start, to.ones() << to.start);
    }

    /// Some bits, right-aligned; `None` when the packet does not have the field.
    pub fn read(&self, from: Bits) -> Option<u128> {
        self.parsed.fields.has(from.field).then(|| self.get(from.field) >> from.start & from.ones())
    }

    fn set_tci(&mut self, value: u128, mask: u128) {
        let tagged = self.tag().is_some();
        let shall = if mask & TAG == 0 { tagged } else { value & TAG != 0 };
        if shall {
            self.edit_or_push_tag(value as u16, (mask & 0xefff) as u16);
        } else if tagged {
            self.pop_tag();
        }
    }

    /// The sums of what the network and the transport checksum cover.
    fn sums(&self) -> (u16, u16) {
        let l3 = self.parsed.l3;
        let mut network = self.bytes.get(l3..l3 + 20).unwrap_or(&[]).to_vec();
        if let Some(checksum) = network.get_mut(10..12) {
            checksum.fill(0);
        }
        let mut covered = Vec::new();
        if let Some(l4) = self.parsed.l4 {
            let v4 = self.get(Field::EthType) == 0x800;
            let addresses = if v4 { l3 + 12..l3 + 20 } else { l3 + 8..l3 + 40 };
            if !(v4 && self.get(Field::IpProto) == 1) {
                covered.extend_from_slice(&self.bytes[addresses]);
            }
            let mut message = self.bytes[l4..self.parsed.end].to_vec();
            if let Some(at) = self.transport_checksum() {
                message[at - l4..at - l4 + 2].fill(0);
            }
            covered.extend(message);
        }
        (sum(&network), sum(&covered))
    }

    /// Where the transport header has its checksum.
    fn transport_checksum(&self) -> Option<usize> {
        let l4 = self.parsed.l4?;
        match (self.get(Field::IpProto), self.get(Field::EthType)) {
            (6, _) => Some(l4 + 16),
            (17, _) => Some(l4 + 6),
            (1, 0x800) | (58, 0x86dd) => Some(l4 + 2),
            _ => None,
        }
    }

    /// Moves the checksums by what their sums have changed.
    fn patch(&mut self, before: (u16, u16)) {
        let after = self.sums();
        let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let l3 = self.parsed.l3;
        if after.0 != before.0 && self.get(Field::EthType) == 0x800 {
            let checksum = moved(word(&self.bytes, l3 + 10), before.0, after.0);
            self.bytes[l3 + 10..l3 + 12].copy_from_slice(&checksum.to_be_bytes());
        }
        let Some(at) = self.transport_checksum().filter(|_| after.1 != before.1) else { return };
        let old = word(&self.bytes, at);
        let udp = self.get(Field::IpProto) == 17;
        if udp && old == 0 {
            return;
        }
        let checksum = match moved(old, before.1, after.1) {
            0 if udp => 0xffff,
            checksum => checksum,
        };
        self.bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Puts a field's value into the bytes.
    fn write(&mut self, field: Field, value: u128) {
        let kind = self.get(Field::EthType);
        let ip = matches!(kind, 0x800 | 0x86dd);
        let network = !matches!(
            field,
            Field::EthSrc
                | Field::EthDst
                | Field::InPort
                | Field::TunId
                | Field::TunSrc
                | Field::TunDst
                | Field::TunGbpId
                | Field::TunGbpFlags
                | Field::Metadata
                | Field::Reg0
                | Field::Reg1
                | Field::Reg7
        );
        if network && self.parsed.odd {
            self.free = Some(self.bytes.len() - self.parsed.l3);
            return;
        }
        let l3 = self.parsed.l3;
        match field {
            Field::EthDst => self.put(0, 6, value),
            Field::EthSrc => self.put(6, 6, value),
            Field::IpSrc => self.put(l3 + 12, 4, value),
            Field::IpDst => self.put(l3 + 16, 4, value),
            Field::Ipv6Src => self.put(l3 + 8, 16, value),
            Field::Ipv6Dst => self.put(l3 + 24, 16, value),
            Field::Ipv6Label => {
                let first = crate::parse::number(&self.bytes[l3..l3 + 4]);
                self.put(l3, 4, first & 0xfff0_0000 | value);
            }
            Field::NwTos | Field::NwEcn if ip => {
                let tos = self.get(Field::NwTos) & 0xfc | self.get(Field::NwEcn);
                if kind == 0x800 {
                    self.put(l3 + 1, 1, tos);
                } else {
                    let first = crate::parse::number(&self.bytes[l3..l3 + 2]);
                    self.put(l3, 2, first & 0xf00f | tos << 4);
                }
            }
            Field::NwTtl if ip => self.put(if kind == 0x800 { l3 + 8 } else { l3 + 7 }, 1, value),
            Field::ArpOp => self.put_arp(6, 2, value),
            Field::ArpSha => self.put_arp(8, 6, value),
            Field::ArpSpa => self.put_arp(14, 4, value),
            Field::ArpTha => self.put_arp(18, 6, value),
            Field::ArpTpa => self.put_arp(24, 4, value),
            _ => self.write_transport(field, value),
        }
    }

    fn write_transport(&mut self, field: Field, value: u128) {
        let Some(l4) = self.parsed.l4 else { return };
        match field {
            Field::TcpSrc | Field::UdpSrc | Field::SctpSrc => self.put(l4, 2, value),
            Field::TcpDst | Field::UdpDst | Field::SctpDst => self.put(l4 + 2, 2, value),
            Field::IcmpType | Field::Icmpv6Type => self.put(l4, 1, value),
            Field::IcmpCode | Field::Icmpv6Code => self.put(l4 + 1, 1, value),
            Field::NdTarget => self.put(l4 + 8, 16, value),
            Field::NdSll => self.put_option(l4 + 24, 1, value),
            Field::NdTll => self.put_option(l4 + 24, 2, value),
            _ => {}
        }
    }

    fn put(&mut self, at: usize, len: usize, value: u128) {
        self.bytes[at..at + len].copy_from_slice(&value.to_be_bytes()[16 - len..]);
    }

    fn put_arp(&mut self, at: usize, len: usize, value: u128) {
        if self.get(Field::EthType) == 0x806 {
            self.put(self.parsed.l3 + at, len, value);
        }
    }

    /// Writes the link-layer address of an ND option, if the message has that option.
    fn put_option(&mut self, mut at: usize, option: u8, value: u128) {
        while at + 8 <= self.parsed.end && self.bytes[at + 1] != 0 {
            if self.bytes[at..at + 2] == [option, 1] {
                return self.put(at + 2, 6, value);
            }
            at += usize::from(self.bytes[at + 1]) * 8;
        }
    }
}
