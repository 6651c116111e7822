//! A connection to an origin, to play or to publish, or to a server that a stream is forwarded
//! to.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtmp_proto::session::{
    ClientConfig, ClientEvent, ClientSession, Parameters, Purpose, SessionError, Status, StreamKey,
};
use rtmp_proto::wire::{Limits, Message};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::config::{DEFAULT_VHOST, Origin, Upstream};
use crate::hand_over::{Blob, HandOverError, HandedOver, Inherited};
use crate::server::admission::{BACKUP, marks_backup};
use crate::server::tls::TlsClient;
use crate::server::{Server, socket};
use crate::stream::{AppendError, Busy, Source};
use crate::transport::handshake::{self, HandshakeError};
use crate::transport::{StdTransport, Transport, TransportPart};

/// Bytes read at once.
const READ_SIZE: usize = 64 * 1024;

/// Reason why a connection to an origin ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    #[error("cannot connect: {0}")]
    Unreachable(io::Error),
    #[error("no TLS connection: {0}")]
    Tls(Box<HandshakeError>),
    #[error("cannot use TLS: {0}")]
    NoTls(String),
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("it takes nothing for {0:?}")]
    Stalled(Duration),
    #[error("nothing came for {0:?}: the stream has ended there, or has no publisher")]
    Silent(Duration),
    #[error("connection lost: {0}")]
    Broken(#[from] io::Error),
    #[error("closed by the server")]
    Closed,
    #[error("refused by the server: {0}")]
    Rejected(Status),
    #[error("the origin redirects to {url}, which is not followed: {why}")]
    RedirectNotFollowed { url: String, why: &'static str },
    #[error("the origin has ended the stream")]
    Ended,
    #[error("{0}")]
    Session(#[from] SessionError),
    #[error("{0}")]
    Append(#[from] AppendError),
    #[error("{0}")]
    Busy(#[from] Busy),
}

/// The request of an edge to one of its origins.
pub(in crate::server) fn request(
    purpose: Purpose,
    origin: &Origin,
    settings: &Upstream,
    key: &StreamKey,
    parameters: &Parameters,
) -> ClientConfig {
    let vhost = settings.vhost.as_deref().unwrap_or(&key.vhost);
    let vhost = if vhost == DEFAULT_VHOST {
        String::new()
    } else {
        format!("?vhost={vhost}")
    };
    let app = format!("{}{vhost}", key.app);
    let tc_url = format!("{}/{app}", origin.url());
    let stream = if settings.token_traverse {
        // The vhost is chosen here, not by the viewer.
        format!("{}{}", key.stream, parameters.without_vhost())
    } else if purpose == Purpose::Publish && marks_backup(parameters) {
        format!("{}?{BACKUP}=1", key.stream)
    } else {
        key.stream.clone()
    };
    ClientConfig::new(purpose, &tc_url, &app, &stream)
}

/// A connection to an origin.
#[derive(Debug)]
pub(crate) struct OriginConnection {
    socket: Transport,
    session: ClientSession,
    input: BytesMut,
    out: Vec<u8>,
    /// Bytes of `out` that have been sent.
    sent: usize,
}

impl OriginConnection {
    /// Connects to `origin` and begins the session.
    pub(in crate::server) async fn open(
        origin: &Origin,
        connector: &Connector,
        config: ClientConfig,
        limits: &Limits,
        limit: Duration,
    ) -> Result<Self, OriginError> {
        let addresses = timeout(limit, lookup_host(&origin.authority)).await;
        let addresses = addresses
            .map_err(|_| OriginError::Slow(limit))?
            .map_err(OriginError::Unreachable)?;
        let socket = connect(addresses, limit).await?;
        socket::prepare(&socket)?;
        let socket = match origin.tls {
            false => Transport::from(socket),
            true => {
                // Apart: what a handshake holds is not room of every task.
                let secured = Box::pin(connector.secure(socket, origin));
                let secured = timeout(limit, secured).await;
                secured.unwrap_or(Err(OriginError::Slow(limit)))?
            }
        };
        let mut out = Vec::new();
        let session = ClientSession::new(config, limits, &mut out)?;
        let mut connection = Self {
            socket,
            session,
            input: BytesMut::new(),
            out,
            sent: 0,
        };
        connection.flush().await?;
        Ok(connection)
    }

    /// Reads once, and adds what came to `events`. Replies go out with the next
    /// flush. It may be dropped unfinished and called again.
    pub(crate) async fn read(&mut self, events: &mut Vec<ClientEvent>) -> Result<(), OriginError> {
        if self.socket.read(READ_SIZE, &mut self.input).await? == 0 {
            return Err(OriginError::Closed);
        }
        self.take_input(events)
    }

    /// Adds the events of what has been read.
    fn take_input(&mut self, events: &mut Vec<ClientEvent>) -> Result<(), OriginError> {
        let bytes = self.input.split();
        let mut input = &bytes[..];
        while let Some(event) = self.session.read(&mut input, &mut self.out)? {
            match event {
                ClientEvent::Rejected(status) => return Err(OriginError::Rejected(status)),
                ClientEvent::Ended => return Err(OriginError::Ended),
                event => events.push(event),
            }
        }
        Ok(())
    }

    /// Reads and flushes until an event is the one that `is_answer` looks for. All
    /// events are added to `events`.
    pub(in crate::server) async fn answer(
        &mut self,
        events: &mut Vec<ClientEvent>,
        is_answer: impl Fn(&ClientEvent) -> bool,
        limit: Duration,
    ) -> Result<(), OriginError> {
        let answered = async {
            while !events.iter().any(&is_answer) {
                self.read(events).await?;
                self.flush().await?;
            }
            Ok(())
        };
        timeout(limit, answered)
            .await
            .map_err(|_| OriginError::Slow(limit))?
    }

    /// The kind of source that the origin is: one that marks the beginning of a
    /// publication, or one that does not.
    pub(super) fn source(&self) -> Source {
        if self.session.marks_publications() {
            Source::OriginWithPublicationMarks
        } else {
            Source::OriginWithoutPublicationMarks
        }
    }

    /// Queues a message of the published stream for the next flush. Returns false
    /// if nothing may be published.
    pub(crate) fn publish(&mut self, message: &Message) -> bool {
        self.session.publish(message, &mut self.out)
    }

    /// Sends what is queued, in one write if the socket takes it. It may be dropped
    /// unfinished: the next call continues where it was.
    pub(crate) async fn flush(&mut self) -> Result<(), OriginError> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// [`OriginConnection::flush`] as a poll.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), OriginError>> {
        while self.sent < self.out.len() {
            let unsent = &self.out[self.sent..];
            match ready!(self.socket.poll_write(context, unsent))? {
                0 => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                count => self.sent += count,
            }
        }
        // TLS keeps what the socket does not take.
        ready!(self.socket.poll_flush(context))?;
        self.out.clear();
        self.out.shrink_to(READ_SIZE);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Bytes that are still to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Sends something of what is queued, or reads, whatever can be done first; what came is
    /// added to `events`. It may be dropped unfinished and called again.
    pub(crate) async fn exchange(
        &mut self,
        events: &mut Vec<ClientEvent>,
    ) -> Result<(), OriginError> {
        /// Bytes sent or received.
        enum Done {
            Sent(usize),
            Read(usize),
        }
        let Self {
            socket,
            input,
            out,
            sent,
            ..
        } = self;
        let unsent = &out[*sent..];
        let done = poll_fn(|context| {
            // First: there may always be something to send.
            let read = socket.poll_read(context, READ_SIZE, input);
            if read.is_ready() {
                return read.map_ok(Done::Read);
            }
            if unsent.is_empty() {
                // TLS may have kept something when this was dropped.
                return match socket.poll_flush(context) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    _ => Poll::Pending,
                };
            }
            socket.poll_write(context, unsent).map_ok(Done::Sent)
        });
        match done.await? {
            Done::Sent(0) => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Done::Sent(count) => {
                self.sent += count;
                match self.unsent() {
                    // TLS keeps what the socket does not take.
                    0 => self.flush().await,
                    _ => Ok(()),
                }
            }
            Done::Read(0) => Err(OriginError::Closed),
            Done::Read(_) => self.take_input(events),
        }
    }

    /// Memory in bytes that is held for what is still to be sent.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.out.capacity()
    }

    /// Ends the play or publish, and closes the connection.
    pub(crate) async fn close(mut self) {
        self.session.close(&mut self.out);
        // Errors do not matter: the connection ends anyway.
        let _ = self.flush().await;
        let _ = self.socket.shutdown().await;
    }
}

/// A connection to an origin for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct OriginConnectionPart {
    /// A former program of this layout takes every connection for a plain one, and knows it by
    /// this alone: one by TLS has none here, so that it begins anew there.
    descriptor: RawFd,
    #[serde(default)]
    socket: Option<TransportPart>,
    session: Blob,
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    input: Bytes,
    /// What is still to be sent.
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    out: Bytes,
}

/// No descriptor has this number.
const NO_DESCRIPTOR: RawFd = -1;

impl OriginConnectionPart {
    /// Checks that this program can go on with it.
    ///
    /// # Errors
    /// Why it cannot.
    pub(in crate::server) fn check(&self) -> Result<(), HandOverError> {
        if let Some(socket) = &self.socket {
            socket.check()?;
        }
        self.session.read::<ClientSession>().map(drop)
    }
}

impl OriginConnection {
    /// The connection for the program that the process becomes; `None` within the first packets
    /// of its session.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(in crate::server) fn part(
        &self,
        handed_over: &mut HandedOver,
    ) -> Result<Option<OriginConnectionPart>, HandOverError> {
        if !self.session.is_portable() {
            return Ok(None);
        }
        let socket = self.socket.part(handed_over);
        Ok(Some(OriginConnectionPart {
            descriptor: socket.plain_descriptor().unwrap_or(NO_DESCRIPTOR),
            socket: Some(socket),
            session: Blob::of(&self.session)?,
            input: Bytes::copy_from_slice(&self.input),
            out: Bytes::copy_from_slice(&self.out[self.sent..]),
        }))
    }

    /// Goes on with a connection that this process has had before.
    ///
    /// # Errors
    /// It is of another form, or its descriptor is missing.
    pub(in crate::server) fn take_over(
        part: &OriginConnectionPart,
        inherited: &mut Inherited,
    ) -> Result<Self, HandOverError> {
        let socket = match &part.socket {
            Some(socket) => StdTransport::take_over(socket, inherited)?,
            None => std::net::TcpStream::from(inherited.take(part.descriptor)?).into(),
        };
        Ok(Self {
            socket: Transport::from_std(socket)?,
            session: part.session.read()?,
            input: BytesMut::from(&*part.input),
            out: part.out.to_vec(),
            sent: 0,
        })
    }
}

