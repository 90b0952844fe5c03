//! The switch on trial.

use crate::case::{Case, Mirror, Tunnel};
use crate::compare::{Captures, collect};
use crate::ovs::NEIGHBOURS;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Tables and pool no larger than a case needs: one process a case is started, and making them takes time.
const SMALL: &str = "[dpdk]\nmbufs = 4095\n[datapath]\nflow-limit = 4096\ncache-entries = 4096\n";

/// Runs a case whose input lies in `dir`; what it sent.
pub fn run(case: &Case, dir: &Path) -> Captures {
    let mut daemon = Daemon::start(&configuration(case, dir), "0");
    let total: usize = case.input.iter().map(|(_, frames)| frames.len()).sum();
    eventually("the switch has read its captures", Duration::from_secs(20), || {
        (daemon.total("rx_packets") == total as u64 && daemon.total("held") == 0).then_some(())
    });
    daemon.assert_balanced();
    daemon.stop();
    collect(case, dir)
}

fn configuration(case: &Case, dir: &Path) -> String {
    let mut out = format!("{SMALL}{}", bridge(case, "br0", &case.flows));
    let mut devices = case.devices();
    devices.sort_by_key(|(_, bridge, _)| match *bridge {
        "br0" => 0,
        "br1" => 1,
        _ => 2,
    });
    let mut current = "br0";
    let mut tunnels_done = false;
    for (at, (name, bridge_name, number)) in devices.into_iter().enumerate() {
        if current != bridge_name {
            if current == "br0" {
                tunnels(&mut out, case);
                tunnels_done = true;
            }
            current = bridge_name;
            out += &match bridge_name {
                "br1" => {
                    bridge(case, "br1", case.peer.as_deref().unwrap_or_default()) + &patch("pb", 21, "pa")
                }
                "br-ext" => {
                    let ext = bridge(case, "br-ext", case.ext.as_deref().unwrap_or_default());
                    underlay(case) + &patch("pu", 22, "pv") + &ext + &patch("pv", 22, "pu")
                }
                _ => underlay(case),
            };
        }
        let dir = dir.display();
        let _ = write!(
            out,
            "[[bridge.port]]\nname = \"{name}\"\ntype = \"dpdk\"\nofport_request = {number}\n{}options = {{ dpdk-devargs = \
             \"net_pcap{at},rx_pcap={dir}/{name}.in.pcap,tx_pcap={dir}/{name}.out.pcap\" }}\n",
            vlans(case, &name)
        );
    }
    if !tunnels_done {
        tunnels(&mut out, case);
    }
    out
}

/// A bridge up to its ports.
fn bridge(case: &Case, name: &str, flows: &[String]) -> String {
    let mode = if case.standalone { "standalone" } else { "secure" };
    let mut out = format!("[[bridge]]\nname = \"{name}\"\nfail_mode = \"{mode}\"\n");
    let mut list = |key: &str, lines: &[String]| {
        if !lines.is_empty() {
            let _ = writeln!(out, "{key} = {lines:?}");
        }
    };
    list("flows", flows);
    if name != "br0" {
        return out;
    }
    list("groups", &case.groups);
    list("meters", &case.meters);
    list("tlv_map", &case.tlvs);
    if !case.other_config.is_empty() {
        let pairs: Vec<String> = case.other_config.iter().map(|(k, v)| format!("{k} = \"{v}\"")).collect();
        let _ = writeln!(out, "other_config = {{ {} }}", pairs.join(", "));
    }
    for (at, mirror) in case.mirrors.iter().enumerate() {
        out += &mirror_text(at, mirror);
    }
    out
}

fn mirror_text(at: usize, mirror: &Mirror) -> String {
    let mut out = format!("[[bridge.mirror]]\nname = \"m{at}\"\n");
    if mirror.all {
        out += "select_all = true\n";
    }
    for (key, ports) in [("select_src_port", mirror.src), ("select_dst_port", mirror.dst)] {
        if !ports.is_empty() {
            let _ = writeln!(out, "{key} = {ports:?}");
        }
    }
    if !mirror.vlans.is_empty() {
        let _ = writeln!(out, "select_vlan = {:?}", mirror.vlans);
    }
    if let Some(port) = mirror.output_port {
        let _ = writeln!(out, "output_port = \"{port}\"");
    }
    if let Some(vlan) = mirror.output_vlan {
        let _ = writeln!(out, "output_vlan = {vlan}");
    }
    out
}

/// Ports of `br0` that are no devices.
fn tunnels(out: &mut String, case: &Case) {
    for (at, Tunnel { name, kind, options }) in case.tunnels.iter().enumerate() {
        let number = 11 + at;
        let options: Vec<String> = options.iter().map(|(k, v)| format!("{k} = \"{v}\"")).collect();
        let _ = write!(
            out,
            "[[bridge.port]]\nname = \"{name}\"\ntype = \"{kind}\"\nofport_request = {number}\n{}options = {{ {} }}\n",
            vlans(case, name),
            options.join(", ")
        );
    }
    if case.peer.is_some() {
        let _ = write!(
            out,
            "[[bridge.port]]\nname = \"pa\"\ntype = \"patch\"\nofport_request = 21\n{}options = {{ peer = \"pb\" }}\n",
            vlans(case, "pa")
        );
    }
}

fn patch(name: &str, number: u32, peer: &str) -> String {
    format!(
        "[[bridge.port]]\nname = \"{name}\"\ntype = \"patch\"\nofport_request = {number}\noptions = {{ peer = \"{peer}\" }}\n"
    )
}

fn vlans(case: &Case, port: &str) -> String {
    let settings = case.vlans.iter().filter(|(name, ..)| *name == port);
    settings
        .map(|(_, key, value)| match *key {
            "trunks" | "cvlans" => format!("{key} = [{value}]\n"),
            "vlan_mode" => format!("vlan_mode = \"{value}\"\n"),
            key if key.starts_with("other_config:") => {
                format!("{} = \"{value}\"\n", key.replacen(':', ".", 1))
            }
            key => format!("{key} = {value}\n"),
        })
        .collect()
}

fn underlay(case: &Case) -> String {
    let neighbours: Vec<String> =
        NEIGHBOURS.iter().map(|(ip, mac)| format!("{{ ip = \"{ip}\", mac = \"{mac}\" }}")).collect();
    let mut own = vlans(case, "br-phy");
    if let Some(flows) = &case.phy {
        own += &format!("fail_mode = \"secure\"\nflows = {flows:?}\n");
    }
    format!(
        "[[bridge]]\nname = \"br-phy\"\n{own}hwaddr = \"02:00:00:00:0a:01\"\n\
         address = [\"192.168.1.1/24\", \"192.168.1.5/24\", \"2001:db8::1/64\"]\n\
         route = [{{ to = \"0.0.0.0/0\", via = \"192.168.1.254\" }}]\nneighbour = [{}]\n",
        neighbours.join(", ")
    )
}
