//! Ways that rules ask for, on a worker.

use crate::rings::{Net, udp};
use crate::{NEIGHBOURS, PEER, config, ip, run_program};
use flow::drop::DropReason;
use flow::program::{Op, Policy, Program};
use wire::outer::parse_outer;

#[test]
fn a_way_follows_routes_and_neighbours_like_a_fixed_remote() {
    let mut net = Net::new(&config(&[r#"remote_ip = "flow", key = "flow""#], NEIGHBOURS, &["up"]));
    let vx = net.port("vx0");
    let send = |net: &mut Net, remote: &str, local: Option<&str>| {
        let adjacency = net.slow.want_way(vx, ip(remote), local.map(ip)).expect("room");
        let ops = [Op::Encap { adjacency, vni: 7, policy: Policy::default() }];
        run_program(net, "p1", &udp(2, 1, 1, 2, 0), &Program { ops: ops.into(), drop: DropReason::Rule })
    };
    for (remote, own) in [("192.168.1.2", "192.168.1.1"), ("2001:db8::2", "2001:db8::1")] {
        let out = send(&mut net, remote, None);
        let outer = parse_outer(&out[0], false).expect("a right tunnel packet");
        assert_eq!((outer.src, outer.dst, outer.vni()), (ip(own), ip(remote), 7));
        assert_eq!(out[0][..6], PEER.0);
    }
    // Nobody knows this one yet; no route leads to that one; a group and one of our own addresses are no remotes.
    assert_eq!(send(&mut net, "192.168.1.3", None)[0][12..14], [8, 6], "ARP");
    let nowhere = [
        ("10.0.0.1", None),
        ("239.1.1.1", None),
        ("192.168.1.1", None),
        ("192.168.1.2", Some("192.168.1.77")),
        ("192.168.1.2", Some("2001:db8::1")),
    ];
    for (remote, local) in nowhere {
        assert!(send(&mut net, remote, local).is_empty(), "{remote} {local:?}");
    }
    assert_eq!(net.drops(DropReason::NoRoute), nowhere.len() as u64);
    assert_eq!(net.slow.ways(), 3 + nowhere.len());
    // The neighbour is given up, and the packet with it.
    let start = std::time::Instant::now();
    while net.drops(DropReason::NeighbourFailed) == 0 {
        net.run();
        assert!(start.elapsed().as_secs() < 10, "never given up");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    net.finish();
}
