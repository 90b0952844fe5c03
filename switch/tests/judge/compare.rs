//! What left each port, and how two of such differ.

use crate::case::Case;
use crate::support::{capture, scapy};
use crate::tunnel;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Frames by port that sent them. Ports that sent none are not there.
pub type Captures = BTreeMap<String, Vec<Vec<u8>>>;

/// Reads the captures of all devices of a case.
pub fn collect(case: &Case, dir: &Path) -> Captures {
    let mut all = Captures::new();
    for (name, ..) in case.devices() {
        let frames = capture::read(&dir.join(format!("{name}.out.pcap")));
        if !frames.is_empty() {
            all.insert(name, frames);
        }
    }
    all
}

/// How many frames each port sent.
pub fn counts(captures: &Captures) -> Vec<(String, usize)> {
    captures.iter().map(|(port, frames)| (port.clone(), frames.len())).collect()
}

/// What a switch chooses for itself in tunnel headers, checked and taken out. Sorted, because Open vSwitch sends a
/// burst flow by flow, not in the order of arrival.
pub fn normal(captures: &mut Captures, lowest_source_port: u16) -> Result<(), String> {
    for (port, frames) in captures {
        if port == "uplink" {
            for frame in frames.iter_mut() {
                tunnel::mask(frame, lowest_source_port)?;
            }
        }
        frames.sort();
    }
    Ok(())
}

/// Where two differ, in words; empty when they do not.
pub fn differences(expected: &Captures, found: &Captures) -> String {
    let mut out = String::new();
    let none = Vec::new();
    let mut ports: Vec<&String> = expected.keys().chain(found.keys()).collect();
    ports.sort_unstable();
    ports.dedup();
    for port in ports {
        let mut missing = expected.get(port).unwrap_or(&none).clone();
        let mut more = Vec::new();
        for frame in found.get(port).unwrap_or(&none) {
            match missing.iter().position(|other| other == frame) {
                Some(at) => {
                    missing.remove(at);
                }
                None => more.push(frame.clone()),
            }
        }
        // Side by side when as many are missing as are there instead.
        for (label, frames) in [("expected", &missing), ("   found", &more)] {
            for (frame, line) in frames.iter().zip(decode(frames)) {
                let _ = writeln!(out, "    {port} {label}: {line}\n      {}", scapy::hex(frame));
            }
        }
    }
    out
}

/// A line about each frame, by tshark.
fn decode(frames: &[Vec<u8>]) -> Vec<String> {
    if frames.is_empty() {
        return Vec::new();
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("frames.pcap");
    capture::write(&file, frames);
    let output = Command::new("tshark").arg("-n").arg("-r").arg(&file).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    lines.resize(frames.len(), String::new());
    lines
}
