//! The megaflow table: a worker's tuple space search from a flow key to a megaflow.
//!
//! A *megaflow* is a masked key and the number of the program that handles whatever matches it. It sits
//! in a *slot* of the worker's [`Slab`]: one cache line with key words, program and statistics. All
//! megaflows of one in-port that share a mask form a *subtable*; a lookup goes through the in-port's
//! subtables, the most hit first, and any match is the right answer, because translation never makes two
//! megaflows that overlap and disagree. All subtables share one hash index.
//!
//! Two cases are cheaper still: an in-port with a megaflow that looks at nothing else keeps its slot in
//! the port's entry (no hashing at all), and a mask of up to five key words, besides the in-port, is
//! compared in the megaflow's own cache line. A wider one takes an extra line or two.
//!
//! The worker owns its table through `&mut`; after construction nothing here allocates. The slow path
//! decides which megaflow goes to which slot and tells the worker; it reads statistics from the [`Slab`].

mod burst;
mod index;
mod slab;
mod subtable;
#[cfg(test)]
mod tests;
mod view;

pub use slab::Slab;

pub(crate) use burst::List;
pub(crate) use slab::Lines;
pub(crate) use view::View;

use burst::Scratch;
use core::sync::atomic::Ordering::Relaxed;
use index::Index;
use slab::{BYTES, PACKETS, STATE, VALID, WORDS};
use std::sync::Arc;
use subtable::{INLINE, NONE, Secrets, Shape, Subtable, Wide};
use view::state_tag;
use wire::key::{FlowKey, FlowMask};

/// What a lookup says instead of a slot when no megaflow matches.
pub const MISS: u32 = u32::MAX;
/// Packets that the burst lookups take at a time; longer slices are cut.
pub const BURST: usize = 32;
/// Subtables of a worker, over all its in-ports.
pub const MAX_SUBTABLES: usize = 4096;
/// In-ports that one [`MegaflowTable::resort`] looks at.
const RESORT_PORTS: usize = 64;

/// Why a megaflow was not inserted. The table is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InsertError {
    /// The slot is not one of the slab's.
    #[error("megaflow slot {slot}: expected one below {slots}")]
    SlotOutOfRange {
        /// The slot.
        slot: u32,
        /// Slots of the slab.
        slots: usize,
    },
    /// The slot holds a megaflow already.
    #[error("megaflow slot {slot} is in use: expected a free one")]
    SlotBusy {
        /// The slot.
        slot: u32,
    },
    /// The key's in-port is too big for the table.
    #[error("in_port {in_port}: expected one below {max_ports}")]
    PortOutOfRange {
        /// The key's in-port.
        in_port: u32,
        /// Bound of the table.
        max_ports: usize,
    },
    /// The mask leaves out bits of the in-port.
    #[error("in_port mask {mask:#x}: expected 0xffffffff, every megaflow belongs to one in_port")]
    PortMasked {
        /// The mask's in-port.
        mask: u32,
    },
    /// The same masked key is installed in another slot; change that one's program instead.
    #[error("the same megaflow is installed in slot {slot}: expected a new one")]
    Duplicate {
        /// Where it is.
        slot: u32,
    },
    /// A new subtable was needed and there is none.
    #[error("more than {MAX_SUBTABLES} pairs of in_port and mask: expected no more")]
    SubtablesFull,
}

/// What the table knows of an in-port.
#[derive(Clone, Copy)]
struct PortEntry {
    /// Slot of the megaflow that matches everything from this port, or [`MISS`].
    match_all: u32,
    /// First subtable, or [`NONE`].
    head: u16,
    /// Subtables, without the one of `match_all`.
    subtables: u16,
}

impl PortEntry {
    const EMPTY: PortEntry = PortEntry { match_all: MISS, head: NONE, subtables: 0 };
}

