//! What packets for controllers come with.
//!
//! A program names it by a number: it is too much to stand in an op, and has parts that workers could not free.

use flow::ofp::{Match, PacketReason};
use flow::program::ControllerMessageId;
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::RefCell;
use std::sync::Arc;

/// Messages before any are looked through for those that no program names.
const MOST_UNUSED: usize = 1024;

/// What a packet for controllers comes with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ControllerMessage {
    /// Why it comes.
    pub reason: PacketReason,
    /// Number of the controllers that get it.
    pub controller: u16,
    /// Table of the rule whose action it was.
    pub table: u8,
    /// Cookie of the rule; `None` where no rule sent it.
    pub cookie: Option<u64>,
    /// The action's own data.
    pub userdata: Vec<u8>,
    /// The port that the packet came in by, and the registers, metadata and tunnel fields that actions had set by then.
    pub metadata: Match,
}

/// The messages that programs name: equal ones have one number.
#[derive(Debug, Default)]
pub struct ControllerMessages(RefCell<Table>);

#[derive(Debug, Default)]
struct Table {
    ids: FxHashMap<Arc<ControllerMessage>, u32>,
    messages: FxHashMap<u32, Arc<ControllerMessage>>,
    /// Those asked for since the last sweep: their programs may not be installed yet, or already gone while
    /// packets of theirs are still queued.
    recent: FxHashSet<u32>,
    last: u32,
    /// How many there were after the last sweep.
    kept: usize,
}

impl ControllerMessages {
    /// The number of a message.
    pub fn id_of(&self, message: ControllerMessage) -> ControllerMessageId {
        let mut table = self.0.borrow_mut();
        let known = table.ids.get(&message).copied();
        let id = known.unwrap_or_else(|| {
            table.last = table.last.wrapping_add(1);
            let (id, message) = (table.last, Arc::new(message));
            table.ids.insert(Arc::clone(&message), id);
            table.messages.insert(id, message);
            id
        });
        table.recent.insert(id);
        ControllerMessageId(id)
    }

    /// The message with a number.
    pub fn get(&self, ControllerMessageId(id): ControllerMessageId) -> Option<Arc<ControllerMessage>> {
        self.0.borrow().messages.get(&id).cloned()
    }

    /// Whether there are so many that [`ControllerMessages::sweep`] is due.
    pub fn is_crowded(&self) -> bool {
        let table = self.0.borrow();
        table.messages.len() > MOST_UNUSED + 2 * table.kept
    }

    /// Forgets the messages that are not among `named`, and that nobody asked for since the last time.
    pub fn sweep(&self, named: &FxHashSet<ControllerMessageId>) {
        let table = &mut *self.0.borrow_mut();
        let recent = std::mem::take(&mut table.recent);
        let stays = |id: u32| recent.contains(&id) || named.contains(&ControllerMessageId(id));
        table.ids.retain(|_, id| stays(*id));
        table.messages.retain(|id, _| stays(*id));
        table.kept = table.messages.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(cookie: u64) -> ControllerMessage {
        ControllerMessage {
            reason: PacketReason::Action,
            controller: 0,
            table: 0,
            cookie: Some(cookie),
            userdata: Vec::new(),
            metadata: Match::ANY,
        }
    }

    #[test]
    fn a_message_stays_as_long_as_a_program_names_it() {
        let all = ControllerMessages::default();
        let [a, b] = [1, 2].map(|cookie| all.id_of(message(cookie)));
        assert!(a != b && a == all.id_of(message(1)));
        all.sweep(&FxHashSet::default());
        assert!(all.get(a).is_some() && all.get(b).is_some(), "both were asked for since the last sweep");
        all.sweep(&FxHashSet::from_iter([a]));
        assert!(all.get(a).is_some() && all.get(b).is_none());
        assert!(all.id_of(message(2)) != b, "a number means one message only");
        for cookie in 0..2000 {
            all.id_of(message(cookie));
        }
        assert!(all.is_crowded());
    }
}
