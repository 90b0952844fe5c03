//! Two sessions over a path that loses, delays and repeats packets, and one against whoever sends it what.

use super::frame;
use super::session::Session;
use config::BfdOptions;
use proptest::prelude::*;
use std::time::{Duration, Instant};
use wire::addr::MacAddr;
use wire::view::{BfdControl, BfdDiagnostic, BfdState};

fn options(pairs: &[(&str, &str)]) -> BfdOptions {
    let mut map: std::collections::BTreeMap<String, String> =
        [("enable".to_owned(), "true".to_owned())].into();
    map.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    BfdOptions::parse(&map).expect("settings").expect("enabled")
}

/// What happens to packets under way.
#[derive(Debug, Clone, Copy)]
struct Path {
    /// Of 100 packets so many are lost.
    lost: u8,
    delay: Duration,
}

/// Two sessions, the packets between them, and the time.
struct Pair {
    now: Instant,
    ends: [Session; 2],
    /// Packets of the port besides BFD's, by end.
    data: [u64; 2],
    under_way: Vec<(Instant, usize, BfdControl)>,
    sent: Vec<(Instant, usize, BfdControl)>,
    paths: [Path; 2],
    random: u64,
}

const CLEAR: Path = Path { lost: 0, delay: Duration::from_millis(1) };
const CUT: Path = Path { lost: 100, delay: Duration::from_millis(1) };

impl Pair {
    fn new(a: BfdOptions, b: BfdOptions) -> Pair {
        let now = Instant::now();
        Pair {
            now,
            ends: [Session::new(a, 0x0101, 5, now), Session::new(b, 0x0202, 9, now)],
            data: [0; 2],
            under_way: Vec::new(),
            sent: Vec::new(),
            paths: [CLEAR; 2],
            random: 1,
        }
    }

    /// Both directions from now on.
    fn path(&mut self, path: Path) {
        self.paths = [path; 2];
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let due = self.ends.iter().map(|end| end.due(self.now));
            let next = due.chain(self.under_way.iter().map(|(at, ..)| *at)).min().expect("two ends");
            self.now = next.max(self.now).min(end);
            let (come, left) = self.under_way.drain(..).partition(|(at, ..)| *at <= self.now);
            self.under_way = left;
            let come: Vec<(Instant, usize, BfdControl)> = come;
            for (_, to, packet) in come {
                self.data[to] += 1;
                self.ends[to].receive(&packet, self.now);
            }
            for from in 0..2 {
                while let Some(packet) = self.ends[from].poll(self.now, self.data[from]) {
                    self.sent.push((self.now, from, packet));
                    self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let path = self.paths[from];
                    if (self.random >> 33) % 100 >= path.lost.into() {
                        self.under_way.push((self.now + path.delay, 1 - from, packet));
                    }
                }
            }
        }
    }

    fn states(&self) -> [BfdState; 2] {
        [self.ends[0].state().0, self.ends[1].state().0]
    }
}

const FAST: [(&str, &str); 2] = [("min_rx", "100"), ("min_tx", "100")];

#[test]
fn two_ends_come_up_and_a_cut_is_seen_in_the_negotiated_time() {
    let mut pair = Pair::new(options(&FAST), options(&[("min_rx", "300"), ("min_tx", "200")]));
    pair.pass(Duration::from_secs(4));
    assert_eq!(pair.states(), [BfdState::Up; 2]);
    assert!(pair.ends.iter().all(|end| end.is_forwarding() && !end.is_polling() && end.flaps() == 1));
    // Each sends in the slower of what it likes and what the other takes.
    assert_eq!(pair.ends[0].tx_interval(), Duration::from_millis(300));
    assert_eq!(pair.ends[1].tx_interval(), Duration::from_millis(200));
    assert_eq!(pair.ends[0].detection_time(), Duration::from_millis(600));
    assert_eq!(pair.ends[1].detection_time(), Duration::from_millis(900));
    pair.path(CUT);
    pair.pass(Duration::from_millis(395));
    assert!(pair.ends.iter().all(Session::is_forwarding), "not before its time");
    pair.pass(Duration::from_millis(520));
    assert!(pair.ends.iter().all(|end| !end.is_forwarding()));
    assert!(pair.ends.iter().all(|end| end.state() == (BfdState::Down, BfdDiagnostic::EXPIRED)));
    assert!(pair.ends.iter().all(|end| end.remote().discriminator == 0));
    pair.path(CLEAR);
    pair.pass(Duration::from_secs(4));
    assert_eq!(pair.states(), [BfdState::Up; 2]);
    assert_eq!(pair.ends[0].flaps(), 3);
}

#[test]
fn one_way_is_no_way() {
    let mut pair = Pair::new(options(&FAST), options(&FAST));
    pair.pass(Duration::from_secs(4));
    pair.paths[0] = CUT;
    pair.pass(Duration::from_secs(2));
    // The end that still hears is told by the one that does not.
    assert_eq!(pair.states(), [BfdState::Init, BfdState::Down]);
    assert_eq!(pair.ends[0].state().1, BfdDiagnostic::NEIGHBOUR_DOWN);
    assert!(pair.ends.iter().all(|end| !end.is_forwarding()));
}

