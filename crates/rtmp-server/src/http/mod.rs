//! The HTTP API, under the paths that SRS's has:
//! `/api/v1/versions|summaries|vhosts|streams|clients`, `DELETE clients/{id}`.

mod report;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::server::Server;
use report::{ClientReport, StreamReport, VhostReport};

/// SRS's code for success.
const SUCCESS: u32 = 0;
/// SRS's code for an unknown id (`ERROR_RTMP_CLIENT_NOT_FOUND`).
const CLIENT_NOT_FOUND: u32 = 2_049;

/// Serves the HTTP API at `listener` until the task is dropped.
pub async fn serve(listener: TcpListener, server: Arc<Server>) {
    service_kit::http::serve(listener, router(server), service_kit::http::DEFAULT_LIMITS).await;
}

/// The same over TLS.
pub async fn serve_https(listener: TcpListener, server: Arc<Server>) {
    let limits = service_kit::http::DEFAULT_LIMITS;
    let tls = server.http_api_tls();
    let accept = move |stream| tls.accept(stream);
    service_kit::http::serve_over(listener, router(server), limits, accept).await;
}

/// The routes of the HTTP API.
fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/api/v1/versions", get(versions))
        .route("/api/v1/summaries", get(summaries))
        .route("/api/v1/vhosts", get(vhosts))
        .route("/api/v1/streams", get(streams))
        .route("/api/v1/clients", get(clients))
        .route("/api/v1/clients/{id}", get(client).delete(dismiss))
        .with_state(server)
}

fn success(name: &str, value: Value) -> Json<Value> {
    Json(json!({ "code": SUCCESS, "pid": std::process::id(), name: value }))
}

fn not_found() -> (StatusCode, Json<Value>) {
    (
        StatusCode::NOT_FOUND,
        Json(json!({ "code": CLIENT_NOT_FOUND })),
    )
}

async fn versions() -> Json<Value> {
    let part = |number: &str| number.parse::<u32>().unwrap_or_default();
    success(
        "data",
        json!({
            "major": part(env!("CARGO_PKG_VERSION_MAJOR")),
            "minor": part(env!("CARGO_PKG_VERSION_MINOR")),
            "revision": part(env!("CARGO_PKG_VERSION_PATCH")),
            "version": env!("CARGO_PKG_VERSION"),
            "server": "Millrace",
        }),
    )
}

async fn summaries(State(server): State<Arc<Server>>) -> Json<Value> {
    let streams = server.streams();
    let published = streams
        .iter()
        .filter(|stream| stream.is_published())
        .count();
    let players: usize = streams.iter().map(|stream| stream.players()).sum();
    let log_bytes: u64 = streams
        .iter()
        .filter_map(|stream| stream.memory().ok())
        .sum();
    success(
        "data",
        json!({
            "role": match server.role() {
                crate::config::Role::Origin => "origin",
                crate::config::Role::Edge => "edge",
            },
            "uptime_s": server.uptime().as_secs(),
            "connections": server.clients().count(),
            "streams": streams.len(),
            "published": published,
            "players": players,
            "log_bytes": log_bytes,
            "log_limit": server.log_memory().limit(),
            "players_per_worker": server.players_per_worker(),
        }),
    )
}

async fn vhosts(State(server): State<Arc<Server>>) -> Json<Value> {
    let streams = server.streams();
    let config = server.config();
    let reports: Vec<_> = config
        .vhosts
        .values()
        .map(|vhost| VhostReport::new(vhost, &streams))
        .collect();
    success("vhosts", json!(reports))
}

async fn streams(State(server): State<Arc<Server>>) -> Json<Value> {
    let streams = server.streams();
    let viewers = server.clients().hls_viewers();
    let reports: Vec<_> = streams
        .iter()
        .map(|stream| StreamReport::new(stream, viewers.get(stream.key()).copied()))
        .collect();
    success("streams", json!(reports))
}

async fn clients(State(server): State<Arc<Server>>) -> Json<Value> {
    let now = std::time::Instant::now();
    let clients = server.clients().list();
    let reports: Vec<_> = clients
        .iter()
        .map(|client| ClientReport::new(client, now))
        .collect();
    success("clients", json!(reports))
}

async fn client(
    State(server): State<Arc<Server>>,
    Path(id): Path<u64>,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let clients = server.clients().list();
    let client = clients
        .iter()
        .find(|client| client.id == id)
        .ok_or_else(not_found)?;
    let report = ClientReport::new(client, std::time::Instant::now());
    Ok(success("client", json!(report)))
}

async fn dismiss(
    State(server): State<Arc<Server>>,
    Path(id): Path<u64>,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    if server.dismiss(id) {
        log::info!("c{id} is dismissed through the HTTP API");
        Ok(Json(json!({ "code": SUCCESS })))
    } else {
        Err(not_found())
    }
}
