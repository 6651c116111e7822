//! HTTP: a page for operators at `/`, `/metrics` for Prometheus, `/healthz`, and
//! as JSON `/api/v1/services`, what `lb-user list` shows, `/api/v1/connections`
//! and `/api/v1/persistence`, page by page, `/api/v1/events`, and for real servers
//! `/api/v1/tables`. With a password, orders are
//! taken at `/api/v1/orders` ([`super::orders`]); nothing else can be changed here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{FromRef, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use service_kit::http::{ConnectionLimits, DEFAULT_LIMITS};
use service_kit::metrics::CONTENT_TYPE;
use service_kit::{Credentials, Numbered};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::calls::{Call, call, conntrack_snapshot};
use super::entries::{self, Entry};
use super::event_log::EventLog;
use super::orders;
use super::protocol::{Event, Listing, Request, Response};
use super::selection::{Endpoint, Selection};

use super::told_tables::ToldTables;
use lb_dataplane::{Connection, ConnectionState, PersistentClient};
use lb_model::Tables;
use net_types::Network;

/// Limits of the agent's HTTP: beside operators and their monitoring, every real server may
/// wait there for tables.
const LIMITS: ConnectionLimits = ConnectionLimits {
    connections: 1024,
    ..DEFAULT_LIMITS
};
/// Maximum number of questions for tables that wait at the same time; others are answered at
/// once, so that places are left for operators.
const MAX_TABLES_WAITING: usize = 768;
const _: () = assert!(MAX_TABLES_WAITING < LIMITS.connections);

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
        events: EventLog,
        tables: ToldTables,
        auth: Option<Credentials>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let state = HttpState {
            calls,
            events,
            tables,
            places_to_wait: Arc::new(Semaphore::new(MAX_TABLES_WAITING)),
            auth: auth.map(Arc::new),
        };
        let router = Router::new()
            .route("/", get(async || page::DIRECTOR.html("")))
            .route("/page/{name}", get(file))
            .route("/api/v1/agent", get(about))
            .route("/api/v1/events", get(events_after))
            .route("/api/v1/tables", get(tables_after))
            .route("/api/v1/orders", post(orders::give))
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/api/v1/services", get(services))
            .route("/api/v1/connections", get(entries::<Connection>))
            .route("/api/v1/persistence", get(entries::<PersistentClient>))
            .layer(from_fn_with_state(state.clone(), orders::guard))
            .with_state(state);
        let task = tokio::spawn(service_kit::http::serve(listener, router, LIMITS));
        Ok(Self {
            _task: AbortOnDropHandle::new(task),
        })
    }
}

/// What all requests share.
#[derive(Clone)]
pub(super) struct HttpState {
    pub(super) calls: mpsc::Sender<Call>,
    events: EventLog,
    tables: ToldTables,
    /// One for each question for tables that may wait.
    places_to_wait: Arc<Semaphore>,
    /// The password that each request needs; `None` where none is needed, and no order is
    /// taken.
    pub(super) auth: Option<Arc<Credentials>>,
}

impl FromRef<HttpState> for mpsc::Sender<Call> {
    fn from_ref(state: &HttpState) -> Self {
        state.calls.clone()
    }
}

type Calls = State<mpsc::Sender<Call>>;

