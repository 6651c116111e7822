//! `RTMP_CHECK`: a server speaks RTMP, and its stream plays. One that accepts
//! connections and serves nothing is down.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lb_wire::media;
use rtmp_proto::session::{ClientConfig, ClientEvent, ClientSession, Purpose};
use rtmp_proto::wire::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::health_check::HealthCheck;
use super::machine::ProbeOutcome;
use super::tcp::{self, Connection};

/// A check by an RTMP client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RtmpProbe {
    /// The server's address; the time limit is also that of the `connect` command.
    pub connection: Connection,
    /// Host of the URL that the server is told; default its address.
    pub virtual_host: Option<String>,
    /// The application.
    pub app: String,
    /// The stream to play, and the time limit of its first media.
    pub play: Option<(String, Duration)>,
}

impl HealthCheck for RtmpProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        let play = self.play.as_ref().map(|(_, limit)| *limit);
        self.connection.max_duration() + play.unwrap_or_default()
    }
}

impl fmt::Display for RtmpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RTMP_CHECK {} /{}", self.connection.to, self.app)?;
        match &self.play {
            Some((stream, _)) => write!(f, "/{stream}"),
            None => Ok(()),
        }
    }
}

/// Connects, and plays until the first media arrives if a stream is named.
async fn check(probe: &RtmpProbe) -> ProbeOutcome {
    let mut stream = match tcp::connect(&probe.connection).await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    let limit = probe.connection.timeout + probe.play.as_ref().map_or(Duration::ZERO, |p| p.1);
    match timeout(limit, converse(&mut stream, probe)).await {
        Ok(Ok(())) => ProbeOutcome::Success,
        Ok(Err(reason)) => ProbeOutcome::Failure(reason),
        Err(_) => {
            let what = if probe.play.is_some() {
                "media"
            } else {
                "answer to connect"
            };
            ProbeOutcome::Failure(format!("no {what} within {} s", limit.as_secs_f64()))
        }
    }
}

async fn converse(stream: &mut TcpStream, probe: &RtmpProbe) -> Result<(), String> {
    let address = probe.connection.to.to_string();
    let host = probe.virtual_host.as_deref().unwrap_or(&address);
    let url = format!("rtmp://{host}/{}", probe.app);
    let name = probe.play.as_ref().map_or("", |(name, _)| name);
    let config = ClientConfig::new(Purpose::Play, &url, &probe.app, name);
    let mut output = Vec::new();
    let mut session = ClientSession::new(config, &Limits::default(), &mut output)
        .map_err(|error| error.to_string())?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        stream
            .write_all(&output)
            .await
            .map_err(|error| tcp::reason(&error))?;
        output.clear();
        let length = stream
            .read(&mut buffer)
            .await
            .map_err(|error| tcp::reason(&error))?;
        if length == 0 {
            return Err("the server closed the connection".to_owned());
        }
        let mut input = &buffer[..length];
        while let Some(event) = session
            .read(&mut input, &mut output)
            .map_err(|error| error.to_string())?
        {
            match event {
                ClientEvent::Connected if probe.play.is_none() => return Ok(()),
                ClientEvent::Media(message) if media::is_picture_or_sound(&message) => {
                    return Ok(());
                }
                ClientEvent::Rejected(status) => return Err(status.to_string()),
                ClientEvent::Ended => return Err("the stream has ended".to_owned()),
                ClientEvent::Connected
                | ClientEvent::Playing
                | ClientEvent::Publishing
                | ClientEvent::StreamBegin
                | ClientEvent::Media(_)
                | ClientEvent::Status(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rtmp_proto::session::{ConnectSettings, ServerEvent, ServerSession};
    use tokio::net::TcpListener;

    use super::*;

    fn probe(listener: &TcpListener) -> RtmpProbe {
        let to = listener.local_addr().expect("its address");
        let connection = Connection {
            to,
            from: None,
            timeout: Duration::from_secs(5),
        };
        RtmpProbe {
            connection,
            virtual_host: None,
            app: "live".to_owned(),
            play: None,
        }
    }

    /// A server that accepts `connect` and answers nothing else.
    async fn accept_connect(listener: TcpListener) {
        let (mut stream, _) = listener.accept().await.expect("the check's connection");
        let mut session = ServerSession::new(&Limits::default());
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = stream.read(&mut buffer).await.expect("read");
            if length == 0 {
                return;
            }
            let mut output = Vec::new();
            let mut input = &buffer[..length];
            while let Some(event) = session
                .read(&mut input, &mut output)
                .expect("a good client")
            {
                if let ServerEvent::Connect(_) = event {
                    session.accept_connect(&ConnectSettings::default(), &mut output);
                }
            }
            stream.write_all(&output).await.expect("written");
        }
    }

    #[tokio::test]
    async fn a_server_that_accepts_connect_is_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let probe = probe(&listener);
        tokio::spawn(accept_connect(listener));
        assert_eq!(check(&probe).await, ProbeOutcome::Success);
    }

    #[tokio::test]
    async fn a_server_that_closes_instead_of_speaking_is_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let probe = probe(&listener);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the check's connection");
            let mut hello = [0; 1537];
            stream.read_exact(&mut hello).await.expect("C0 and C1");
        });
        assert_eq!(
            check(&probe).await,
            ProbeOutcome::Failure("the server closed the connection".to_owned())
        );
    }

    #[tokio::test]
    async fn a_server_that_speaks_something_else_is_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let probe = probe(&listener);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the check's connection");
            let mut hello = [0; 1537];
            stream.read_exact(&mut hello).await.expect("C0 and C1");
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read(&mut hello).await;
        });
        assert_eq!(
            check(&probe).await,
            ProbeOutcome::Failure("the peer does not begin with RTMP version 3".to_owned())
        );
    }

    #[tokio::test]
    async fn a_server_whose_stream_never_plays_is_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let mut probe = probe(&listener);
        probe.connection.timeout = Duration::from_millis(100);
        probe.play = Some(("livestream".to_owned(), Duration::from_millis(100)));
        tokio::spawn(accept_connect(listener));
        assert_eq!(
            check(&probe).await,
            ProbeOutcome::Failure("no media within 0.2 s".to_owned())
        );
    }
}