/// Makes TLS connections to a vhost's origins.
#[derive(Debug, Clone)]
pub(in crate::server) struct Connector {
    tls: Arc<TlsClient>,
    /// The certificates of authorities that an origin's must come from.
    authorities: Option<PathBuf>,
}

impl Connector {
    pub(super) fn new(server: &Server, settings: &Upstream) -> Self {
        Self::trusting(server, settings.ca.clone())
    }

    /// One that trusts `authorities`, or those of the system.
    pub(in crate::server) fn trusting(server: &Server, authorities: Option<PathBuf>) -> Self {
        Self {
            tls: server.tls_client.clone(),
            authorities,
        }
    }

    /// One for servers whose certificates come from authorities that the system trusts.
    pub(super) fn trusting_the_system(server: &Server) -> Self {
        Self {
            tls: server.tls_client.clone(),
            authorities: None,
        }
    }

    /// Performs the TLS handshake with `origin`, whose name its certificate must have.
    async fn secure(&self, socket: TcpStream, origin: &Origin) -> Result<Transport, OriginError> {
        let connector = self.tls.connector(self.authorities.as_deref());
        let connector = connector.map_err(OriginError::NoTls)?;
        let name = ServerName::try_from(origin.host().to_owned());
        let name = name.map_err(|error| OriginError::NoTls(error.to_string()))?;
        let config = connector.config().clone();
        let secured = handshake::connect(socket, config, name).await;
        secured.map_err(|error| OriginError::Tls(Box::new(error)))
    }
}

/// Connects to the first of an origin's addresses that answers, each within
/// `limit`: a name's IPv6 address may be unreachable while the IPv4 one serves.
async fn connect(
    addresses: impl Iterator<Item = SocketAddr>,
    limit: Duration,
) -> Result<TcpStream, OriginError> {
    let mut error = OriginError::Unreachable(io::Error::other("the name has no address"));
    for address in addresses {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(refused)) => error = OriginError::Unreachable(refused),
            Err(_) => error = OriginError::Slow(limit),
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests;
