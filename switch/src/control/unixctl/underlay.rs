//! `tnl/*` and `ovs/route/*`: where tunnels lead, and where they end.

use crate::control::app::App;
use crate::control::handlers::operate::{add_route, delete_route};
use crate::control::handlers::refused::Refused;
use crate::slowpath::handle::Stopped;
use config::Route;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use wire::addr::MacAddr;

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
        "tnl/ports/show" => ports(app).await,
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

/// `tnl/ports/show`: the sockets by which tunnels come in, with the number of tunnel ports that have them.
async fn ports(app: &App) -> Result<String, String> {
    let switch = app.switch.lock().await;
    let mut listening: BTreeMap<String, usize> = BTreeMap::new();
    for port in switch.document.bridges.iter().flat_map(|bridge| &bridge.ports) {
        if port.port_kind().is_ok_and(|kind| kind.tunnel_type().is_none())
            || !switch.ports.contains_key(&port.name)
        {
            continue;
        }
        let asked = port.options.get("dst_port").cloned();
        let name = match port.kind.as_str() {
            "vxlan" => format!("vxlan_sys_{}", asked.as_deref().unwrap_or("4789")),
            "geneve" => format!("genev_sys_{}", asked.as_deref().unwrap_or("6081")),
            kind => format!("{kind}_sys"),
        };
        *listening.entry(name).or_default() += 1;
    }
    let mut text = "Listening ports:\n".to_owned();
    for (at, (name, count)) in listening.iter().enumerate() {
        let _ = writeln!(text, "{name} ({}) ref_cnt={count}", at + 1);
    }
    Ok(text)
}
