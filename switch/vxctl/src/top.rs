//! `top`: rates of ports and workers, again and again.

use super::client::Client;
use super::print::table;
use super::{Failure, out};
use api::{InterfaceRow, LcoreRow};
use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Counters at one moment.
struct Moment {
    at: Instant,
    ports: Vec<InterfaceRow>,
    lcores: Vec<LcoreRow>,
}

/// What a port did in a second.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct PortRate {
    port: String,
    rx_packets: f64,
    rx_bits: f64,
    tx_packets: f64,
    tx_bits: f64,
    tx_dropped: f64,
}

/// What a worker did in a second.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct LcoreRate {
    lcore: u32,
    busy_percent: f64,
    rx_packets: f64,
    misses: f64,
    dropped: f64,
    cycles_per_packet: Option<f64>,
}

/// Rates between two moments.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Rates {
    ports: Vec<PortRate>,
    lcores: Vec<LcoreRate>,
}

fn take(client: &Client) -> Result<Moment, Failure> {
    let ports = client.get("/v1/interfaces")?;
    let lcores = client.get("/v1/lcores")?;
    Ok(Moment { at: Instant::now(), ports, lcores })
}

fn rates(old: &Moment, new: &Moment) -> Rates {
    let seconds = (new.at - old.at).as_secs_f64().max(1e-3);
    let per = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let ports = new.ports.iter().filter_map(|now| {
        let before = old.ports.iter().find(|p| p.name == now.name)?;
        let rate = |name: &str| {
            let count = |row: &InterfaceRow| row.statistics.get(name).copied().unwrap_or(0);
            per(count(before), count(now))
        };
        Some(PortRate {
            port: now.name.clone(),
            rx_packets: rate("rx_packets"),
            rx_bits: 8.0 * rate("rx_bytes"),
            tx_packets: rate("tx_packets"),
            tx_bits: 8.0 * rate("tx_bytes"),
            tx_dropped: rate("tx_dropped"),
        })
    });
    let lcores = new.lcores.iter().zip(&old.lcores).map(|(now, before)| {
        let busy = now.busy_cycles.saturating_sub(before.busy_cycles);
        let idle = now.idle_cycles.saturating_sub(before.idle_cycles);
        let packets = now.rx_packets.saturating_sub(before.rx_packets);
        LcoreRate {
            lcore: now.lcore,
            busy_percent: 100.0 * busy as f64 / (busy + idle).max(1) as f64,
            rx_packets: per(before.rx_packets, now.rx_packets),
            misses: per(before.misses, now.misses),
            dropped: per(before.dropped, now.dropped),
            cycles_per_packet: (packets > 0).then(|| busy as f64 / packets as f64),
        }
    });
    Rates { ports: ports.collect(), lcores: lcores.collect() }
}

/// A rate with the prefix that fits.
fn si(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e9 => (v / 1e9, "G"),
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e4 => (v / 1e3, "k"),
        v => return format!("{v:.0}"),
    };
    format!("{value:.2}{unit}")
}

fn text(rates: &Rates) -> String {
    let ports: Vec<Vec<String>> = rates
        .ports
        .iter()
        .map(|p| {
            let numbers = [p.rx_packets, p.rx_bits, p.tx_packets, p.tx_bits, p.tx_dropped];
            std::iter::once(p.port.clone()).chain(numbers.map(si)).collect()
        })
        .collect();
    let lcores: Vec<Vec<String>> = rates
        .lcores
        .iter()
        .map(|l| {
            let cycles = l.cycles_per_packet.map_or_else(|| "-".to_owned(), |c| format!("{c:.0}"));
            let busy = format!("{:.1}", l.busy_percent);
            vec![l.lcore.to_string(), busy, si(l.rx_packets), si(l.misses), si(l.dropped), cycles]
        })
        .collect();
    table(&["port", ">rx pkt/s", ">rx bit/s", ">tx pkt/s", ">tx bit/s", ">tx drop/s"], &ports)
        + "\n"
        + &table(&["lcore", ">busy %", ">rx pkt/s", ">miss/s", ">drop/s", ">cycles/pkt"], &lcores)
}

/// `top [-n COUNT] [-d SECONDS]`; without a count until it is interrupted.
pub fn run(client: &Client, options: &[&str], json: bool) -> Result<(), Failure> {
    let (mut count, mut delay) = (u64::MAX, 1.0);
    for pair in options.chunks(2) {
        let parsed = match pair {
            ["-n", n] => n.parse().map(|n| count = n).is_ok() && count > 0,
            ["-d", d] => d.parse().map(|d| delay = d).is_ok() && (0.1..=3600.0).contains(&delay),
            _ => false,
        };
        if !parsed {
            let message = "top: expected -n COUNT (1 or more) and -d SECONDS (0.1 to 3600)";
            return Failure::usage(message);
        }
    }
    let refresh = std::io::stdout().is_terminal() && count > 1 && !json;
    let mut old = take(client)?;
    for _ in 0..count {
        std::thread::sleep(Duration::from_secs_f64(delay));
        let new = take(client)?;
        let rates = rates(&old, &new);
        if refresh {
            // Home, and clear what is below.
            out("\x1b[H\x1b[2J")?;
        }
        out(&if json { serde_json::json!(rates).to_string() + "\n" } else { text(&rates) })?;
        old = new;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second() {
        let at = Instant::now();
        let moment = |seconds, packets, busy| Moment {
            at: at + Duration::from_secs(seconds),
            ports: vec![InterfaceRow {
                name: "p0".into(),
                statistics: [("rx_packets".to_owned(), packets), ("rx_bytes".to_owned(), packets * 100)]
                    .into(),
                ..InterfaceRow::default()
            }],
            lcores: vec![LcoreRow {
                rx_packets: packets,
                busy_cycles: busy,
                idle_cycles: 0,
                ..LcoreRow::default()
            }],
        };
        let rates = rates(&moment(0, 1000, 0), &moment(2, 3000, 200_000));
        assert!((rates.ports[0].rx_packets - 1000.0).abs() < 1e-9);
        assert!((rates.ports[0].rx_bits - 800_000.0).abs() < 1e-6);
        assert_eq!(rates.lcores[0].cycles_per_packet, Some(100.0));
        assert!(text(&rates).contains("800.00k"));
    }

    #[test]
    fn numbers_have_prefixes() {
        assert_eq!(
            [si(9999.0), si(12_345.0), si(1.5e6), si(2e9)],
            ["9999", "12.35k", "1.50M", "2.00G"].map(str::to_owned)
        );
    }
}
