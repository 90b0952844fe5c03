//! `tnl/*` and `ovs/route/*`: where tunnels lead, and where they end.

use crate::bridge::Bridge;
use crate::control::app::App;
use crate::control::handlers::operate::{add_route, delete_route};
use crate::control::handlers::refused::Refused;
use crate::slowpath::handle::Stopped;
use config::{Route, TunnelOptions};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;
use wire::addr::MacAddr;
use wire::proto::IP_UDP;
use wire::tunnel::Transport;

/// Seconds after which a resolved neighbour may be asked again.
const AGING: RangeInclusive<u64> = 1..=3600;
/// UDP source ports of tunnel packets, by the inner flow's hash.
const SOURCE_PORTS: RangeInclusive<u16> = 49152..=65535;

/// Answers a command whose arguments are as many as it takes.
pub(super) async fn run(app: &App, command: &str, words: &[&str]) -> Result<String, String> {
    let stopping = |error: Stopped| error.to_string();
    let refused = |error: Refused| error.message().to_owned();
    match command {
        "tnl/neigh/show" | "tnl/arp/show" => {
            let rows = app.handle.call(|slow| slow.neighbour_view(None)).await.map_err(stopping)?;
            let mut text = format!("{:<46}{:<20}Bridge\n{}\n", "IP", "MAC", "=".repeat(74));
            for row in rows {
                if let Some(mac) = row.mac {
                    let _ = writeln!(text, "{:<46}{mac}   {}", row.ip, row.bridge);
                }
            }
            Ok(text)
        }
        "tnl/neigh/set" | "tnl/arp/set" => {
            let bridge = words[0].to_owned();
            let address: IpAddr = words[1].parse().map_err(|_| "bad IPv4/IPv6 address")?;
            let mac: MacAddr = words[2].parse().map_err(|_| "bad MAC address")?;
            let set = app.handle.call(move |slow| {
                let id = slow.state.bridge_named(&bridge)?;
                slow.neighbour_set(id, address, mac);
                Some(())
            });
            set.await.map_err(stopping)?.ok_or("no such bridge")?;
            Ok("OK".into())
        }
        "tnl/neigh/flush" | "tnl/arp/flush" => {
            app.handle.call(|slow| slow.neighbours_flush(None, None)).await.map_err(stopping)?;
            Ok("OK".into())
        }
        "tnl/neigh/aging" | "tnl/arp/aging" => {
            let Some(text) = words.first() else {
                let aging = app.handle.call(|slow| slow.neighbour_aging()).await;
                return Ok(aging.map_err(stopping)?.as_secs().to_string());
            };
            let seconds: Option<u64> = text.parse().ok().filter(|seconds| AGING.contains(seconds));
            let aging = Duration::from_secs(seconds.ok_or("bad aging value")?);
            app.handle.call(move |slow| slow.set_neighbour_aging(aging)).await.map_err(stopping)?;
            Ok("OK".into())
        }
        "tnl/ports/show" => ports(app, words.first() == Some(&"-v")).await,
        "tnl/egress_port_range" => {
            let (low, high) = (SOURCE_PORTS.start(), SOURCE_PORTS.end());
            Ok(format!("Tunnel UDP source port range: {low}-{high}"))
        }
        "ovs/route/add" => {
            let to = words[0].parse().or_else(|_| words[0].parse::<IpAddr>().map(Into::into));
            let to: ipnet::IpNet = to.map_err(|_| "Invalid 'ip_addr/prefix_len' parameter")?;
            let via = words.get(2).map(|text| text.parse::<IpAddr>());
            let via = via.transpose().map_err(|_| "Invalid pkt_mark or IP gateway")?;
            // A route leads nowhere where nothing can be sent from.
            let (bridge, first) = (words[1].to_owned(), via.unwrap_or(to.addr()));
            let has_address = app.handle.call(move |slow| {
                let running = slow.state.bridge(slow.state.bridge_named(&bridge)?)?;
                let mut own = running.addresses.iter();
                own.any(|net| net.addr().is_ipv4() == first.is_ipv4()).then_some(())
            });
            has_address.await.map_err(stopping)?.ok_or("Error while inserting route.")?;
            add_route(app, words[1], Route { to: to.trunc(), via }).await.map(drop).map_err(refused)?;
            Ok("OK".into())
        }
        "ovs/route/del" => {
            let to = words[0].parse().or_else(|_| words[0].parse::<IpAddr>().map(Into::into));
            let to: ipnet::IpNet = to.map_err(|_| "Invalid parameters")?;
            let names: Vec<String> = {
                let switch = app.switch.lock().await;
                let bridges = switch.document.bridges.iter();
                let has =
                    bridges.filter(|bridge| bridge.routes.iter().any(|route| route.to.trunc() == to.trunc()));
                has.map(|bridge| bridge.name.clone()).collect()
            };
            for name in &names {
                delete_route(app, name, Route { to: to.trunc(), via: None })
                    .await
                    .map(drop)
                    .map_err(refused)?;
            }
            if names.is_empty() { Err("Not found".into()) } else { Ok("OK".into()) }
        }
        "ovs/route/lookup" => {
            let to: IpAddr = words[0].parse().map_err(|_| "Invalid parameters")?;
            let hop = app.handle.call(move |slow| slow.route_to(to)).await.map_err(stopping)?;
            let (bridge, hop) = hop.ok_or("Not found")?;
            let none = if to.is_ipv4() { "0.0.0.0" } else { "::" };
            let gateway = if hop.next_hop == to { none.into() } else { hop.next_hop.to_string() };
            Ok(format!("src {}\ngateway {gateway}\ndev {bridge}\n", hop.source))
        }
        _ => {
            let rows = app.handle.call(|slow| slow.route_view()).await.map_err(stopping)?;
            let mut text = "Route Table:\n".to_owned();
            for row in rows {
                let origin = if row.connected { "Cached" } else { "User" };
                let via = row.via.map_or_else(String::new, |via| format!(" GW {via}"));
                let _ = writeln!(text, "{origin}: {} dev {}{via}", row.to, row.bridge);
            }
            Ok(text)
        }
    }
}

