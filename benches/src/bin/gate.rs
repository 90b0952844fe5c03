//! The regression gate: instructions a packet of `loop`, counted by callgrind, against a committed baseline.
//!
//! Counts do not depend on what else the machine does, so a few per cent are a finding and not noise. When a case
//! got worse by more than 5 %, the gate fails and names the functions that grew.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Growth that fails.
const TOLERANCE: f64 = 0.05;
/// Cases of `loop`.
const CASES: [&str; 5] = ["l2", "encap", "decap", "normal", "acl"];
/// Functions kept in the baseline: all that cost at least so many instructions a packet.
const SMALLEST: f64 = 0.5;
/// Functions named when a case grew.
const NAMED: usize = 8;

/// Compares instructions a packet with the baseline.
#[derive(Debug, Parser)]
struct Options {
    /// Write what was counted as the new baseline
    #[arg(long)]
    update: bool,
    /// The baseline
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json"))]
    baseline: PathBuf,
    /// The program to count, instead of `loop` beside this program
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Packets a case
    #[arg(long, default_value_t = 32_000)]
    packets: u64,
}

/// What a case costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cost {
    /// Instructions a packet.
    instructions: f64,
    /// Instructions a packet of each function, those of functions that it calls left out.
    functions: BTreeMap<String, f64>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let program = match &options.program {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("loop"),
    };
    let dir = tempfile::tempdir()?;
    let mut costs = BTreeMap::new();
    for case in CASES {
        let cost = count(&program, case, options.packets, dir.path())?;
        costs.insert(case.to_owned(), cost);
    }
    if options.update {
        let text = serde_json::to_string_pretty(&costs)? + "\n";
        std::fs::write(&options.baseline, text)
            .with_context(|| format!("cannot write {}", options.baseline.display()))?;
    }
    let text = std::fs::read_to_string(&options.baseline)
        .with_context(|| format!("cannot read {}; --update writes it", options.baseline.display()))?;
    let baseline: BTreeMap<String, Cost> = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a baseline", options.baseline.display()))?;
    let mut worse = Vec::new();
    println!("instructions a packet   now  baseline  change");
    for (case, cost) in &costs {
        let Some(before) = baseline.get(case) else {
            bail!("{} has no case {case}; --update writes it", options.baseline.display());
        };
        let growth = cost.instructions / before.instructions - 1.0;
        println!(
            "{case:<20} {:>6.1} {:>9.1}  {:>+5.1} %",
            cost.instructions,
            before.instructions,
            growth * 100.0
        );
        if growth > TOLERANCE {
            worse.push(case.as_str());
            for line in grown(before, cost) {
                println!("    {line}");
            }
        }
    }
    ensure!(
        worse.is_empty(),
        "{} got more than {:.0} % worse; if that is meant, `scripts/bench --gate --update` makes it the baseline",
        worse.join(", "),
        TOLERANCE * 100.0
    );
    Ok(())
}

/// Runs a case under callgrind.
fn count(program: &Path, case: &str, packets: u64, dir: &Path) -> Result<Cost> {
    let out = dir.join(format!("{case}.out"));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*measured*"]);
    command
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args([case, &packets.to_string()]);
    let output = command.output().context("cannot start valgrind (package valgrind)")?;
    ensure!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr).trim());
    let packets: f64 = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next_back()
        .and_then(|line| line.trim().parse().ok())
        .with_context(|| format!("{case}: expected the number of packets as last line"))?;
    let mut annotate = Command::new("callgrind_annotate");
    let annotate = annotate.args(["--threshold=100", "--auto=no"]).arg(&out).output();
    let annotate = annotate.context("cannot start callgrind_annotate (package valgrind)")?;
    ensure!(
        annotate.status.success(),
        "callgrind_annotate: {}",
        String::from_utf8_lossy(&annotate.stderr).trim()
    );
    cost(&String::from_utf8_lossy(&annotate.stdout), packets)
        .with_context(|| format!("{case}: nothing was counted"))
}

