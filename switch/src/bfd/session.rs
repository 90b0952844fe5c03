//! The state machine of one session.

use config::BfdOptions;
use std::time::{Duration, Instant};
use wire::view::{BfdControl, BfdDiagnostic, BfdState};

/// Shortest interval in which a session that is not up sends, milliseconds (RFC 5880, section 6.8.3).
const SLOW: u32 = 1000;
/// Shortest time in which data that comes in counts, and in which a quiet port is found to be quiet, as in Open vSwitch.
const DATA_COUNTS: Duration = Duration::from_secs(2);
/// With `forwarding_if_rx`, time between two looks at what the port has received.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// With `forwarding_if_rx`, receive intervals in which a control packet must come, too, as in Open vSwitch.
const DEMAND_INTERVALS: u32 = 100;

/// What the other side said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Its state.
    pub state: BfdState,
    /// Its diagnostic.
    pub diagnostic: BfdDiagnostic,
    /// Its number for the session; 0: not known.
    pub discriminator: u32,
    /// Its detection multiplier.
    pub mult: u8,
    /// Interval in which it likes to send, microseconds.
    pub min_tx: u32,
    /// Interval in which it takes packets, microseconds; 0: it wants none.
    pub min_rx: u32,
}

impl Remote {
    /// One from which no control packet has come (RFC 5880, section 6.8.1).
    const UNKNOWN: Remote = Remote {
        state: BfdState::Down,
        diagnostic: BfdDiagnostic::NONE,
        discriminator: 0,
        mult: 0,
        min_tx: 0,
        min_rx: 1,
    };
}

/// Intervals of ours, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Intervals {
    tx: u32,
    rx: u32,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    options: BfdOptions,
    discriminator: u32,
    state: BfdState,
    diagnostic: BfdDiagnostic,
    remote: Remote,
    /// What packets say.
    announced: Intervals,
    /// What holds: while a poll sequence lasts, the more cautious of old and new.
    in_force: Intervals,
    /// A poll sequence lasts.
    polling: bool,
    /// The other side waits for the end of its own.
    final_due: bool,
    last_tx: Option<Instant>,
    next_tx: Instant,
    /// When the last packet came; `None` once the other side is gone.
    last_received: Option<Instant>,
    /// Forwarding whatever the session says (`bfd/set-forwarding`).
    forced: Option<bool>,
    forwarding: bool,
    flaps: u64,
    data: Data,
    random: u64,
}

/// What is known of the port's packets.
#[derive(Debug)]
struct Data {
    packets: u64,
    /// Until when packets that came count as a session that is up.
    counts_until: Instant,
    /// Until when a control packet has to come for that.
    demand_until: Instant,
    next_look: Option<Instant>,
    /// Little came lately, and control packets come in `decay_min_rx`.
    is_quiet: bool,
    quiet_look: Instant,
    quiet_packets: u64,
    quiet_controls: u64,
}

fn ms(interval: u32) -> Duration {
    Duration::from_millis(interval.into())
}

impl Session {
    /// A session that is down. `discriminator` is not 0, unlike that of any other, and not to be guessed; `seed` makes the jitter.
    pub fn new(options: BfdOptions, discriminator: u32, seed: u64, now: Instant) -> Session {
        let mut session = Session {
            options,
            discriminator,
            state: BfdState::Down,
            diagnostic: BfdDiagnostic::NONE,
            remote: Remote::UNKNOWN,
            announced: Intervals { tx: SLOW, rx: options.min_rx },
            in_force: Intervals { tx: SLOW, rx: options.min_rx },
            polling: false,
            final_due: false,
            last_tx: None,
            next_tx: now,
            last_received: None,
            forced: None,
            forwarding: false,
            flaps: 0,
            data: Data {
                packets: 0,
                counts_until: now,
                demand_until: now,
                next_look: None,
                is_quiet: false,
                quiet_look: now + DATA_COUNTS,
                quiet_packets: 0,
                quiet_controls: 0,
            },
            random: seed | 1,
        };
        session.configure(options, now);
        session
    }

    /// Gives it other settings; it stays as up as it is.
    pub fn configure(&mut self, options: BfdOptions, now: Instant) {
        if (self.options.decay_min_rx, self.options.min_rx) != (options.decay_min_rx, options.min_rx) {
            self.data.is_quiet = false;
            self.data.quiet_look = now + ms(options.decay_min_rx).max(DATA_COUNTS);
            (self.data.quiet_packets, self.data.quiet_controls) = (self.data.packets, 0);
        }
        let mult_changed = self.options.mult != options.mult;
        self.options = options;
        self.data.next_look = options.forwarding_if_rx.then_some(now);
        let diagnostic = match (options.cpath_down, self.diagnostic) {
            (true, _) if self.state == BfdState::Up => BfdDiagnostic::CONCATENATED_PATH_DOWN,
            (false, BfdDiagnostic::CONCATENATED_PATH_DOWN) => BfdDiagnostic::NONE,
            (_, diagnostic) => diagnostic,
        };
        if diagnostic != self.diagnostic || mult_changed {
            self.diagnostic = diagnostic;
            self.send_soon(now);
        }
        self.negotiate(now);
        self.note_forwarding(now);
    }

