//! VTEPs beyond the plain one: extensions of the VXLAN header, IPv6 underlays, underlays with several uplinks,
//! remotes that rules choose. In one process.

#[path = "../rings/mod.rs"]
mod rings;

mod bfd;
mod extensions;
mod fragments;
mod groups;
mod ipv6;
mod next_hops;
mod uplinks;
mod vlan_vni;

use datapath::message::{Command, PacketBuffer};
use flow::program::{AdjacencyId, Program, ProgramId};
use rings::Net;
use std::net::IpAddr;
use vxswitch::bridge::PortKind;
use wire::addr::MacAddr;
use wire::tunnel::encap::{EncapAddrs, EncapPatch, EncapSpec, EncapTemplate};
use wire::tunnel::{HeaderOptions, TunnelFormat};

const VTEP: MacAddr = MacAddr([2, 0, 0, 0, 0x0a, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0x0a, 2]);
const NEIGHBOURS: &str = r#"neighbour = [{ ip = "192.168.1.2", mac = "02:00:00:00:0a:02" }, { ip = "2001:db8::2", mac = "02:00:00:00:0a:02" }]"#;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// `br0` with a host port and the given vxlan ports, `br-phy` of both families with these uplinks.
fn config(vxlans: &[&str], underlay: &str, uplinks: &[&str]) -> String {
    let mut text = String::from(
        "[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\noptions = { dpdk-devargs = \"net_ring1\" }\n",
    );
    for (n, options) in vxlans.iter().enumerate() {
        let port =
            format!("[[bridge.port]]\nname = \"vx{n}\"\ntype = \"vxlan\"\noptions = {{ {options} }}\n");
        text += &port;
    }
    text += "[[bridge]]\nname = \"br-phy\"\nhwaddr = \"02:00:00:00:0a:01\"\naddress = [\"192.168.1.1/24\", \"2001:db8::1/64\"]\n";
    text += underlay;
    for (n, name) in uplinks.iter().enumerate() {
        let port = format!(
            "\n[[bridge.port]]\nname = \"{name}\"\ntype = \"dpdk\"\nmtu = 1600\noptions = {{ dpdk-devargs = \"net_ring{}\" }}\n",
            n + 2
        );
        text += &port;
    }
    text
}

/// A tunnel packet from a peer to our VTEP.
fn from_peer(
    src: &str,
    dst: &str,
    csum: bool,
    patch: &EncapPatch,
    format: &'static TunnelFormat,
    inner: &[u8],
) -> Vec<u8> {
    let spec = EncapSpec {
        eth_src: PEER,
        eth_dst: VTEP,
        vlan_tci: None,
        addrs: EncapAddrs::new(ip(src), ip(dst)).expect("one family"),
        df: true,
        udp_dst: 4789,
        format,
        options: HeaderOptions { csum, ..HeaderOptions::NONE },
    };
    let template = EncapTemplate::new(&spec);
    let mut packet = vec![0; template.header_len()];
    template.write(&mut packet, inner.len(), &EncapPatch { src_port: 50_000, ttl: 64, ..*patch }).unwrap();
    packet.extend(inner);
    if csum {
        template.fill_checksum(&mut packet).expect("a whole packet");
    }
    packet
}

/// The way to the first remote of a vxlan port.
fn adjacency(net: &Net, port: &str) -> AdjacencyId {
    match &net.slow.state.port(net.port(port)).expect("a port").kind {
        PortKind::Tunnel(tunnel) => tunnel.remotes[0].1,
        other => panic!("{other:?} is no vxlan port"),
    }
}

/// Runs a program on a frame as if it had come in by `port`, and returns what left by the first uplink.
fn run_program(net: &mut Net, port: &str, frame: &[u8], program: &Program) -> Vec<Vec<u8>> {
    // The last number of the test's tables: nobody else gets there.
    let id = ProgramId(4095);
    let mut buffer = PacketBuffer::new();
    buffer.in_port = net.port(port);
    assert!(buffer.set([frame]));
    net.slow.workers[0].send(Command::DefineProgram(id, Box::new(program.clone())));
    net.slow.workers[0].send(Command::PacketOut(buffer, id));
    net.run();
    net.take_all("up")
}
