//! A socket of vhost-user and who is connected to it. librte_vhost calls from threads of its own: before and after each message,
//! and when the guest's driver starts, stops, or the connection ends.
//!
//! Rings are used by workers under a lock that these only try to take. Before a message is handled all rings are taken out of
//! their places, as the message may unmap or move them, and put back afterwards, checked anew.

use super::fault::{self, Watch};
use super::features::{Features, NEVER, OFFLOADS};
use super::message::Message;
use super::sockets;
use crate::alive::Alive;
use crate::error::{Errno, Error, c_string};
use crate::log;
use crate::virtio::{Addresses, Memory, Region, SplitRing};
use dpdk_sys as sys;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pairs of queues that a guest may use.
const PAIRS: usize = 64;
/// Rings of a guest: number 2n is where pair n of its queues receives, 2n + 1 where it sends.
pub(crate) const VRINGS: usize = 2 * PAIRS;
/// Longest path of a socket: `sun_path` less the NUL.
const MAX_PATH: usize = 107;
/// Protocol features: several queues, a log of dirty memory, announcements after a migration, acknowledgements, MTU, status.
const PROTOCOL: u64 = 0b1_1111 | 1 << 16;
/// Numbers of vhost-user messages.
const RESET_OWNER: u32 = 4;
const SET_MEM_TABLE: u32 = 5;
const SET_LOG_BASE: u32 = 6;
const GET_QUEUE_NUM: u32 = 17;
/// Messages that a master of these features sends, [`PROTOCOL`]'s included: up to the MTU (20), and the device's status. Those of
/// others, which librte_vhost would handle, too, end the connection.
const KNOWN: [u32; 22] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 39, 40];
/// Nobody is connected.
const NOBODY: i32 = -1;

/// Sockets that are served.
static SOCKETS: Mutex<Vec<Arc<Shared>>> = Mutex::new(Vec::new());

/// A ring that a guest's driver has set up.
pub(super) struct Active {
    pub(super) ring: SplitRing,
    pub(super) features: Features,
    /// Interrupts the guest; negative when it polls.
    call: RawFd,
    vid: i32,
    number: u16,
}

impl Active {
    /// Shows the guest what was given back since the index `from`, and interrupts it if it wants to be.
    pub(super) fn publish(&mut self, from: u16) {
        if self.ring.next() == from {
            return;
        }
        if self.features.logs() {
            self.ring
                .written_since(from)
                .into_iter()
                .flatten()
                .for_each(|(address, len)| self.log(address, len));
        }
        if self.ring.publish() && self.call >= 0 {
            let one = 1_u64;
            // SAFETY: the descriptor is open: librte_vhost closes it while the ring is not in its place. Writes eight bytes.
            unsafe { libc::write(self.call, (&raw const one).cast(), size_of::<u64>()) };
        }
    }

    /// Notes that memory of the guest was written.
    pub(super) fn log(&self, address: u64, len: u64) {
        // SAFETY: the device exists while its ring is in its place. Bits of the log that are not there are left alone.
        unsafe { sys::rte_vhost_log_write(self.vid, address, len) };
    }
}

/// What is known of a connection, on the control side.
struct Control {
    /// The guest's driver is ready.
    running: bool,
    features: Features,
    /// The guest's memory, while it is mapped.
    memory: Option<Arc<Memory>>,
    /// Sees whether that memory, and the log of what was written in it, are still there.
    watches: [Option<Watch>; 2],
    /// The socket is being closed: nothing more is set up.
    closing: bool,
    /// Message that is being handled.
    request: u32,
    /// Rings that the guest's driver has enabled.
    ready: [bool; VRINGS],
}

/// What is known of a guest that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VhostGuest {
    /// Features that were negotiated (virtio 1.2, section 5.1.3).
    pub features: u64,
    /// NUMA node of its memory; -1 when there is none.
    pub numa: i32,
    /// Descriptors of each of its rings.
    pub vrings: Vec<u16>,
}

