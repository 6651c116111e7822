//! The HTTP API, under the paths and in the shape of SRS 6's, and `/metrics`.
//!
//! A request's way: `access` (CORS, user and password) → the handler of its path →
//! [`Call`], which answers in JSON or JSONP. `docs/http-api.md` compares each field with
//! SRS's.

mod access;
mod call;
mod clients;
mod codecs;
mod dvrs;
mod forwards;
mod ingests;
mod load;
mod metrics;
mod page;
mod raw;
mod samples;
mod slowest;
mod snapshot;
mod streams;
mod summaries;
mod system;
mod vhosts;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use crate::server::{Client, Server, report_load};
use crate::stream::OrderError;
use call::{Call, Code};
use clients::ClientReport;
use dvrs::DvrReport;
use forwards::ForwardReport;
use ingests::IngestJson;
use samples::Samples;
use slowest::Slowest;
use snapshot::Snapshot;
use streams::StreamReport;
use vhosts::VhostReport;

/// What all requests share.
struct Api {
    server: Arc<Server>,
    samples: Samples,
    slowest: Slowest,
}

impl Api {
    fn new(server: Arc<Server>) -> Arc<Self> {
        Arc::new(Self {
            samples: Samples::new(&server),
            slowest: Slowest::default(),
            server,
        })
    }
}

/// Serves the HTTP API at `listener` until the task is dropped.
pub async fn serve(listener: TcpListener, server: Arc<Server>) {
    let api = Api::new(server);
    let _sampling = AbortOnDropHandle::new(tokio::spawn(samples::run(api.clone())));
    service_kit::http::serve(listener, router(api), service_kit::http::DEFAULT_LIMITS).await;
}

/// The same over TLS.
pub async fn serve_https(listener: TcpListener, server: Arc<Server>) {
    let limits = service_kit::http::DEFAULT_LIMITS;
    let tls = server.http_api_tls();
    let accept = move |stream| tls.accept(stream);
    let api = Api::new(server);
    let _sampling = AbortOnDropHandle::new(tokio::spawn(samples::run(api.clone())));
    service_kit::http::serve_over(listener, router(api), limits, accept).await;
}

/// The routes of the HTTP API. SRS takes each of them with a slash behind it, too.
fn router(api: Arc<Api>) -> Router {
    let routes = Router::new()
        .route("/api/v1/versions", get(versions))
        .route("/api/v1/summaries", get(summaries))
        .route("/api/v1/load", get(load::answer))
        .route("/api/v1/vhosts", get(vhosts))
        .route("/api/v1/vhosts/", get(vhosts))
        .route("/api/v1/vhosts/{id}", get(vhost))
        .route("/api/v1/streams", get(streams))
        .route("/api/v1/streams/", get(streams))
        .route("/api/v1/streams/{id}", get(stream))
        .route("/api/v1/streams/{id}/switch", post(switch))
        .route("/api/v1/clients", get(clients))
        .route("/api/v1/clients/", get(clients))
        .route("/api/v1/clients/{id}", get(client).delete(dismiss))
        .route("/api/v1/events", get(events))
        .route("/api/v1/dvrs", get(dvrs))
        .route("/api/v1/dvrs/", get(dvrs))
        .route("/api/v1/forwards", get(forwards))
        .route("/api/v1/forwards/", get(forwards))
        .route("/api/v1/ingests", get(ingests))
        .route("/api/v1/ingests/", get(ingests))
        .route(raw::PATH, get(raw::answer))
        .route("/metrics", get(metrics))
        .route("/", get(page::html))
        .route("/page/{name}", get(page::file))
        .route("/console", get(page::moved))
        .route("/console/", get(page::moved))
        .with_state(api.clone());
    // Around all of them: a layer of `routes` would be inside of the choice by method.
    let guard = axum::middleware::from_fn_with_state(api, access::guard);
    Router::new().fallback_service(routes).layer(guard)
}

/// `url` without its query, which may be a publisher's or a viewer's right.
fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(url, _)| url)
}

