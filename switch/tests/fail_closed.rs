//! A broken expectation inside of the datapath frees the packets of its run under a reason; no other run sends them.

mod rings;

use datapath::message::Command;
use flow::drop::DropReason;
use flow::program::ProgramId;
use rings::{Net, frame};
use std::panic::{AssertUnwindSafe, catch_unwind};
use wire::key::{FlowKey, FlowMask};

const CONFIG: &str = r#"
[[bridge]]
name = "br0"
flows = ["dl_src=02:00:00:00:00:01,actions=output:p2", "priority=1,in_port=p2,actions=output:p1"]
[[bridge.port]]
name = "p1"
type = "dpdk"
options = { dpdk-devargs = "net_ring_p1" }
[[bridge.port]]
name = "p2"
type = "dpdk"
options = { dpdk-devargs = "net_ring_p2" }
"#;

/// A megaflow whose program was never defined, between packets of one that was.
#[test]
fn packets_of_a_program_that_is_not_there_go_nowhere() {
    let mut net = Net::new(CONFIG);
    let good = |n| frame(9, 1, None, n);
    assert_eq!(net.send("p1", &[good(0)])["p2"].len(), 1);
    let mut key = FlowKey { in_port: net.port("p1").0.into(), ..FlowKey::ZERO };
    key.dl_src = rings::mac(7);
    let mut mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
    mask.dl_src = wire::addr::MacAddr::BROADCAST;
    let install = Command::Install { slot: 4000, key, mask, program: ProgramId(4001), pending: None };
    net.slow.workers[0].link.commands.push(install).expect("room for a command");
    net.run();
    let burst = [good(1), frame(9, 7, None, 2), frame(9, 7, None, 3), good(4)];
    for frame in &burst {
        net.put("p1", frame);
    }
    // With assertions the worker says so; without, as users have it, it counts and goes on.
    let polled = catch_unwind(AssertUnwindSafe(|| net.worker().poll()));
    if cfg!(debug_assertions) {
        assert!(polled.is_err());
        // Nothing of the bad run left, and what stood behind it was freed with the burst.
        net.worker().poll();
        assert!(net.take_all("p2").iter().all(|out| *out == burst[0]));
        return;
    }
    assert!(polled.is_ok());
    assert_eq!(net.take_all("p2"), [burst[0].clone(), burst[3].clone()]);
    assert_eq!(net.drops(DropReason::Internal), 2);
    net.finish();
}
