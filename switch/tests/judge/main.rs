//! Open vSwitch as the judge: the same ports, rules and captures through Debian's OVS-DPDK and through vxswitch, and
//! what leaves each port compared byte for byte. Where we differ on purpose the case says why, and asserts both.
//!
//! `JUDGE=text cargo test -p vxswitch --test judge` runs the cases with this text in their names. Frames come from
//! scapy, which shares no code with either.

#[path = "../support/mod.rs"]
mod support;

mod case;
mod cases;
mod compare;
mod frames;
mod ours;
mod ovs;
mod tunnel;

use case::Case;
use compare::{Captures, counts, differences, normal};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{capture, is_root, scapy, skipped, turn};
use tempfile::TempDir;

/// Lowest source port of tunnel packets: Open vSwitch's, and ours.
const SOURCE_PORTS: (u16, u16) = (32768, 49152);

/// How often Open vSwitch may try.
const ATTEMPTS: u32 = 12;

/// A case that takes longer is named.
const SLOW: Duration = Duration::from_secs(3);

#[test]
fn open_vswitch_agrees() {
    const TEST: &str = "judge::open_vswitch_agrees";
    if !is_root(TEST) {
        return;
    }
    if !Path::new(ovs::VSWITCHD).exists() {
        skipped(TEST, "needs openvswitch-switch-dpdk; scripts/setup installs it");
        return;
    }
    let filter = std::env::var("JUDGE").unwrap_or_default();
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| case.name.contains(&filter)).collect();
    let _turn = turn();
    let dir = TempDir::new().expect("temporary directory");
    write_input(&cases, dir.path());

    // Each on a core of its own.
    let (judge, ours) = std::thread::scope(|scope| {
        let judge = scope.spawn(|| judge_all(&cases, dir.path()));
        let ours = scope.spawn(|| ours_all(&cases, dir.path()));
        (join(judge), join(ours))
    });
    let mut failed = Vec::new();
    for (at, ((case, judge), ours)) in cases.iter().zip(judge).zip(ours).enumerate() {
        if let Err(text) = verdict(case, &input_of(case, at, dir.path()), judge, ours) {
            failed.push(format!("--- {}\n    flows: {:?}\n{text}", case.name, case.flows));
        }
    }
    let (total, wrong) = (cases.len(), failed.len());
    assert!(failed.is_empty(), "{wrong} of {total} cases failed\n{}\n", failed.join("\n"));
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| panic!("{}", text_of(&*panic)))
}

/// The frames that a case fed, by port.
fn input_of(case: &Case, at: usize, dir: &Path) -> Captures {
    let side = place(dir, "judge", at);
    let read = |port: &str| capture::read(&side.join(format!("{port}.in.pcap")));
    case.input.iter().map(|(port, _)| ((*port).to_owned(), read(port))).collect()
}

/// Where the captures of a case lie; each switch has its own.
fn place(dir: &Path, side: &str, at: usize) -> std::path::PathBuf {
    dir.join(side).join(at.to_string())
}

/// Builds the frames of all cases, in one run of scapy.
fn write_input(cases: &[Case], dir: &Path) {
    let lists = cases.iter().flat_map(|case| &case.input);
    let expressions: Vec<&String> = lists.flat_map(|(_, frames)| frames).collect();
    let mut frames = scapy::build(&expressions).into_iter();
    for (at, case) in cases.iter().enumerate() {
        let sides = ["judge", "ours"].map(|side| place(dir, side, at));
        for side in &sides {
            std::fs::create_dir_all(side).expect("directory of a case");
            for (device, ..) in case.devices() {
                capture::write(&side.join(format!("{device}.in.pcap")), &[]);
            }
        }
        for (port, list) in &case.input {
            let list: Vec<Vec<u8>> = frames.by_ref().take(list.len()).collect();
            for side in &sides {
                let file = side.join(format!("{port}.in.pcap"));
                assert!(file.exists(), "{}: no port {port}", case.name);
                capture::write(&file, &list);
            }
        }
    }
}

fn judge_all(cases: &[Case], dir: &Path) -> Vec<Result<Captures, String>> {
    let ovs = ovs::Ovs::start();
    timed("Open vSwitch", cases, |at, case| {
        // It loses the first packets to and from a tunnel port that is new to it, and nothing shows when that is
        // over. So it is asked again when it has not sent what the case knows it to send.
        let mut result = Ok(Captures::new());
        for _ in 0..ATTEMPTS {
            result = caught(|| ovs.run(case, &place(dir, "judge", at)));
            match &result {
                Ok(sent) if counts(sent) == case.expected() => break,
                Ok(_) => {}
                Err(_) => ovs.tidy(case),
            }
        }
        result
    })
}

fn ours_all(cases: &[Case], dir: &Path) -> Vec<Result<Captures, String>> {
    timed("vxswitch", cases, |at, case| caught(|| ours::run(case, &place(dir, "ours", at))))
}

/// Runs all cases and says how long they took, to who asks for output (`--nocapture`).
fn timed<T>(who: &str, cases: &[Case], run: impl Fn(usize, &Case) -> T) -> Vec<T> {
    let start = Instant::now();
    let results = cases.iter().enumerate().map(|(at, case)| {
        let before = Instant::now();
        let result = run(at, case);
        if before.elapsed() > SLOW {
            println!("{who}: {:.1} s for {}", before.elapsed().as_secs_f64(), case.name);
        }
        result
    });
    let results = results.collect();
    eprintln!("{who}: {} cases in {:?}", cases.len(), start.elapsed());
    results
}

/// Both did what they should, or what is wrong.
fn verdict(
    case: &Case,
    input: &Captures,
    judge: Result<Captures, String>,
    ours: Result<Captures, String>,
) -> Result<(), String> {
    let mut judge = judge.map_err(|e| format!("    Open vSwitch: {e}"))?;
    let expected = case.expected();
    let mut problems = Vec::new();
    if counts(&judge) != expected {
        problems.push(format!(
            "    the case expects {expected:?} of Open vSwitch, which sent {:?}\n{}",
            counts(&judge),
            differences(&Captures::new(), &judge)
        ));
    }
    match ours {
        Err(error) => problems.push(format!("    vxswitch: {error}")),
        Ok(mut ours) => {
            normal(&mut judge, SOURCE_PORTS.0).map_err(|e| format!("    Open vSwitch: {e}"))?;
            normal(&mut ours, SOURCE_PORTS.1).map_err(|e| format!("    vxswitch: {e}"))?;
            let mut wanted = judge.clone();
            if let Some(difference) = case.differs {
                caught(|| (difference.ours)(&mut wanted, input))
                    .map_err(|e| format!("    {}\n    {e}", problems.join("\n")))?;
                wanted.retain(|_, frames| !frames.is_empty());
                for frames in wanted.values_mut() {
                    frames.sort();
                }
                if wanted == judge {
                    problems.push(format!("    no difference was made: {}", difference.why));
                }
            }
            let text = differences(&wanted, &ours);
            if !text.is_empty() {
                let why =
                    case.differs.map_or(String::new(), |d| format!("    differs on purpose: {}\n", d.why));
                problems.push(format!("{why}{text}"));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| text_of(&*panic))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
