//! Keeps the switch and FRR's view of the kernel equal, for ports with `remote_ip=evpn`.

use super::app::App;
use crate::slowpath::evpn::{Stamp, Vni};
use api::{EvpnRow, EvpnVtep};
use evpn::table::{Down, Switch};
use evpn::{Error, Shadow, Times};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use wire::addr::MacAddr;

/// How often both sides are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// Hosts of the process before this one stay announced until they must have been heard; routes stay until BGP sessions
/// that broke with FRR must be up again.
const TIMES: Times = Times { keep: Duration::from_mins(2), hold: Duration::from_mins(1) };
/// How long after an error everything is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// One network namespace.
#[derive(Debug, Default)]
struct Side {
    shadow: Option<Shadow>,
    locals: BTreeMap<u32, Ipv4Addr>,
    duplicates: BTreeSet<(u32, MacAddr)>,
    error: Option<String>,
    said_no_ipv6: bool,
    /// After an error: when to look again, at everything.
    again: Option<Instant>,
}

/// Namespaces with VNIs, `None` for ours.
type Sides = BTreeMap<Option<String>, Side>;

/// Runs until the task is aborted.
pub async fn run(app: Arc<App>) {
    let mut stamp = Stamp::default();
    let mut vnis: BTreeMap<u32, Vni> = BTreeMap::new();
    let mut sides = Sides::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let before = std::mem::take(&mut stamp);
        let looking = app.handle.call(move |slow| {
            let new = slow.evpn_vnis(&before);
            (before, new)
        });
        let Ok((asked, looked)) = looking.await else { return };
        let is_new = looked.is_some();
        (stamp, vnis) = looked.unwrap_or((asked, vnis));
        if vnis.is_empty() && sides.is_empty() {
            continue;
        }
        let seen = vnis.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut sides = sides;
            let downs = step(&mut sides, &seen, is_new);
            (sides, downs)
        });
        let Ok((kept, downs)) = work.await else { return };
        sides = kept;
        *app.evpn.lock().unwrap_or_else(PoisonError::into_inner) = rows(&vnis, &sides);
        if !downs.is_empty() && app.handle.call(move |slow| slow.evpn_apply(&downs)).await.is_err() {
            return;
        }
        sides.retain(|netns, side| {
            !side.locals.is_empty() || side.error.is_some() || vnis.values().any(|vni| vni.netns == *netns)
        });
    }
}

/// One look at the kernel's side, in all namespaces: what the switch has to do.
fn step(sides: &mut Sides, vnis: &BTreeMap<u32, Vni>, is_new: bool) -> BTreeMap<u32, Down> {
    for vni in vnis.values() {
        sides.entry(vni.netns.clone()).or_default();
    }
    let mut downs = BTreeMap::new();
    for (netns, side) in sides {
        if side.again.is_some_and(|again| Instant::now() < again) {
            continue;
        }
        let of = || vnis.iter().filter(|(_, vni)| vni.netns == *netns);
        let is_new = is_new || side.again.take().is_some();
        match look(netns.as_deref(), side, of, is_new) {
            Ok(of_side) => {
                downs.extend(of_side);
                side.error = None;
            }
            Err(error) => {
                let text = error.to_string();
                if side.error.as_ref() != Some(&text) {
                    let netns = netns.as_deref().unwrap_or("");
                    tracing::warn!(target: "vxswitch::evpn", netns, error = %text, "EVPN does not follow");
                }
                side.error = Some(text);
                side.again = Some(Instant::now() + AGAIN);
                // A namespace without VNIs that cannot be tidied up is left.
                if of().next().is_none() {
                    (side.locals, side.error) = (BTreeMap::new(), None);
                }
            }
        }
    }
    downs
}

fn look<'a, I: Iterator<Item = (&'a u32, &'a Vni)>>(
    netns: Option<&str>,
    side: &mut Side,
    vnis: impl Fn() -> I,
    is_new: bool,
) -> Result<BTreeMap<u32, Down>, Error> {
    let shadow = match &mut side.shadow {
        Some(shadow) => shadow,
        none => none.insert(Shadow::open(netns, TIMES)?),
    };
    let locals: BTreeMap<_, _> = vnis().filter_map(|(vni, v)| Some((*vni, v.local?))).collect();
    let mut remade = false;
    if locals != side.locals {
        shadow.set_vnis(&locals)?;
        side.locals = locals;
        remade = true;
    }
    if !shadow.changed()? && !is_new && !remade {
        return Ok(BTreeMap::new());
    }
    let tables: BTreeMap<u32, Switch> = vnis().map(|(vni, v)| (*vni, v.table.clone())).collect();
    let downs = shadow.sync(&tables)?;
    if shadow.lacks_ipv6() && !std::mem::replace(&mut side.said_no_ipv6, true) {
        let netns = netns.unwrap_or("");
        tracing::warn!(target: "vxswitch::evpn", netns, "IPv6 addresses are not announced: the kernel's devices have no IPv6; set sysctl net.ipv6.conf.default.disable_ipv6=0 and add the port again");
    }
    let duplicates = shadow.duplicates();
    for (vni, mac) in duplicates.difference(&side.duplicates) {
        tracing::warn!(target: "vxswitch::evpn", vni, %mac, "duplicate MAC address: here and behind another VTEP");
    }
    side.duplicates = duplicates;
    Ok(downs)
}

/// What `evpn show` says.
fn rows(vnis: &BTreeMap<u32, Vni>, sides: &Sides) -> Vec<EvpnRow> {
    let row = |(vni, of): (&u32, &Vni)| {
        let side = sides.get(&of.netns);
        let shadow = side.and_then(|side| side.shadow.as_ref());
        let no_address = of.local.is_none().then(|| "no underlay bridge has an IPv4 address".to_owned());
        let no_ipv6 = shadow.is_some_and(Shadow::lacks_ipv6).then(|| {
            "IPv6 addresses are not announced: the kernel's devices have no IPv6 (sysctl net.ipv6.conf.default.disable_ipv6)".to_owned()
        });
        let duplicates = side.map(|side| side.duplicates.iter().filter(|(of, _)| of == vni));
        EvpnRow {
            vni: *vni,
            bridge: of.bridge.clone(),
            port: of.port.clone(),
            netns: of.netns.clone(),
            local: of.local.map(|ip| ip.to_string()),
            zebra: shadow.and_then(Shadow::zebra),
            holding: shadow.is_some_and(Shadow::is_holding),
            local_hosts: of.table.hosts.local.len(),
            remote_hosts: of.table.hosts.remote.len(),
            local_macs: of.table.local.len(),
            remote_macs: of.table.remote.len(),
            vteps: of
                .table
                .vteps
                .iter()
                .map(|(ip, flood)| EvpnVtep { ip: ip.to_string(), flood: *flood })
                .collect(),
            duplicates: duplicates.into_iter().flatten().map(|(_, mac)| mac.to_string()).collect(),
            error: side.and_then(|side| side.error.clone()).or(no_address).or(no_ipv6),
        }
    };
    vnis.iter().map(row).collect()
}