    /// Forwards, or not, whatever the session says; `None`: as it says.
    pub fn force(&mut self, forwarding: Option<bool>, now: Instant) {
        self.forced = forwarding;
        self.note_forwarding(now);
    }

    /// A control packet has come (RFC 5880, section 6.8.6).
    pub fn receive(&mut self, packet: &BfdControl, now: Instant) {
        let is_ours = packet.your_discriminator == self.discriminator
            || packet.your_discriminator == 0 && matches!(packet.state, BfdState::AdminDown | BfdState::Down);
        if !is_ours {
            return;
        }
        self.remote = Remote {
            state: packet.state,
            diagnostic: packet.diagnostic,
            discriminator: packet.my_discriminator,
            mult: packet.detect_mult,
            min_tx: packet.desired_min_tx,
            min_rx: packet.required_min_rx,
        };
        self.data.quiet_controls += 1;
        self.data.demand_until = now + ms(self.options.min_rx) * DEMAND_INTERVALS;
        if packet.is_final && self.polling {
            self.polling = false;
            self.in_force = self.announced;
        }
        match (self.state, packet.state) {
            (BfdState::Init | BfdState::Up, BfdState::AdminDown) | (BfdState::Up, BfdState::Down) => {
                self.go(BfdState::Down, BfdDiagnostic::NEIGHBOUR_DOWN, now);
            }
            (BfdState::Down, BfdState::Down) => self.go(BfdState::Init, self.diagnostic, now),
            (BfdState::Down, BfdState::Init) | (BfdState::Init, BfdState::Init | BfdState::Up) => {
                self.go(BfdState::Up, self.diagnostic, now);
            }
            _ => {}
        }
        self.final_due |= packet.poll;
        // The other side may take them faster, or not so fast, from now on.
        self.reschedule(now);
        self.last_received = Some(now);
        self.note_forwarding(now);
    }

    /// Lets time pass; `packets` is what the port has received of any kind since it is there. Returns a packet to send.
    pub fn poll(&mut self, now: Instant, packets: u64) -> Option<BfdControl> {
        if self.expires().is_some_and(|at| at <= now) {
            self.last_received = None;
            self.remote = Remote::UNKNOWN;
            self.final_due = false;
            if matches!(self.state, BfdState::Init | BfdState::Up) {
                self.go(BfdState::Down, BfdDiagnostic::EXPIRED, now);
            }
        }
        self.look_at_data(now, packets);
        self.note_forwarding(now);
        let is_due = self.final_due || self.remote.min_rx != 0 && self.next_tx <= now;
        is_due.then(|| self.packet(now))
    }

