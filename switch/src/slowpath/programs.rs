//! Programs by number: equal programs share one, whichever worker and megaflow uses it.

use crate::tunnel::next_hop::ProgramUse;
use flow::program::{Program, ProgramId};
use rustc_hash::FxHashMap;

/// The program numbers of the switch.
#[derive(Debug)]
pub struct Programs {
    ids: FxHashMap<Program, ProgramId>,
    /// Program and users, by number.
    entries: Vec<(Option<Program>, usize)>,
    free: Vec<ProgramId>,
    limit: usize,
    /// Which adjacencies the programs name.
    pub(super) uses: ProgramUse,
}

impl Programs {
    /// Room for `limit` different programs: what the workers' tables hold.
    pub fn new(limit: usize) -> Programs {
        Programs {
            ids: FxHashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            limit,
            uses: ProgramUse::default(),
        }
    }

    /// The number of a program, with one user more. The second value says that the workers do not have it
    /// under this number yet. `None` when all numbers are taken.
    pub fn acquire(&mut self, program: &Program) -> Option<(ProgramId, bool)> {
        if let Some(id) = self.ids.get(program) {
            self.entries[id.0 as usize].1 += 1;
            return Some((*id, false));
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.entries.len() < self.limit => {
                self.entries.push((None, 0));
                ProgramId(self.entries.len() as u32 - 1)
            }
            None => return None,
        };
        self.entries[id.0 as usize] = (Some(program.clone()), 1);
        self.ids.insert(program.clone(), id);
        self.uses.hold(program);
        Some((id, true))
    }

    /// One user less. A number without users is given to another program later; workers may still hold
    /// the old one under it, but no megaflow of theirs can name it: commands arrive in order.
    pub fn release(&mut self, id: ProgramId) {
        let (program, users) = &mut self.entries[id.0 as usize];
        *users -= 1;
        if *users == 0
            && let Some(program) = program.take()
        {
            self.ids.remove(&program);
            self.uses.release(&program);
            self.free.push(id);
        }
    }

    /// The program of a number in use.
    pub fn get(&self, id: ProgramId) -> Option<&Program> {
        self.entries.get(id.0 as usize)?.0.as_ref()
    }

    /// Those in use.
    pub fn all(&self) -> impl Iterator<Item = &Program> {
        self.ids.keys()
    }

    /// Different programs in use.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::drop::DropReason;

    #[test]
    fn equal_programs_share_a_number_until_the_last_user_goes() {
        let mut programs = Programs::new(2);
        let (a, b) = (Program::dropping(DropReason::Rule), Program::dropping(DropReason::NoMatch));
        let (id_a, new) = programs.acquire(&a).unwrap();
        assert!(new);
        assert_eq!(programs.acquire(&a), Some((id_a, false)));
        let (id_b, _) = programs.acquire(&b).unwrap();
        assert_eq!(programs.acquire(&Program::dropping(DropReason::NoRoute)), None, "full");
        programs.release(id_a);
        assert_eq!(programs.get(id_a), Some(&a), "one user left");
        programs.release(id_a);
        assert_eq!(programs.get(id_a), None);
        assert_eq!(programs.get(id_b), Some(&b));
        assert_eq!(programs.acquire(&Program::dropping(DropReason::NoRoute)), Some((id_a, true)));
    }
}
