//! Instructions counted by callgrind.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Functions kept: all that cost at least so many instructions a packet.
const SMALLEST: f64 = 0.5;

/// What a case costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Instructions a packet.
    pub instructions: f64,
    /// Instructions a packet of each function, those of functions that it calls left out.
    pub functions: BTreeMap<String, f64>,
}

/// Runs `program` (of `benches/src/bin/loop.rs`) with these arguments and counts what its function `measured` does.
/// The last line of the program's output is the number of packets.
pub fn count(program: &Path, args: &[&str], dir: &Path) -> Result<Cost> {
    let what = args.join(" ");
    let out = dir.join(format!("{}.out", what.replace([' ', ',', '/'], "-")));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*measured*"]);
    command.arg(format!("--callgrind-out-file={}", out.display())).arg(program).args(args);
    let output = command.output().context("cannot start valgrind (package valgrind)")?;
    ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    let packets: f64 = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next_back()
        .and_then(|line| line.trim().parse().ok())
        .with_context(|| format!("{what}: expected the number of packets as last line"))?;
    let mut annotate = Command::new("callgrind_annotate");
    let annotate = annotate.args(["--threshold=100", "--auto=no"]).arg(&out).output();
    let annotate = annotate.context("cannot start callgrind_annotate (package valgrind)")?;
    ensure!(
        annotate.status.success(),
        "callgrind_annotate: {}",
        String::from_utf8_lossy(&annotate.stderr).trim()
    );
    cost(&String::from_utf8_lossy(&annotate.stdout), packets)
        .with_context(|| format!("{what}: nothing was counted"))
}

/// A table of the steps' instructions a packet; `program` is `loop`.
pub fn steps(program: &Path) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let mut table = format!("{:<28} instructions a packet\n", "step");
    for step in crate::steps::all() {
        let cost = count(program, &["--step", step.name], dir.path())?;
        table.extend([format!("{:<28} {:>6.1}\n", step.name, cost.instructions)]);
    }
    Ok(table)
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

/// Function and source file, as `act.rs: datapath::Worker::burst`: code that was inlined counts for the
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const TEXT: &str = "\
3,200,000 (100.0%)  PROGRAM TOTALS

1,600,000 (50.00%)  /work/switch/src/datapath/act.rs:datapath::act::run [/t/loop]
  640,000 (20.00%)  ???:rte_ring_dequeue'2 [/usr/lib/librte_ring.so]
  320,000 (10.00%)  ???:0x00000000000030f0 [/usr/lib/librte_net_ring.so.23]
    1,000 ( 0.03%)  ???:small [/t/loop]
";

    #[test]
    fn annotations_are_read() {
        let cost = cost(TEXT, 32_000.0).unwrap();
        assert!((cost.instructions - 100.0).abs() < 1e-9);
        let names: Vec<&str> = cost.functions.keys().map(String::as_str).collect();
        assert_eq!(names, ["act.rs: datapath::act::run", "librte_net_ring.so.23", "rte_ring_dequeue"]);
        assert!((cost.functions["rte_ring_dequeue"] - 20.0).abs() < 1e-9);
        assert_eq!(super::cost("", 1.0), None);
    }
}