#[test]
fn a_path_that_is_down_further_on_is_told() {
    let mut pair = Pair::new(options(&FAST), options(&FAST));
    pair.pass(Duration::from_secs(4));
    let now = pair.now;
    pair.ends[1].configure(options(&[FAST[0], FAST[1], ("cpath_down", "true")]), now);
    pair.pass(Duration::from_millis(10));
    assert_eq!(pair.states(), [BfdState::Up; 2]);
    assert_eq!(pair.ends[0].remote().diagnostic, BfdDiagnostic::CONCATENATED_PATH_DOWN);
    assert!(!pair.ends[0].is_forwarding() && pair.ends[1].is_forwarding());
    pair.ends[1].configure(options(&FAST), pair.now);
    pair.pass(Duration::from_millis(10));
    assert!(pair.ends[0].is_forwarding());
}

#[test]
fn other_intervals_are_agreed_on_while_the_session_is_up() {
    let mut pair = Pair::new(options(&FAST), options(&FAST));
    pair.pass(Duration::from_secs(4));
    pair.path(CUT);
    pair.ends[0].configure(options(&[("min_rx", "1000"), ("min_tx", "2000")]), pair.now);
    // Nobody has agreed: packets go on as they did.
    assert!(pair.ends[0].is_polling());
    assert_eq!(pair.ends[0].tx_interval(), Duration::from_millis(100));
    pair.path(CLEAR);
    pair.pass(Duration::from_millis(300));
    assert!(!pair.ends[0].is_polling());
    assert_eq!(pair.ends[0].tx_interval(), Duration::from_secs(2));
    assert_eq!(pair.ends[1].tx_interval(), Duration::from_secs(1));
    pair.pass(Duration::from_secs(30));
    assert_eq!(pair.states(), [BfdState::Up; 2]);
    assert!(pair.ends.iter().all(|end| end.flaps() == 1));
    // And faster again.
    pair.ends[0].configure(options(&FAST), pair.now);
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.ends[1].tx_interval(), Duration::from_millis(100));
    assert!(pair.ends.iter().all(|end| end.flaps() == 1));
}

#[test]
fn a_quiet_port_is_watched_less_often() {
    let decay = [FAST[0], FAST[1], ("decay_min_rx", "1000")];
    let mut pair = Pair::new(options(&decay), options(&FAST));
    pair.pass(Duration::from_secs(8));
    assert_eq!(pair.ends[1].tx_interval(), Duration::from_secs(1), "nothing but BFD came");
    for _ in 0..200 {
        pair.data[0] += 100;
        pair.pass(Duration::from_millis(20));
    }
    assert_eq!(pair.ends[1].tx_interval(), Duration::from_millis(100), "data came");
    assert!(pair.ends.iter().all(|end| end.flaps() == 1));
}

#[test]
fn data_is_as_good_as_a_session_for_a_while() {
    let by_data = [FAST[0], FAST[1], ("forwarding_if_rx", "true")];
    let mut pair = Pair::new(options(&by_data), options(&FAST));
    pair.pass(Duration::from_secs(4));
    pair.path(CUT);
    let mut forwards_for = Duration::ZERO;
    let start = pair.now;
    for _ in 0..1000 {
        pair.data[0] += 1;
        pair.pass(Duration::from_millis(20));
        if pair.ends[0].is_forwarding() {
            forwards_for = pair.now - start;
        }
    }
    assert_eq!(pair.ends[0].state().0, BfdState::Down);
    // A control packet has to come in a hundred intervals.
    assert!(
        forwards_for > Duration::from_secs(9) && forwards_for < Duration::from_secs(11),
        "{forwards_for:?}"
    );
}

#[test]
fn forwarding_can_be_forced() {
    let mut pair = Pair::new(options(&FAST), options(&FAST));
    let now = pair.now;
    pair.ends[0].force(Some(true), now);
    assert!(pair.ends[0].is_forwarding());
    pair.pass(Duration::from_secs(4));
    pair.ends[0].force(Some(false), pair.now);
    assert!(!pair.ends[0].is_forwarding() && pair.ends[0].state().0 == BfdState::Up);
    pair.ends[0].force(None, pair.now);
    assert!(pair.ends[0].is_forwarding());
}

#[test]
fn who_wants_no_packets_gets_answers_only() {
    let now = Instant::now();
    let mut session = Session::new(options(&FAST), 7, 3, now);
    assert!(session.poll(now, 0).is_some());
    let wants_none = BfdControl {
        diagnostic: BfdDiagnostic::NONE,
        state: BfdState::Down,
        poll: true,
        is_final: false,
        detect_mult: 255,
        my_discriminator: 9,
        your_discriminator: 0,
        desired_min_tx: u32::MAX,
        required_min_rx: 0,
    };
    session.receive(&wants_none, now);
    let answer = session.poll(now, 0).expect("an answer");
    assert!(answer.is_final && !answer.poll && answer.your_discriminator == 9);
    assert_eq!(session.poll(now + Duration::from_secs(100), 0), None);
}

