//! One connection to one origin, from look-up to end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::{DEFAULT_VHOST, Upstream};
use crate::server::{Server, socket};
use crate::session::{
    ClientConfig, ClientEvent, ClientSession, Parameters, Purpose, SessionError, Status,
};
use crate::stream::{AppendError, Busy, Publication, Stream};
use crate::wire::Message;

/// Bytes read at once.
const READ_SIZE: usize = 64 * 1024;

/// What the pull learns of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The first media has come.
    Flowing,
    /// The connection has ended, or never came to be.
    Lost,
}

/// Why a connection to an origin ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("cannot connect: {0}")]
    Unreachable(io::Error),
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("silent for {0:?}")]
    Silent(Duration),
    #[error("connection lost: {0}")]
    Broken(#[from] io::Error),
    #[error("closed by the origin")]
    Closed,
    #[error("the origin says: {0}")]
    Rejected(Status),
    #[error("the origin has ended the stream")]
    Ended,
    #[error("{0}")]
    Session(#[from] SessionError),
    #[error("{0}")]
    Append(#[from] AppendError),
    #[error("{0}")]
    Busy(#[from] Busy),
}

/// A connection to make.
pub(super) struct Origin {
    pub(super) address: String,
    pub(super) server: Arc<Server>,
    pub(super) stream: Arc<Stream>,
    pub(super) settings: Upstream,
    pub(super) parameters: Parameters,
}

impl Origin {
    /// Pulls until the connection ends, and says so to `events`.
    pub(super) async fn run(self, events: mpsc::Sender<Event>) {
        let Err(end) = self.pull(&events).await;
        log::info!("{} from {}: {end}", self.stream.key(), self.address);
        // Nobody listens any more when the pull has ended meanwhile.
        let _ = events.send(Event::Lost).await;
    }

    async fn pull(&self, events: &mpsc::Sender<Event>) -> Result<std::convert::Infallible, End> {
        let patience = self.settings.connect_timeout;
        let connected = timeout(patience, TcpStream::connect(&self.address)).await;
        let socket = connected
            .map_err(|_| End::Slow(patience))?
            .map_err(End::Unreachable)?;
        socket::prepare(&socket)?;
        let mut out = Vec::new();
        let session = ClientSession::new(self.client(), &self.server.limits, &mut out)?;
        let mut connection = Connection {
            socket,
            session,
            out,
            input: BytesMut::new(),
            batch: Vec::new(),
        };
        let connected = timeout(patience, connection.begin()).await;
        connected.map_err(|_| End::Slow(patience))??;

        // Where nobody publishes yet, the origin may be silent for as long as
        // it lets players wait; it says so when it gives up.
        let mut publication: Option<Publication> = None;
        let silence = self.settings.read_timeout;
        loop {
            if !connection.batch.is_empty() {
                let now = std::time::Instant::now();
                let publication = match &mut publication {
                    Some(publication) => publication,
                    none => {
                        log::info!("{} from {}: flows", self.stream.key(), self.address);
                        let _ = events.send(Event::Flowing).await;
                        none.insert(self.stream.publish(now)?)
                    }
                };
                publication.append(&connection.batch, now)?;
                connection.batch.clear();
            }
            let read = timeout(silence, connection.read()).await;
            read.map_err(|_| End::Silent(silence))??;
        }
    }

    fn client(&self) -> ClientConfig {
        let key = self.stream.key();
        let vhost = self.settings.vhost.as_deref().unwrap_or(&key.vhost);
        let vhost = if vhost == DEFAULT_VHOST {
            String::new()
        } else {
            format!("?vhost={vhost}")
        };
        let app = format!("{}{vhost}", key.app);
        let tc_url = format!("rtmp://{}/{app}", self.address);
        let stream = if self.settings.token_traverse {
            format!("{}{}", key.stream, self.parameters)
        } else {
            key.stream.clone()
        };
        ClientConfig::new(Purpose::Play, &tc_url, &app, &stream)
    }
}

struct Connection {
    socket: TcpStream,
    session: ClientSession,
    out: Vec<u8>,
    input: BytesMut,
    /// The media of the last read.
    batch: Vec<Message>,
}

impl Connection {
    /// The handshake, and `connect` up to its answer.
    async fn begin(&mut self) -> Result<(), End> {
        self.flush().await?;
        while !self.read().await? {}
        Ok(())
    }

    /// Reads once; whether `connect` has been accepted, or more has come.
    async fn read(&mut self) -> Result<bool, End> {
        self.input.reserve(READ_SIZE);
        if self.socket.read_buf(&mut self.input).await? == 0 {
            return Err(End::Closed);
        }
        let bytes = self.input.split();
        let mut input = &bytes[..];
        let mut connected = false;
        let outcome = loop {
            match self.session.read(&mut input, &mut self.out) {
                Ok(Some(ClientEvent::Connected)) => connected = true,
                Ok(Some(ClientEvent::Media(message))) => self.batch.push(message),
                Ok(Some(
                    ClientEvent::Playing | ClientEvent::Publishing | ClientEvent::Status(_),
                )) => {}
                Ok(Some(ClientEvent::Rejected(status))) => break Err(End::Rejected(status)),
                Ok(Some(ClientEvent::Ended)) => break Err(End::Ended),
                Ok(None) => break Ok(connected),
                Err(error) => break Err(error.into()),
            }
        };
        self.flush().await?;
        outcome
    }

    async fn flush(&mut self) -> Result<(), End> {
        if !self.out.is_empty() {
            self.socket.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }
}