/// A socket, for its port, its queues and librte_vhost.
pub(crate) struct Shared {
    path: String,
    /// librte_vhost's number of the connection.
    vid: AtomicI32,
    rings: Box<[Mutex<Option<Active>>]>,
    /// One more than the number of the last pair on which the guest sends.
    sending: AtomicUsize,
    /// Pairs from the first on on which the guest receives.
    receiving: AtomicUsize,
    /// What the guest takes (`capability`).
    pub(crate) tx_offloads: Arc<AtomicU64>,
    /// The guest's memory was made shorter while it was mapped: its rings are not used any more.
    gone: Arc<AtomicBool>,
    /// That was found.
    found_gone: AtomicBool,
    control: Mutex<Control>,
    _alive: Alive,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Consistent after every statement, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(is: impl Fn(&Shared) -> bool) -> Option<Arc<Shared>> {
    lock(&SOCKETS).iter().find(|shared| is(shared)).cloned()
}

/// The socket with this connection.
fn of(vid: c_int) -> Option<Arc<Shared>> {
    find(|shared| shared.vid.load(Ordering::Relaxed) == vid)
}

impl Shared {
    /// Serves a socket: makes it, or connects to it as soon as somebody listens, and again.
    pub(crate) fn open(path: &str, connects: bool, offloads: bool) -> Result<Arc<Shared>, Error> {
        let text = c_string("socket path", path, MAX_PATH)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            vid: AtomicI32::new(NOBODY),
            rings: (0..VRINGS).map(|_| Mutex::new(None)).collect(),
            sending: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            tx_offloads: Arc::new(AtomicU64::new(Features::default().tx_offloads())),
            gone: Arc::default(),
            found_gone: AtomicBool::new(false),
            control: Mutex::new(Control {
                running: false,
                features: Features::default(),
                memory: None,
                watches: [None, None],
                closing: false,
                request: 0,
                ready: [false; VRINGS],
            }),
            _alive: Alive::new()?,
        });
        fault::install();
        lock(&SOCKETS).push(Arc::clone(&shared));
        let flags = if connects { u64::from(sys::RTE_VHOST_USER_CLIENT) } else { 0 };
        let step = |step: &'static str, call: &dyn Fn() -> c_int| {
            let ((code, reason), said) = log::listen(|| {
                let code = call();
                (code, Errno::from_code(code))
            });
            let name = path.to_owned();
            if code == 0 { Ok(()) } else { Err(Error::Port { name, step, reason, said }) }
        };
        let never = if offloads { NEVER } else { NEVER | OFFLOADS };
        // SAFETY: EAL runs; the path is copied. The structure of callbacks is a static.
        let opened = unsafe {
            step("registering the socket", &|| sys::rte_vhost_driver_register(text.as_ptr(), flags)).and_then(
                |()| {
                    step("choosing features", &|| {
                        sys::rte_vhost_driver_disable_features(text.as_ptr(), never)
                    })
                    .and_then(|()| {
                        step("choosing features", &|| {
                            sys::rte_vhost_driver_set_protocol_features(text.as_ptr(), PROTOCOL)
                        })
                    })
                    .and_then(|()| {
                        step("registering callbacks", &|| {
                            sys::rte_vhost_driver_callback_register(text.as_ptr(), &raw const OPERATIONS.0)
                        })
                    })
                    .and_then(|()| step("opening the socket", &|| sys::rte_vhost_driver_start(text.as_ptr())))
                    .inspect_err(|_| {
                        sys::rte_vhost_driver_unregister(text.as_ptr());
                    })
                },
            )
        };
        opened.inspect_err(|_| shared.forget()).map(|()| shared)
    }

    fn forget(&self) {
        lock(&SOCKETS).retain(|shared| !std::ptr::eq(shared.as_ref(), self));
    }

    /// Serves the socket no more, and removes one that was made. Waits for callbacks to end.
    pub(crate) fn close(&self) {
        {
            // What librte_vhost unmaps is not watched any more: another's memory may be mapped there next.
            let mut control = lock(&self.control);
            control.closing = true;
            self.take_all_out();
            control.forget_memory();
        }
        if let Ok(path) = CString::new(self.path.as_str()) {
            // SAFETY: as in `open`. No lock is held that a callback takes.
            unsafe { sys::rte_vhost_driver_unregister(path.as_ptr()) };
        }
        self.stopped();
        self.vid.store(NOBODY, Ordering::Relaxed);
        self.forget();
    }

    /// The ring of this number, unless it is being set up or used by another thread.
    #[inline]
    pub(super) fn ring(&self, number: usize) -> Option<MutexGuard<'_, Option<Active>>> {
        let ring = self.rings.get(number)?.try_lock().ok()?;
        (ring.is_some() && !self.gone.load(Ordering::Relaxed)).then_some(ring)
    }

    /// One more than the number of the last pair on which the guest sends.
    #[inline(always)]
    pub(super) fn sending(&self) -> usize {
        self.sending.load(Ordering::Relaxed)
    }

    /// Pairs on which the guest receives.
    #[inline(always)]
    pub(super) fn receiving(&self) -> usize {
        self.receiving.load(Ordering::Relaxed)
    }

    /// Whether the guest's driver is there.
    pub(crate) fn is_up(&self) -> bool {
        lock(&self.control).running && !self.gone.load(Ordering::Relaxed)
    }

    /// Whether the guest's memory has gone, which is said once for each connection. Then that is ended.
    pub(crate) fn finds_memory_gone(&self) -> bool {
        if !self.gone.load(Ordering::Relaxed) || self.found_gone.swap(true, Ordering::Relaxed) {
            return false;
        }
        sockets::shut_down(self.path.as_bytes());
        true
    }

    /// What the guest's driver has set up; `None` when it is not there.
    pub(crate) fn guest(&self) -> Option<VhostGuest> {
        let control = lock(&self.control);
        let vid = self.vid.load(Ordering::Relaxed);
        if !control.running || vid == NOBODY {
            return None;
        }
        // SAFETY: the connection exists until a callback has taken `control`.
        let count = unsafe { sys::rte_vhost_get_vring_num(vid) };
        let size = |number: u16| vring(vid, number).map_or(0, |vring| vring.size);
        Some(VhostGuest {
            features: control.features.0,
            // SAFETY: as above.
            numa: unsafe { sys::rte_vhost_get_numa_node(vid) },
            vrings: (0..count).map(size).collect(),
        })
    }

    /// Takes a ring out of its place, and tells librte_vhost how far it was used.
    fn take_out(&self, number: usize) {
        let Some(active) = self.rings.get(number).and_then(|ring| lock(ring).take()) else { return };
        let next = active.ring.next();
        // SAFETY: the connection exists during a callback.
        unsafe { sys::rte_vhost_set_vring_base(active.vid, active.number, next, next) };
    }

    fn take_all_out(&self) {
        (0..VRINGS).for_each(|number| self.take_out(number));
    }

    /// Puts the rings into their places that the guest has enabled and that are in its memory.
    fn put_in(&self, control: &Control) {
        let vid = self.vid.load(Ordering::Relaxed);
        let memory = control.memory.as_ref().filter(|_| control.running && vid != NOBODY);
        for (number, place) in self.rings.iter().enumerate() {
            let mut place = lock(place);
            if place.is_none()
                && control.ready[number]
                && let Some(memory) = memory
            {
                *place = set_up(vid, number as u16, memory, control.features);
            }
        }
        let runs = |number: &usize| control.running && control.ready[*number];
        let pairs = || 0..PAIRS;
        let sending = pairs().rev().find(|pair| runs(&(2 * pair + 1))).map_or(0, |pair| pair + 1);
        self.sending.store(sending, Ordering::Relaxed);
        self.receiving.store(pairs().take_while(|pair| runs(&(2 * pair))).count(), Ordering::Relaxed);
        let features = if control.running { control.features } else { Features::default() };
        self.tx_offloads.store(features.tx_offloads(), Ordering::Relaxed);
    }

    /// The guest's driver, or the guest, has gone.
    fn stopped(&self) {
        let mut control = lock(&self.control);
        control.running = false;
        self.take_all_out();
        self.put_in(&control);
    }
}