/// What a tunnel listens on.
#[derive(Debug, Clone, Copy)]
struct Listening {
    transport: Transport,
    /// Tunnel ports that have it.
    ports: usize,
}

/// `tnl/ports/show`: the sockets by which tunnels come in, with the number of tunnel ports that have them; `verbose`: with
/// the packets that are for them.
async fn ports(app: &App, verbose: bool) -> Result<String, String> {
    let mut underlays: Vec<(MacAddr, IpAddr)> = Vec::new();
    if verbose {
        let found = app.handle.call(|slow| {
            let bridges = slow.state.bridges();
            let of = |bridge: &Bridge| -> Vec<_> {
                bridge.addresses.iter().map(|net| (bridge.mac, net.addr())).collect()
            };
            bridges.flat_map(|(_, bridge)| of(bridge)).collect()
        });
        underlays = found.await.map_err(|error| error.to_string())?;
    }
    let switch = app.switch.lock().await;
    let mut listening: BTreeMap<String, Listening> = BTreeMap::new();
    for port in switch.document.bridges.iter().flat_map(|bridge| &bridge.ports) {
        let Some(Ok(options)) = TunnelOptions::of(port).filter(|_| switch.ports.contains_key(&port.name))
        else {
            continue;
        };
        let transport = options.transport;
        let name = match port.kind.as_str() {
            "vxlan" => format!("vxlan_sys_{}", transport.port),
            "geneve" => format!("genev_sys_{}", transport.port),
            kind => format!("{kind}_sys"),
        };
        listening.entry(name).or_insert(Listening { transport, ports: 0 }).ports += 1;
    }
    let mut text = "Listening ports:\n".to_owned();
    for (at, (name, listening)) in listening.iter().enumerate() {
        if !verbose {
            let _ = writeln!(text, "{name} ({}) ref_cnt={}", at + 1, listening.ports);
        }
        for (mac, address) in &underlays {
            let _ = writeln!(text, "{name} ({}) : {}", at + 1, received(*mac, *address, listening.transport));
        }
    }
    Ok(text)
}

/// The packets to an address of the switch that are a tunnel's.
fn received(mac: MacAddr, address: IpAddr, transport: Transport) -> String {
    let (kind, ip) = if address.is_ipv4() { ("0x0800", "ipv4") } else { ("0x86dd", "ipv6") };
    let protocol = transport.protocol;
    let mut text = format!("eth(dst={mac}),eth_type({kind}),{ip}(dst={address},proto={protocol},frag=no)");
    if protocol == IP_UDP {
        let _ = write!(text, ",udp(dst={})", transport.port);
    }
    text
}
