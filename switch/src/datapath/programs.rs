//! What a worker keeps by program number: the programs, and the headers that they put in front of packets.

use super::BURST;
use super::adjacency::{Adjacencies, Header};
use flow::drop::DropReason;
use flow::program::{AdjacencyId, Op, Policy, PortId, Program};
use zerocopy::FromZeros;

/// A program as a worker keeps it: the common ones are single operations.
#[derive(Debug)]
pub(super) enum Compiled {
    /// One output.
    Output(PortId),
    /// One encapsulation.
    Encap(Encap),
    /// A drop.
    Drop(DropReason),
    /// Anything else.
    Ops(Box<Program>),
}

/// An encapsulation without a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encap {
    /// Header and way.
    pub adjacency: AdjacencyId,
    /// VNI.
    pub vni: u32,
}

impl Compiled {
    /// Compiles a program; gives the box back where it is not needed any more.
    pub(super) fn new(program: Box<Program>) -> (Compiled, Option<Box<Program>>) {
        let single = match *program.ops {
            [] => Compiled::Drop(program.drop),
            [Op::Output(port)] => Compiled::Output(port),
            [Op::Encap { adjacency, vni, policy }] if policy == Policy::default() => {
                Compiled::Encap(Encap { adjacency, vni })
            }
            _ => return (Compiled::Ops(program), None),
        };
        (single, Some(program))
    }
}

/// The programs of one worker, by number, each beside the header that it writes: a packet's megaflow names the
/// program, and one line further on is all that sending it takes.
pub(super) struct Programs {
    all: Box<[Option<Compiled>]>,
    /// Made when they are first asked for, and again when adjacencies have changed since.
    headers: Box<[Header]>,
    /// Of when headers have to be.
    version: u32,
}

impl Programs {
    /// Room for so many.
    ///
    /// # Panics
    /// When there is no memory for them.
    pub(super) fn new(count: usize) -> Programs {
        let Ok(headers) = <[Header]>::new_box_zeroed_with_elems(count) else {
            panic!("no memory for the headers of {count} programs");
        };
        Programs { all: (0..count).map(|_| None).collect(), headers, version: 1 }
    }

    /// The program of a number.
    #[inline(always)]
    pub(super) fn get(&self, program: u32) -> Option<&Compiled> {
        self.all.get(program as usize)?.as_ref()
    }

    /// Takes a program out of its place, to run it.
    #[inline(always)]
    pub(super) fn take(&mut self, program: u32) -> Option<Compiled> {
        self.all.get_mut(program as usize)?.take()
    }

    /// Gives a number another program, and the old one back. What has no place is dropped.
    pub(super) fn define(&mut self, program: u32, compiled: Compiled) -> Option<Compiled> {
        *self.headers.get_mut(program as usize)? = Header::NONE;
        self.all.get_mut(program as usize)?.replace(compiled)
    }

    /// Puts back what [`Programs::take`] took.
    pub(super) fn put_back(&mut self, program: u32, compiled: Compiled) {
        if let Some(place) = self.all.get_mut(program as usize) {
            *place = Some(compiled);
        }
    }

    /// No header is what it was made from any more.
    pub(super) fn adjacencies_changed(&mut self) {
        self.version += 1;
        if self.version == Header::INHERITS {
            self.headers.fill(Header::NONE);
            self.version = 1;
        }
    }

    /// The header that a program writes in one go, if it does that; made if need be.
    #[inline(always)]
    pub(super) fn header(&mut self, program: u32, adjacencies: &Adjacencies) -> Option<&Header> {
        if self.made(program).is_none() {
            self.make_header(program, adjacencies)?;
        }
        self.made(program)
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
    pub(super) fn made(&self, program: u32) -> Option<&Header> {
        self.headers.get(program as usize).filter(|header| header.version & !Header::INHERITS == self.version)
    }

    /// The headers of some programs, if all have been made and their packets leave by one port. With
    /// [`Header::INHERITS`] if TOS or TTL of some packets are to go into them.
    #[inline(always)]
    pub(super) fn made_for_one_port<'a>(
        &'a self,
        programs: &[u32],
        headers: &mut [&'a Header; BURST],
    ) -> Option<u32> {
        let first = self.made(*programs.first()?)?;
        let (mut differs, mut inherits) = (0, first.version);
        for (program, header) in programs.iter().zip(headers) {
            *header = self.headers.get(*program as usize)?;
            // Version, egress and tunnel are one word; of the tunnel each packet may have its own.
            differs |= header.way() ^ first.way();
            inherits |= header.version;
        }
        let one_port = Header::INHERITS.wrapping_sub(1) as u64 | 0xffff << 32;
        (differs & one_port == 0).then_some(inherits & Header::INHERITS)
    }

    /// Asks for what [`Programs::made`] gives.
    #[inline(always)]
    pub(super) fn prefetch(&self, program: u32) {
        if let Some(header) = self.headers.get(program as usize) {
            rte::prefetch(header);
        }
    }
}