/// What librte_vhost knows of a ring.
fn vring(vid: i32, number: u16) -> Option<sys::rte_vhost_vring> {
    let mut vring = sys::rte_vhost_vring::default();
    // SAFETY: checks both numbers; writes the structure.
    let code = unsafe { sys::rte_vhost_get_vhost_vring(vid, number, &raw mut vring) };
    (code == 0).then_some(vring)
}

/// The ring as librte_vhost has it, if it is one.
fn set_up(vid: i32, number: u16, memory: &Arc<Memory>, features: Features) -> Option<Active> {
    let vring = vring(vid, number)?;
    let (mut next, mut used) = (0, 0);
    // SAFETY: checks both numbers; writes two integers.
    if unsafe { sys::rte_vhost_get_vring_base(vid, number, &raw mut next, &raw mut used) } != 0 {
        return None;
    }
    // SAFETY: every variant of the unions is a pointer.
    let at = unsafe {
        Addresses {
            desc: vring.__bindgen_anon_1.desc.cast(),
            avail: vring.__bindgen_anon_2.avail.cast(),
            used: vring.__bindgen_anon_3.used.cast(),
        }
    };
    // SAFETY: the memory is mapped until the next message is handled or the connection ends, before which the ring is
    // taken out of its place.
    let ring = unsafe { SplitRing::new(memory, at, vring.size, features.has_event_idx(), next)? };
    if vring.callfd >= 0 {
        // SAFETY: an open descriptor: a worker must not wait for whatever it is.
        unsafe { libc::fcntl(vring.callfd, libc::F_SETFL, libc::O_NONBLOCK) };
    }
    Some(Active { ring, features, call: vring.callfd, vid, number })
}

