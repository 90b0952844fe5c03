//! dpdk-testpmd in forward mode `mac`: what the devices and a bare loop cost.

use crate::process::Process;
use crate::system::{PortCount, Running, Setting};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ChildStdin;

/// A running testpmd.
#[derive(Debug)]
pub struct Testpmd {
    process: Process,
    commands: ChildStdin,
    names: Vec<String>,
    threads: Vec<PathBuf>,
    /// Statistics blocks printed so far.
    blocks: usize,
}

impl Testpmd {
    /// Starts it and lets it forward.
    pub fn start(setting: &Setting<'_>) -> Result<Testpmd> {
        let topology = setting.topology;
        // Its output goes into a file: without stdbuf it would stay in a buffer.
        let mut args: Vec<String> = ["-oL", "dpdk-testpmd"].map(str::to_owned).to_vec();
        args.extend(setting.lcores());
        args.extend(setting.memory.eal(topology.mbufs));
        args.extend(["--no-pci".to_owned(), "--no-telemetry".to_owned()]);
        args.extend(topology.devices.iter().map(|device| format!("--vdev={}", device.devargs)));
        let queues = topology.workers;
        args.extend(["--", "-i", "--forward-mode=mac"].map(str::to_owned));
        args.push(format!("--total-num-mbufs={}", topology.mbufs));
        args.extend([format!("--nb-cores={queues}"), format!("--rxq={queues}"), format!("--txq={queues}")]);
        let mut process = Process::start("stdbuf", args, &[], setting.dir.join("testpmd.log"))?;
        let mut commands = process.stdin()?;
        process.wait_for("prompt", |p| p.output().contains("testpmd> ").then_some(()))?;
        commands.write_all(b"start\n").context("testpmd does not read its commands")?;
        process.wait_for("forwarding", |p| {
            p.output().contains("packet forwarding packets/burst").then_some(())
        })?;
        let threads = process.workers(queues)?;
        let names = topology.devices.iter().map(|device| device.name.to_owned()).collect();
        Ok(Testpmd { process, commands, names, threads, blocks: 0 })
    }
}

impl Running for Testpmd {
    fn ports(&mut self) -> Result<BTreeMap<String, PortCount>> {
        self.commands.write_all(b"show port stats all\n").context("testpmd does not read its commands")?;
        let (from, ports) = (self.blocks, self.names.len());
        let blocks = self.process.wait_for("statistics", |process| {
            let blocks = blocks(&process.output());
            (blocks.len() >= from + ports).then(|| blocks[from..from + ports].to_vec())
        })?;
        self.blocks += ports;
        Ok(self.names.iter().cloned().zip(blocks).collect())
    }

    fn flows(&mut self) -> Result<u64> {
        Ok(0)
    }

    fn workers(&mut self) -> (&[PathBuf], &mut Process) {
        (&self.threads, &mut self.process)
    }
}

/// All complete blocks of `show port stats`.
fn blocks(output: &str) -> Vec<PortCount> {
    let number = |line: &str, label: &str| {
        line.trim_start().strip_prefix(label)?.split_whitespace().next()?.parse::<u64>().ok()
    };
    let mut blocks = Vec::new();
    let mut rx = 0;
    // The last line may still be growing.
    let complete = output.rfind('\n').map_or("", |end| &output[..end]);
    for line in complete.lines() {
        if let Some(n) = number(line, "RX-packets:") {
            rx = n;
        }
        // The summary at the end has another label after the count; there, nothing is asked any more.
        if let Some(tx) = number(line, "TX-packets:") {
            blocks.push(PortCount { rx, tx, dropped: None });
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_in_order_and_only_when_complete() {
        let text = "testpmd> show port stats all\n\n  RX-packets: 12         RX-missed: 0          RX-bytes:  0\n  \
                    TX-packets: 0          TX-errors: 0\n  RX-packets: 0          RX-missed: 0\n  TX-packets: 11";
        assert_eq!(blocks(text), [PortCount { rx: 12, tx: 0, dropped: None }]);
        let text = format!("{text}   TX-errors: 0\n");
        assert_eq!(
            blocks(&text),
            [PortCount { rx: 12, tx: 0, dropped: None }, PortCount { rx: 0, tx: 11, dropped: None }]
        );
    }
}
