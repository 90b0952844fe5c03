//! What happens to a bridge without a connection's doing: rules that time out or that others change, ports that come,
//! change and go.

use super::bridge::View;
use super::news;
use super::ports::Devices;
use crate::bridge::PortConfig;
use crate::control::app::App;
use crate::slowpath::handle::Stopped;
use openflow::server::{Bridge as _, Event};
use openflow::{Port, PortReason, PortStatus};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What tells whether the ports of a bridge are as they were: number, name, whether it has a link, how it may be used, whether
/// it is live.
type Look = Vec<(u32, String, bool, PortConfig, bool)>;

/// The ports of a bridge as its connections know them.
#[derive(Debug, Default)]
pub(super) struct KnownPorts {
    look: Look,
    /// By number; `None` before the first look.
    ports: Option<BTreeMap<u32, Port>>,
}

/// What has happened to a bridge since the last time that this was asked.
///
/// # Errors
/// The switch is going down.
pub(super) async fn of_bridge(
    app: &Arc<App>,
    bridge: &str,
    known: &mut KnownPorts,
) -> Result<Vec<Event>, Stopped> {
    let name = bridge.to_owned();
    let (mut events, look) = app
        .handle
        .call(move |slow| {
            let now = slow.now();
            let Some(id) = slow.state.bridge_named(&name) else { return Default::default() };
            let news = slow.state.bridge_mut(id).map(|bridge| bridge.tables.take_news()).unwrap_or_default();
            let events: Vec<Event> = news.iter().flat_map(|news| news::of_rule(news, now)).collect();
            let ports = slow.state.bridge(id).map(|bridge| bridge.ports.clone()).unwrap_or_default();
            let look = ports.into_iter().filter_map(|(number, id)| {
                let port = slow.state.port(id)?;
                Some((number, port.name.clone(), port.alive, port.config, port.is_live()))
            });
            (events, look.collect::<Look>())
        })
        .await?;
    if known.ports.is_none() || look != known.look {
        let ports = ports(app, bridge).await?;
        if let Some(before) = known.ports.replace(ports.clone()) {
            events.extend(changes(&before, &ports));
        }
        known.look = look;
    }
    Ok(events)
}

/// The ports of a bridge as OpenFlow describes them.
async fn ports(app: &Arc<App>, bridge: &str) -> Result<BTreeMap<u32, Port>, Stopped> {
    let switch = app.switch.lock().await;
    let (devices, name) = (Devices::of(app, &switch).await, bridge.to_owned());
    let list = app.handle.call(move |slow| View::of(slow, &name, &devices).map(|mut view| view.ports()));
    Ok(list.await?.unwrap_or_default().into_iter().map(|port| (port.number, port)).collect())
}

/// How ports became others.
fn changes(before: &BTreeMap<u32, Port>, now: &BTreeMap<u32, Port>) -> Vec<Event> {
    let status = |reason, port: &Port| Event::Port(Box::new(PortStatus { reason, port: port.clone() }));
    let gone = before.iter().filter(|(number, _)| !now.contains_key(number));
    let mut events: Vec<Event> = gone.map(|(_, port)| status(PortReason::Delete, port)).collect();
    for (number, port) in now {
        match before.get(number) {
            None => events.push(status(PortReason::Add, port)),
            // Another port that has got the number.
            Some(old) if old.name != port.name => {
                events.extend([status(PortReason::Delete, old), status(PortReason::Add, port)]);
            }
            Some(old) if old != port => events.push(status(PortReason::Modify, port)),
            Some(_) => {}
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_change_and_go() {
        let port = |number, name: &str, config| Port { number, name: name.into(), config, ..Port::default() };
        let map = |ports: &[Port]| ports.iter().map(|port| (port.number, port.clone())).collect();
        let before: BTreeMap<u32, Port> =
            map(&[port(1, "a", 0), port(2, "b", 0), port(3, "c", 0), port(4, "d", 0)]);
        let now: BTreeMap<u32, Port> =
            map(&[port(1, "a", 0), port(2, "b", 1), port(4, "e", 0), port(5, "f", 0)]);
        let announced: Vec<(PortReason, String)> = changes(&before, &now)
            .into_iter()
            .map(|event| match event {
                Event::Port(status) => (status.reason, status.port.name),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            (PortReason::Delete, "c"),
            (PortReason::Modify, "b"),
            (PortReason::Delete, "d"),
            (PortReason::Add, "e"),
            (PortReason::Add, "f"),
        ];
        assert_eq!(announced, expected.map(|(reason, name)| (reason, name.to_owned())));
        assert!(changes(&now, &now).is_empty());
    }
}
