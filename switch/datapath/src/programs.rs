//! What a worker keeps by program number: the programs, and the headers that they put in front of packets.

use crate::BURST;
use crate::adjacency::{Adjacencies, CachedHeader};
use flow::drop::DropReason;
use flow::program::{AdjacencyId, Op, PortId, Program, TunnelMetadata};

/// A program as a worker keeps it: the common ones are single operations.
#[derive(Debug)]
pub(crate) enum Compiled {
    /// One output.
    Output(PortId),
    /// One encapsulation.
    Encap(Encap),
    /// To the VTEP behind this LOCAL port.
    Terminate(PortId),
    /// A drop.
    Drop(DropReason),
    /// Anything else.
    Ops(Box<Program>),
}

/// An encapsulation without metadata besides the VNI or key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encap {
    /// Header and egress.
    pub adjacency: AdjacencyId,
    /// VNI or key.
    pub vni: u32,
}

impl Compiled {
    /// Compiles a program; gives the box back where it is not needed any more.
    pub(crate) fn new(program: Box<Program>) -> (Compiled, Option<Box<Program>>) {
        let single = match *program.ops {
            [] => Compiled::Drop(program.drop),
            [Op::Output(port)] => Compiled::Output(port),
            [Op::Terminate(port)] => Compiled::Terminate(port),
            [Op::Encap { adjacency, vni, metadata, .. }] if metadata == TunnelMetadata::default() => {
                Compiled::Encap(Encap { adjacency, vni })
            }
            _ => return (Compiled::Ops(program), None),
        };
        (single, Some(program))
    }
}

/// What the headers of a run have in common, besides the port that their packets leave by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OnePort {
    /// How many they are.
    pub count: usize,
    /// Those of [`CachedHeader::MARKS`] that some have.
    pub marks: u32,
    /// Whether they are of one tunnel port.
    pub one_tunnel: bool,
}

/// Programs, the first ones, that have a cached header: 4 MiB. Packets of others get theirs from the template.
const MAX_HEADERS: usize = 65_536;
/// Headers so few (32 KiB) that they are near anyway: asking for them ahead costs more than it saves.
const NEAR: usize = 512;

/// The programs of one worker, by number, each beside the header that it writes: a packet's megaflow names the
/// program, and one line further on is all that sending it takes.
pub(crate) struct Programs {
    all: Box<[Option<Compiled>]>,
    /// Made when they are first asked for, and again when adjacencies have changed since.
    headers: Box<[CachedHeader]>,
    /// Version of the adjacencies: what headers have to be of.
    version: u32,
    /// Numbers below this one have been defined.
    defined: usize,
}

impl Programs {
    /// Room for so many. All of it is written here: a worker that meets a page for the first time waits for the kernel.
    pub(crate) fn new(count: usize) -> Programs {
        let headers = vec![CachedHeader::NONE; count.min(MAX_HEADERS)].into();
        Programs { all: (0..count).map(|_| None).collect(), headers, version: 1, defined: 0 }
    }

    /// The program of a number.
    #[inline(always)]
    pub(crate) fn get(&self, program: u32) -> Option<&Compiled> {
        self.all.get(program as usize)?.as_ref()
    }

    /// Takes a program out of its place, to run it.
    #[inline(always)]
    pub(crate) fn take(&mut self, program: u32) -> Option<Compiled> {
        self.all.get_mut(program as usize)?.take()
    }

    /// Gives a number another program, and the old one back. What has no place is dropped.
    pub(crate) fn define(&mut self, program: u32, compiled: Compiled) -> Option<Compiled> {
        if let Some(header) = self.headers.get_mut(program as usize) {
            *header = CachedHeader::NONE;
        }
        let place = self.all.get_mut(program as usize)?;
        self.defined = self.defined.max(program as usize + 1);
        place.replace(compiled)
    }

    /// Puts back what [`Programs::take`] took.
    pub(crate) fn put_back(&mut self, program: u32, compiled: Compiled) {
        if let Some(place) = self.all.get_mut(program as usize) {
            *place = Some(compiled);
        }
    }

