//! What the figures were measured on.

use crate::process::run;
use crate::system::Memory;
use anyhow::Result;
use serde::Serialize;
use std::time::{Duration, Instant};

/// The machine line of a report.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// CPU model, and how many of it.
    pub cpu: String,
    /// Frequency of the time stamp counter.
    pub tsc_hz: f64,
    /// Kernel release.
    pub kernel: String,
    /// Whether the systems used hugepages.
    pub hugepages: bool,
    /// Versions of what was compared with.
    pub versions: Vec<String>,
    /// Load of the machine before the first measurement: what else was running.
    pub load: String,
}

impl Machine {
    /// This one.
    pub fn here(memory: Memory) -> Result<Machine> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let models: Vec<&str> = cpuinfo
            .lines()
            .filter_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|p| p.1))
            .collect();
        let version = |package: &str| {
            run("dpkg-query", ["-W", "-f", "${Package} ${Version}", package], &[])
                .unwrap_or_else(|_| package.to_owned())
        };
        Ok(Machine {
            cpu: format!("{} x {}", models.len(), models.first().unwrap_or(&"unknown CPU")),
            tsc_hz: tsc_hz(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            hugepages: memory == Memory::Hugepages,
            versions: vec![version("dpdk-dev"), version("openvswitch-switch-dpdk")],
            load: std::fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

/// Frequency of the time stamp counter, measured against CLOCK_MONOTONIC.
fn tsc_hz() -> f64 {
    let (start, cycles) = (Instant::now(), rte::cycles());
    std::thread::sleep(Duration::from_millis(200));
    (rte::cycles() - cycles) as f64 / start.elapsed().as_secs_f64()
}

/// Hugepages if so many MiB of them are free, else ordinary pages.
pub fn memory(megabytes: usize) -> Memory {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<usize>().ok()
    };
    match (field("HugePages_Free:"), field("Hugepagesize:")) {
        (Some(pages), Some(kilobytes)) if pages * kilobytes / 1024 >= megabytes => Memory::Hugepages,
        _ => Memory::Ordinary,
    }
}
