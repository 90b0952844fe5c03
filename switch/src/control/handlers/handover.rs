//! `POST /v1/handover` and `/v1/handover/confirm`: another process takes this one's place. Packets go on until that has
//! confirmed, and nothing is changed meanwhile.

use super::refused::{Answer, Refused};
use super::stream::{Piece, lines};
use crate::control::app::App;
use crate::control::apply::{RunningPort, Switch};
use crate::control::giving::Closed;
use crate::control::options::parse;
use api::{Done, Handover, Restarting};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use config::Document;
use flow::program::PortId;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a process that has asked may take to confirm: changes wait for it.
const CONFIRMS_WITHIN: Duration = Duration::from_secs(10);
/// How long the last answer may take to reach it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// `POST /v1/handover`.
pub(in crate::control) async fn begin(State(app): State<Arc<App>>) -> Result<Response, Refused> {
    let confirmation = app
        .giving
        .begin()
        .ok_or_else(|| Refused::busy("another process is taking over already: wait for its end"))?;
    let (to_client, pieces) = mpsc::channel(1);
    tokio::spawn(give(app, confirmation, to_client));
    Ok(lines(pieces))
}

/// `POST /v1/handover/confirm`: answered when all devices are closed.
pub(in crate::control) async fn confirm(State(app): State<Arc<App>>) -> Answer<Done> {
    let (closed, is_closed) = oneshot::channel();
    app.giving
        .confirm_by(closed)
        .ok_or_else(|| Refused::bad("nothing is being handed over: expected /v1/handover before"))?;
    match is_closed.await {
        Ok(Ok(())) => Ok(Json(Done { changed: 1 })),
        Ok(Err(error)) => Err(Refused::broken(error)),
        Err(_) => Err(Refused::broken("the handover was given up")),
    }
}

/// `POST /v1/restart`: starts the program that has this one's path now, with its arguments, to take its place.
pub(in crate::control) async fn restart() -> Answer<Restarting> {
    let failed = |error: std::io::Error| Refused::broken(format!("starting another process: {error}"));
    let own = std::env::current_exe().map_err(failed)?;
    // What a package replaced is called so.
    let path = own.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let arguments = arguments(std::env::args().skip(1).collect());
    let mut child = Command::new(path).args(arguments).stdin(Stdio::null()).spawn().map_err(failed)?;
    let pid = child.id();
    tracing::info!(target: "vxswitch::daemon", pid, "another process is started to take over");
    // One that does not take over is not left behind as a zombie.
    std::thread::spawn(move || child.wait());
    Ok(Json(Restarting { pid }))
}

/// The same arguments, with the option to take over among our own.
fn arguments(mut own: Vec<String>) -> Vec<String> {
    const OPTION: &str = "--take-over";
    let is_ours = parse(&[vec![String::new()], own.clone()].concat()).is_ok_and(|(eal, _)| eal.len() == 1);
    if !is_ours && !own.iter().any(|argument| argument == "--") {
        own.push("--".to_owned());
    }
    if !own.iter().any(|argument| argument == OPTION) {
        own.push(OPTION.to_owned());
    }
    own
}

/// Holds the switch as it is from the first line on, and closes it when that was confirmed.
async fn give(app: Arc<App>, confirmation: oneshot::Receiver<Closed>, to_client: mpsc::Sender<Piece>) {
    let mut switch = app.desired().await;
    let line = match state(&app, &switch).await {
        Ok(state) => serde_json::to_vec(&state).unwrap_or_default(),
        Err(refused) => {
            tracing::error!(error = refused.message(), "nothing can be handed over");
            return;
        }
    };
    if to_client.send(Piece::Bytes([line, b"\n".to_vec()].concat().into())).await.is_err() {
        return;
    }
    let confirmed = tokio::select! {
        confirmed = confirmation => confirmed.ok(),
        () = to_client.closed() => None,
        () = tokio::time::sleep(CONFIRMS_WITHIN) => None,
    };
    let Some(closed) = confirmed else {
        tracing::warn!(target: "vxswitch::daemon", "another process was about to take over, and did not");
        return;
    };
    tracing::info!(target: "vxswitch::daemon", "another process takes over");
    app.giving.confirmed.notify_one();
    app.giving.alone.notified().await;
    // What has come in leaves by ports and tunnels that are all still there; what comes now waits for the other process.
    let polled: Vec<_> = switch.ports.values().flat_map(polled).collect();
    let _ = app.handle.call(move |slow| drop(slow.stop_polling(polled))).await;
    let empty = Document { bridges: Vec::new(), ..switch.document.clone() };
    let outcome = switch.change(empty).await.map(drop).map_err(|error| error.to_string());
    // It has hung up when it does not want to know.
    let _ = closed.send(outcome);
    // However long it listens, this process ends.
    let _ = tokio::time::timeout(ANSWERED_WITHIN, to_client.closed()).await;
    app.giving.done.notify_one();
}

/// The RX queues of a port: worker, port and number.
fn polled(port: &RunningPort) -> Vec<(usize, PortId, u16)> {
    let pollers = port.device.iter().flat_map(|device| &device.pollers);
    pollers.zip(0..).map(|(worker, queue)| (*worker, port.id, queue)).collect()
}

async fn state(app: &App, switch: &Switch) -> Result<Handover, Refused> {
    let toml = switch.document.to_toml();
    let (ofports, fdb, neighbours, hosts) = app
        .handle
        .call(|slow| {
            let ports = slow.state.ports();
            let ofports = ports
                .filter_map(|(_, port)| Some((port.name.clone(), u16::try_from(port.ofport).ok()?)))
                .collect();
            let bridges = slow.state.bridges();
            let fdb = bridges.map(|(id, bridge)| (bridge.name.clone(), slow.fdb_view(id))).collect();
            (ofports, fdb, slow.neighbour_view(None), slow.host_view(None))
        })
        .await?;
    let devices = switch.ports.values().filter_map(|port| port.device.as_ref());
    let taps: BTreeMap<_, _> = devices
        .filter(|device| device.is_tap())
        .map(|tap| (tap.name().to_owned(), tap.descriptors()))
        .collect();
    Ok(Handover { toml, ofports, fdb, neighbours, hosts, taps, metrics: app.giving.metrics() })
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn the_option_stands_among_our_own() {
        let with = |text: &str| arguments(text.split_whitespace().map(str::to_owned).collect()).join(" ");
        assert_eq!(with("-l 0 -- --config a"), "-l 0 -- --config a --take-over");
        assert_eq!(with("-l 0"), "-l 0 -- --take-over");
        assert_eq!(with("--config a"), "--config a --take-over");
        assert_eq!(with(""), "--take-over");
        assert_eq!(with("-l 0 -- --take-over"), "-l 0 -- --take-over", "once");
    }
}