    /// An adjacency that headers may have been made of has changed: none is what it was made from any more.
    pub(crate) fn adjacencies_changed(&mut self) {
        self.version += 1;
        if self.version & CachedHeader::MARKS != 0 {
            self.headers.fill(CachedHeader::NONE);
            self.version = 1;
        }
    }

    /// The header that a program writes in one go, if it does that; made if need be.
    #[inline(always)]
    pub(crate) fn header(&mut self, program: u32, adjacencies: &Adjacencies) -> Option<&CachedHeader> {
        if self.cached_header(program).is_none() {
            self.make_header(program, adjacencies)?;
        }
        self.cached_header(program)
    }

    #[cold]
    #[inline(never)]
    fn make_header(&mut self, program: u32, adjacencies: &Adjacencies) -> Option<()> {
        let Some(&Compiled::Encap(encap)) = self.get(program) else { return None };
        let header = adjacencies.get(encap.adjacency)?.make_header(encap.vni, self.version)?;
        *self.headers.get_mut(program as usize)? = header;
        Some(())
    }

    /// The header that a program writes, where it has been made.
    #[inline(always)]
    pub(crate) fn cached_header(&self, program: u32) -> Option<&CachedHeader> {
        self.headers
            .get(program as usize)
            .filter(|header| header.version() & !CachedHeader::MARKS == self.version)
    }

    /// The headers of the first of some programs, as many as have been made and send their packets out of one port. The
    /// first program's header is `first`.
    #[inline(always)]
    pub(crate) fn cached_header_for_one_port<'a>(
        &'a self,
        first: &'a CachedHeader,
        programs: &[u32],
        headers: &mut [&'a CachedHeader; BURST],
    ) -> OnePort {
        // The tunnel may differ.
        const COMMON: u64 = !CachedHeader::MARKS as u64 | 0xffff << 32;
        let (mut count, mut different) = (0, 0);
        for (program, place) in programs.iter().zip(headers) {
            let Some(header) = self.headers.get(*program as usize) else { break };
            let word = header.word ^ first.word;
            if word & COMMON != 0 {
                break;
            }
            *place = header;
            different |= word;
            count += 1;
        }
        let marks = (first.version() | different as u32) & CachedHeader::MARKS;
        OnePort { count, marks, one_tunnel: different >> 48 == 0 }
    }

