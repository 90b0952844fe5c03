//! DPDK's own `dpdk-dumpcap`, attached to a running switch.

use crate::running::{BASE, Daemon, EAL, command_on, write_pcap};
use crate::support::{is_root, skipped, unique};
use std::fs;
use std::process::Command;

const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";
/// Hugepages of 2 MiB: what 8191 buffers take, what else EAL needs, and dumpcap's own buffers.
const HUGEPAGES: u64 = 160;

/// Hugepages that the kernel keeps until this is dropped.
struct Hugepages {
    before: u64,
}

impl Hugepages {
    /// `None` where the kernel does not find as many.
    fn reserve() -> Option<Hugepages> {
        let count = || fs::read_to_string(NR_HUGEPAGES).ok()?.trim().parse::<u64>().ok();
        let before = count()?;
        let reserved = Hugepages { before };
        fs::write(NR_HUGEPAGES, (before + HUGEPAGES).to_string()).ok()?;
        (count()? >= before + HUGEPAGES).then_some(reserved)
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        let _ = fs::write(NR_HUGEPAGES, self.before.to_string());
    }
}

#[test]
fn dumpcap_sees_what_devices_receive_and_send() {
    const NAME: &str = "dumpcap_sees_what_devices_receive_and_send";
    if !is_root(NAME) {
        return;
    }
    let Some(_pages) = Hugepages::reserve() else {
        return skipped(NAME, "the kernel has no hugepages to give");
    };
    let dir = tempfile::tempdir().unwrap();
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.resize(77, 0x41);
    write_pcap(&dir.path().join("in.pcap"), &[frame]);
    let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", dir.path().join("in.pcap").display());
    fs::write(dir.path().join("config.toml"), BASE.replace("net_null0,size=64", &device)).unwrap();
    let prefix = format!("vxd{}.{}", std::process::id(), unique());
    let huge = dir.path().join("huge").display().to_string();
    // Its own mount namespace: the mount goes with it.
    let eal = format!("--no-pci --no-telemetry -l 0 --huge-dir {huge} --file-prefix {prefix}");
    let plain = command_on(&eal, dir.path(), &["--config", "config.toml"]);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec"]);
    command.arg(format!("mkdir {huge}; mount -t hugetlbfs none {huge}; exec \"$0\" \"$@\""));
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(dir.path());
    let daemon = Daemon::launch(command, dir);
    assert!(daemon.lines.iter().any(|line| line.ends_with("in hugepages")), "{:#?}", daemon.lines);
    for device in ["net_pcap0", "net_null1"] {
        let file = daemon.dir.path().join(format!("{device}.pcapng"));
        let dumpcap = Command::new("nsenter")
            .args(["-m", "-t", &daemon.child.id().to_string()])
            .args([
                "timeout",
                "30",
                "dpdk-dumpcap",
                "-q",
                "-c",
                "10",
                "--file-prefix",
                &prefix,
                "-i",
                device,
                "-w",
            ])
            .arg(&file)
            .output()
            .expect("nsenter runs");
        assert!(dumpcap.status.success(), "{}", String::from_utf8_lossy(&dumpcap.stderr));
        let read = Command::new("tshark")
            .args(["-T", "fields", "-e", "frame.len", "-e", "eth.type", "-r"])
            .arg(&file)
            .output()
            .expect("tshark runs");
        let text = String::from_utf8_lossy(&read.stdout);
        // It writes whole bursts.
        assert!(text.lines().count() >= 10, "{device}: {text}");
        assert!(text.lines().all(|line| line == "77\t0x88b5"), "{device}: {text}");
    }
    daemon.wait_for_more("p1", "tx_packets", 1000);
    daemon.stop();
}

#[test]
fn who_asks_for_no_files_is_told_that_dumpcap_cannot_attach() {
    let daemon = Daemon::start_with(EAL, BASE, &[]);
    let errors = daemon.errors();
    assert_eq!(errors.matches("dpdk-dumpcap cannot attach").count(), 1, "{errors}");
    assert!(errors.contains("(--in-memory or --no-shconf)"), "{errors}");
    daemon.stop();
}
