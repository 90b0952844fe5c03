//! The control API: HTTP and JSON over the Unix socket, so `curl --unix-socket` works.
//!
//! | method and path | what |
//! |---|---|
//! | `GET /v1/show` | bridges and ports ([`api::Show`]) |
//! | `GET /v1/interfaces`, `/v1/interfaces/NAME` | ports with their counters |
//! | `POST /v1/transaction` | a command line in `ovs-vsctl`'s grammar |
//! | `GET`, `PUT /v1/document` | the desired state, as TOML in JSON; `PUT` takes TOML, or JSON when it says so |
//! | `GET /v1/flows/BRIDGE?match=` , `POST /v1/flows/BRIDGE/add`, `/modify`, `/delete`, `/replace` | rules |
//! | `GET /v1/groups/BRIDGE?match=` , `POST /v1/groups/BRIDGE/add`, `/modify`, `/delete`, `/insert-buckets`, `/remove-buckets` | groups |
//! | `GET /v1/tlv-map/BRIDGE`, `POST /v1/tlv-map/BRIDGE/add`, `/delete` | Geneve options and their fields |
//! | `GET /v1/meters/BRIDGE?match=` , `POST /v1/meters/BRIDGE/add`, `/modify`, `/delete` | meters |
//! | `POST /v1/ports/BRIDGE/modify`, `/v1/packet-out/BRIDGE` | a port up or down; packets by actions |
//! | `GET /v1/capture/port/NAME?count=&seconds=&filter=`, `/v1/capture/controller/BRIDGE` | packets, as a pcap file |
//! | `GET /v1/capture/drops?of=&count=&seconds=&filter=` | dropped packets, as a pcapng file whose comments say why |
//! | `GET /v1/monitor?of=&count=&seconds=` | packets and what becomes of each, a JSON object a line ([`api::MonitoredPacket`]) |
//! | `GET /v1/fdb/BRIDGE`, `POST .../add`, `/delete`, `/flush` | MAC addresses |
//! | `GET /v1/neigh`, `POST /v1/neigh/BRIDGE/set`, `/delete`, `/v1/neigh/flush` | neighbours |
//! | `GET /v1/route`, `POST /v1/route/BRIDGE/add`, `/delete` | routes |
//! | `GET /v1/megaflows?bridge=&limit=` | megaflows |
//! | `GET /v1/lcores`, `/v1/drops`, `/v1/upcall` | counters |
//! | `POST /v1/appctl` | a command of `ovs-appctl` |
//! | `GET /v1/evpn` | VNIs whose remotes come from EVPN |
//! | `GET /v1/bfd` | BFD sessions of ports |
//! | `GET /v1/events` | what happens, a JSON object a line ([`api::Event`]) |
//! | `POST /v1/save`, `/v1/reload` | the document into its file, and the file into the switch |
//! | `POST /v1/handover`, `/v1/handover/confirm` | another process takes the place of this one ([`api::Handover`]) |
//! | `POST /v1/restart` | starts a process like this one that takes its place |
//! | `POST /v1/trace/BRIDGE` | what would become of a packet |

use super::app::App;
use super::handlers::refused::Refused;
use super::handlers::{
    capture, configure, events, flows, groups, handover, monitor, operate, ports, tlvs, views,
};
use super::serving::bodies::{Room, bounded};
use super::serving::{self, Peer};
use super::unixctl;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;

