//! The results, and the table of them.

use crate::case::{Case, Kind};
use crate::machine::Machine;
use crate::measure::{Measurement, Setup};
use crate::system::System;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Everything that one run of the program found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// When it began, UTC.
    pub date: String,
    /// Quick, full, or the cases that were asked for.
    pub mode: String,
    /// On what.
    pub machine: Machine,
    /// Starts of each system in each case.
    pub rounds: u32,
    /// In the order of measurement.
    pub results: Vec<CaseResult>,
}

/// One case's results.
#[derive(Debug, Serialize)]
pub struct CaseResult {
    /// What was measured.
    #[serde(flatten)]
    pub case: Case,
    /// By system.
    pub systems: BTreeMap<System, Outcome>,
}

/// A system in a case.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Why there are no figures, or no more of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// What the rounds gave together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Each round.
    pub rounds: Vec<Measurement>,
}

/// Rounds in a few numbers.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    /// Fewest TSC cycles a packet, devices included.
    pub min: f64,
    /// Median of all windows.
    pub median: f64,
    /// Million packets a second that the minimum amounts to, all workers together.
    pub mpps: f64,
    /// Most flows a second, most loss and most packets of the `setup` case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
}

impl Outcome {
    /// Works out the summary.
    pub fn summarise(&mut self, workers: usize, tsc_hz: f64) {
        let mut cycles: Vec<f64> =
            self.rounds.iter().flat_map(|round| round.cycles.iter().copied()).collect();
        cycles.sort_by(f64::total_cmp);
        let Some(&min) = cycles.first() else { return };
        let setups = self.rounds.iter().filter_map(|round| round.setup);
        let setup = setups.reduce(|a, b| Setup {
            flows_per_second: a.flows_per_second.max(b.flows_per_second),
            established_loss: a.established_loss.max(b.established_loss),
            established_per_second: a.established_per_second.max(b.established_per_second),
        });
        let mpps = workers as f64 * tsc_hz / min / 1e6;
        self.summary = Some(Summary { min, median: cycles[cycles.len() / 2], mpps, setup });
    }
}

impl CaseResult {
    fn min(&self, system: System) -> Option<f64> {
        self.systems.get(&system)?.summary.map(|summary| summary.min)
    }

    /// How many times as many cycles `other` needs as `system`.
    fn ratio(&self, other: System, system: System) -> String {
        match (self.min(other), self.min(system)) {
            (Some(other), Some(system)) => format!("{:.2}", other / system),
            _ => "-".to_owned(),
        }
    }
}

impl Report {
    /// A Markdown table: minimum (median) of cycles a packet, millions of packets a second, ratios of the minima.
    pub fn table(&self) -> String {
        let mut out = String::from(
            "| case | testpmd mac | OVS-DPDK | vxswitch | Mpps | OVS / vxswitch | vxswitch / testpmd |",
        );
        // An older vxswitch has columns of its own.
        let has_before = self.results.iter().any(|result| result.systems.contains_key(&System::Before));
        out.push_str(if has_before { " before | vxswitch / before |\n" } else { "\n" });
        out.push_str(if has_before {
            "|---|---|---|---|---|---|---|---|---|\n"
        } else {
            "|---|---|---|---|---|---|---|\n"
        });
        let mut notes = Vec::new();
        for result in &self.results {
            let mut cell = |system: System| match result.systems.get(&system) {
                Some(Outcome { summary: Some(s), .. }) => format!("{:.0} ({:.0})", s.min, s.median),
                Some(Outcome { skipped: Some(why), .. }) => {
                    notes.push(format!("{}: {} has no figure: {why}", result.case.name, system.name()));
                    "-".to_owned()
                }
                _ => "-".to_owned(),
            };
            let cells = System::ALL.map(&mut cell);
            let before = if has_before {
                format!(" {} | {} |", cell(System::Before), result.ratio(System::Vxswitch, System::Before))
            } else {
                String::new()
            };
            let ours = result.systems.get(&System::Vxswitch).and_then(|o| o.summary);
            let mpps = ours.map_or("-".to_owned(), |s| format!("{:.1}", s.mpps));
            let _ = writeln!(
                out,
                "| {} | {} | {mpps} | {} | {} |{before}",
                result.case.name,
                cells.join(" | "),
                result.ratio(System::Ovs, System::Vxswitch),
                result.ratio(System::Vxswitch, System::Testpmd),
            );
        }
        let _ = writeln!(out, "\nTSC cycles a packet, minimum (median); Mpps is vxswitch's at its minimum.");
        for result in self.results.iter().filter(|r| r.case.kind == Kind::Setup) {
            for (system, outcome) in &result.systems {
                if let Some(Setup { flows_per_second, established_loss, established_per_second }) =
                    outcome.summary.and_then(|s| s.setup)
                {
                    let _ = writeln!(
                        out,
                        "setup, {}: {:.0} thousand flows a second; established flows: {:.3} % lost, {:.2} Mpps",
                        system.name(),
                        flows_per_second / 1e3,
                        established_loss * 1e2,
                        established_per_second / 1e6
                    );
                }
            }
        }
        for note in notes {
            let _ = writeln!(out, "{note}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_over_all_windows() {
        let round = |cycles: &[f64]| Measurement { cycles: cycles.to_vec(), ..Measurement::default() };
        let mut outcome = Outcome {
            rounds: vec![round(&[120.0, 100.0, 140.0]), round(&[110.0, 130.0])],
            ..Outcome::default()
        };
        outcome.summarise(2, 2e9);
        let summary = outcome.summary.unwrap();
        assert!((summary.min - 100.0).abs() < 1e-9 && (summary.median - 120.0).abs() < 1e-9);
        assert!((summary.mpps - 40.0).abs() < 1e-9, "two workers, 20 each");
    }
}
