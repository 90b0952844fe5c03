//! Whether EAL runs, and what lives in its memory.

use crate::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where EAL is in its life, and how many objects live in its memory.
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) live: usize,
}

#[derive(PartialEq, Eq)]
pub(crate) enum Phase {
    Before,
    Running,
    After,
}

static STATE: Mutex<State> = Mutex::new(State { phase: Phase::Before, live: 0 });

pub(crate) fn state() -> MutexGuard<'static, State> {
    // The state is consistent after every statement, so a panic elsewhere does not spoil it.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Proof that EAL runs, held by whatever lives in its memory: [`crate::Eal::cleanup`] unmaps that.
pub(crate) struct Alive(());

impl Alive {
    /// Fails before [`crate::Eal::init`] and after [`crate::Eal::cleanup`].
    pub(crate) fn new() -> Result<Alive, Error> {
        let mut state = state();
        if state.phase != Phase::Running {
            return Err(Error::NotInitialised);
        }
        state.live += 1;
        Ok(Alive(()))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        state().live -= 1;
    }
}
