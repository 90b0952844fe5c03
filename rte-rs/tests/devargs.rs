//! No text that is given as device arguments ends the process. Each batch runs in a process of its own, so that one that
//! dies is seen, with the text that it died of.

mod common;

use common::eal;
use rte::{Error, port};
use std::process::Command;

const SEED: &str = "RTE_TEST_DEVARGS";
const BATCH: u64 = 400;

/// What texts are made of: names of devices that ask nothing of the machine, keys, and what has a meaning somewhere.
const WORDS: [&str; 40] = [
    "net_null0",
    "net_ring_fuzz",
    "net_pcap0",
    "vdev:net_null1",
    "pci:0000:01:00.0",
    "0000:00:00.0",
    "net_bonding0",
    "class=eth",
    "class=",
    "class=eth,mac=00:11:22:33:44:55",
    "bus=vdev",
    "bus=pci,addr=0:0:0",
    "bus=",
    "driver=net_null",
    "driver=",
    "name=net_null0",
    "mac=1",
    "size=64",
    "copy=",
    "size",
    "no-rx=1",
    "rx_pcap=/no/such",
    "tx_pcap=",
    "iface=lo",
    "slave=net_null0",
    "mode=9",
    "=",
    ",",
    "/",
    "/class=eth",
    ",,",
    "[",
    "]",
    "representor=[0-3]",
    "{",
    " ",
    "\t",
    "é",
    "%s%n",
    "-",
];

/// Small numbers from a state; xorshift64*.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
}

fn text(state: &mut u64) -> String {
    let mut text = String::new();
    for _ in 0..=next(state) % 5 {
        text += WORDS[(next(state) % WORDS.len() as u64) as usize];
        if next(state).is_multiple_of(2) {
            text.push(',');
        }
    }
    text
}

#[test]
fn no_text_ends_the_process() {
    if let Ok(seed) = std::env::var(SEED) {
        let mut state = seed.parse::<u64>().expect("a number") | 1;
        eal("0", &[]);
        for _ in 0..BATCH {
            let text = text(&mut state);
            println!("{text}");
            if let Ok(ports) = port::probe(&text) {
                for port in ports {
                    let _ = port.info();
                    let _ = port.remove();
                }
            }
        }
        println!("all");
        return;
    }
    for seed in [1, 77, 4_242_424] {
        let mut child = Command::new(std::env::current_exe().expect("a test has a path"));
        let child = child.env(SEED, seed.to_string()).args(["--nocapture", "no_text_ends_the_process"]);
        let output = child.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.lines().filter(|line| !line.is_empty()).nth_back(2);
        assert!(
            output.status.success() && said.contains("all"),
            "{}: seed {seed}, near {last:?}",
            output.status
        );
    }
}

#[test]
fn devargs_are_refused_with_a_reason() {
    eal("0", &[]);
    let refused = |text: &str| port::probe(text).expect_err(text).to_string();
    for text in [
        "class=eth",
        "class=eth,mac=00:11:22:33:44:55",
        "net_null3/class=eth",
        "net_pcap3,rx_pcap=/class=eth",
        "",
    ] {
        let said = refused(text);
        assert!(said.starts_with("device ") && said.contains("expected"), "{said}");
    }
    let error = port::probe("net_pcap3,rx_pcap=/no/such/file.pcap").expect_err("no file");
    assert!(matches!(error, Error::Probe { .. }), "{error}");
    assert!(
        error.to_string().contains("Couldn't open /no/such/file.pcap"),
        "the driver's own words: {error}"
    );
    // Nothing is said of what went wrong before.
    let error = rte::Mempool::create("zero", 0, 0, 2176, -1).expect_err("no mbufs");
    assert!(!error.to_string().contains("pcap"), "{error}");
}

#[test]
fn a_port_is_found_by_its_address() {
    eal("0", &[]);
    let id = port::probe("net_null4").expect("it probes")[0];
    let mac = {
        let pool = common::pool("by_mac", 255);
        let config = rte::PortConfig { release: rte::Release::Stop, ..rte::PortConfig::new(pool) };
        let (handle, _rx, _tx) = id.configure_and_start(&config).expect("it starts");
        handle.mac().expect("an address")
    };
    assert_eq!(port::by_mac(mac), Ok(id));
    let none = port::by_mac([2, 0, 0, 0, 9, 9]).expect_err("no such address").to_string();
    assert_eq!(none, "there is no DPDK port with the MAC address 02:00:00:00:09:09");
    id.remove().expect("it goes");
}