/// The page's other files.
async fn file(Path(name): Path<String>) -> HttpResponse {
    let file = page::DIRECTOR.file(&name);
    file.unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

/// What the agent says of itself.
#[derive(Debug, Serialize)]
struct About {
    hostname: String,
    version: &'static str,
    /// True if orders are taken over HTTP.
    orders: bool,
}

async fn about(State(state): State<HttpState>) -> Json<About> {
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    Json(About {
        hostname: hostname.to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION"),
        orders: state.auth.is_some(),
    })
}

/// Which events are asked for.
#[derive(Debug, Deserialize)]
struct EventQuery {
    /// Those with greater numbers.
    #[serde(default)]
    after: u64,
}

/// Events with their numbers.
#[derive(Debug, Serialize)]
struct LatestEvents {
    events: Vec<Numbered<Event>>,
}

async fn events_after(
    State(state): State<HttpState>,
    Query(query): Query<EventQuery>,
) -> Json<LatestEvents> {
    Json(LatestEvents {
        events: state.events.after(query.after),
    })
}

/// Which tables are known.
#[derive(Debug, Deserialize)]
struct TablesQuery {
    /// Their version.
    known: Option<u64>,
    /// Time to wait for others, in seconds.
    #[serde(default)]
    wait: u64,
}

/// Maximum time for which a question for tables waits.
const MAX_TABLES_WAIT: Duration = Duration::from_secs(60);

/// The tables of services with `lb_algo mh`, as soon as they are not those that are known.
async fn tables_after(
    State(mut state): State<HttpState>,
    Query(query): Query<TablesQuery>,
) -> Json<Tables> {
    let wait = Duration::from_secs(query.wait).min(MAX_TABLES_WAIT);
    // A server that passes packets on waits for others; whoever only looks does not.
    if query.wait > 0 {
        state.tables.note_question(Instant::now());
    }
    if let Ok(_place) = state.places_to_wait.try_acquire() {
        // Whatever there is then, is told.
        let _ = timeout(wait, state.tables.others_than(query.known)).await;
    }
    Json(state.tables.now())
}

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
    let reading = move || entries::page::<E>(&snapshot, &selection, from, limit);
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
    use tokio::time::Instant;

    use tokio::sync::watch;

    use super::*;
    use crate::control::protocol::{Order, ServerState};
    use crate::control::sample::{listing, server};

    fn state() -> Listing {
        let mut listing = listing(vec![server(211, ServerState::Up, None)]);
        listing.virtual_addresses[0].instance = "VI \"1\"".to_owned();
        listing
    }

    /// An HTTP server whose agent answers every question with `response`, and tells of it.
    async fn start(
        response: Response,
        auth: Option<Credentials>,
    ) -> (HttpServer, SocketAddr, mpsc::UnboundedReceiver<Request>) {
        let (calls, mut questions) = mpsc::channel::<Call>(1);
        let (asking, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Call::Request(request, answer)) = questions.recv().await {
                let _ = asking.send(request);
                let _ = answer.send(response.clone());
            }
        });
        // A port that is free now; the server says so if it no longer is.
        let probe = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = probe.local_addr().expect("its number");
        drop(probe);
        let events = EventLog::default();
        events.publish(Event::default());
        let tables = ToldTables::new(watch::channel(Arc::new(told())).1);
        let server = HttpServer::start(address, calls, events, tables, auth)
            .await
            .expect("it listens");
        (server, address, asked)
    }

    /// Sends a request's first line, headers and body, and returns the whole answer.
    async fn send(address: SocketAddr, line: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.0\r\nHost: director:9101\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    async fn answer(path: &str, response: Response) -> String {
        let (_server, address, _) = start(response, None).await;
        send(address, &format!("GET {path}"), "", "").await
    }

    /// The tables of an agent.
    fn told() -> Tables {
        Tables {
            version: 7,
            services: Vec::new(),
        }
    }

    #[tokio::test]
    async fn tables_are_told_at_once_or_when_the_wait_is_over() {
        for query in ["", "?known=6&wait=30", "?known=7&wait=1", "?known=7"] {
            let done = Response::Done(Vec::new());
            let text = answer(&format!("/api/v1/tables{query}"), done).await;
            assert!(text.ends_with(r#"{"version":7,"services":[]}"#), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn questions_beyond_those_that_may_wait_are_answered_at_once() {
        let (_told, tables) = watch::channel(Arc::new(told()));
        let state = HttpState {
            calls: mpsc::channel(1).0,
            events: EventLog::default(),
            tables: ToldTables::new(tables),
            places_to_wait: Arc::new(Semaphore::new(1)),
            auth: None,
        };
        let ask = || async {
            let asked = Instant::now();
            let (known, wait) = (Some(7), 60);
            let _answer =
                tables_after(State(state.clone()), Query(TablesQuery { known, wait })).await;
            asked.elapsed().as_secs()
        };
        assert_eq!(tokio::join!(ask(), ask()), (60, 0));
        assert_eq!(ask().await, 60, "there is a place again");
    }

    const ORDER: &str = "POST /api/v1/orders";
    const JSON: &str = "Content-Type: application/json\r\n";
    /// admin:secret
    const PASSWORD: &str = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";

    #[tokio::test]
    async fn an_order_needs_the_password_and_the_own_page() {
        let auth = Credentials {
            username: "admin".to_owned(),
            password: "secret".to_owned(),
        };
        let done = Response::Done(vec!["drained".to_owned()]);
        let (_server, address, mut asked) = start(done, Some(auth)).await;
        let drain = r#"{"server": "172.16.1.211", "order": "drained"}"#;
        let foreign = "Origin: http://elsewhere:9101\r\n";
        let other_site = "Sec-Fetch-Site: cross-site\r\n";
        for (headers, body, status) in [
            (JSON.to_owned(), drain, 401),
            (format!("{PASSWORD}{JSON}{foreign}"), drain, 403),
            (format!("{PASSWORD}{JSON}{other_site}"), drain, 403),
            (PASSWORD.to_owned(), drain, 415),
            (
                format!("{PASSWORD}{JSON}"),
                r#"{"server": "172.16.1.211"}"#,
                422,
            ),
            (format!("{PASSWORD}{JSON}"), "{", 400),
        ] {
            let text = send(address, ORDER, &headers, body).await;
            assert!(
                text.starts_with(&format!("HTTP/1.0 {status}")),
                "{headers}{body}: {text}"
            );
        }
        assert!(asked.try_recv().is_err(), "the agent has not heard of them");
        for (body, order) in [
            (drain, Some(Order::Drained)),
            (
                r#"{"server": "172.16.1.211", "order": {"weight": 3}}"#,
                Some(Order::Weight(3)),
            ),
            (r#"{"server": "172.16.1.211", "order": null}"#, None),
        ] {
            let own = "Origin: http://director:9101\r\nSec-Fetch-Site: same-origin\r\n";
            let text = send(address, ORDER, &format!("{PASSWORD}{JSON}{own}"), body).await;
            assert!(text.ends_with(r#"{"done":["drained"]}"#), "{text}");
            let server = "172.16.1.211".to_owned();
            assert_eq!(asked.recv().await, Some(Request::Order { server, order }));
        }
        let text = send(address, "GET /metrics", "", "").await;
        assert!(text.starts_with("HTTP/1.0 401"), "{text}");
    }

    #[tokio::test]
    async fn without_a_password_the_page_is_there_and_no_order_is_taken() {
        let (_server, address, mut asked) = start(Response::Done(Vec::new()), None).await;
        let drain = r#"{"server": "172.16.1.211", "order": "drained"}"#;
        let text = send(address, ORDER, JSON, drain).await;
        assert!(text.starts_with("HTTP/1.0 403"), "{text}");
        assert!(asked.try_recv().is_err(), "the agent has not heard of it");
        let text = send(address, "GET /", "", "").await;
        assert!(
            text.contains("content-security-policy: default-src 'none'"),
            "{text}"
        );
        let text = send(address, "GET /page/director.js", "", "").await;
        assert!(text.starts_with("HTTP/1.0 200"), "{text}");
        let text = send(address, "GET /api/v1/agent", "", "").await;
        assert!(text.contains(r#""orders":false"#), "{text}");
        let text = send(address, "GET /api/v1/events?after=0", "", "").await;
        assert!(text.contains(r#""kind":"agent""#), "{text}");
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
