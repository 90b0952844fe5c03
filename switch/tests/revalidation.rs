//! Changes under a full table: which megaflows are looked at again, that this is bounded in time, and that no
//! packet sees the old state afterwards.

mod rings;

use rings::{Net, frame};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use vxswitch::slowpath::SlowPath;

/// Megaflows of the test: what issue 4 asks for.
const MEGAFLOWS: u32 = 200_000;

const BRIDGE: &str = r#"
[[bridge]]
name = "br0"
fail_mode = "secure"
flows = ["priority=1,actions=output:2", "priority=10,dl_src=02:ff:ff:ff:ff:ff,actions=drop"]
[[bridge.port]]
name = "p1"
type = "dpdk"
options = { dpdk-devargs = "net_ring1" }
[[bridge.port]]
name = "p2"
type = "dpdk"
options = { dpdk-devargs = "net_ring2" }
[[bridge.port]]
name = "p3"
type = "dpdk"
options = { dpdk-devargs = "net_ring3" }
"#;

/// Ends the worker also when the test fails, which would otherwise wait for it for ever.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A switch whose worker runs on a thread of its own.
struct Running<'n> {
    net: &'n mut Net,
    sent: u64,
}

impl Running<'_> {
    /// Sends a packet of each flow, and returns how many left by `p2` and `p3`.
    fn one_of_each(&mut self, flows: std::ops::Range<u32>) -> (usize, usize) {
        let mut left = (0, 0);
        for chunk in flows.collect::<Vec<_>>().chunks(512) {
            for n in chunk {
                self.net.put("p1", &frame(1, 0x10_0000 + n, None, *n));
            }
            self.sent += chunk.len() as u64;
            let start = Instant::now();
            while self.net.counters.rx.get() < self.sent || self.net.counters.balance() != 0 {
                self.net.slow.turn();
                assert!(start.elapsed() < Duration::from_secs(20), "packets are lost or stuck");
            }
            left.0 += self.net.take_all("p2").len();
            left.1 += self.net.take_all("p3").len();
        }
        left
    }

    /// Adds a rule, and returns how many megaflows were translated again for it.
    fn change(&mut self, add: &str) -> u64 {
        let spec = self.net.flow("br0", add);
        let slow: &mut SlowPath = &mut self.net.slow;
        let id = slow.state.bridge_named("br0").unwrap();
        let before = slow.revalidated;
        slow.state.bridge_mut(id).unwrap().tables.add(spec, self.net.clock.now());
        assert!(slow.commit(), "the worker answers");
        slow.revalidated - before
    }

    fn misses(&self) -> u64 {
        self.net.counters.misses.get()
    }
}

#[test]
fn a_change_reaches_what_it_concerns_in_time_and_nothing_else() {
    let mut net = Net::with_slots(BRIDGE, &[], MEGAFLOWS as usize + 10_000);
    let mut worker = net.take_worker();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            worker.run(&stop, true);
            worker
        });
        let _stop = StopAtEnd(&stop);
        let mut running = Running { net: &mut net, sent: 0 };
        assert_eq!(running.one_of_each(0..MEGAFLOWS), (MEGAFLOWS as usize, 0));
        assert_eq!(running.net.slow.megaflows(), MEGAFLOWS as usize);

        // One of them.
        let misses = running.misses();
        let mac = rings::mac(0x10_0000 + 77);
        assert_eq!(running.change(&format!("priority=20,dl_src={mac},actions=output:3")), 1);
        assert_eq!(running.one_of_each(77..78), (0, 1), "the acknowledged change holds");
        assert_eq!(running.one_of_each(0..5000), (4999, 1));
        assert_eq!(running.misses(), misses, "the others, and it too, went on without an upcall");

        // None of them: another input port, another table, another address.
        for rule in [
            "in_port=2,actions=drop",
            "table=9,actions=drop",
            "priority=30,dl_src=02:ee:00:00:00:00,actions=drop",
        ] {
            assert_eq!(running.change(rule), 0, "{rule}");
        }
        assert_eq!(running.one_of_each(0..5000), (4999, 1));
        assert_eq!(running.misses(), misses);

        // A tenth of them, while a thousand translations take a second: some are translated, and the time that the
        // others would have taken is saved by removing them.
        running.net.clock.set_step(Duration::from_millis(10));
        let again = running.change("priority=35,dl_src=02:00:00:10:00:00/ff:ff:ff:ff:c0:00,actions=output:3");
        assert!((500..2000).contains(&again), "{again}");
        assert_eq!(running.net.slow.megaflows(), MEGAFLOWS as usize - 16_384 + again as usize);
        assert_eq!(running.one_of_each(0..20_000), (20_000 - 16_384, 16_384));

        // All of them: there is no time to translate any.
        assert_eq!(running.change("priority=40,in_port=1,actions=output:3"), 0);
        assert_eq!(running.net.slow.megaflows(), 0);
        assert_eq!(running.one_of_each(0..20_000), (0, 20_000), "no packet sees the old rules");
        stop.store(true, Relaxed);
        let worker = thread.join().unwrap();
        net.put_worker(worker);
    });
    // Statistics of removed megaflows are not lost to their rules.
    net.run();
    net.slow.collect_all();
    let id = net.slow.state.bridge_named("br0").unwrap();
    let rules = net.slow.state.bridge(id).unwrap().tables.select(&flow::ofp::FlowFilter::default(), false);
    let packets: u64 = rules.iter().map(|rule| rule.stats().packets).sum();
    assert_eq!(packets, net.counters.rx.get(), "every packet counts for a rule");
    net.finish();
}
