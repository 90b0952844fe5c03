//! `ofproto/trace`: a packet by the bridge and an OpenFlow flow, or by a datapath flow, which names its port.

use super::odp_flow::{self, OdpFlow};
use crate::control::app::App;
use crate::control::handlers::flows::trace_text;
use flow::program::PortId;

/// Bytes of an Ethernet header in hexadecimal digits: no packet is shorter.
const SHORTEST_PACKET: usize = 28;

/// `[dp] odp_flow [packet]` or `bridge br_flow [packet]`.
pub(super) async fn run(app: &App, words: &[&str]) -> Result<String, String> {
    trace(app, words, None).await
}

/// `ofproto/trace-packet-out`: the same with actions at the end, by which a controller's packet goes.
pub(super) async fn packet_out(app: &App, words: &[&str]) -> Result<String, String> {
    let Some((actions, words)) = words.split_last() else { return Err("no actions are given".to_owned()) };
    // Rules of one moment are all that there is.
    let words: Vec<&str> = words.iter().copied().filter(|word| *word != "-consistent").collect();
    trace(app, &words, Some((*actions).to_owned())).await
}

async fn trace(app: &App, words: &[&str], actions: Option<String>) -> Result<String, String> {
    let mut arguments = Vec::new();
    for word in words {
        match *word {
            // Nothing is to be made up for a trace, and ports always have their names.
            "-generate" | "--generate" | "--names" | "--no-names" => {}
            option if option.starts_with('-') => return Err(format!("{option}: unknown option")),
            word => arguments.push(word),
        }
    }
    let is_packet =
        |text: &&str| text.len() >= SHORTEST_PACKET && text.chars().all(|digit| digit.is_ascii_hexdigit());
    let has_packet = arguments.len() > 2 || arguments.len() == 2 && arguments.last().is_some_and(is_packet);
    let packet = if has_packet { arguments.pop().map(str::to_owned) } else { None };
    match arguments.as_slice() {
        [flow] => {
            let odp = odp_flow::parse(flow)
                .ok_or_else(|| format!("syntax error at {flow} (or the bridge name was omitted)"))?;
            by_datapath(app, odp, packet, actions).await
        }
        [name, flow] => match odp_flow::parse(flow) {
            Some(_) if !matches!(*name, "ovs-netdev" | "netdev@ovs-netdev") => {
                Err("Cannot find the datapath".to_owned())
            }
            Some(odp) => by_datapath(app, odp, packet, actions).await,
            None => trace_text(app, (*name).to_owned(), (*flow).to_owned(), packet, actions).await,
        },
        _ => Err("Must specify bridge name and flow, or a datapath flow".to_owned()),
    }
}

/// On the bridge of the datapath port by which the packet comes.
async fn by_datapath(
    app: &App,
    flow: OdpFlow,
    packet: Option<String>,
    actions: Option<String>,
) -> Result<String, String> {
    let asked = flow.in_port.unwrap_or_else(|| "none".to_owned());
    let name = asked.clone();
    let found = app.handle.call(move |slow| {
        let state = &slow.state;
        let id = name.parse().ok().map(PortId).filter(|id| state.port(*id).is_some());
        let port = state.port(id.or_else(|| state.port_named(&name))?)?;
        Some((state.bridge(port.bridge)?.name.clone(), port.ofport))
    });
    let found = found.await.map_err(|error| error.to_string())?;
    let (bridge, ofport) = found.ok_or_else(|| format!("no OpenFlow port for datapath port {asked}"))?;
    let comma = if flow.matches.is_empty() { "" } else { "," };
    trace_text(app, bridge, format!("in_port={ofport}{comma}{}", flow.matches), packet, actions).await
}