/// Reads what callgrind_annotate prints: `1,234 (5.67%)  file:function [object]`.
fn cost(text: &str, packets: f64) -> Option<Cost> {
    let mut cost = Cost { instructions: 0.0, functions: BTreeMap::new() };
    for line in text.lines() {
        let Some((number, rest)) = line.trim_start().split_once(' ') else { continue };
        let Ok(count) = number.replace(',', "").parse::<f64>() else { continue };
        if line.trim_end().ends_with("PROGRAM TOTALS") {
            cost.instructions = round(count / packets);
            continue;
        }
        let place = rest.trim_start();
        let place =
            if place.starts_with('(') { place.split_once(')').map_or(place, |(_, p)| p) } else { place };
        let each = count / packets;
        if each >= SMALLEST {
            *cost.functions.entry(function(place.trim())).or_default() += round(each);
        }
    }
    (cost.instructions > 0.0).then_some(cost)
}

/// Function and source file, as `act.rs: vxswitch::datapath::Worker::burst`: code that was inlined counts for the
/// function that it is in, and the file says what it is. Folders and objects differ between machines, so they
/// are left out, but for code without symbols.
fn function(place: &str) -> String {
    let (place, object) = place.rsplit_once(" [").unwrap_or((place, "?"));
    // The file ends at the first colon that is not one of a path's `::`.
    let bytes = place.as_bytes();
    let single =
        |i: &usize| bytes[*i] == b':' && bytes.get(i + 1) != Some(&b':') && (*i == 0 || bytes[i - 1] != b':');
    let (file, name) =
        (0..bytes.len()).find(single).map_or(("???", place), |at| (&place[..at], &place[at + 1..]));
    // Recursion levels.
    let name = name.split_once('\'').map_or(name, |(front, _)| front);
    let last = |path: &str| path.trim_end_matches(']').rsplit('/').next().unwrap_or_default().to_owned();
    match (file, name.starts_with("0x")) {
        (_, true) => last(object),
        ("???", false) => name.to_owned(),
        (file, false) => format!("{}: {name}", last(file)),
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The functions that cost more than before, those that grew most first.
fn grown(before: &Cost, now: &Cost) -> Vec<String> {
    let of = |name: &str| before.functions.get(name).copied().unwrap_or(0.0);
    let mut grown: Vec<(f64, &str, f64)> =
        now.functions.iter().map(|(name, cost)| (cost - of(name), name.as_str(), *cost)).collect();
    grown.retain(|(growth, _, _)| *growth > 0.0);
    grown.sort_by(|a, b| b.0.total_cmp(&a.0));
    let line = |(growth, name, cost): &(f64, &str, f64)| format!("{growth:+.1} to {cost:.1} in {name}");
    grown.iter().take(NAMED).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
3,200,000 (100.0%)  PROGRAM TOTALS

1,600,000 (50.00%)  /work/switch/src/datapath/act.rs:vxswitch::datapath::act::run [/t/loop]
  640,000 (20.00%)  ???:rte_ring_dequeue'2 [/usr/lib/librte_ring.so]
  320,000 (10.00%)  ???:0x00000000000030f0 [/usr/lib/librte_net_ring.so.23]
    1,000 ( 0.03%)  ???:small [/t/loop]
";

    #[test]
    fn annotations_are_read() {
        let cost = cost(TEXT, 32_000.0).unwrap();
        assert!((cost.instructions - 100.0).abs() < 1e-9);
        let names: Vec<&str> = cost.functions.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["act.rs: vxswitch::datapath::act::run", "librte_net_ring.so.23", "rte_ring_dequeue"]
        );
        assert!((cost.functions["rte_ring_dequeue"] - 20.0).abs() < 1e-9);
        assert_eq!(super::cost("", 1.0), None);
    }

    #[test]
    fn what_grew_is_named_worst_first() {
        let before = cost(TEXT, 32_000.0).unwrap();
        let mut now = before.clone();
        now.functions.insert("rte_ring_dequeue".to_owned(), 21.0);
        now.functions.insert("new".to_owned(), 9.0);
        assert_eq!(grown(&before, &now), ["+9.0 to 9.0 in new", "+1.0 to 21.0 in rte_ring_dequeue"]);
        assert!(grown(&before, &before).is_empty());
    }
}