/// How long who only looks waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients at a time.
const CONNECTIONS: usize = 128;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/show", get(views::show))
        .route("/v1/interfaces", get(views::interfaces))
        .route("/v1/interfaces/{name}", get(views::interface))
        .route("/v1/lcores", get(views::lcores))
        .route("/v1/drops", get(views::drops))
        .route("/v1/upcall", get(views::upcall))
        .route("/v1/evpn", get(views::evpn))
        .route("/v1/bfd", get(views::bfd))
        .route("/v1/megaflows", get(views::megaflows))
        .route("/v1/appctl", post(unixctl::appctl))
        .route("/v1/transaction", post(configure::transaction))
        .route("/v1/document", get(configure::document).put(configure::replace))
        .route("/v1/flows/{bridge}", get(flows::dump))
        .route("/v1/flows/{bridge}/add", post(flows::add))
        .route("/v1/flows/{bridge}/modify", post(flows::modify))
        .route("/v1/groups/{bridge}", get(groups::groups))
        .route("/v1/groups/{bridge}/add", post(groups::group_add))
        .route("/v1/groups/{bridge}/modify", post(groups::group_modify))
        .route("/v1/groups/{bridge}/delete", post(groups::group_delete))
        .route("/v1/groups/{bridge}/insert-buckets", post(groups::buckets_insert))
        .route("/v1/groups/{bridge}/remove-buckets", post(groups::buckets_remove))
        .route("/v1/meters/{bridge}", get(groups::meters))
        .route("/v1/meters/{bridge}/add", post(groups::meter_add))
        .route("/v1/meters/{bridge}/modify", post(groups::meter_modify))
        .route("/v1/meters/{bridge}/delete", post(groups::meter_delete))
        .route("/v1/tlv-map/{bridge}", get(tlvs::dump))
        .route("/v1/tlv-map/{bridge}/add", post(tlvs::add))
        .route("/v1/tlv-map/{bridge}/delete", post(tlvs::delete))
        .route("/v1/ports/{bridge}/modify", post(ports::modify))
        .route("/v1/packet-out/{bridge}", post(ports::packet_out))
        .route("/v1/capture/port/{name}", get(capture::port))
        .route("/v1/capture/controller/{bridge}", get(capture::controller))
        .route("/v1/capture/drops", get(capture::drops))
        .route("/v1/monitor", get(monitor::monitor))
        .route("/v1/flows/{bridge}/delete", post(flows::delete))
        .route("/v1/flows/{bridge}/replace", post(flows::replace))
        .route("/v1/trace/{bridge}", post(flows::trace))
        .route("/v1/fdb/{bridge}", get(operate::fdb))
        .route("/v1/fdb/{bridge}/add", post(operate::fdb_add))
        .route("/v1/fdb/{bridge}/delete", post(operate::fdb_delete))
        .route("/v1/fdb/{bridge}/flush", post(operate::fdb_flush))
        .route("/v1/neigh", get(operate::neighbours))
        .route("/v1/neigh/flush", post(operate::neighbours_flush))
        .route("/v1/neigh/{bridge}/delete", post(operate::neighbour_delete))
        .route("/v1/events", get(events::events))
        .route("/v1/handover", post(handover::begin))
        .route("/v1/handover/confirm", post(handover::confirm))
        .route("/v1/restart", post(handover::restart))
        .route("/v1/save", post(configure::save))
        .route("/v1/reload", post(configure::reload))
        .route("/v1/neigh/{bridge}/set", post(operate::neighbour_set))
        .route("/v1/route", get(operate::routes))
        .route("/v1/route/{bridge}/add", post(operate::route_add))
        .route("/v1/route/{bridge}/delete", post(operate::route_delete))
        .fallback(|| async { Refused::not_found("no such path") })
        // Bodies are read, and bounded, by the layer below.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(&app), to_the_end))
        .layer(from_fn_with_state(Room::default(), bounded))
        .with_state(app)
}

/// Does what may change something to its end, in a task of its own. The server drops a handler whose client hangs
/// up, wherever it stands: the slow path would have made a change that the document does not have.
async fn to_the_end(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        // Who only looks waits for no thread that stands still.
        return tokio::time::timeout(PATIENCE, next.run(request)).await.unwrap_or_else(|_| {
            Refused::busy("the switch does not answer: see /healthz of the metrics address").into_response()
        });
    }
    let (who, what) = (request.extensions().get::<Peer>().cloned(), request.uri().path().to_owned());
    let whole = async move {
        let answer = next.run(request).await;
        if !answer.status().is_success() {
            return answer;
        }
        // A trace changes nothing, nor does a handover, nor do `show` and its like in a transaction.
        let only_looked = answer.extensions().get::<configure::OnlyLooked>().is_some();
        if only_looked || ["/v1/trace/", "/v1/handover"].iter().any(|path| what.starts_with(path)) {
            return answer;
        }
        tracing::info!(target: "vxswitch::config", by = %who.unwrap_or_default(), request = %what, "changed");
        // What is acknowledged is on disk.
        match app.persist().await {
            Ok(()) => answer,
            Err(error) => {
                Refused::broken(format!("the change was made, but not saved: {error}")).into_response()
            }
        }
    };
    tokio::spawn(whole).await.unwrap_or_else(|error| {
        Refused::broken(format!("the request was not carried out: {error}")).into_response()
    })
}

/// Asks once what users ask first, so that nothing is done for the first time when packets come.
pub async fn use_once(router: &Router) {
    use hyper::service::Service;
    let service = TowerToHyperService::new(router.clone());
    for path in ["/v1/show", "/v1/interfaces", "/v1/drops", "/v1/document"] {
        let Ok(request) = Request::get(path).body(Body::empty()) else { continue };
        match service.call(request).await {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => tracing::warn!(path, status = %answer.status(), "the API refuses itself"),
            Err(never) => match never {},
        }
    }
}

/// Reads the file again whenever SIGHUP comes.
pub async fn reload_on_hangup(mut hangup: Signal, app: Arc<App>) {
    while hangup.recv().await.is_some() {
        match configure::read_again(&app).await {
            Ok(changed) => {
                tracing::info!(target: "vxswitch::config", by = "SIGHUP", changed, "the file was read again");
            }
            Err(refused) => {
                tracing::error!(target: "vxswitch::config", by = "SIGHUP", error = refused.message(), "the file was not taken");
            }
        }
    }
}

/// Serves the control API until the task is aborted.
pub async fn serve(listener: tokio::net::UnixListener, router: Router) {
    serving::serve(listener, router, CONNECTIONS).await;
}
