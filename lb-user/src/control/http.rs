//! HTTP: `/metrics` for Prometheus, `/healthz`, and
//! as JSON `/api/v1/services`, what `lb-user list` shows, `/api/v1/connections`
//! and `/api/v1/persistence`, page by page. Nothing can be changed here.

use std::net::SocketAddr;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use service_kit::http::DEFAULT_LIMITS;
use service_kit::metrics::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use super::calls::{Call, call, conntrack_snapshot};
use super::entries::{Entry, page};
use super::protocol::{Listing, Request, Response};
use super::selection::{Endpoint, Selection};

use lb_dataplane::{Connection, ConnectionState, PersistentClient};
use net_types::Network;

/// Serves HTTP until it is dropped.
#[derive(Debug)]
pub(crate) struct HttpServer {
    _task: AbortOnDropHandle<()>,
}

impl HttpServer {
    /// Starts to listen on `address`; questions are sent to `calls`.
    ///
    /// # Errors
    /// The address is not ours, or in use.
    pub(crate) async fn start(
        address: SocketAddr,
        calls: mpsc::Sender<Call>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/api/v1/services", get(services))
            .route("/api/v1/connections", get(entries::<Connection>))
            .route("/api/v1/persistence", get(entries::<PersistentClient>))
            .with_state(calls);
        let task = tokio::spawn(service_kit::http::serve(listener, router, DEFAULT_LIMITS));
        Ok(Self {
            _task: AbortOnDropHandle::new(task),
        })
    }
}

type Calls = State<mpsc::Sender<Call>>;

/// The agent's state; an error for the client where there is none.
async fn listing(calls: &mpsc::Sender<Call>) -> Result<Listing, HttpResponse> {
    match call(Request::List, calls).await {
        Response::Listing(listing) => Ok(listing),
        Response::Refused(reason) => {
            Err((StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response())
        }
        _ => Err(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
    }
}

async fn services(State(calls): Calls) -> HttpResponse {
    match listing(&calls).await {
        Ok(listing) => Json(listing).into_response(),
        Err(response) => response,
    }
}

/// The entries that are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    client: Option<Network>,
    server: Option<Endpoint>,
    service: Option<Endpoint>,
    state: Option<ConnectionState>,
    limit: Option<usize>,
    from: Option<String>,
}

/// Entries of a page unless told otherwise, and at most.
const DEFAULT_PAGE: usize = 1000;
const MAX_PAGE: usize = 10_000;

/// Walks through the tables for pages at the same time: each takes a thread, and
/// slows the others.
static WALKS: Semaphore = Semaphore::const_new(2);

/// A page of connections, or of persistent clients.
async fn entries<E: Entry + Send + 'static>(
    State(calls): Calls,
    Query(query): Query<PageQuery>,
) -> HttpResponse {
    let from = match query.from.as_deref().map(str::parse).transpose() {
        Ok(from) => from.unwrap_or_default(),
        Err(error) => return (StatusCode::BAD_REQUEST, error + "\n").into_response(),
    };
    let selection = Selection {
        client: query.client,
        server: query.server,
        service: query.service,
        state: query.state,
    };
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let Some(snapshot) = conntrack_snapshot(&calls).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let _walk = WALKS.acquire().await.expect("it is never closed");
    let reading = move || page::<E>(&snapshot, &selection, from, limit);
    match spawn_blocking(reading)
        .await
        .expect("reading does not panic")
    {
        Ok(page) => Json(page).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// `ok` while the loop runs and the data plane is in sync.
async fn healthz(State(calls): Calls) -> HttpResponse {
    match call(Request::Health, &calls).await {
        Response::Done(_) => "ok\n".into_response(),
        Response::Refused(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics(State(calls): Calls) -> HttpResponse {
    match listing(&calls).await {
        Ok(listing) => (
            [(header::CONTENT_TYPE, CONTENT_TYPE)],
            super::metrics::render(&listing),
        )
            .into_response(),
        Err(response) => response,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::control::protocol::ServerState;
    use crate::control::sample::{listing, server};

    fn state() -> Listing {
        let mut listing = listing(vec![server(211, ServerState::Up, None)]);
        listing.virtual_addresses[0].instance = "VI \"1\"".to_owned();
        listing
    }

    /// Asks an HTTP server whose agent answers every question with `response`.
    async fn answer(path: &str, response: Response) -> String {
        let (calls, mut questions) = mpsc::channel::<Call>(1);
        tokio::spawn(async move {
            while let Some(Call::Request(_, answer)) = questions.recv().await {
                let _ = answer.send(response.clone());
            }
        });
        // A port that is free now; the server says so if it no longer is.
        let probe = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = probe.local_addr().expect("its number");
        drop(probe);
        let _server = HttpServer::start(address, calls).await.expect("it listens");
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    #[tokio::test]
    async fn metrics_name_every_service_and_server() {
        let text = answer("/metrics", Response::Listing(state())).await;
        for line in [
            "# TYPE millrace_service_bytes_total counter",
            "millrace_service_bytes_total{protocol=\"tcp\",service=\"172.16.1.200:1935\"} 1578024",
            "millrace_server_up{protocol=\"tcp\",service=\"172.16.1.200:1935\",server=\"172.16.1.211:1935\"} 1",
            "millrace_server_weight{protocol=\"tcp\",service=\"172.16.1.200:1935\",server=\"172.16.1.211:1935\"} 1",
            "millrace_server_state{protocol=\"tcp\",service=\"172.16.1.200:1935\",server=\"172.16.1.211:1935\",state=\"up\"} 1",
            "millrace_interface_attached{interface=\"eth2\",mode=\"native\"} 1",
            "millrace_virtual_address_held{address=\"172.16.1.200/32\",instance=\"VI \\\"1\\\"\"} 1",
        ] {
            assert!(
                text.lines().any(|given| given == line),
                "no line `{line}` in:\n{text}"
            );
        }
    }

    #[tokio::test]
    async fn health_is_that_of_the_agent_and_services_are_those_of_the_list() {
        let text = answer("/healthz", Response::Done(Vec::new())).await;
        assert!(
            text.starts_with("HTTP/1.0 200 OK") && text.ends_with("\r\n\r\nok\n"),
            "{text}"
        );
        let text = answer(
            "/healthz",
            Response::Refused("cannot read a map".to_owned()),
        )
        .await;
        assert!(text.starts_with("HTTP/1.0 503"), "{text}");
        assert!(text.ends_with("cannot read a map\n"), "{text}");
        let text = answer("/api/v1/services", Response::Listing(state())).await;
        let (_, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert_eq!(
            serde_json::from_str::<Listing>(body).expect("JSON"),
            state()
        );
    }
}
