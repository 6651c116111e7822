//! The tables of one director, asked for over HTTP whenever they change.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use data_encoding::BASE64;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper_util::rt::TokioIo;
use lb_model::Tables;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Time for which a director keeps a question whose answer would be nothing new.
const WAIT: Duration = Duration::from_secs(20);
/// Time for an answer: a director that has vanished is asked anew.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after a failure, and after an answer at once that is nothing new.
const PAUSE: Duration = Duration::from_millis(500);
/// Maximum length of an answer: 256 services with 32 tables of a hundred servers.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A director, as the command line names it.
#[derive(Debug, Clone)]
pub(crate) struct Director {
    /// Host and port of its HTTP.
    pub(crate) authority: String,
    /// `USER:PASSWORD`, if it asks for them.
    pub(crate) password: Option<String>,
}

/// What has become of a director: its number on the command line, and its tables; `None`
/// while it does not answer.
pub(crate) type News = (usize, Option<Tables>);

/// Follows the tables of a director until nobody listens.
pub(crate) async fn follow(number: usize, director: Director, news: mpsc::Sender<News>) {
    let mut version = None;
    let mut has_failed = false;
    loop {
        let asked = Instant::now();
        let result = timeout(ANSWER_TIMEOUT, ask(&director, version)).await;
        let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")));
        let told = match result {
            Ok(tables) if Some(tables.version) == version => {
                // Where too many wait, a director answers at once.
                if asked.elapsed() < WAIT / 2 {
                    sleep(PAUSE).await;
                }
                continue;
            }
            Ok(tables) => {
                if has_failed || version.is_none() {
                    log::info!("director {}: answers", director.authority);
                }
                (version, has_failed) = (Some(tables.version), false);
                Some(tables)
            }
            Err(_) if has_failed => {
                sleep(PAUSE).await;
                continue;
            }
            Err(error) => {
                log::warn!(
                    "director {}: {error:#}; its tables are kept",
                    director.authority
                );
                (version, has_failed) = (None, true);
                sleep(PAUSE).await;
                None
            }
        };
        if news.send((number, told)).await.is_err() {
            return;
        }
    }
}

/// The tables; if they still have the version `known`, after a while.
async fn ask(director: &Director, known: Option<u64>) -> anyhow::Result<Tables> {
    let Director {
        authority,
        password,
    } = director;
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(authority)).await;
    let stream = connecting
        .context("cannot connect in time")?
        .context("cannot connect")?;
    let wait = known.map(|known| format!("?known={known}&wait={}", WAIT.as_secs()));
    let path = format!("/api/v1/tables{}", wait.unwrap_or_default());
    let mut request = Request::get(path).header(HOST, authority);
    if let Some(password) = password {
        let value = format!("Basic {}", BASE64.encode(password.as_bytes()));
        request = request.header(AUTHORIZATION, value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
        let body = body
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!(error))?;
        ensure!(
            status.is_success(),
            "it answers {status} to GET /api/v1/tables{}",
            if status == hyper::StatusCode::UNAUTHORIZED {
                ": name its password with --auth"
            } else {
                ""
            }
        );
        serde_json::from_slice(&body.to_bytes()).context("its answer is not understood")
    };
    let answer = answer.await;
    connection.abort();
    answer
}
