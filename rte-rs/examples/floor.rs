//! What these wrappers cost: receive, send, nothing else, as `dpdk-testpmd --forward-mode=io` does.
//!
//! ```sh
//! cargo run --release -p rte-rs --example floor -- 6 -l 0,1 --no-huge --no-pci --no-telemetry -m 256 \
//!     --vdev=net_pcap0,rx_pcap=in.pcap,infinite_rx=1 --vdev=net_null0,no-rx=1
//! ```
//! The first argument is the number of runs of a second; all others are EAL's. Prints TSC cycles a packet of each
//! run and the least of them: machines that others share drift by a factor of two.

use rte::{Burst, Eal, Mempool, PortConfig, port};
use std::error::Error;

const SECONDS: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().collect();
    if args.len() < 2 {
        return Err("expected: floor RUNS EAL-OPTIONS".into());
    }
    let runs: u32 = args.remove(1).parse().map_err(|e| format!("expected a number of runs: {e}"))?;
    let (eal, _) = Eal::init(&args)?;
    // As testpmd's: 2,048 byte buffers, a cache of 250, and enough for net_pcap's copy of the file.
    let pool = Mempool::create("floor", (1 << 15) - 1, 250, rte::mempool::DEFAULT_DATA_ROOM, -1)?;
    let config = PortConfig::new(pool);
    let (input, output) = (port::by_name("net_pcap0")?, port::by_name("net_null0")?);
    let (_input, mut rx, _unused_tx) = input.configure_and_start(&config)?;
    let (_output, _unused_rx, mut tx) = output.configure_and_start(&config)?;
    let lcore = eal.worker_lcores().pop().ok_or("expected a worker lcore: -l 0,1")?;

    let duration = SECONDS * rte::tsc_hz();
    let job = move || {
        let (rx, tx) = (&mut rx[0], &mut tx[0]);
        let mut burst = Burst::<32>::new();
        let mut results = Vec::new();
        for _ in 0..runs {
            let (start, mut packets) = (rte::cycles(), 0);
            while rte::cycles() - start < duration {
                for _ in 0..64 {
                    packets += rx.rx_burst(&mut burst);
                    tx.tx_burst(&mut burst);
                    burst.clear();
                }
            }
            results.push((rte::cycles() - start) as f64 / packets.max(1) as f64);
        }
        results
    };
    let (_lcore, results) = lcore.launch(job).join();
    let results = results?;
    for cycles in &results {
        println!("{cycles:.1} cycles a packet");
    }
    println!("least: {:.1}", results.iter().copied().fold(f64::INFINITY, f64::min));
    Ok(())
}
