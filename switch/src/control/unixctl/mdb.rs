//! `mdb/*`: members of multicast groups, of bridges that snoop.

use crate::bridge::BridgeId;
use crate::control::app::App;
use crate::slowpath::SlowPath;
use std::fmt::Write;

const DISABLED: &str = "multicast snooping is disabled";

/// A bridge that snoops.
fn snooping(slow: &SlowPath, name: &str) -> Result<BridgeId, &'static str> {
    let id = slow.state.bridge_named(name).ok_or("no such bridge")?;
    let is_enabled = slow.state.bridge(id).is_some_and(|bridge| bridge.mcast.is_enabled());
    is_enabled.then_some(id).ok_or(DISABLED)
}

/// `mdb/show`.
pub(super) async fn show(app: &App, bridge: &str) -> Result<String, String> {
    let bridge = bridge.to_owned();
    let text = app.handle.call(move |slow| {
        let id = snooping(slow, &bridge)?;
        let rows = slow.state.bridge(id).map(|bridge| bridge.mcast.rows(slow.now())).unwrap_or_default();
        let mut text = " port  VLAN  GROUP                Age\n".to_owned();
        for row in rows {
            let number = slow.state.port(row.at.port).map_or(0, |port| port.ofport);
            let port = if number == flow::ofp::PORT_LOCAL { "LOCAL".to_owned() } else { number.to_string() };
            let (vlan, age) = (row.vlan, row.age.as_secs());
            let _ = match row.group {
                Some(group) => writeln!(text, "{port:>5}  {vlan:4}  {group}         {age:3}"),
                None => writeln!(text, "{port:>5}  {vlan:4}  querier             {age:3}"),
            };
        }
        Ok::<_, &str>(text)
    });
    text.await.map_err(|error| error.to_string())?.map_err(str::to_owned)
}

/// `mdb/flush`, of one bridge or of all that snoop.
pub(super) async fn flush(app: &App, bridge: Option<&str>) -> Result<String, String> {
    let bridge = bridge.map(str::to_owned);
    let flushed = app.handle.call(move |slow| {
        let chosen: Vec<BridgeId> = match bridge {
            Some(name) => vec![snooping(slow, &name)?],
            None => slow.state.bridges().map(|(id, _)| id).collect(),
        };
        for id in chosen {
            slow.mcast_flush(id);
        }
        Ok::<_, &str>("table successfully flushed".to_owned())
    });
    flushed.await.map_err(|error| error.to_string())?.map_err(str::to_owned)
}