    /// Asks for what [`Programs::made`] gives of each, unless all headers are so few that they are near anyway.
    #[inline(always)]
    pub(crate) fn prefetch(&self, programs: &[u32]) {
        if self.defined <= NEAR {
            return;
        }
        for program in programs {
            if let Some(header) = self.headers.get(*program as usize) {
                rte::prefetch(header);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adjacency::{Adjacency, Egress, Inherit, Reach};
    use std::net::{IpAddr, Ipv4Addr};
    use wire::addr::MacAddr;
    use wire::tunnel::encap::{EncapAddrs, EncapSpec, EncapTemplate};
    use wire::tunnel::{HeaderOptions, vxlan};

    fn encap(vni: u32) -> Compiled {
        Compiled::Encap(Encap { adjacency: AdjacencyId(0), vni })
    }

    /// One adjacency that can send.
    fn adjacencies() -> Adjacencies {
        let address = |n| IpAddr::V4(Ipv4Addr::new(192, 168, 1, n));
        let template = EncapTemplate::new(&EncapSpec {
            eth_src: MacAddr::ZERO,
            eth_dst: MacAddr::ZERO,
            vlan_tci: None,
            addrs: EncapAddrs::new(address(1), address(2)).unwrap(),
            df: true,
            udp_dst: 4789,
            format: &vxlan::FORMAT,
            options: HeaderOptions::NONE,
        });
        let fixed = template.fixed_v4();
        let egress = Egress::Ops(Box::new([Op::Output(PortId(7))]));
        let reach = Reach::Ready { template, fixed, egress };
        let adjacency = Adjacency::new(PortId(3), reach, Inherit::Fixed(0), Inherit::Fixed(64));
        let mut all = Adjacencies::new(1);
        assert!(all.define(AdjacencyId(0), Box::new(adjacency)).is_none());
        all
    }

    fn vni(header: Option<&CachedHeader>) -> Option<u8> {
        let mut room = [0; 50];
        header?.write_ready(&mut room, 60, 0);
        Some(room[48])
    }

    #[test]
    fn a_header_is_its_programs() {
        let (mut programs, adjacencies) = (Programs::new(2), adjacencies());
        assert!(programs.define(0, encap(5)).is_none());
        assert_eq!(vni(programs.cached_header(0)), None, "not asked for yet");
        assert_eq!(vni(programs.header(0, &adjacencies)), Some(5));
        assert_eq!(vni(programs.cached_header(0)), Some(5));
        assert!(programs.define(0, encap(6)).is_some());
        assert_eq!(vni(programs.cached_header(0)), None, "another VNI");
        assert_eq!(vni(programs.header(0, &adjacencies)), Some(6));
        programs.define(0, Compiled::Output(PortId(1)));
        assert_eq!(vni(programs.header(0, &adjacencies)), None);
        assert_eq!(vni(programs.header(1, &adjacencies)), None, "no program");
        assert_eq!(vni(programs.header(2, &adjacencies)), None, "no such number");
    }

    #[test]
    fn programs_beyond_the_headers_have_none() {
        let (mut programs, adjacencies) = (Programs::new(MAX_HEADERS + 1), adjacencies());
        for (number, header) in [(MAX_HEADERS as u32 - 1, Some(5)), (MAX_HEADERS as u32, None)] {
            assert!(programs.define(number, encap(5)).is_none());
            assert_eq!(vni(programs.header(number, &adjacencies)), header);
            assert!(matches!(programs.get(number), Some(Compiled::Encap(_))));
            assert!(programs.define(number, Compiled::Output(PortId(1))).is_some());
        }
    }

    #[test]
    fn a_change_of_adjacencies_makes_all_headers_old_also_when_versions_start_over() {
        let (mut programs, adjacencies) = (Programs::new(2), adjacencies());
        for (number, compiled) in [(0, encap(5)), (1, encap(6))] {
            programs.define(number, compiled);
        }
        assert_eq!(vni(programs.header(0, &adjacencies)), Some(5));
        programs.adjacencies_changed();
        assert_eq!(vni(programs.cached_header(0)), None);
        programs.version = CachedHeader::SHORT - 1;
        assert_eq!(vni(programs.header(1, &adjacencies)), Some(6));
        programs.adjacencies_changed();
        assert_eq!(programs.version, 1, "what the first program's header was made of");
        assert_eq!((vni(programs.cached_header(0)), vni(programs.cached_header(1))), (None, None));
        assert_eq!(vni(programs.header(0, &adjacencies)), Some(5));
    }

    #[test]
    fn headers_for_one_port_are_told_from_headers_for_several() {
        let (mut programs, adjacencies) = (Programs::new(4), adjacencies());
        for number in 0..3 {
            programs.define(number, encap(number));
            assert!(programs.header(number, &adjacencies).is_some());
        }
        let of = |programs: &Programs, numbers: &[u32]| {
            let first = programs.cached_header(numbers[0]).expect("it has been made");
            let OnePort { count, marks, one_tunnel } =
                programs.cached_header_for_one_port(first, numbers, &mut [&CachedHeader::NONE; BURST]);
            (count, marks, one_tunnel)
        };
        let word = |marks, egress, tunnel| CachedHeader::pack(1 | marks, PortId(egress), PortId(tunnel));
        assert_eq!(of(&programs, &[0, 1, 2, 0]), (4, 0, true));
        programs.headers[1].word = word(0, 7, 9);
        assert_eq!(of(&programs, &[0, 1, 2]), (3, 0, false), "tunnels may differ");
        programs.headers[2].word = word(CachedHeader::INHERITS, 7, 3);
        assert_eq!(of(&programs, &[0, 1, 2]), (3, CachedHeader::INHERITS, false));
        assert_eq!(of(&programs, &[2, 0]), (2, CachedHeader::INHERITS, true));
        assert_eq!(of(&programs, &[0, 1]), (2, 0, false));
        programs.headers[1].word = word(0, 8, 9);
        assert_eq!(of(&programs, &[0, 0, 1, 2]), (2, 0, true));
        assert_eq!(of(&programs, &[0, 3]), (1, 0, true), "not made");
    }
}
