//! `LOAD_CHECK`: the server says what it sends and may send (`GET /api/v1/load` of the RTMP
//! servers).

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lb_model::config::LoadHost;
use lb_wire::http::request_as;
use lb_wire::load::{Load, parse};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::health_check::HealthCheck;
use super::machine::{ProbeOutcome, Share};
use super::tcp::{self, Connection};
use super::tls;

/// Length of the longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// A check of the load.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LoadProbe {
    /// The API's server; a name is looked up for each check.
    pub host: LoadHost,
    /// Local address to connect from; port 0 for any.
    pub from: Option<SocketAddr>,
    /// Time limit of the connection, and that of the answer.
    pub timeout: Duration,
    /// True if TLS is spoken; certificates are not verified.
    pub tls: bool,
    /// Path with query.
    pub path: String,
    /// User and password, where the API asks for them (RFC 7617).
    pub credentials: Option<(String, String)>,
}

/// Without the password.
impl fmt::Debug for LoadProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoadProbe({self})")
    }
}

impl HealthCheck for LoadProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        self.timeout * 2
    }
}

impl fmt::Display for LoadProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LOAD_CHECK {} {}", self.host, self.path)
    }
}

/// Asks for the load.
async fn check(probe: &LoadProbe) -> ProbeOutcome {
    let limit = probe.timeout;
    let (stream, address) = match connect(probe).await {
        Ok(connected) => connected,
        Err(outcome) => return outcome,
    };
    let asked = timeout(limit, async {
        if probe.tls {
            let name = match &probe.host {
                LoadHost::Name(name, _) => Some(name.as_str()),
                LoadHost::Address(_) => None,
            };
            let stream = tls::connect(stream, name, address.ip()).await?;
            ask(stream, probe).await
        } else {
            ask(stream, probe).await
        }
    });
    match asked.await {
        Ok(Ok(load)) => outcome(load),
        Ok(Err(reason)) => ProbeOutcome::Failure(format!("{}: {reason}", probe.path)),
        Err(_) => {
            let seconds = limit.as_secs_f64();
            ProbeOutcome::Failure(format!("{}: no answer within {seconds} s", probe.path))
        }
    }
}

/// Look-ups that may be under way. Each has a thread until the resolver gives up, which takes
/// longer than a check waits.
static LOOK_UPS: Semaphore = Semaphore::const_new(16);

/// The addresses of a name.
///
/// # Errors
/// The reason why there is none within `limit`.
async fn look_up(name: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, String> {
    let wanted = (name.to_owned(), port);
    let found = timeout(limit, async {
        let permit = LOOK_UPS.acquire().await;
        // A task, which has its permit until the resolver answers.
        let task = tokio::spawn(async move {
            let _permit = permit;
            lookup_host(wanted).await.map(Vec::from_iter)
        });
        task.await
    });
    match found.await {
        Ok(Ok(Ok(addresses))) => Ok(addresses),
        Ok(Ok(Err(error))) => Err(tcp::reason(&error)),
        Ok(Err(_)) => Err("the look-up was ended".to_owned()),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs_f64())),
    }
}

/// Connects to the first of the server's addresses that takes the connection.
///
/// # Errors
/// The outcome of the last attempt. A name that cannot be looked up says nothing of the
/// server.
async fn connect(probe: &LoadProbe) -> Result<(TcpStream, SocketAddr), ProbeOutcome> {
    let addresses: Vec<SocketAddr> = match &probe.host {
        LoadHost::Address(address) => vec![*address],
        LoadHost::Name(name, port) => {
            let found = look_up(name, *port, probe.timeout).await;
            let found = found.map_err(|reason| {
                ProbeOutcome::Local(format!("the address of {name}: {reason}"))
            })?;
            let is_reached = |address: &SocketAddr| {
                let from = probe.from;
                from.is_none_or(|from| from.is_ipv4() == address.is_ipv4())
            };
            found.into_iter().filter(is_reached).collect()
        }
    };
    let none = format!("{} has no address that can be asked", probe.host);
    let mut outcome = ProbeOutcome::Local(none);
    // One that hangs leaves time for the others.
    let limit = probe.timeout / addresses.len().max(1) as u32;
    for to in addresses {
        let connection = Connection {
            to,
            from: probe.from,
            timeout: limit,
        };
        match tcp::connect(&connection).await {
            Ok(stream) => return Ok((stream, to)),
            Err(failed) => outcome = failed,
        }
    }
    Err(outcome)
}

/// A server that drains is given no new connections, and keeps those that it has.
fn outcome(load: Load) -> ProbeOutcome {
    match load.is_draining {
        true => ProbeOutcome::Weighted(Share::Of(0)),
        false => ProbeOutcome::Weighted(Share::Load(load)),
    }
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    probe: &LoadProbe,
) -> Result<Load, String> {
    let host = probe.host.to_string();
    let credentials = probe.credentials.as_ref();
    let credentials = credentials.map(|(user, password)| (&**user, &**password));
    let request = request_as(&probe.path, &host, credentials);
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| tcp::reason(&error))?;
    let mut bytes = Vec::new();
    let mut answer = stream.take(MAX_ANSWER_BYTES);
    let read = answer.read_to_end(&mut bytes).await;
    // TLS servers often leave without taking leave; what came may do.
    if let Err(error) = read
        && bytes.is_empty()
    {
        return Err(tcp::reason(&error));
    }
    parse(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"code":0,"server":"x","data":{"bits_out":7000000,"bits_out_now":1,
        "reserved":500000,"capacity":10000000,"limit":9500000,"interface":null,"players":3,
        "lag_p99_ms":41,"cpu":0.0625,"accepting":true,"reason":null}}"#;

    #[test]
    fn a_server_that_drains_is_given_nothing_new() {
        let load = Load {
            players: 3,
            ..Load::default()
        };
        let weighted = ProbeOutcome::Weighted(Share::Load(load));
        assert_eq!(outcome(load), weighted);
        let draining = Load {
            is_draining: true,
            ..load
        };
        let none = ProbeOutcome::Weighted(Share::Of(0));
        assert_eq!(outcome(draining), none);
    }

    #[test]
    fn the_password_is_not_shown() {
        let probe = LoadProbe {
            host: LoadHost::Address(([10, 0, 0, 3], 1985).into()),
            from: None,
            timeout: Duration::from_secs(1),
            tls: false,
            path: "/api/v1/load".to_owned(),
            credentials: Some(("director".to_owned(), "secret".to_owned())),
        };
        assert_eq!(probe.to_string(), "LOAD_CHECK 10.0.0.3:1985 /api/v1/load");
        assert!(!format!("{probe:?}").contains("secret"));
    }

    /// The outcome of a check of a server at `name` that answers one request with [`BODY`].
    async fn asked_at(name: &str) -> ProbeOutcome {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let port = listener.local_addr().expect("its number").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a check");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{BODY}");
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let probe = LoadProbe {
            host: LoadHost::Name(name.to_owned(), port),
            from: Some(([127, 0, 0, 1], 0).into()),
            timeout: Duration::from_secs(30),
            tls: false,
            path: "/api/v1/load".to_owned(),
            credentials: None,
        };
        check(&probe).await
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_none_without_an_address_fails_nobody() {
        let outcome = asked_at("localhost").await;
        let load =
            matches!(outcome, ProbeOutcome::Weighted(Share::Load(load)) if load.players == 3);
        assert!(load, "{outcome:?}");
        let outcome = asked_at("no-such-host.invalid").await;
        assert!(matches!(outcome, ProbeOutcome::Local(_)), "{outcome:?}");
    }
}
