//! Whether what the switch sent is what the oracle sends.

use oracle::{Output, Outputs};
use std::collections::{BTreeMap, HashMap};

/// Offset of what IP carries in a tunnel packet.
pub fn l4_of(output: &Output) -> Option<usize> {
    Some(oracle::parse::parse(&output.bytes)?.l3 + 20)
}

/// Whether a frame is what was expected. The source port of tunnel packets is the flow's, whichever that is.
pub fn is_same(expected: &Output, got: &[u8], source_port: &mut Option<[u8; 2]>) -> bool {
    if expected.bytes.len() != got.len() {
        return false;
    }
    let mut completed = expected.bytes.clone();
    if let Some(free) = expected.free {
        let at = got.len() - free;
        completed[at..].copy_from_slice(&got[at..]);
    }
    let (Some(header), Some(l4)) = (expected.header, l4_of(expected)) else { return completed == got };
    if expected.free.is_some() && header.csum && !header.udp {
        // The checksum of GRE is over what is free, too.
        completed[l4 + 4..l4 + 6].fill(0);
        let checksum = !oracle::checksum::sum(&completed[l4..]);
        completed[l4 + 4..l4 + 6].copy_from_slice(&checksum.to_be_bytes());
    }
    let l3 = l4 - 20;
    let port = [got[l4], got[l4 + 1]];
    if header.udp && (u16::from_be_bytes(port) < 49152 || source_port.is_some_and(|known| known != port)) {
        return false;
    }
    oracle::tunnel::complete(&mut completed, l3, header, port, [got[l3 + 4], got[l3 + 5]]);
    let same = completed == got;
    if same && header.udp {
        *source_port = Some(port);
    }
    same
}

/// Says what is different between packets of several flows: at each port each flow's come in their order, and nothing
/// else does. `flows` has the flow of each packet, and the frame of each flow.
pub fn compare_flows(
    (flows, frames): (&[usize], &[usize]),
    expected: &[Outputs],
    actual: &BTreeMap<String, Vec<Vec<u8>>>,
    source_ports: &mut HashMap<usize, [u8; 2]>,
) -> Option<String> {
    let mut by_port: BTreeMap<&str, Vec<(usize, &Output)>> = BTreeMap::new();
    let mut unordered = vec![false; frames.len()];
    for (flow, outputs) in flows.iter().zip(expected) {
        unordered[*flow] |= outputs.unordered;
        for output in &outputs.frames {
            by_port.entry(&output.port).or_default().push((*flow, output));
        }
    }
    let mut ports: Vec<&str> = by_port.keys().copied().chain(actual.keys().map(String::as_str)).collect();
    ports.sort_unstable();
    ports.dedup();
    for port in ports {
        let mut outputs = by_port.remove(port).unwrap_or_default();
        let all: Vec<&Output> = outputs.iter().map(|(_, output)| *output).collect();
        // Frames that nothing tells from those of another flow have no order; what is free fits more than its own.
        let alike = outputs.iter().any(|(flow, output)| {
            outputs.iter().any(|(other, like)| flow != other && output.bytes == like.bytes)
        });
        outputs.sort_by_key(|(_, output)| output.free.is_some());
        let mut left: Vec<Option<&Vec<u8>>> = actual.get(port).into_iter().flatten().map(Some).collect();
        let mut behind = vec![0; frames.len()];
        for (flow, output) in outputs {
            let frame = frames[flow];
            let mut source_port = source_ports.get(&frame).copied();
            let is_ordered = !alike && !unordered[flow] && output.free.is_none();
            let from = if is_ordered { behind[flow] } else { 0 };
            let found = (from..left.len())
                .find(|at| left[*at].is_some_and(|got| is_same(output, got, &mut source_port)));
            let Some(at) = found else {
                return Some(format!(
                    "missing, or not in order: {}\n{}",
                    hex(&output.bytes),
                    report(port, Some(&all), actual.get(port))
                ));
            };
            left[at] = None;
            behind[flow] = at + 1;
            source_port.map(|known| source_ports.insert(frame, known));
        }
        if left.iter().any(Option::is_some) {
            return Some(report(port, Some(&all), actual.get(port)));
        }
    }
    None
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"))
}

/// What was to leave by a port, and what did.
pub fn report(port: &str, expected: Option<&Vec<&Output>>, actual: Option<&Vec<Vec<u8>>>) -> String {
    let mut text = format!("by {port}\n");
    for output in expected.into_iter().flatten() {
        text += &format!("  expected {}\n", hex(&output.bytes));
    }
    for got in actual.into_iter().flatten() {
        text += &format!("  got      {}\n", hex(got));
    }
    text
}
