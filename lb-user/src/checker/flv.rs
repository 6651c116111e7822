//! `FLV_CHECK`: a stream plays over HTTP-FLV. A server that answers and sends no media is
//! down.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lb_wire::flv::Answer;
use lb_wire::http::request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::health_check::HealthCheck;
use super::machine::ProbeOutcome;
use super::tcp::{self, Connection};
use super::tls;

/// A check by a player of HTTP-FLV.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FlvProbe {
    /// The server's address; the time limit is also that of TLS's handshake.
    pub connection: Connection,
    /// True if TLS is spoken; certificates are not verified. The virtual host is named in
    /// the handshake.
    pub tls: bool,
    /// Value of the `Host` field; default the address.
    pub virtual_host: Option<String>,
    /// The application.
    pub app: String,
    /// The stream, with a query if it needs one.
    pub stream: String,
    /// Time limit of the first media.
    pub play_timeout: Duration,
}

impl FlvProbe {
    /// Path with query: `/live/livestream.flv?secret=…` of `livestream?secret=…`.
    fn path(&self) -> String {
        let (name, query) = match self.stream.split_once('?') {
            Some((name, query)) => (name, format!("?{query}")),
            None => (&*self.stream, String::new()),
        };
        format!("/{}/{name}.flv{query}", self.app)
    }
}

impl HealthCheck for FlvProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        self.connection.max_duration() + self.play_timeout
    }
}

impl fmt::Display for FlvProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to, app, stream) = (self.connection.to, &self.app, &self.stream);
        write!(f, "FLV_CHECK {to} /{app}/{stream}")
    }
}

/// Connects, and plays until the first media arrives.
async fn check(probe: &FlvProbe) -> ProbeOutcome {
    let stream = match tcp::connect(&probe.connection).await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    let limit = probe.connection.timeout + probe.play_timeout;
    let played = timeout(limit, async {
        if !probe.tls {
            return play(stream, probe).await;
        }
        let host = probe.virtual_host.as_deref();
        // SNI knows no port (RFC 6066 §3).
        let name = host.map(|host| host.split_once(':').map_or(host, |(name, _)| name));
        let stream = tls::connect(stream, name, probe.connection.to.ip()).await?;
        play(stream, probe).await
    });
    match played.await {
        Ok(Ok(())) => ProbeOutcome::Success,
        Ok(Err(reason)) => ProbeOutcome::Failure(reason),
        Err(_) => ProbeOutcome::Failure(format!("no media within {} s", limit.as_secs_f64())),
    }
}

async fn play(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    probe: &FlvProbe,
) -> Result<(), String> {
    let address = probe.connection.to.to_string();
    let host = probe.virtual_host.as_deref().unwrap_or(&address);
    let request = request(&probe.path(), host);
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| tcp::reason(&error))?;
    let mut answer = Answer::Head(Vec::new());
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = stream
            .read(&mut buffer)
            .await
            .map_err(|error| tcp::reason(&error))?;
        if length == 0 {
            return Err("the server closed the connection".to_owned());
        }
        answer.take(&buffer[..length])?;
        if answer.has_media() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const PLAYING: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nFLV\x01\x05\0\0\0\x09\0\0\0\0\
        \x09\0\0\x05\0\0\0\0\0\0\0\x17\x01\0\0\0\0\0\0\x10";

    /// The outcome of a check of a server that answers so, and leaves the connection
    /// open; and the request.
    async fn checked(
        answer: Vec<u8>,
        stream: &str,
        play_timeout: Duration,
    ) -> (ProbeOutcome, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let probe = FlvProbe {
            connection: Connection {
                to: listener.local_addr().expect("its address"),
                from: None,
                timeout: Duration::from_secs(1),
            },
            tls: false,
            virtual_host: Some("www.example".to_owned()),
            app: "live".to_owned(),
            stream: stream.to_owned(),
            play_timeout,
        };
        let (asked, request) = tokio::sync::oneshot::channel();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the check's connection");
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.expect("the request");
            stream.write_all(&answer).await.expect("written");
            request.truncate(length);
            asked.send(request).expect("the test waits");
            std::future::pending::<()>().await;
        });
        let outcome = check(&probe).await;
        let request = request.await.expect("the server has answered");
        server.abort();
        (outcome, String::from_utf8(request).expect("it is text"))
    }

    #[tokio::test]
    async fn a_stream_is_asked_for_by_its_names_and_must_play() {
        let playing = PLAYING.to_vec();
        let (outcome, request) =
            checked(playing, "livestream?secret=x", Duration::from_secs(60)).await;
        assert_eq!(outcome, ProbeOutcome::Success);
        let expected = "GET /live/livestream.flv?secret=x HTTP/1.0\r\n";
        assert!(request.starts_with(expected), "{request}");
        assert!(request.contains("\r\nHost: www.example\r\n"), "{request}");
        let waiting = PLAYING
            .strip_suffix(b"\x01\0\0\0\0\0\0\x10")
            .expect("a picture");
        let (outcome, _) =
            checked(waiting.to_vec(), "livestream", Duration::from_millis(500)).await;
        assert_eq!(
            outcome,
            ProbeOutcome::Failure("no media within 1.5 s".to_owned())
        );
    }
}
