//! Keeps the switch and FRR's view of the kernel equal, for ports with `remote_ip=evpn`.

use super::app::App;
use crate::slowpath::evpn::{Stamp, Vni};
use evpn::table::{Down, Switch};
use evpn::{Error, Shadow};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often both sides are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// How long hosts of the process before this one stay announced before they must have been heard.
const KEEP: Duration = Duration::from_mins(2);
/// How long after an error everything is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// One network namespace.
#[derive(Debug)]
struct Side {
    shadow: Shadow,
    locals: BTreeMap<u32, std::net::Ipv4Addr>,
}

/// Runs until the task is aborted.
pub async fn run(app: Arc<App>) {
    let mut stamp = Stamp::default();
    let mut vnis: BTreeMap<u32, Vni> = BTreeMap::new();
    let mut side: Option<Side> = None;
    let mut last_error = String::new();
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
        if vnis.is_empty() && side.is_none() {
            continue;
        }
        let seen = vnis.clone();
        let work = tokio::task::spawn_blocking(move || step(side, &seen, is_new));
        let Ok((kept, outcome)) = work.await else { return };
        side = kept;
        match outcome {
            Ok(downs) if downs.is_empty() => last_error.clear(),
            Ok(downs) => {
                last_error.clear();
                if app.handle.call(move |slow| slow.evpn_apply(&downs)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let text = error.to_string();
                if text != last_error {
                    tracing::warn!(target: "vxswitch::evpn", error = %text, "EVPN does not follow");
                    last_error = text;
                }
                stamp = Stamp::default();
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

type Step = (Option<Side>, Result<BTreeMap<u32, Down>, Error>);

/// One look at the kernel's side.
fn step(side: Option<Side>, vnis: &BTreeMap<u32, Vni>, is_new: bool) -> Step {
    let mut side = match side {
        Some(side) => side,
        None => match Shadow::open(None, KEEP) {
            Ok(shadow) => Side { shadow, locals: BTreeMap::new() },
            Err(error) => return (None, Err(error)),
        },
    };
    let locals: BTreeMap<_, _> = vnis.iter().filter_map(|(vni, v)| Some((*vni, v.local?))).collect();
    let mut remade = false;
    if locals != side.locals {
        if let Err(error) = side.shadow.set_vnis(&locals) {
            return (Some(side), Err(error));
        }
        side.locals = locals;
        remade = true;
    }
    if !side.shadow.changed() && !is_new && !remade {
        return (Some(side), Ok(BTreeMap::new()));
    }
    let tables: BTreeMap<u32, Switch> = vnis.iter().map(|(vni, v)| (*vni, v.table.clone())).collect();
    let outcome = side.shadow.sync(&tables);
    (Some(side), outcome)
}