    /// When [`Session::poll`] is to be called next, at the latest.
    pub fn due(&self, now: Instant) -> Instant {
        if self.final_due {
            return now;
        }
        let tx = (self.remote.min_rx != 0).then_some(self.next_tx);
        let quiet = self.decays().then_some(self.data.quiet_look);
        [tx, self.expires(), self.data.next_look, quiet]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + LOOK_EVERY)
    }

    fn packet(&mut self, now: Instant) -> BfdControl {
        let is_final = std::mem::take(&mut self.final_due);
        self.last_tx = Some(now);
        let interval = self.tx_interval();
        self.next_tx = now + interval.saturating_sub(self.jitter(interval));
        BfdControl {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.polling && !is_final,
            is_final,
            detect_mult: self.options.mult,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.announced.tx.saturating_mul(1000),
            required_min_rx: self.announced.rx.saturating_mul(1000),
        }
    }

    /// Up to a quarter of the interval; with a multiplier of 1 at least a tenth (RFC 5880, section 6.8.7).
    fn jitter(&mut self, interval: Duration) -> Duration {
        // xorshift64.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = (self.random >> 32) as u32;
        let percent = if self.options.mult == 1 { 10 + share % 16 } else { share % 26 };
        interval * percent / 100
    }

    fn go(&mut self, state: BfdState, diagnostic: BfdDiagnostic, now: Instant) {
        self.state = state;
        // While it is up it says what is down behind it; before, why it is not up.
        self.diagnostic = match diagnostic {
            _ if state == BfdState::Up && self.options.cpath_down => BfdDiagnostic::CONCATENATED_PATH_DOWN,
            diagnostic => diagnostic,
        };
        if state == BfdState::Up {
            self.data.quiet_look = now + ms(self.options.decay_min_rx).max(DATA_COUNTS);
            (self.data.quiet_packets, self.data.quiet_controls) = (self.data.packets, 0);
        } else {
            self.data.is_quiet = false;
        }
        self.negotiate(now);
        self.send_soon(now);
    }

    /// What has changed is said at once.
    fn send_soon(&mut self, now: Instant) {
        self.next_tx = self.next_tx.min(now);
    }

    /// Announces the intervals that state and settings ask for. While the session is up, a poll sequence makes sure that the other
    /// side knows before anything gets slower (RFC 5880, section 6.8.3).
    fn negotiate(&mut self, now: Instant) {
        let options = &self.options;
        let wanted = Intervals {
            tx: if self.state == BfdState::Up { options.min_tx } else { options.min_tx.max(SLOW) },
            rx: if self.data.is_quiet { options.decay_min_rx } else { options.min_rx },
        };
        if self.state != BfdState::Up {
            self.polling = false;
            (self.announced, self.in_force) = (wanted, wanted);
        } else if wanted != self.announced {
            self.announced = wanted;
            self.in_force.tx = self.in_force.tx.min(wanted.tx);
            self.in_force.rx = self.in_force.rx.max(wanted.rx);
            self.polling = true;
        }
        self.reschedule(now);
    }

    /// The next packet is not later than the present interval says, nor sooner than three quarters of it.
    fn reschedule(&mut self, now: Instant) {
        let Some(last) = self.last_tx else { return };
        let interval = self.tx_interval();
        let (soonest, latest) = (last + interval * 3 / 4, last + interval);
        if self.next_tx > now {
            self.next_tx = self.next_tx.clamp(soonest, latest);
        }
    }

    /// Interval in which packets are sent.
    pub fn tx_interval(&self) -> Duration {
        ms(self.in_force.tx).max(Duration::from_micros(self.remote.min_rx.into()))
    }

    /// Interval in which packets are expected.
    pub fn rx_interval(&self) -> Duration {
        ms(self.in_force.rx).max(Duration::from_micros(self.remote.min_tx.into()))
    }

    /// Time without a packet after which the other side is gone.
    pub fn detection_time(&self) -> Duration {
        self.rx_interval() * self.remote.mult.max(1).into()
    }

    /// When the other side is gone unless a packet comes.
    fn expires(&self) -> Option<Instant> {
        self.last_received.map(|received| received + self.detection_time())
    }

    fn decays(&self) -> bool {
        self.state == BfdState::Up && self.options.decay_min_rx > self.options.min_rx
    }

    fn look_at_data(&mut self, now: Instant, packets: u64) {
        let new = packets.wrapping_sub(self.data.packets);
        self.data.packets = packets;
        if self.options.forwarding_if_rx {
            if new > 0 {
                let counts = (self.rx_interval() * self.options.mult.into()).max(DATA_COUNTS);
                self.data.counts_until = now + counts;
            }
            self.data.next_look = Some(now + LOOK_EVERY);
        }
        if self.decays() && self.data.quiet_look <= now {
            // Control packets are among them.
            let came = packets.wrapping_sub(self.data.quiet_packets);
            self.data.is_quiet = came <= 2 * self.data.quiet_controls.max(1);
            self.data.quiet_look = now + ms(self.options.decay_min_rx).max(DATA_COUNTS);
            (self.data.quiet_packets, self.data.quiet_controls) = (packets, 0);
            self.negotiate(now);
        }
    }

    fn note_forwarding(&mut self, now: Instant) {
        let by_data =
            self.options.forwarding_if_rx && self.data.counts_until > now && self.data.demand_until > now;
        let path_is_down = matches!(
            self.remote.diagnostic,
            BfdDiagnostic::PATH_DOWN
                | BfdDiagnostic::CONCATENATED_PATH_DOWN
                | BfdDiagnostic::REVERSE_CONCATENATED_PATH_DOWN
        );
        let forwarding = self.forced.unwrap_or((self.state == BfdState::Up || by_data) && !path_is_down);
        if forwarding != self.forwarding {
            self.forwarding = forwarding;
            self.flaps += 1;
        }
    }

    /// Whether packets get to the other side.
    pub fn is_forwarding(&self) -> bool {
        self.forwarding
    }

    /// How often that has changed.
    pub fn flaps(&self) -> u64 {
        self.flaps
    }

    /// Its settings.
    pub fn options(&self) -> &BfdOptions {
        &self.options
    }

    /// Its state and diagnostic.
    pub fn state(&self) -> (BfdState, BfdDiagnostic) {
        (self.state, self.diagnostic)
    }

    /// What the other side said last.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Our number for the session.
    pub fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// Whether a poll sequence lasts.
    pub fn is_polling(&self) -> bool {
        self.polling
    }

    /// What packets say of our intervals, milliseconds: sending and receiving.
    pub fn announced(&self) -> (u32, u32) {
        (self.announced.tx, self.announced.rx)
    }

    /// When the last packet was sent, when the next one will be, when the other side is gone unless one comes.
    pub fn times(&self) -> (Option<Instant>, Instant, Option<Instant>) {
        (self.last_tx, self.next_tx, self.expires())
    }
}