/// Start and length of what is mapped.
type Ranges = Vec<(usize, usize)>;

/// The guest's memory as librte_vhost has just mapped it, and the mappings that it is in.
fn memory(vid: i32) -> Option<(Arc<Memory>, Ranges)> {
    let mut table: *mut sys::rte_vhost_memory = std::ptr::null_mut();
    // SAFETY: called when a table was taken, without which this function follows a null pointer; it allocates a copy.
    if unsafe { sys::rte_vhost_get_mem_table(vid, &raw mut table) } != 0 || table.is_null() {
        return None;
    }
    // SAFETY: a table of as many regions as it says, ours to free.
    let (regions, ranges): (Vec<Region>, Ranges) = unsafe {
        let count = (*table).nregions as usize;
        let regions = std::slice::from_raw_parts(
            (&raw const (*table).regions).cast::<sys::rte_vhost_mem_region>(),
            count,
        );
        let region = |of: &sys::rte_vhost_mem_region| Region {
            guest: of.guest_phys_addr,
            len: of.size,
            host: std::ptr::with_exposed_provenance_mut(of.host_user_addr as usize),
        };
        let range = |of: &sys::rte_vhost_mem_region| (of.mmap_addr.addr(), of.mmap_size as usize);
        regions.iter().map(|of| (region(of), range(of))).unzip()
    };
    // SAFETY: allocated by malloc, not used any more.
    unsafe { libc::free(table.cast()) };
    Some((Arc::new(Memory::new(regions)), ranges))
}

/// Where the log of written memory is mapped.
fn log_range(vid: i32) -> Option<(usize, usize)> {
    let (mut start, mut len) = (0, 0);
    // SAFETY: checks the number; writes two integers.
    let code = unsafe { sys::rte_vhost_get_log_base(vid, &raw mut start, &raw mut len) };
    (code == 0 && start != 0).then_some((start as usize, len as usize))
}

/// Somebody connects. A second one at a time is sent away.
unsafe extern "C" fn new_connection(vid: c_int) -> c_int {
    let mut path = [0 as c_char; MAX_PATH + 1];
    // SAFETY: writes at most as many bytes, with a NUL.
    if unsafe { sys::rte_vhost_get_ifname(vid, path.as_mut_ptr(), path.len()) } != 0 {
        return -1;
    }
    // SAFETY: written above, with its NUL.
    let path = unsafe { CStr::from_ptr(path.as_ptr()) }.to_bytes();
    let Some(shared) = find(|shared| shared.path.as_bytes() == path) else { return -1 };
    sockets::set_timeouts(path);
    let first = shared.vid.compare_exchange(NOBODY, vid, Ordering::Relaxed, Ordering::Relaxed);
    if first.is_err() {
        return -1;
    }
    {
        let mut control = lock(&shared.control);
        control.forget_memory();
        control.ready = [false; VRINGS];
        shared.gone.store(false, Ordering::Relaxed);
        shared.found_gone.store(false, Ordering::Relaxed);
    }
    // SAFETY: the structure is copied.
    unsafe { sys::rte_vhost_extern_callback_register(vid, &raw const MESSAGES, std::ptr::null_mut()) }
}

/// The connection ends; its device was destroyed before, if there was one.
unsafe extern "C" fn destroy_connection(vid: c_int) {
    // The last message may have been one that was not handled well.
    fault::message_ends();
    if let Some(shared) = of(vid) {
        shared.stopped();
        lock(&shared.control).forget_memory();
        shared.vid.store(NOBODY, Ordering::Relaxed);
    }
}

/// The guest's driver is ready.
unsafe extern "C" fn new_device(vid: c_int) -> c_int {
    let Some(shared) = of(vid) else { return -1 };
    let mut control = lock(&shared.control);
    control.running = true;
    control.negotiated(vid);
    shared.put_in(&control);
    0
}

/// The guest's driver stops.
unsafe extern "C" fn destroy_device(vid: c_int) {
    if let Some(shared) = of(vid) {
        shared.stopped();
    }
}

