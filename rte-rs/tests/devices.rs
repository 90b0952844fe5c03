//! Devices with an outside: files (`net_pcap`) and the kernel (`net_tap`).

mod common;

use common::{eal, pool, start};
use rte::{Burst, PortConfig, port};
use std::fs;
use std::path::{Path, PathBuf};

/// The packets of a little-endian pcap file.
fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("the file is there");
    let mut rest = bytes.get(24..).expect("a pcap file has a header");
    let mut packets = Vec::new();
    while let Some((header, tail)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let (packet, next) = tail.split_at_checked(len).expect("the file is complete");
        packets.push(packet.to_vec());
        rest = next;
    }
    packets
}

fn write_pcap(path: &Path, packets: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for packet in packets {
        let len = packet.len() as u32;
        bytes.extend([0, 0, len, len].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(packet);
    }
    fs::write(path, bytes).expect("the folder for temporary files is writable");
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("rte-{}-{name}", std::process::id()))
}

#[test]
fn files_in_files_out() {
    eal("0", &[]);
    let pool = pool("pcap", 1023);
    let (input, output) = (temporary("in.pcap"), temporary("out.pcap"));
    let packets: Vec<Vec<u8>> = (60..=255).map(|n: u8| vec![n; n.into()]).collect();
    write_pcap(&input, &packets);
    let devargs = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
    // Twice: the second time proves that the device was given back.
    for _ in 0..2 {
        let id = port::probe(&devargs).expect("it probes")[0];
        let (port, mut rx, mut tx) = start(id, &pool);
        let mut burst = Burst::<32>::new();
        let mut sent = 0;
        while rx.rx_burst(&mut burst) > 0 {
            sent += tx.tx_burst(&mut burst);
            assert!(burst.is_empty());
        }
        assert_eq!(sent, packets.len());
        assert_eq!(port.close(vec![rx], vec![tx]), Ok(()));
        assert!(read_pcap(&output) == packets, "closing writes the file out");
        fs::remove_file(&output).expect("the output is there");
    }
    fs::remove_file(&input).expect("the input is there");
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn the_kernel_sees_a_tap_come_and_go() {
    if fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_err() {
        eprintln!("SKIPPED: net_tap needs root and /dev/net/tun");
        return;
    }
    eal("0", &[]);
    let pool = pool("tap", 2047);
    let name = format!("rtet{}", std::process::id() % 100_000_000);
    let netdev = Path::new("/sys/class/net").join(&name);
    for round in 0..2 {
        let id = port::probe(&format!("net_tap0,iface={name}")).expect("it probes")[0];
        let config =
            PortConfig { rx_queues: 2, tx_queues: 2, mtu: Some(1400), ..PortConfig::new(pool.clone()) };
        let (port, rx, tx) = id.configure_and_start(&config).expect("it starts");
        assert!(netdev.exists(), "round {round}");
        assert_eq!(port.driver().as_deref(), Ok("net_tap"));
        assert_eq!(port.mtu(), Ok(1400));
        assert_eq!(port.set_mtu(1300), Ok(()));
        let mtu = fs::read_to_string(netdev.join("mtu")).expect("the kernel tells");
        assert_eq!(mtu.trim(), "1300");
        let mac = port.mac().expect("a MAC").map(|byte| format!("{byte:02x}")).join(":");
        let address = fs::read_to_string(netdev.join("address")).expect("the kernel tells");
        assert_eq!(address.trim(), mac);
        assert_eq!(port.close(rx, tx), Ok(()));
        assert!(!netdev.exists(), "round {round}");
    }
    assert_eq!(pool.in_use(), 0);
}