/// A worker's megaflows; see the [module](self).
pub struct MegaflowTable {
    slab: Arc<Slab>,
    index: Index,
    /// Words beyond the first [`INLINE`], a record a slot.
    extras: Lines<u64, 32>,
    ports: Box<[PortEntry]>,
    subtables: Box<[Subtable]>,
    wides: Box<[Wide]>,
    secrets: Secrets,
    /// Hits of each subtable since about the last [`MegaflowTable::resort`].
    heat: Box<[u32]>,
    /// Megaflows of each subtable.
    population: Box<[u32]>,
    /// Numbers of free subtables.
    free: Vec<u16>,
    /// Room to sort a port's subtables.
    order: Vec<u16>,
    /// In-port where the next resort begins.
    resort_at: usize,
    len: usize,
    /// Megaflows up to which the table is a small one: [`burst::SMALL`].
    small: usize,
    scratch: Box<Scratch>,
}

/// See [`MegaflowTable::accounts`].
pub struct Accounts<'a> {
    lines: &'a [slab::Line],
}

impl Accounts<'_> {
    /// Counts packets and bytes for the megaflow in `slot`; its program, 0 if there is no such slot.
    #[inline(always)]
    pub fn add(&self, slot: u32, packets: u64, bytes: u64) -> u32 {
        let Some(line) = self.lines.get(slot as usize) else { return 0 };
        slab::add(line, packets, bytes);
        line[STATE].load(Relaxed) as u32
    }
}

impl MegaflowTable {
    /// An empty table over all slots of `slab`, for in-ports below `max_ports`.
    ///
    /// All memory is asked for here; that of slots, extra words and buckets is used up as megaflows come.
    ///
    /// # Panics
    /// When the slab has a table already, or there is no memory.
    pub fn new(slab: Arc<Slab>, max_ports: usize) -> Self {
        slab.claim();
        let secrets = Secrets::random();
        MegaflowTable {
            index: Index::new(slab.slots()),
            extras: Lines::new(slab.slots()),
            ports: vec![PortEntry::EMPTY; max_ports].into(),
            subtables: vec![Subtable::FREE; MAX_SUBTABLES].into(),
            wides: vec![Wide::FREE; MAX_SUBTABLES].into(),
            secrets,
            heat: vec![0; MAX_SUBTABLES].into(),
            population: vec![0; MAX_SUBTABLES].into(),
            free: (0..MAX_SUBTABLES as u16).rev().collect(),
            order: Vec::with_capacity(MAX_SUBTABLES),
            resort_at: 0,
            len: 0,
            small: burst::SMALL,
            scratch: Box::default(),
            slab,
        }
    }

