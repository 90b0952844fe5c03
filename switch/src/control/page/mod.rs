//! The page for a browser at `/` of the metrics address: what there is and what goes on, to look at only.
//!
//! | path | what |
//! |---|---|
//! | `/` | the page; its script and style are in the binary |
//! | `/page/overview` | bridges with their busiest ports, workers, drops now and in the last minutes ([`picture`]) |
//! | `/page/ports?bridge=&search=&sort=&offset=&limit=` | ports ([`lists`]) |
//! | `/page/megaflows?...`, `/page/fdb?...`, `/page/neighbours?...` | tables, searched and cut into pages by the switch |
//! | `/page/trace?bridge=&flow=` | what would become of a packet; makes nothing |
//!
//! All are GET. However many look, the switch is looked at once a second at most, and one search is made at a time.

mod lists;
mod picture;

use super::app::App;
use super::handlers::refused::Refused;
use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use picture::Watcher;
use std::sync::Arc;
use std::time::Duration;

/// How long a browser waits for the slow path, or for a change that is being made.
const PATIENCE: Duration = Duration::from_secs(5);
/// The page's files come from the switch, and what it shows goes nowhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the page's handlers share.
#[derive(Clone)]
pub(in crate::control) struct Page {
    app: Arc<App>,
    watcher: Arc<Watcher>,
    /// Who searches holds it.
    searching: Arc<tokio::sync::Mutex<()>>,
}

impl Page {
    /// Of this switch.
    pub(in crate::control) fn new(app: Arc<App>) -> Page {
        Page { watcher: Arc::new(Watcher::new(Arc::clone(&app))), app, searching: Arc::default() }
    }

    /// Notes the drops of each few seconds, until the task is aborted.
    pub(in crate::control) async fn remember(self) {
        self.watcher.remember().await;
    }

    /// The paths of the page.
    pub(in crate::control) fn router(self) -> Router {
        let html = "text/html; charset=utf-8";
        Router::new()
            .route("/", get(|| asset(html, include_str!("assets/index.html"))))
            .route("/page/style.css", get(|| asset("text/css", include_str!("assets/style.css"))))
            .route("/page/script.js", get(|| asset("text/javascript", include_str!("assets/script.js"))))
            .route("/page/topology.js", get(|| asset("text/javascript", include_str!("assets/topology.js"))))
            .route("/page/trace.js", get(|| asset("text/javascript", include_str!("assets/trace.js"))))
            .route("/page/overview", get(lists::overview))
            .route("/page/ports", get(lists::ports))
            .route("/page/megaflows", get(lists::megaflows))
            .route("/page/fdb", get(lists::fdb))
            .route("/page/neighbours", get(lists::neighbours))
            .route("/page/trace", get(lists::trace))
            .layer(from_fn(guarded))
            .with_state(self)
    }
}

fn asset(kind: &'static str, text: &'static str) -> std::future::Ready<Response> {
    std::future::ready(([(CONTENT_TYPE, kind)], text).into_response())
}

/// Bounds the time of an answer, and tells the browser what it may do with it.
async fn guarded(request: Request, next: Next) -> Response {
    let late = || Refused::busy("the switch does not answer: see /healthz").into_response();
    let mut answer = tokio::time::timeout(PATIENCE, next.run(request)).await.unwrap_or_else(|_| late());
    for (name, value) in
        [(CONTENT_SECURITY_POLICY, POLICY), (X_CONTENT_TYPE_OPTIONS, "nosniff"), (CACHE_CONTROL, "no-store")]
    {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