#[test]
fn a_frame_is_read_as_it_was_written_and_not_from_afar() {
    let control =
        Session::new(options(&[]), 7, 3, Instant::now()).poll(Instant::now(), 0).expect("the first packet");
    let mut bytes = [0; frame::LEN];
    let bridge = MacAddr([2, 0, 0, 0, 0, 1]);
    let len = frame::build(&mut bytes, &options(&[]), bridge, 50_000, &control).unwrap();
    assert_eq!(len, frame::LEN);
    assert_eq!(frame::parse(&bytes), Ok(control));
    assert_eq!(bytes[6..12], bridge.0);
    // A router was between: TTL 254, and the header's checksum right.
    bytes[22] -= 1;
    let sum = u16::from_be_bytes([bytes[24], bytes[25]]) + 0x100;
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    assert!(frame::parse(&bytes).unwrap_err().to_string().contains("TTL"));
}

prop_compose! {
    fn settings()(rx in 20u32..600, tx in 20u32..600, mult in 2u8..6) -> BfdOptions {
        BfdOptions { mult, ..options(&[("min_rx", &rx.to_string()), ("min_tx", &tx.to_string())]) }
    }
}

prop_compose! {
    fn any_control(yours: u32)(diagnostic in 0u8..32, state in 0u8..4, flags: (bool, bool), mult in 1u8.., mine in 1u32..,
                     knows: bool, tx: u32, rx: u32) -> BfdControl {
        let state = [BfdState::AdminDown, BfdState::Down, BfdState::Init, BfdState::Up][usize::from(state)];
        BfdControl {
            diagnostic: BfdDiagnostic(diagnostic), state, poll: flags.0, is_final: flags.1, detect_mult: mult,
            my_discriminator: mine, your_discriminator: if knows { yours } else { 0 },
            desired_min_tx: tx, required_min_rx: rx,
        }
    }
}

proptest! {
    /// Whatever happened before: over a clear path both come up and stay so, over a cut one both go down in time, and
    /// nobody sends faster than three quarters of the interval, but to answer or to tell something new.
    #[test]
    fn the_path_decides(a in settings(), b in settings(),
                        history in prop::collection::vec((0u8..=100, 1u64..200, 1u64..3000), 0..6)) {
        let mut pair = Pair::new(a, b);
        for (lost, delay, time) in history {
            pair.path(Path { lost, delay: Duration::from_millis(delay) });
            pair.pass(Duration::from_millis(time));
        }
        pair.path(CLEAR);
        pair.pass(Duration::from_secs(15));
        prop_assert_eq!(pair.states(), [BfdState::Up; 2]);
        let flaps = [pair.ends[0].flaps(), pair.ends[1].flaps()];
        pair.sent.clear();
        pair.pass(Duration::from_secs(20));
        prop_assert_eq!([pair.ends[0].flaps(), pair.ends[1].flaps()], flaps, "nothing happens to the path");
        for end in 0..2 {
            let times: Vec<Instant> =
                pair.sent.iter().filter(|(_, from, p)| *from == end && !p.is_final).map(|(at, ..)| *at).collect();
            let interval = pair.ends[end].tx_interval();
            for pair in times.windows(2) {
                let gap = pair[1] - pair[0];
                prop_assert!(gap >= interval * 74 / 100 && gap <= interval, "{gap:?} of {interval:?}");
            }
        }
        let slowest = pair.ends.iter().map(Session::detection_time).max().unwrap();
        pair.path(CUT);
        pair.pass(slowest + Duration::from_millis(2));
        prop_assert!(pair.ends.iter().all(|end| !end.is_forwarding()));
    }

    /// No packets make a session panic, or send more than one packet for each that came and one for each interval.
    #[test]
    fn no_packets_are_too_much(options in settings(),
                               packets in prop::collection::vec((any_control(7), 0u64..500), 0..100)) {
        let mut now = Instant::now();
        let mut session = Session::new(options, 7, 3, now);
        let mut sent = 0;
        let (count, start) = (packets.len(), now);
        for (packet, time) in packets {
            session.receive(&packet, now);
            while session.poll(now, 0).is_some() {
                sent += 1;
            }
            now += Duration::from_millis(time);
        }
        let intervals = (now - start).as_millis() as usize / (options.min_tx as usize * 3 / 4).max(1);
        prop_assert!(sent <= 1 + 2 * count + intervals, "{sent} packets for {count}");
    }

    /// Who does not know our number changes nothing once the session is up.
    #[test]
    fn strangers_are_not_heard(packets in prop::collection::vec(any_control(8), 1..20)) {
        let mut pair = Pair::new(options(&FAST), options(&FAST));
        pair.pass(Duration::from_secs(4));
        for packet in packets.iter().filter(|packet| packet.your_discriminator != 0) {
            pair.ends[0].receive(packet, pair.now);
            pair.pass(Duration::from_millis(50));
        }
        prop_assert_eq!(pair.states(), [BfdState::Up; 2]);
        prop_assert_eq!(pair.ends[0].flaps(), 1);
    }
}