/// The guest's driver enables or disables a ring.
unsafe extern "C" fn vring_state_changed(vid: c_int, number: u16, enable: c_int) -> c_int {
    let Some(shared) = of(vid) else { return -1 };
    let mut control = lock(&shared.control);
    if let Some(ready) = control.ready.get_mut(usize::from(number)) {
        *ready = enable != 0;
        shared.take_out(number.into());
        shared.put_in(&control);
    }
    0
}

impl Control {
    /// Asks what was negotiated.
    fn negotiated(&mut self, vid: i32) {
        let mut features = 0;
        // SAFETY: checks the number; writes an integer.
        unsafe { sys::rte_vhost_get_negotiated_features(vid, &raw mut features) };
        self.features = Features(features);
    }

    /// Memory that was mapped is, or is going to be, mapped no more. Its rings were taken out of their places before.
    fn forget_memory(&mut self) {
        (self.memory, self.watches) = (None, [None, None]);
    }

    /// Learns what librte_vhost has mapped of the guest: without being watched it is not used.
    fn learn_memory(&mut self, vid: i32, gone: &Arc<AtomicBool>) {
        let (memory, ranges) = memory(vid).unzip();
        self.watches[0] = ranges.and_then(|ranges| Watch::new(&ranges, gone));
        self.memory = memory.filter(|_| self.watches[0].is_some());
    }
}

/// Before a message is handled.
unsafe extern "C" fn before_message(vid: c_int, message: *mut c_void) -> sys::rte_vhost_msg_result {
    // SAFETY: as librte_vhost says.
    let mut message = unsafe { Message::new(message) };
    let request = message.request();
    if let Some(shared) = of(vid) {
        let mut control = lock(&shared.control);
        control.request = request;
        shared.take_all_out();
        match request {
            SET_MEM_TABLE => (control.memory, control.watches[0]) = (None, None),
            RESET_OWNER => control.forget_memory(),
            // A log stays where a new one cannot be mapped.
            _ => {}
        }
    }
    fault::message_begins();
    // The log's offset in its file is the second number: librte_vhost 22.11 adds it to where that is mapped already, and would write
    // elsewhere.
    let is_bad = match request {
        SET_LOG_BASE => message.number(1) != 0,
        SET_MEM_TABLE => !message.can_be_mapped(),
        _ => !KNOWN.contains(&request),
    };
    if !is_bad && request != GET_QUEUE_NUM {
        return sys::RTE_VHOST_MSG_RESULT_NOT_HANDLED;
    }
    message.close_files();
    if is_bad {
        return sys::RTE_VHOST_MSG_RESULT_ERR;
    }
    message.answer(PAIRS as u64);
    sys::RTE_VHOST_MSG_RESULT_REPLY
}

/// After a message was handled well.
unsafe extern "C" fn after_message(vid: c_int, _message: *mut c_void) -> sys::rte_vhost_msg_result {
    let faulted = fault::message_ends();
    if let Some(shared) = of(vid) {
        let mut control = lock(&shared.control);
        if faulted {
            shared.gone.store(true, Ordering::Relaxed);
        }
        match control.request {
            _ if control.closing => {}
            SET_MEM_TABLE => control.learn_memory(vid, &shared.gone),
            SET_LOG_BASE => {
                control.watches[1] = log_range(vid).and_then(|log| Watch::new(&[log], &shared.gone));
                if control.watches[1].is_none() {
                    return sys::RTE_VHOST_MSG_RESULT_ERR;
                }
            }
            _ => {}
        }
        control.negotiated(vid);
        shared.put_in(&control);
    }
    sys::RTE_VHOST_MSG_RESULT_NOT_HANDLED
}

/// Callbacks, which may be called from any thread.
struct Operations(sys::rte_vhost_device_ops);

// SAFETY: functions, which are the same for every thread.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(sys::rte_vhost_device_ops {
    new_device: Some(new_device),
    destroy_device: Some(destroy_device),
    vring_state_changed: Some(vring_state_changed),
    features_changed: None,
    new_connection: Some(new_connection),
    destroy_connection: Some(destroy_connection),
    guest_notified: None,
    reserved: [std::ptr::null_mut()],
});

static MESSAGES: sys::rte_vhost_user_extern_ops = sys::rte_vhost_user_extern_ops {
    pre_msg_handle: Some(before_message),
    post_msg_handle: Some(after_message),
};
