//! Cycles a packet of a running system.
//!
//! A worker polls all the time, so all of its CPU time is what its packets cost. CPU time and not the clock on
//! the wall, because other programs may share the CPU; their share of the caches remains, and the hypervisor's
//! other guests too. So what counts is the cheapest of many short windows.

use crate::system::Running;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Warm-up ends when two windows differ by less than this fraction ...
const SETTLED: f64 = 0.08;
/// ... or after so long.
const LONGEST_WARM_UP: Duration = Duration::from_secs(3);
/// Flows after which the `setup` case's clock starts: what comes before is start-up.
const FIRST_FLOWS: u64 = 1000;
/// Flows at which it stops: below the limit of 200,000 that all systems have by default.
const LAST_FLOWS: u64 = 150_000;
/// Or after so long.
const SETUP_TIME: Duration = Duration::from_secs(3);

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Shortest warm-up, in windows.
    pub warm_up: u32,
    /// Windows measured.
    pub windows: u32,
    /// Length of one.
    pub window: Duration,
}

/// What one start of a system gave.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Measurement {
    /// TSC cycles a packet, of each window.
    pub cycles: Vec<f64>,
    /// Megaflows at the end.
    pub flows: u64,
    /// Of the `setup` case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
}

/// What the `setup` case gives besides.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Setup {
    /// Megaflows installed a second.
    pub flows_per_second: f64,
    /// Packets of established flows received and not sent, as a fraction.
    pub established_loss: f64,
    /// Packets of established flows sent, a second of CPU time.
    pub established_per_second: f64,
}

/// Measures a system that has just started.
pub fn steady(running: &mut dyn Running, sinks: &[&str], plan: &Plan, tsc_hz: f64) -> Result<Measurement> {
    let start = Instant::now();
    let mut last = f64::INFINITY;
    for n in 0.. {
        let now = window(running, sinks, plan.window, tsc_hz).unwrap_or(f64::INFINITY);
        let settled = (now - last).abs() < SETTLED * last;
        if n + 1 >= plan.warm_up && settled || start.elapsed() > LONGEST_WARM_UP {
            break;
        }
        last = now;
    }
    let cycles =
        (0..plan.windows).map(|_| window(running, sinks, plan.window, tsc_hz)).collect::<Result<_>>()?;
    Ok(Measurement { cycles, flows: running.flows()?, setup: None })
}

/// Cycles a packet over one window.
fn window(running: &mut dyn Running, sinks: &[&str], length: Duration, tsc_hz: f64) -> Result<f64> {
    let (packets, cpu) = (running.sent(sinks)?, running.cpu()?);
    std::thread::sleep(length);
    let (packets, cpu) = (running.sent(sinks)? - packets, running.cpu()? - cpu);
    ensure!(packets > 0, "no packet was sent by {} in {length:?}", sinks.join(" and "));
    Ok(cpu as f64 * 1e-9 * tsc_hz / packets as f64)
}

/// Measures the `setup` case: how fast new flows come in, and what becomes of the established ones meanwhile.
pub fn setup(running: &mut dyn Running, tsc_hz: f64) -> Result<Measurement> {
    let read =
        |running: &mut dyn Running| -> Result<(Instant, u64)> { Ok((Instant::now(), running.flows()?)) };
    let start = Instant::now();
    let mut first = read(running)?;
    while first.1 < FIRST_FLOWS && start.elapsed() < SETUP_TIME {
        first = read(running)?;
    }
    let (ports, cpu, sent) = (running.ports()?, running.cpu()?, running.sent(&["out", "kept"])?);
    let mut last = read(running)?;
    while last.1 < LAST_FLOWS && first.0.elapsed() < SETUP_TIME {
        std::thread::sleep(Duration::from_millis(5));
        last = read(running)?;
    }
    // Long enough to count what is lost, also where all flows came at once.
    std::thread::sleep(Duration::from_millis(200));
    let (ports_then, cpu_then, sent_then) =
        (running.ports()?, running.cpu()?, running.sent(&["out", "kept"])?);
    let count = |ports: &std::collections::BTreeMap<_, crate::system::PortCount>, name: &str| {
        ports.get(name).copied().unwrap_or_default()
    };
    let received = count(&ports_then, "old").rx - count(&ports, "old").rx;
    let kept = count(&ports_then, "kept").tx - count(&ports, "kept").tx;
    // A system that counts what it drops is believed. Of the others it is the difference, which is off by what was
    // on its way when the counters were read, one after the other: up to a few hundred packets.
    let dropped = |ports: &std::collections::BTreeMap<_, crate::system::PortCount>| {
        Some(count(ports, "old").dropped? + count(ports, "kept").dropped?)
    };
    let lost = match (dropped(&ports_then), dropped(&ports)) {
        (Some(then), Some(before)) => then - before,
        _ => received.saturating_sub(kept),
    };
    let (cpu, sent) = ((cpu_then - cpu) as f64 * 1e-9, sent_then - sent);
    ensure!(received > 0 && sent > 0, "no packet was sent in the setup case");
    let flows = last.1.saturating_sub(first.1) as f64;
    Ok(Measurement {
        cycles: vec![cpu * tsc_hz / sent as f64],
        flows: last.1,
        setup: Some(Setup {
            flows_per_second: flows / (last.0 - first.0).as_secs_f64().max(1e-3),
            established_loss: lost as f64 / received as f64,
            established_per_second: kept as f64 / cpu,
        }),
    })
}
