//! testpmd, OVS-DPDK and vxswitch, on the same devices with the same traffic, in turn. `scripts/bench` prepares
//! the machine and starts it; docs/performance.md says how the figures are to be read.

mod case;
mod machine;
mod measure;
mod ovs;
mod process;
mod report;
mod svg;
mod system;
mod testpmd;
mod topology;
mod vxswitch;

use anyhow::{Context, Result, bail};
use case::{Case, Kind};
use clap::Parser;
use measure::{Measurement, Plan};
use report::{CaseResult, Outcome, Report};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use system::{Memory, Running, Setting, System};
use topology::Topology;

/// Compares vxswitch with testpmd and OVS-DPDK.
#[derive(Debug, Parser)]
struct Options {
    /// A few cases, in less than two minutes
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// All cases, five rounds
    #[arg(long)]
    full: bool,
    /// Only this case; may be given several times
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Only this system; may be given several times
    #[arg(long = "system", value_name = "NAME", value_parser = system_of)]
    systems: Vec<System>,
    /// Rounds, instead of 3 (quick) or 5 (full)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Write all results here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the plot here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The switch's program, instead of the one beside this program
    #[arg(long, value_name = "FILE")]
    vxswitch: Option<PathBuf>,
    /// An older vxswitch, to be compared in the same rounds: what a change of the datapath costs or brings
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// List the cases and end
    #[arg(long)]
    list: bool,
    /// Print how many MiB of hugepages the chosen cases want, and end
    #[arg(long)]
    hugepages: bool,
}

fn system_of(name: &str) -> Result<System, String> {
    match name {
        "testpmd" => Ok(System::Testpmd),
        "ovs" => Ok(System::Ovs),
        "vxswitch" => Ok(System::Vxswitch),
        _ => Err("expected testpmd, ovs or vxswitch".to_owned()),
    }
}

impl Options {
    fn chosen(&self) -> Result<Vec<Case>> {
        let all = case::all();
        if let Some(unknown) = self.cases.iter().find(|name| all.iter().all(|case| case.name != **name)) {
            let names: Vec<String> = all.into_iter().map(|case| case.name).collect();
            bail!("no case {unknown}, expected one of {}", names.join(" "));
        }
        let wanted = |case: &Case| match self.cases.as_slice() {
            [] => self.full || case.quick,
            names => names.contains(&case.name),
        };
        Ok(all.into_iter().filter(wanted).collect())
    }

    fn plan(&self) -> (Plan, u32) {
        // A full run starts a system 300 times and more: it has 40 minutes.
        let (windows, rounds) = if self.full { (6, 5) } else { (3, 3) };
        let plan =
            Plan { warm_up: 2, windows, window: Duration::from_millis(if self.full { 250 } else { 150 }) };
        (plan, self.rounds.unwrap_or(rounds))
    }
}

/// MiB of hugepages that the hungriest system wants in the hungriest case: OVS has a mempool of its own size.
fn megabytes(cases: &[Case]) -> usize {
    let mbufs = cases.iter().map(Case::mbufs).max().unwrap_or(0);
    ((mbufs * 2560) >> 20).max(880) + 128
}

