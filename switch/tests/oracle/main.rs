//! The switch against the oracle: random bridges, rules, tunnels, frames and changes, done to both, and every byte
//! that leaves by every port compared (issue 4, "The oracle").
//!
//! `VXSWITCH_ORACLE_SECONDS` says how long to go on (default 10), `VXSWITCH_ORACLE_SEED` where to begin, and
//! `VXSWITCH_ORACLE_WITHOUT` what to leave out (`groups,mirrors`); a failure prints the case, shrunk, and the seed that makes it first. `scripts/fuzz histories` does this for hours.

mod compare;
mod counted;
mod found;
mod frames;
mod generate;
mod outer;
mod plan;
mod rig;
#[path = "../rings/mod.rs"]
mod rings;
mod text;

use generate::Classes;
use plan::Plan;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Time that shrinking may take.
const SHRINK: Duration = Duration::from_mins(1);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// Runs a case; a panic is a failure as any other.
fn run(plan: &Plan) -> Result<usize, String> {
    catch_unwind(AssertUnwindSafe(|| rig::run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default())
    })
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// The case of a seed, and what shrinking leaves of it if it fails.
fn case(classes: Classes, seed: u64) -> Result<usize, String> {
    let mut tree = generate::plan(classes).new_tree(&mut runner(seed)).expect("a case");
    let mut failure = match run(&tree.current()) {
        Ok(frames) => return Ok(frames),
        Err(what) => (tree.current(), what),
    };
    let start = Instant::now();
    // The panics of smaller cases are of no interest: what is left is told in the end.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut go_on = tree.simplify();
    while go_on && start.elapsed() < SHRINK {
        let plan = tree.current();
        go_on = match run(&plan) {
            Err(what) => {
                failure = (plan, what);
                tree.simplify()
            }
            Ok(_) => tree.complicate(),
        };
    }
    std::panic::set_hook(hook);
    let (plan, what) = failure;
    Err(format!("VXSWITCH_ORACLE_SEED={seed}\n{plan}\n{what}"))
}

#[test]
fn the_switch_sends_what_the_oracle_sends() {
    let seconds = number("VXSWITCH_ORACLE_SECONDS").unwrap_or(10);
    let first = number("VXSWITCH_ORACLE_SEED").unwrap_or(1);
    let classes = Classes::without(&std::env::var("VXSWITCH_ORACLE_WITHOUT").unwrap_or_default());
    let start = Instant::now();
    let (mut cases, mut frames) = (0, 0);
    rig::DIVIDED.store(0, Relaxed);
    while cases == 0 || start.elapsed() < Duration::from_secs(seconds) {
        frames += case(classes, first + cases).unwrap_or_else(|what| panic!("{what}"));
        cases += 1;
    }
    println!("{cases} cases, {frames} frames in {:.1} s", start.elapsed().as_secs_f32());
    assert!(frames > 0);
    let divided = rig::DIVIDED.load(Relaxed);
    println!("{divided} outer fragments were put together");
    assert!(cases < 20 || divided > 0, "nothing left in fragments");
}
