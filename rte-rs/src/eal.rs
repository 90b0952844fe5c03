//! The environment abstraction layer: DPDK's start and end.

use crate::alive::{Phase, state};
use crate::error::{Errno, Error};
use crate::lcore::{self, Lcore};
use crate::log;
use crate::mempool;
use dpdk_sys as sys;
use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicBool, Ordering};

static EAL: Eal = Eal { lcores_taken: AtomicBool::new(false) };

/// The running EAL. There is one a process; every other object of this crate needs it to run.
pub struct Eal {
    lcores_taken: AtomicBool,
}

impl Eal {
    /// Starts EAL (`rte_eal_init`). `args[0]` is the program's name, EAL's options follow up to `--` or the end.
    ///
    /// Returns the EAL and the index of the last argument that it consumed, as `rte_eal_init` does: the
    /// application's own arguments are `args[consumed + 1..]`. Pins the calling thread to the main lcore's CPU;
    /// threads that it starts later inherit that. Takes about 150 ms. Some options (`--help`) end the process.
    ///
    /// # Errors
    /// [`Error::AlreadyInitialised`] on any later call, also after one that failed in DPDK, which cannot start
    /// over; [`Error::Init`]; [`Error::BadString`].
    pub fn init(args: &[String]) -> Result<(&'static Eal, usize), Error> {
        let mut state = state();
        if state.phase != Phase::Before {
            return Err(Error::AlreadyInitialised);
        }
        let strings = args
            .iter()
            .map(|arg| crate::error::c_string("EAL argument", arg, 1 << 20))
            .collect::<Result<Vec<CString>, Error>>()?;
        // EAL reorders the array (getopt) and keeps pointers to the strings: both live for ever.
        let mut argv: Vec<*mut c_char> = strings.into_iter().map(CString::into_raw).collect();
        argv.push(std::ptr::null_mut());
        let argv = argv.leak();
        state.phase = Phase::After;
        // SAFETY: argv holds args.len() NUL-terminated writable strings that are never freed, and a null. The
        // lock makes this the only call.
        let consumed = unsafe { sys::rte_eal_init(args.len() as i32, argv.as_mut_ptr()) };
        let Ok(consumed) = usize::try_from(consumed) else {
            return Err(Error::Init { reason: Errno::last() });
        };
        state.phase = Phase::Running;
        log::install();
        Ok((&EAL, consumed))
    }

    /// Id of the main lcore: the thread that called [`Eal::init`].
    pub fn main_lcore(&self) -> u32 {
        // SAFETY: an integer that does not change after the start, which `self` proves.
        unsafe { sys::rte_get_main_lcore() }
    }

    /// The worker lcores, in order of id. The first call hands them out, later ones return none: an [`Lcore`] is
    /// the sole right to run something there.
    pub fn worker_lcores(&self) -> Vec<Lcore> {
        if self.lcores_taken.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        // SAFETY: walks EAL's own table, fixed after the start, which `self` proves; -1 (as u32) starts the walk.
        let next = |id: u32| unsafe { sys::rte_get_next_lcore(id, 1, 0) };
        std::iter::successors(Some(next(u32::MAX)), |&id| Some(next(id)))
            .take_while(|&id| id < sys::RTE_MAX_LCORE)
            .map(Lcore::new)
            .collect()
    }

    /// NUMA node of any lcore, the main one included.
    pub fn lcore_socket(&self, lcore: u32) -> u32 {
        lcore::socket(lcore)
    }

    /// CPUs that an lcore may run on, the main one included; empty for an id that is none.
    pub fn lcore_cpuset(&self, lcore: u32) -> Vec<usize> {
        lcore::cpuset(lcore)
    }

    /// Whether memory is in hugepages (no `--no-huge`).
    pub fn has_hugepages(&self) -> bool {
        // SAFETY: reads EAL's configuration, fixed after the start, which `self` proves.
        unsafe { sys::rte_eal_has_hugepages() != 0 }
    }

    /// Ends EAL (`rte_eal_cleanup`): frees its memory and runtime files. It cannot be started again.
    ///
    /// # Errors
    /// [`Error::StillInUse`] while a pool, port, ring or running lcore exists: their memory would vanish under
    /// them. A pool that was leaked because mbufs were missing counts. [`Error::NotInitialised`] the second time.
    pub fn cleanup(&self) -> Result<(), Error> {
        mempool::free_parked();
        let mut state = state();
        if state.phase != Phase::Running {
            return Err(Error::NotInitialised);
        }
        if state.live > 0 {
            return Err(Error::StillInUse { live: state.live });
        }
        state.phase = Phase::After;
        // SAFETY: EAL runs, and nothing that lives in its memory is left (`live`) or can be made (`phase`).
        let code = unsafe { sys::rte_eal_cleanup() };
        if code == 0 { Ok(()) } else { Err(Error::Init { reason: Errno::from_code(code) }) }
    }
}