fn main() -> Result<()> {
    let options = Options::parse();
    let cases = options.chosen()?;
    if options.list {
        for case in case::all() {
            println!("{}{}", case.name, if case.quick { " (quick)" } else { "" });
        }
        return Ok(());
    }
    if options.hugepages {
        println!("{}", megabytes(&cases));
        return Ok(());
    }
    let vxswitch = match &options.vxswitch {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("vxswitch"),
    };
    let memory = machine::memory(megabytes(&cases));
    if memory == Memory::Ordinary {
        eprintln!("not enough free hugepages: every system runs with --no-huge");
    }
    let (plan, rounds) = options.plan();
    let mut report = Report {
        date: process::run("date", ["-u", "+%Y-%m-%dT%H:%M:%SZ"], &[])?.trim().to_owned(),
        mode: if options.full { "full" } else { "quick" }.to_owned(),
        machine: machine::Machine::here(memory)?,
        rounds,
        results: Vec::new(),
    };
    println!("{}, TSC {:.3} GHz, {}", report.machine.cpu, report.machine.tsc_hz / 1e9, report.date);
    let mut systems = if options.systems.is_empty() { System::ALL.to_vec() } else { options.systems.clone() };
    systems.extend(options.before.as_ref().map(|_| System::Before));
    let before = options.before.clone().unwrap_or_default();
    let bench = Bench { vxswitch, before, memory, plan, tsc_hz: report.machine.tsc_hz };
    for case in cases {
        let result = bench.case(case, &systems, rounds)?;
        report.results.push(result);
    }
    println!("\n{}", report.table());
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &options.svg {
        std::fs::write(file, svg::plot(&report))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let failed =
        |result: &CaseResult| result.systems.get(&System::Vxswitch).is_some_and(|o| o.summary.is_none());
    let failures: Vec<&str> =
        report.results.iter().filter(|r| failed(r)).map(|r| r.case.name.as_str()).collect();
    if !failures.is_empty() {
        bail!("vxswitch gave no figures in {}", failures.join(", "));
    }
    Ok(())
}

struct Bench {
    vxswitch: PathBuf,
    before: PathBuf,
    memory: Memory,
    plan: Plan,
    tsc_hz: f64,
}

impl Bench {
    /// All rounds of a case, systems in turn.
    fn case(&self, case: Case, systems: &[System], rounds: u32) -> Result<CaseResult> {
        let files = tempfile::Builder::new().prefix("vxswitch-bench-").tempdir()?;
        let topology = topology::prepare(&case, files.path())?;
        let mut outcomes: BTreeMap<System, Outcome> =
            systems.iter().map(|s| (*s, Outcome::default())).collect();
        for round in 0..rounds {
            for (system, outcome) in outcomes.iter_mut().filter(|(_, outcome)| outcome.skipped.is_none()) {
                if let Some(why) = cannot(*system, &case, &topology) {
                    outcome.skipped = Some(why);
                    continue;
                }
                let start = Instant::now();
                match self.round(*system, &case, &topology) {
                    Ok(measurement) => {
                        let least = measurement.cycles.iter().copied().fold(f64::INFINITY, f64::min);
                        println!(
                            "{:<14} round {}  {:<12} {least:>6.1} cycles a packet, {} megaflows ({:.1} s)",
                            case.name,
                            round + 1,
                            system.name(),
                            measurement.flows,
                            start.elapsed().as_secs_f64(),
                        );
                        outcome.rounds.push(measurement);
                    }
                    Err(error) => {
                        eprintln!("{} {}: {error:#}", case.name, system.name());
                        outcome.skipped = Some(error.to_string());
                    }
                }
            }
        }
        for outcome in outcomes.values_mut() {
            outcome.summarise(case.workers, self.tsc_hz);
        }
        Ok(CaseResult { case, systems: outcomes })
    }

    /// One start of a system.
    fn round(&self, system: System, case: &Case, topology: &Topology) -> Result<Measurement> {
        let dir = tempfile::Builder::new().prefix("vxswitch-bench-").tempdir()?;
        let setting = Setting { topology, dir: dir.path(), memory: self.memory };
        let program = if system == System::Before { &self.before } else { &self.vxswitch };
        let mut running = start(system, program, &setting)?;
        if case.kind == Kind::Setup {
            measure::setup(running.as_mut(), self.tsc_hz)
        } else {
            measure::steady(running.as_mut(), &topology.sinks, &self.plan, self.tsc_hz)
        }
    }
}

/// Why a system has no part in a case.
fn cannot(system: System, case: &Case, topology: &Topology) -> Option<String> {
    match system {
        System::Testpmd => (case.kind == Kind::Setup).then(|| "it has no flows".to_owned()),
        System::Ovs => ovs::cannot(topology),
        System::Vxswitch | System::Before => None,
    }
}

fn start(system: System, vxswitch: &Path, setting: &Setting<'_>) -> Result<Box<dyn Running>> {
    Ok(match system {
        System::Testpmd => Box::new(testpmd::Testpmd::start(setting)?),
        System::Ovs => Box::new(ovs::Ovs::start(setting)?),
        System::Vxswitch | System::Before => Box::new(vxswitch::Vxswitch::start(vxswitch, setting)?),
    })
}
