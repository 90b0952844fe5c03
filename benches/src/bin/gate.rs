//! The regression gate: instructions a packet of `loop`, counted by callgrind, against a committed baseline.
//!
//! Counts do not depend on what else the machine does, so a few per cent are a finding and not noise. When a case
//! got worse by more than 5 %, the gate fails and names the functions that grew.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use std::collections::BTreeMap;
use std::path::PathBuf;
use vxswitch_benches::callgrind::{self, Cost};

/// Growth that fails.
const TOLERANCE: f64 = 0.05;
/// Cases of `loop`.
const CASES: [&str; 13] = [
    "l2",
    "encap",
    "encap-rules",
    "decap",
    "normal",
    "normal-decap",
    "acl",
    "vteps-encap",
    "vteps-decap",
    "geneve-encap",
    "geneve-decap",
    "gre-encap",
    "gre-decap",
];
/// Functions named when a case grew, or is asked for by its name.
const NAMED: usize = 12;

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
    /// Count single steps of the datapath instead, without a baseline
    #[arg(long)]
    steps: bool,
    /// Only these cases, each with its dearest functions; without a baseline's verdict
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let program = match &options.program {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("loop"),
    };
    if options.steps {
        print!("{}", callgrind::steps(&program)?);
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let mut costs = BTreeMap::new();
    for case in
        CASES.iter().filter(|case| options.cases.is_empty() || options.cases.iter().any(|c| c == *case))
    {
        let cost = callgrind::count(&program, &[case, &options.packets.to_string()], dir.path())?;
        if !options.cases.is_empty() {
            println!("{case:<20} {:>6.1}", cost.instructions);
            let mut dearest: Vec<_> = cost.functions.iter().collect();
            dearest.sort_by(|a, b| b.1.total_cmp(a.1));
            for (name, cost) in dearest.iter().take(NAMED) {
                println!("    {cost:>6.1}  {name}");
            }
        }
        costs.insert((*case).to_owned(), cost);
    }
    if !options.cases.is_empty() {
        return Ok(());
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

    #[test]
    fn what_grew_is_named_worst_first() {
        let cost = |functions: &[(&str, f64)]| Cost {
            instructions: 100.0,
            functions: functions.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect(),
        };
        let before = cost(&[("dequeue", 20.0), ("run", 50.0)]);
        let now = cost(&[("dequeue", 21.0), ("run", 50.0), ("new", 9.0)]);
        assert_eq!(grown(&before, &now), ["+9.0 to 9.0 in new", "+1.0 to 21.0 in dequeue"]);
        assert!(grown(&before, &before).is_empty());
    }
}
