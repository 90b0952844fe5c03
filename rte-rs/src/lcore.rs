//! Lcores: EAL's threads, each pinned to its CPUs.

use crate::alive::Alive;
use dpdk_sys as sys;
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::{Receiver, sync_channel};

/// A worker lcore on which nothing runs: the sole right to launch something there. Not `Clone`.
#[derive(Debug)]
pub struct Lcore {
    id: u32,
}

/// What runs on an lcore now. [`Running::join`] gives the lcore back; dropping this without it lets the function
/// run on and loses the lcore.
#[must_use = "join it, or the lcore is lost"]
pub struct Running<R> {
    lcore: Lcore,
    result: Receiver<Result<R, Panicked>>,
}

/// The function on an lcore panicked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the function on lcore {lcore} panicked: {message}")]
pub struct Panicked {
    /// The lcore's id.
    pub lcore: u32,
    /// The panic's message, as far as it was text.
    pub message: String,
}

/// Id of the calling thread's lcore; `None` on a thread that EAL did not start. Such threads allocate and free
/// past the mempool's caches, at about half as much again in time.
pub fn lcore_id() -> Option<u32> {
    // SAFETY: reads a thread-local integer; needs no EAL.
    let id = unsafe { sys::vxs_lcore_id() };
    (id < sys::RTE_MAX_LCORE).then_some(id)
}

/// Whether no function runs on an lcore, or it is this thread. What it wrote before is seen then. EAL does not know
/// what the main lcore does.
pub(crate) fn is_idle(lcore: u32) -> bool {
    if lcore_id() == Some(lcore) {
        return true;
    }
    // SAFETY: reads EAL's tables, which are there before EAL runs and after; the id is below RTE_MAX_LCORE.
    let idle = unsafe {
        lcore < sys::RTE_MAX_LCORE
            && lcore != sys::rte_get_main_lcore()
            && sys::rte_eal_get_lcore_state(lcore) == sys::WAIT
    };
    // EAL stores the state after the function with release order, and reads it here without an order.
    fence(Ordering::Acquire);
    idle
}

pub(crate) fn socket(lcore: u32) -> u32 {
    if lcore >= sys::RTE_MAX_LCORE {
        return 0;
    }
    // SAFETY: reads EAL's table of RTE_MAX_LCORE entries, within its bounds.
    unsafe { sys::rte_lcore_to_socket_id(lcore) }
}

pub(crate) fn cpuset(lcore: u32) -> Vec<usize> {
    if lcore >= sys::RTE_MAX_LCORE {
        return Vec::new();
    }
    // SAFETY: copies an entry of EAL's table of RTE_MAX_LCORE entries, within its bounds.
    let set = unsafe { sys::rte_lcore_cpuset(lcore) };
    let bits = |(word, mask): (usize, &u64)| {
        let mask = *mask;
        (0..64).filter(move |bit| mask >> bit & 1 == 1).map(move |bit| word * 64 + bit)
    };
    set.__bits.iter().enumerate().flat_map(bits).collect()
}

type Job = Box<dyn FnOnce() + Send>;

impl Lcore {
    pub(crate) fn new(id: u32) -> Lcore {
        Lcore { id }
    }

    /// The lcore's id, as in EAL's `-l`.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// NUMA node of the lcore.
    pub fn socket(&self) -> u32 {
        socket(self.id)
    }

    /// CPUs that the lcore may run on.
    pub fn cpuset(&self) -> Vec<usize> {
        cpuset(self.id)
    }

    /// Runs `f` on the lcore's thread. A panic in it is caught and comes out of [`Running::join`].
    ///
    /// # Panics
    /// After [`crate::Eal::cleanup`], and if code outside this crate launched something on the lcore.
    pub fn launch<R, F>(self, f: F) -> Running<R>
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static,
    {
        let id = self.id;
        let alive = Alive::new().expect("EAL runs while its lcores are used");
        // Room for the one result: the sender never waits, whether or not anybody joins.
        let (sender, result) = sync_channel(1);
        let job: Job = Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(f))
                .map_err(|payload| Panicked { lcore: id, message: message(&*payload) });
            drop(alive);
            // The receiver is gone when nobody will join: then nobody wants the result.
            let _ = sender.send(outcome);
        });
        let argument = Box::into_raw(Box::new(job));
        // SAFETY: `run` takes back the box that `argument` is, once. The lcore is idle: `self` is the only right
        // to it, and `join` returns it only when EAL says so.
        let code = unsafe { sys::rte_eal_remote_launch(Some(run), argument.cast(), id) };
        assert_eq!(code, 0, "lcore {id} is idle, as nothing else can hold it");
        Running { lcore: self, result }
    }
}

impl<R> Running<R> {
    /// Id of the lcore.
    pub fn id(&self) -> u32 {
        self.lcore.id
    }

    /// Whether the function has returned, so that [`Running::join`] does not wait.
    pub fn is_finished(&self) -> bool {
        // SAFETY: reads the state of an lcore that exists.
        unsafe { sys::rte_eal_get_lcore_state(self.lcore.id) == sys::WAIT }
    }

    /// Waits for the function, sleeping, and gives back the lcore and what the function returned.
    pub fn join(self) -> (Lcore, Result<R, Panicked>) {
        let Running { lcore, result } = self;
        let id = lcore.id;
        let outcome = result
            .recv()
            .unwrap_or_else(|_| Err(Panicked { lcore: id, message: "it ended without a result".into() }));
        // The result is sent from within the function: wait the moment until EAL sees its return.
        // SAFETY: waits for an lcore that exists, on whichever thread.
        unsafe { sys::rte_eal_wait_lcore(id) };
        (lcore, outcome)
    }
}

/// What EAL calls on the lcore. `extern "C"`: a panic that escaped would abort, not unwind into EAL.
unsafe extern "C" fn run(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the box that `launch` leaked for this one call.
    let job = unsafe { Box::from_raw(argument.cast::<Job>()) };
    job();
    0
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".into())
}
