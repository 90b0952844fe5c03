//! BFD through tunnels: what leaves and comes in, what megaflows look at for it, and what follows when a path goes.

use crate::rings::{Net, mac, udp};
use crate::{NEIGHBOURS, config, from_peer, ip};
use flow::ofp::{Action, Bucket, GroupKind, GroupSpec, PortRef};
use std::time::Duration;
use vxswitch::bfd::frame;
use vxswitch::bfd::session::Session;
use wire::addr::MacAddr;
use wire::tunnel::encap::EncapPatch;
use wire::tunnel::outer::parse_outer;
use wire::tunnel::vxlan;
use wire::view::{BfdControl, BfdState};

/// VXLAN over IPv4.
const OUTER: usize = 50;
const STEP: Duration = Duration::from_millis(50);

/// Two tunnels to the same VTEP, of which the first has a session with these settings.
fn net(key: &str, bfd: &str) -> Net {
    let first = format!("remote_ip = \"192.168.1.2\", key = {key} }}\nbfd = {{ {bfd} ");
    Net::new(&config(&[&first, r#"remote_ip = "192.168.1.2", key = 200"#], NEIGHBOURS, &["up"]))
}

const FAST: &str = r#"enable = "true", min_rx = "200", min_tx = "100""#;

/// The other end of the first tunnel's session.
struct Peer {
    session: Session,
    vni: u32,
    /// What its packets were in, VNI and control packet.
    heard: Vec<(u32, BfdControl)>,
}

impl Peer {
    fn new(net: &Net, vni: u32) -> Peer {
        let settings = [("enable", "true"), ("min_rx", "100"), ("min_tx", "100")];
        let map = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let options = config::BfdOptions::parse(&map).expect("settings").expect("enabled");
        Peer { session: Session::new(options, 77, 5, net.clock.now()), vni, heard: Vec::new() }
    }

    fn frame(&self, control: &BfdControl) -> Vec<u8> {
        let mut bytes = vec![0; frame::LEN];
        frame::build(&mut bytes, self.session.options(), mac(9), 50_000, control).expect("room");
        bytes
    }

    /// Lets time pass; packets get through if `connected`.
    fn pass(&mut self, net: &mut Net, time: Duration, connected: bool) {
        let mut left = time;
        while !left.is_zero() {
            net.pass(STEP);
            left = left.saturating_sub(STEP);
            let now = net.clock.now();
            for packet in net.take_all("up") {
                let outer = parse_outer(&packet, &vxlan::FORMAT, false).expect("a right tunnel packet");
                let control = frame::parse(&packet[OUTER..]).expect("a control packet");
                self.heard.push((outer.id, control));
                if connected {
                    self.session.receive(&control, now);
                }
            }
            while let Some(control) = self.session.poll(now, 0) {
                if connected {
                    let patch = EncapPatch { vni: self.vni, ..EncapPatch::default() };
                    let inner = self.frame(&control);
                    let packet =
                        from_peer("192.168.1.2", "192.168.1.1", false, &patch, &vxlan::FORMAT, &inner);
                    net.put("up", &packet);
                    net.run();
                }
            }
        }
    }
}

fn status(net: &Net, key: &str) -> String {
    net.slow.bfd_view()[0].status()[key].clone()
}

/// VNIs of what a packet of a host becomes.
fn ways(net: &mut Net) -> Vec<u32> {
    let out = net.send("p1", &[udp(2, 1, 1, 2, 0)]).remove("up").unwrap_or_default();
    let data = out.iter().filter(|packet| frame::parse(&packet[OUTER..]).is_err());
    data.map(|packet| parse_outer(packet, &vxlan::FORMAT, false).expect("a right tunnel packet").id).collect()
}

#[test]
fn a_dead_path_is_left_by_a_group_and_comes_back() {
    let mut net = net("100", FAST);
    let mut peer = Peer::new(&net, 100);
    let id = net.slow.state.bridge_named("br0").expect("a bridge");
    let number = |name| net.slow.state.port(net.port(name)).expect("a port").ofport;
    let bucket = |id, port| Bucket {
        id,
        weight: 0,
        watch_port: Some(port),
        watch_group: None,
        actions: vec![Action::Output(PortRef::Port(port))],
    };
    let buckets = vec![bucket(0, number("vx0")), bucket(1, number("vx1"))];
    net.slow.set_groups(id, &[GroupSpec { id: 1, kind: GroupKind::FastFailover, selection: None, buckets }]);
    net.set_rules("br0", &["in_port=p1,actions=group:1"]);
    assert_eq!(ways(&mut net), [200], "not up yet");
    net.take_all("up");
    peer.pass(&mut net, Duration::from_secs(4), true);
    assert_eq!((status(&net, "state"), status(&net, "forwarding")), ("up".into(), "true".into()));
    assert_eq!(peer.session.state().0, BfdState::Up);
    assert!(peer.heard.iter().all(|(vni, control)| *vni == 100 && control.required_min_rx == 200_000));
    assert_eq!(ways(&mut net), [100]);
    // The peer sends every 200 ms, and three of these are missed.
    peer.pass(&mut net, Duration::from_millis(350), false);
    assert_eq!(ways(&mut net), [100]);
    peer.pass(&mut net, Duration::from_millis(300), false);
    assert_eq!(status(&net, "diagnostic"), "Control Detection Time Expired");
    assert_eq!(ways(&mut net), [200]);
    peer.pass(&mut net, Duration::from_secs(4), true);
    assert_eq!(ways(&mut net), [100]);
    assert_eq!(status(&net, "flap_count"), "3");
    // The peer's operator says that something is broken behind it.
    let cpath_down = config::BfdOptions { cpath_down: true, ..*peer.session.options() };
    peer.session.configure(cpath_down, net.clock.now());
    peer.pass(&mut net, STEP * 2, true);
    assert_eq!(status(&net, "remote_diagnostic"), "Concatenated Path Down");
    assert_eq!(ways(&mut net), [200]);
    assert!(net.slow.force_bfd(Some("vx0"), Some(true)) && !net.slow.force_bfd(Some("vx1"), Some(true)));
    assert_eq!(ways(&mut net), [100]);
    net.take_all("up");
    net.finish();
}

#[test]
fn control_packets_go_up_and_others_do_not() {
    let mut net = net("100", FAST);
    let peer = Peer::new(&net, 100);
    net.take_all("up");
    let received = |net: &mut Net, vni, inner: &[u8]| {
        let patch = EncapPatch { vni, ..EncapPatch::default() };
        net.send("up", &[from_peer("192.168.1.2", "192.168.1.1", false, &patch, &vxlan::FORMAT, inner)])
    };
    let mut session = Session::new(*peer.session.options(), 78, 6, net.clock.now());
    let control = peer.frame(&session.poll(net.clock.now(), 0).expect("the first packet"));
    // The other tunnel has no session: the packet is one like any other.
    assert!(received(&mut net, 200, &control).contains_key("p1"));
    assert!(!received(&mut net, 100, &control).contains_key("p1"));
    assert_eq!(status(&net, "state"), "init");
    // A packet that a router has forwarded changes nothing.
    let mut far = control.clone();
    far[22] -= 1;
    let sum = u16::from_be_bytes([far[24], far[25]]) + 0x100;
    far[24..26].copy_from_slice(&sum.to_be_bytes());
    assert!(!received(&mut net, 100, &far).contains_key("p1"));
    assert_eq!(net.slow.bfd_view()[0].ignored, 1);
    // Of ordinary packets one bit of their port is looked at, and only out of the tunnel with a session.
    for (vni, src) in [(100, 2), (200, 3)] {
        assert!(received(&mut net, vni, &udp(1, src, 5, 6, 0)).contains_key("p1"));
        assert!(received(&mut net, vni, &crate::rings::frame(1, src, None, 0)).contains_key("p1"));
    }
    let flows: Vec<String> = net.slow.megaflow_view(None, 100).into_iter().map(|row| row.flow).collect();
    let of = |port: &str, text: &str| flows.iter().filter(|f| f.contains(port) && f.contains(text)).count();
    assert_eq!((of("(vx0)", "udp(dst=3784)"), of("(vx0)", "udp(dst=")), (1, 2), "{flows:#?}");
    assert_eq!((of("(vx0)", ""), of("(vx1)", "udp(")), (3, 0), "{flows:#?}");
    assert_eq!(of("(vx0)", "udp(dst=0x0/0x800)"), 1, "{flows:#?}");
    net.take_all("up");
    net.finish();
}

#[test]
fn keys_and_addresses_say_whose_packets_they_are() {
    let bfd = r#"enable = "true", check_tnl_key = "true", bfd_remote_dst_mac = "02:00:00:00:00:07", bfd_local_src_mac = "02:00:00:00:00:08", bfd_local_dst_mac = "02:00:00:00:00:06""#;
    let mut net = net("\"flow\"", bfd);
    net.pass(STEP);
    let sent = net.take_all("up");
    let outer = parse_outer(&sent[0], &vxlan::FORMAT, false).expect("a right tunnel packet");
    assert_eq!((outer.id, outer.dst), (0, ip("192.168.1.2")), "key 0 where none is fixed");
    assert_eq!(sent[0][OUTER..OUTER + 12], [2, 0, 0, 0, 0, 6, 2, 0, 0, 0, 0, 8]);
    let peer = Peer::new(&net, 0);
    let mut session = Session::new(*peer.session.options(), 78, 6, net.clock.now());
    let mut control = peer.frame(&session.poll(net.clock.now(), 0).expect("the first packet"));
    for (vni, dst, state) in [(0, 6, "down"), (300, 7, "down"), (0, 7, "init")] {
        control[..6].copy_from_slice(&MacAddr([2, 0, 0, 0, 0, dst]).0);
        let patch = EncapPatch { vni, ..EncapPatch::default() };
        net.put("up", &from_peer("192.168.1.2", "192.168.1.1", false, &patch, &vxlan::FORMAT, &control));
        net.run();
        assert_eq!(status(&net, "state"), state, "VNI {vni}, to {dst}");
    }
    net.finish();
}