    /// The parts that lookups read.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_> {
        View {
            lines: self.slab.lines(),
            buckets: self.index.buckets(),
            extras: self.extras.records(),
            subtables: &self.subtables,
            wides: &self.wides,
            secrets: &self.secrets,
        }
    }

    /// Puts a megaflow into the free slot `slot`: packets that agree with `key` on every bit of `mask` run
    /// `program`. Its statistics start at zero.
    ///
    /// `mask` must have all bits of `in_port`; bits of `key` outside of `mask` do not count.
    pub fn insert(
        &mut self,
        slot: u32,
        key: &FlowKey,
        mask: &FlowMask,
        program: u32,
    ) -> Result<(), InsertError> {
        let slots = self.slab.slots();
        if slot as usize >= slots {
            return Err(InsertError::SlotOutOfRange { slot, slots });
        }
        if self.is_used(slot) {
            return Err(InsertError::SlotBusy { slot });
        }
        if mask.in_port != u32::MAX {
            return Err(InsertError::PortMasked { mask: mask.in_port });
        }
        let Some(&port) = self.ports.get(key.in_port as usize) else {
            return Err(InsertError::PortOutOfRange { in_port: key.in_port, max_ports: self.ports.len() });
        };
        let shape = Shape::new(mask);
        let known = if shape.len == 0 { None } else { self.subtable(port, &shape) };
        let twin = if shape.len == 0 {
            Some(port.match_all).filter(|&match_all| match_all != MISS)
        } else {
            known.and_then(|id| self.view().find(id, key))
        };
        if let Some(slot) = twin {
            return Err(InsertError::Duplicate { slot });
        }
        let id = match known {
            Some(id) => id,
            None => self.add_subtable(key.in_port, &shape).ok_or(InsertError::SubtablesFull)?,
        };

        let (subtable, wide) = (&self.subtables[id as usize], &self.wides[id as usize]);
        let words = subtable.compress(key);
        let extra = subtable.extra();
        if shape.len == 0 {
            self.ports[key.in_port as usize].match_all = slot;
        } else {
            let hash = self.view().hash(id, &words, key);
            if extra > 0 {
                self.extras.records_mut()[slot as usize] =
                    core::array::from_fn(|i| if i < extra { wide.word(key, i) } else { 0 });
            }
            self.index.insert(hash, slot);
        }
        let line = &self.slab.lines()[slot as usize];
        for (cell, word) in line[WORDS..].iter().zip(words) {
            cell.store(word, Relaxed);
        }
        line[PACKETS].store(0, Relaxed);
        line[BYTES].store(0, Relaxed);
        line[STATE].store(state_tag(id) << 32 | u64::from(program), Relaxed);
        self.population[id as usize] += 1;
        self.len += 1;
        Ok(())
    }

    /// Takes the megaflow out of `slot` and gives its final packets and bytes; `None` when the slot is free.
    pub fn remove(&mut self, slot: u32) -> Option<(u64, u64)> {
        let line = self.slab.lines().get(slot as usize)?;
        let state = line[STATE].load(Relaxed);
        if state & VALID == 0 {
            return None;
        }
        let id = (state >> 32) as u16;
        let subtable = &self.subtables[id as usize];
        if subtable.len == 0 {
            self.ports[subtable.in_port as usize].match_all = MISS;
        } else {
            // The key as far as the mask shows it: all that the hash looks at.
            let mut key = FlowKey::ZERO;
            for i in 0..INLINE.min(subtable.len as usize) {
                key.words_mut()[subtable.words[i] as usize] = line[WORDS + i].load(Relaxed);
            }
            let wide = &self.wides[id as usize];
            for i in 0..subtable.extra() {
                key.words_mut()[wide.words[i] as usize] = self.extras.records()[slot as usize][i];
            }
            let hash = self.view().hash(id, &subtable.compress(&key), &key);
            let found = self.index.remove(hash, slot);
            debug_assert!(found, "slot {slot} is valid but not in the index");
        }
        let line = &self.slab.lines()[slot as usize];
        line[STATE].store(0, Relaxed);
        let stats = slab::stats(line);
        // Whoever reads the slot before the next megaflow is in it must not take these for that one's.
        line[PACKETS].store(0, Relaxed);
        line[BYTES].store(0, Relaxed);
        self.population[id as usize] -= 1;
        if self.population[id as usize] == 0 {
            self.drop_subtable(id);
        }
        self.len -= 1;
        Some(stats)
    }

    /// Gives the megaflow in `slot` another program; false when the slot is free.
    pub fn set_program(&mut self, slot: u32, program: u32) -> bool {
        let used = self.is_used(slot);
        if used {
            let state = &self.slab.lines()[slot as usize][STATE];
            state.store(state.load(Relaxed) >> 32 << 32 | u64::from(program), Relaxed);
        }
        used
    }

    /// Program of the megaflow in `slot`, which must be one that a lookup gave; 0 for a free slot.
    #[inline(always)]
    pub fn program(&self, slot: u32) -> u32 {
        self.slab.lines().get(slot as usize).map_or(0, |line| line[STATE].load(Relaxed) as u32)
    }

    /// Counts packets and bytes for the megaflow in `slot`.
    #[inline(always)]
    pub fn account(&mut self, slot: u32, packets: u64, bytes: u64) {
        slab::count(self.slab.lines(), slot, packets, bytes);
    }

    /// Counts a looked-up burst: packet `i` of `bytes[i]` bytes for the megaflow in `hits[i]`, unless that
    /// is [`MISS`]. Runs of packets of one megaflow are counted at once.
    #[inline]
    pub fn account_burst(&mut self, hits: &[u32], bytes: &[u32]) {
        let lines = self.slab.lines();
        let (mut run, mut packets, mut total) = (MISS, 0, 0);
        for (&slot, &bytes) in hits.iter().zip(bytes) {
            if slot != run {
                slab::count(lines, run, packets, total);
                (run, packets, total) = (slot, 0, 0);
            }
            packets += 1;
            total += u64::from(bytes);
        }
        slab::count(lines, run, packets, total);
    }

    /// The counters of all megaflows, for a burst whose packets are counted one by one: nothing is looked up twice.
    #[inline(always)]
    pub fn accounts(&mut self) -> Accounts<'_> {
        Accounts { lines: self.slab.lines() }
    }

    /// [`MegaflowTable::account_burst`] packet by packet, with their programs, 0 for a [`MISS`]: the quicker the fewer
    /// neighbours of a burst share a megaflow.
    #[inline]
    pub fn take_burst(&mut self, hits: &[u32], bytes: &[u32], programs: &mut [u32]) {
        let accounts = self.accounts();
        for ((&slot, &bytes), program) in hits.iter().zip(bytes).zip(programs) {
            *program = accounts.add(slot, 1, u64::from(bytes));
        }
    }

    /// Whether the megaflow in `slot`, if there is one, matches `key`: how the flow cache verifies.
    #[inline]
    pub fn matches(&self, slot: u32, key: &FlowKey) -> bool {
        self.view().matches(slot, key)
    }

    /// The slot of a megaflow that matches `key`: the plain way, without bursts and without counting hits.
    pub fn lookup(&self, key: &FlowKey) -> Option<u32> {
        let port = self.ports.get(key.in_port as usize)?;
        if port.match_all != MISS {
            return Some(port.match_all);
        }
        let view = self.view();
        let mut id = port.head;
        while id != NONE {
            if let Some(slot) = view.find(id, key) {
                return Some(slot);
            }
            id = self.subtables[id as usize].next;
        }
        None
    }

    /// Removes every megaflow.
    pub fn clear(&mut self) {
        let lines = self.slab.lines();
        self.index.drain(|slot| lines[slot as usize][STATE].store(0, Relaxed));
        for port in &mut self.ports {
            if port.match_all != MISS {
                lines[port.match_all as usize][STATE].store(0, Relaxed);
            }
            *port = PortEntry::EMPTY;
        }
        self.subtables.fill(Subtable::FREE);
        self.population.fill(0);
        self.free.clear();
        self.free.extend((0..MAX_SUBTABLES as u16).rev());
        self.len = 0;
    }

    /// Megaflows installed.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no megaflow.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The megaflow that matches everything from `in_port`, if there is one: then no packet from there
    /// needs a key to be looked up.
    #[inline(always)]
    pub fn match_all(&self, in_port: u32) -> Option<u32> {
        self.ports.get(in_port as usize).map(|port| port.match_all).filter(|slot| *slot != MISS)
    }

    /// [`MegaflowTable::match_all`] for packets of several in-ports: slots go to `hits` and programs to `programs`. Gives
    /// the packets without such a megaflow, as bits; they have [`MISS`].
    #[inline]
    pub fn match_all_burst(
        &self,
        in_ports: impl Iterator<Item = u32>,
        hits: &mut [u32],
        programs: &mut [u32],
    ) -> u32 {
        let (ports, lines) = (&self.ports[..], self.slab.lines());
        let mut missed = 0;
        for (at, ((in_port, hit), program)) in in_ports.zip(hits).zip(programs).enumerate().take(BURST) {
            let slot = ports.get(in_port as usize).map_or(MISS, |port| port.match_all);
            *hit = slot;
            match lines.get(slot as usize) {
                Some(line) => *program = line[STATE].load(Relaxed) as u32,
                None => missed |= 1 << at,
            }
        }
        missed
    }

    /// Whether all ordinary frames of an in-port can be looked up here by their hot keys: it has one or two masks, which
    /// look at nothing else.
    #[inline(always)]
    pub fn is_hot(&self, in_port: u32) -> bool {
        self.hot_subtables(in_port).is_some()
    }

    /// The subtables of an in-port for which [`MegaflowTable::is_hot`]; [`NONE`] instead of a second.
    #[inline(always)]
    fn hot_subtables(&self, in_port: u32) -> Option<(u16, u16)> {
        let port = self.port(in_port);
        let first = self.subtables.get(port.head as usize)?;
        let ours = port.match_all == MISS && first.is_hot;
        if first.next == NONE {
            return ours.then_some((port.head, NONE));
        }
        let second = self.subtables.get(first.next as usize)?;
        (ours && second.is_hot && second.next == NONE).then_some((port.head, first.next))
    }

    /// Masks of an in-port besides that of the megaflow that matches everything.
    #[inline(always)]
    pub fn subtables(&self, in_port: u32) -> u16 {
        self.port(in_port).subtables
    }

    /// Different masks among the megaflows of `in_port`: what a lookup may have to try.
    #[inline]
    pub fn masks(&self, in_port: u32) -> usize {
        self.ports
            .get(in_port as usize)
            .map_or(0, |port| port.subtables as usize + usize::from(port.match_all != MISS))
    }

    /// Bytes that one megaflow costs in a full table: its line and its share of the index. A mask of more
    /// than five words besides the in-port costs 64 or 128 more.
    pub fn bytes_per_megaflow(&self) -> f64 {
        (self.slab.bytes() + self.index.bytes()) as f64 / self.slab.slots().max(1) as f64
    }

    /// The large arrays (slots, index, extra words), for `madvise`: address and length in bytes, 256 KiB and
    /// more as whole 2 MiB pages.
    pub fn regions(&self) -> [(*const u8, usize); 3] {
        [self.slab.region(), self.index.region(), self.extras.region()]
    }

    /// Puts the subtables that were hit most of late first, for the next 64 in-ports; call it
    /// now and then, away from packets (every few thousand bursts suffices). Old hits fade.
    pub fn resort(&mut self) {
        for _ in 0..RESORT_PORTS.min(self.ports.len()) {
            let at = self.resort_at;
            self.resort_at = (at + 1) % self.ports.len();
            let port = &mut self.ports[at];
            if port.subtables < 2 {
                continue;
            }
            self.order.clear();
            let mut id = port.head;
            while id != NONE {
                self.order.push(id);
                id = self.subtables[id as usize].next;
            }
            self.order.sort_unstable_by_key(|&id| core::cmp::Reverse(self.heat[id as usize]));
            port.head = self.order[0];
            for (i, &id) in self.order.iter().enumerate() {
                self.subtables[id as usize].next = self.order.get(i + 1).copied().unwrap_or(NONE);
                self.heat[id as usize] /= 2;
            }
        }
    }

    /// What the table knows of the in-port, by value; nothing of one out of range.
    #[inline(always)]
    fn port(&self, in_port: u32) -> PortEntry {
        self.ports.get(in_port as usize).copied().unwrap_or(PortEntry::EMPTY)
    }

    /// Whether `slot` holds a megaflow.
    fn is_used(&self, slot: u32) -> bool {
        self.slab.lines().get(slot as usize).is_some_and(|line| line[STATE].load(Relaxed) & VALID != 0)
    }

    /// The port's subtable of this shape.
    fn subtable(&self, port: PortEntry, shape: &Shape) -> Option<u16> {
        let mut id = port.head;
        while id != NONE {
            let subtable = &self.subtables[id as usize];
            if subtable.is(&self.wides[id as usize], shape) {
                return Some(id);
            }
            id = subtable.next;
        }
        None
    }

    /// Takes a free subtable and appends it to the port's list, unless it is of the mask of nothing: that
    /// one needs no looking for.
    fn add_subtable(&mut self, in_port: u32, shape: &Shape) -> Option<u16> {
        let id = self.free.pop()?;
        let (subtable, wide) = Subtable::new(in_port, shape, self.secrets.seed(id));
        self.subtables[id as usize] = subtable;
        self.wides[id as usize] = wide;
        self.heat[id as usize] = 0;
        if shape.len > 0 {
            let port = &mut self.ports[in_port as usize];
            port.subtables += 1;
            let mut link = &mut port.head;
            while *link != NONE {
                link = &mut self.subtables[*link as usize].next;
            }
            *link = id;
        }
        Some(id)
    }

    /// Frees an empty subtable.
    fn drop_subtable(&mut self, id: u16) {
        let Subtable { in_port, next, len, .. } = self.subtables[id as usize];
        if len > 0 {
            let port = &mut self.ports[in_port as usize];
            port.subtables -= 1;
            let mut link = &mut port.head;
            while *link != id {
                link = &mut self.subtables[*link as usize].next;
            }
            *link = next;
        }
        self.subtables[id as usize] = Subtable::FREE;
        self.free.push(id);
    }
}

impl Drop for MegaflowTable {
    fn drop(&mut self) {
        self.clear();
        self.slab.release();
    }
}