/// Answers in a thread that may take its time: with thousands of connections, an answer
/// takes milliseconds, in which no publisher is to wait.
async fn answer(make: impl FnOnce() -> Response + Send + 'static) -> Response {
    let made = spawn_blocking(make).await;
    made.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn versions(State(api): State<Arc<Api>>, call: Call) -> Response {
    let part = |number: &str| number.parse::<u32>().unwrap_or_default();
    let version = json!({
        "major": part(env!("CARGO_PKG_VERSION_MAJOR")),
        "minor": part(env!("CARGO_PKG_VERSION_MINOR")),
        "revision": part(env!("CARGO_PKG_VERSION_PATCH")),
        "version": env!("CARGO_PKG_VERSION"),
        "server": "Millrace",
    });
    call.get(&api, "data", &version)
}

async fn summaries(State(api): State<Arc<Api>>, call: Call) -> Response {
    answer(move || call.get(&api, "data", &summaries::report(&api))).await
}

async fn vhosts(State(api): State<Arc<Api>>, call: Call) -> Response {
    answer(move || {
        let snapshot = Snapshot::take(&api);
        let config = api.server.config();
        let vhosts = config.vhosts.values();
        let reports: Vec<_> = vhosts
            .map(|vhost| VhostReport::new(vhost, &snapshot))
            .collect();
        call.get(&api, "vhosts", &reports)
    })
    .await
}

async fn vhost(State(api): State<Arc<Api>>, Path(id): Path<String>, call: Call) -> Response {
    answer(move || {
        let config = api.server.config();
        let Some(vhost) = config.vhosts.get(&id) else {
            return call.refuse(Code::VhostNotFound);
        };
        let snapshot = Snapshot::take(&api);
        call.get(&api, "vhost", &VhostReport::new(vhost, &snapshot))
    })
    .await
}

async fn streams(State(api): State<Arc<Api>>, call: Call) -> Response {
    answer(move || {
        let snapshot = Snapshot::take(&api);
        let streams = call.page(snapshot.streams.iter());
        let reports: Vec<_> = streams
            .map(|stream| StreamReport::new(stream, &snapshot))
            .collect();
        call.get(&api, "streams", &reports)
    })
    .await
}

async fn stream(State(api): State<Arc<Api>>, Path(id): Path<String>, call: Call) -> Response {
    answer(move || {
        let snapshot = Snapshot::take(&api);
        let id = id.parse().ok();
        let stream = snapshot.streams.iter().find(|it| Some(it.id()) == id);
        let Some(stream) = stream else {
            return call.refuse(Code::StreamNotFound);
        };
        call.get(&api, "stream", &StreamReport::new(stream, &snapshot))
    })
    .await
}

/// True if the parameters `stream` and `relay` choose the connection.
fn is_asked_for(client: &Client, call: &Call, snapshot: &Snapshot) -> bool {
    let of_stream = |wanted: &str| {
        let activity = client.activity();
        let id = activity.stream().and_then(|key| snapshot.stream_id(key));
        id.is_some() && id == wanted.parse().ok()
    };
    call.query("stream").is_none_or(of_stream)
        && (call.query("relay") != Some("true") || client.is_relay())
}

/// Orders that a standby goes on air: that of the connection `client`, or the best. The
/// connection on air stays there: so an order is taken back.
async fn switch(State(api): State<Arc<Api>>, Path(id): Path<String>, call: Call) -> Response {
    let id = id.parse().ok();
    let streams = api.server.streams();
    let Some(stream) = streams.iter().find(|it| Some(it.id()) == id) else {
        return call.refuse(Code::StreamNotFound);
    };
    let client = match call.query("client").map(str::parse) {
        Some(Ok(client)) => Some(client),
        Some(Err(_)) => return call.refuse(Code::ClientNotFound),
        None => None,
    };
    match stream.order_switch(client) {
        Ok(client) => {
            let name = client.map_or_else(|| "the slate".to_owned(), |id| format!("c{id}"));
            let key = stream.key();
            log::info!("{key}: {name} is ordered on air through the HTTP API");
            call.done(&api)
        }
        Err(OrderError::NoStandby) => call.refuse(Code::ClientNotFound),
    }
}

async fn clients(State(api): State<Arc<Api>>, call: Call) -> Response {
    if call.query("slowest").is_some() {
        return slowest::answer(&api, call).await;
    }
    answer(move || {
        let snapshot = Snapshot::take(&api);
        let clients = snapshot.clients.iter();
        let clients = clients.filter(|client| is_asked_for(client, &call, &snapshot));
        let clients = call.page(clients);
        let reports: Vec<_> = clients
            .map(|client| ClientReport::new(client, &snapshot))
            .collect();
        call.get(&api, "clients", &reports)
    })
    .await
}

/// The connection that `id` names: as the API writes it, or as the log does, with a `c`.
fn find_client(api: &Api, id: &str) -> Option<Arc<Client>> {
    let number = id.strip_prefix('c').unwrap_or(id);
    api.server.clients().find(number.parse().ok()?)
}

async fn client(State(api): State<Arc<Api>>, Path(id): Path<String>, call: Call) -> Response {
    let Some(client) = find_client(&api, &id) else {
        return call.refuse(Code::ClientNotFound);
    };
    answer(move || {
        let snapshot = Snapshot::take(&api);
        call.get(&api, "client", &ClientReport::new(&client, &snapshot))
    })
    .await
}

async fn dismiss(State(api): State<Arc<Api>>, Path(id): Path<String>, call: Call) -> Response {
    let client = find_client(&api, &id);
    let Some(client) = client.filter(|it| api.server.dismiss(it.id)) else {
        return call.refuse(Code::ClientNotFound);
    };
    log::info!("c{} is dismissed through the HTTP API", client.id);
    call.done(&api)
}

async fn events(State(api): State<Arc<Api>>, call: Call) -> Response {
    let after = call.query("after").and_then(|it| it.parse().ok());
    let events = api.server.events().after(after.unwrap_or(0));
    call.get(&api, "events", &events)
}

async fn dvrs(State(api): State<Arc<Api>>, call: Call) -> Response {
    let recordings = api.server.dvr().list();
    let recordings = call.page(recordings.iter());
    let reports: Vec<_> = recordings.map(|it| DvrReport::new(it)).collect();
    call.get(&api, "dvrs", &reports)
}

async fn forwards(State(api): State<Arc<Api>>, call: Call) -> Response {
    let forwards = api.server.forwards().list();
    let now = Instant::now();
    let reports: Vec<_> = call
        .page(forwards.iter())
        .map(|it| ForwardReport::new(it, now))
        .collect();
    call.get(&api, "forwards", &reports)
}

async fn ingests(State(api): State<Arc<Api>>, call: Call) -> Response {
    let ingests = api.server.ingests().list();
    let ingests = call.page(ingests.iter());
    let reports: Vec<_> = ingests.map(|it| IngestJson::new(it)).collect();
    call.get(&api, "ingests", &reports)
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let load = report_load(&api.server).await;
    answer(move || metrics::answer(&api, load)).await
}
