//! Relays between a host's tap and an uplink's tap, with a VXLAN header put on and taken off, whole segments at a time:
//! what our own tap port can carry, without a switch. Beside it a C program of sixty lines is the measure.
//!
//!     tap_relay HOST_TAP UPLINK_TAP [--no-offloads]
//!
//! VNI 100, from 192.168.1.1 (02:00:00:00:0a:01) to 192.168.1.2 (02:00:00:00:0a:02). Prints `ready`, then relays until
//! its standard input ends, and prints its counters.

use rte::offload::{
    TX_OUTER_IPV4, TX_OUTER_IPV6, TX_OUTER_UDP_CKSUM, TX_REQUESTS, TX_TCP_SEG, TX_TUNNEL_MASK,
    TX_TUNNEL_VXLAN, TX_UDP_SEG, capability,
};
use rte::{Burst, Eal, Mbuf, Mempool, TapConfig, TapPort, TxOffload};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Outer Ethernet, IPv4, UDP, VXLAN.
const OUTER: usize = 14 + 20 + 8 + 8;
const PORT: [u8; 2] = 4789_u16.to_be_bytes();

/// Puts the outer headers before a frame; false when it cannot.
fn encapsulate(mbuf: &mut Mbuf) -> bool {
    let (flags, lengths, inner) = (mbuf.ol_flags(), mbuf.tx_offload(), mbuf.len() as usize);
    let Ok(total) = u16::try_from(inner + OUTER - 14) else { return false };
    let Some(header) = mbuf.prepend_array::<OUTER>() else { return false };
    header.fill(0);
    header[..14].copy_from_slice(&[2, 0, 0, 0, 0x0a, 2, 2, 0, 0, 0, 0x0a, 1, 8, 0]);
    let ip = &mut header[14..34];
    (ip[0], ip[6], ip[8], ip[9]) = (0x45, 0x40, 64, 17);
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[12..20].copy_from_slice(&[192, 168, 1, 1, 192, 168, 1, 2]);
    let mut sum: u32 = ip.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    header[34..36].copy_from_slice(&[0xc1, 7]);
    header[36..38].copy_from_slice(&PORT);
    header[38..40].copy_from_slice(&(total - 20).to_be_bytes());
    (header[42], header[48]) = (8, 100);
    if flags & TX_REQUESTS != 0 {
        let lengths =
            TxOffload { outer_l2_len: 14, outer_l3_len: 20, l2_len: 16 + lengths.l2_len, ..lengths };
        mbuf.set_offload(flags | TX_TUNNEL_VXLAN | TX_OUTER_IPV4, lengths);
    }
    true
}

/// Takes the outer headers off; false for a frame that is no VXLAN over IPv4 of ours.
fn strip(mbuf: &mut Mbuf) -> bool {
    let data = mbuf.data();
    if data.len() < OUTER + 14 || data[12..14] != [8, 0] || data[23] != 17 || data[36..38] != PORT {
        return false;
    }
    let (flags, lengths) = (mbuf.ol_flags(), mbuf.tx_offload());
    if flags & TX_TUNNEL_MASK != 0 {
        let inner = TxOffload { outer_l2_len: 0, outer_l3_len: 0, l2_len: lengths.l2_len - 16, ..lengths };
        mbuf.set_offload(
            flags & !(TX_TUNNEL_MASK | TX_OUTER_IPV4 | TX_OUTER_IPV6 | TX_OUTER_UDP_CKSUM),
            inner,
        );
    } else {
        // What was asked, or found out, of the outer header goes with it; the inner packet is complete.
        mbuf.set_offload(0, TxOffload::default());
    }
    mbuf.adj(OUTER)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [host, uplink] = [0, 1].map(|at| args.get(at).cloned().unwrap_or_else(|| format!("rl{at}")));
    let offloads = !args.iter().any(|arg| arg == "--no-offloads");
    let eal = ["tap_relay", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "128", "-l", "0"];
    let cpus = std::thread::available_parallelism()?;
    Eal::init(&eal.map(String::from))?;
    let pool =
        Mempool::create("relay", 8191, 256, rte::mempool::DEFAULT_DATA_ROOM, rte::mempool::ANY_SOCKET)?;
    let open = |name: &str| TapPort::open(&TapConfig { offloads, ..TapConfig::new(name, pool.clone()) });
    let (host_port, mut host_rx, mut host_tx) = open(&host)?;
    let (uplink_port, mut uplink_rx, mut uplink_tx) = open(&uplink)?;
    let whole = uplink_port.tx_offloads() & capability::VXLAN_TNL_TSO != 0;
    println!("ready ({cpus} CPUs, segments inside VXLAN in one piece: {whole})");

    let stop = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        until.store(true, Ordering::Relaxed);
    });
    let mut burst = Burst::<32>::new();
    let (mut lost, mut segments, mut quiet) = (0_u64, 0_u64, 0_u32);
    while !stop.load(Ordering::Relaxed) {
        let mut received = 0;
        for (rx, tx, outward) in
            [(&mut host_rx[0], &mut uplink_tx[0], true), (&mut uplink_rx[0], &mut host_tx[0], false)]
        {
            received += rx.rx_burst(&mut burst);
            let mut out = Burst::<32>::new();
            for mut mbuf in burst.drain() {
                segments += u64::from(mbuf.ol_flags() & (TX_TCP_SEG | TX_UDP_SEG) != 0);
                if if outward { encapsulate(&mut mbuf) } else { strip(&mut mbuf) } {
                    drop(out.push(mbuf));
                }
            }
            tx.tx_burst(&mut out);
            lost += out.len() as u64;
        }
        // Two cores are shared with those who send: an idle turn is theirs.
        quiet = if received > 0 { 0 } else { quiet + 1 };
        if quiet > 64 {
            std::thread::yield_now();
        }
    }
    println!(
        "host {:?}\nuplink {:?}\nsegments {segments}, not sent {lost}",
        host_port.stats(),
        uplink_port.stats()
    );
    Ok(())
}
