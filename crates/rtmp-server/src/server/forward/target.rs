//! The forward of a stream to one server: connects, sends what the log has, tries again.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtmp_proto::session::{ClientConfig, ClientEvent, DEFAULT_VHOST, Parameters, Purpose};
use rtmp_proto::wire::amf0::write_value;
use rtmp_proto::wire::message::data::{self, DataKind};
use rtmp_proto::wire::{Message, MessageType};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::FINISH_TIMEOUT;
use super::backoff::Backoff;
use super::progress::Forward;
use crate::config::Destination;
use crate::server::upstream::origin_connection::Connector;
use crate::server::upstream::{OriginConnection, OriginError};
use crate::server::{EventKind, Server};
use crate::stream::{MessageRead, MessageReader, Stream};

/// Time to connect, as in SRS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for the answer to the publish: the server may have to ask others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that are read from the log at once, but for a longer message: so much memory does a
/// server take that takes nothing.
const MAX_READ_BYTES: u64 = 256 * 1024;

/// The task of one forward.
pub(super) struct Target {
    pub(super) server: Arc<Server>,
    pub(super) forward: Arc<Forward>,
    pub(super) authorities: Option<PathBuf>,
    /// Cancelled when the stream is to be forwarded there no longer.
    pub(super) stop: CancellationToken,
}

impl Target {
    /// Forwards until it is stopped.
    ///
    /// ```text
    ///               accepted
    /// Connecting ──────────────▶ Sending
    ///     ▲  │ fails                │ fails
    ///     │  ▼                      │
    ///    Waiting ◀──────────────────┘
    /// ```
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        let key = self.stream().key();
        let destination = &self.forward.destination;
        let mut backoff = Backoff::new(RandomState::new().hash_one(key));
        let mut worked = Duration::ZERO;
        loop {
            self.forward.begin_attempt();
            let connected = tokio::select! {
                connected = self.connect() => connected,
                () = stop.cancelled() => return,
            };
            let error = match connected {
                Ok(mut connection) => {
                    self.forward.accepted();
                    log::info!("{key}: forwarded to {destination}");
                    let begun = Instant::now();
                    let sent = self.send(&mut connection).await;
                    worked = begun.elapsed();
                    let Err(error) = sent else {
                        // A server that takes no more is not waited for.
                        let _ = timeout(FINISH_TIMEOUT, connection.close()).await;
                        let bytes = self.forward.progress().bytes;
                        log::info!("{key}: no longer forwarded to {destination}: {bytes} bytes");
                        return;
                    };
                    error
                }
                Err(error) => error,
            };
            let pause = backoff.after(worked);
            worked = Duration::ZERO;
            self.fail(&error);
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn stream(&self) -> &Arc<Stream> {
        &self.forward.stream
    }

    fn fail(&self, error: &OriginError) {
        let (key, destination) = (self.stream().key(), &self.forward.destination);
        let text = error.to_string();
        let events = self.server.events();
        let event = format!("to {destination}: {text}");
        events.record(EventKind::ForwardFailed, Some(key), None, event);
        // The same again is no news.
        if self.forward.failed(text) {
            log::warn!("{key}: cannot be forwarded to {destination}, tried again: {error}");
        }
    }

    /// A connection that may send.
    async fn connect(&self) -> Result<OriginConnection, OriginError> {
        let stream = self.stream();
        let publisher = self.server.clients.publisher(stream.key());
        let urls = publisher.as_ref().and_then(|client| client.urls());
        let loop_guard = urls.map(|urls| urls.loop_guard.clone());
        let loop_guard = loop_guard.unwrap_or_default().with(&self.server.id);
        let mut config = request(&self.forward.destination, stream, &stream.parameters());
        config.connect_properties.push(loop_guard.property());
        let connector = Connector::trusting(&self.server, self.authorities.clone());
        let server = &self.forward.destination.server;
        let limits = &self.server.limits;
        let opened = OriginConnection::open(server, &connector, config, limits, CONNECT_TIMEOUT);
        let mut connection = opened.await?;
        let accepted = |event: &ClientEvent| *event == ClientEvent::Publishing;
        let mut events = Vec::new();
        let answered = connection.answer(&mut events, accepted, ANSWER_TIMEOUT);
        answered.await?;
        Ok(connection)
    }

    /// Sends until the connection fails, or it is stopped and everything has been sent.
    async fn send(&self, connection: &mut OriginConnection) -> Result<(), OriginError> {
        let mut reader = MessageReader::new(self.stream())?;
        tokio::select! {
            sent = self.follow(&mut reader, connection, false) => return sent,
            () = self.stop.cancelled() => {}
        }
        let rest = self.follow(&mut reader, connection, true);
        // It may be as slow as it likes: nobody waits for the rest.
        timeout(FINISH_TIMEOUT, rest).await.unwrap_or(Ok(()))
    }

    /// Sends what the log has: up to its present end if `is_last`, else for ever. It may be
    /// dropped unfinished and called again.
    async fn follow(
        &self,
        reader: &mut MessageReader,
        connection: &mut OriginConnection,
        is_last: bool,
    ) -> Result<(), OriginError> {
        let mut events = Vec::new();
        loop {
            self.send_queued(connection, &mut events).await?;
            self.forward.reach(reader.offset());
            events.clear();
            let news = self.stream().news();
            match reader.read(MAX_READ_BYTES)? {
                MessageRead::Messages(messages) => {
                    for message in messages.iter().filter_map(for_server) {
                        connection.publish(&message);
                    }
                }
                MessageRead::Skipped if !self.forward.count_skip() => {}
                MessageRead::Skipped => {
                    let (key, destination) = (self.stream().key(), &self.forward.destination);
                    log::warn!(
                        "{key}: {destination} is too slow: it is sent keyframes first, again and again"
                    );
                }
                MessageRead::Nothing if is_last => return Ok(()),
                MessageRead::Nothing => tokio::select! {
                    () = news => {}
                    read = connection.exchange(&mut events) => read?,
                },
            }
        }
    }

    /// Sends what is queued, as fast as the server takes it.
    async fn send_queued(
        &self,
        connection: &mut OriginConnection,
        events: &mut Vec<ClientEvent>,
    ) -> Result<(), OriginError> {
        let config = self.server.config();
        let vhost = config.vhost(&self.stream().key().vhost);
        let limit = vhost.map_or(ANSWER_TIMEOUT, |vhost| vhost.send_timeout);
        let mut deadline = tokio::time::Instant::now() + limit;
        while connection.unsent() > 0 {
            let before = connection.unsent();
            let exchanged = timeout_at(deadline, connection.exchange(events)).await;
            exchanged.map_err(|_| OriginError::Stalled(limit))??;
            let sent = before.saturating_sub(connection.unsent());
            if sent > 0 {
                self.forward.count_bytes(sent as u64);
                deadline = tokio::time::Instant::now() + limit;
            }
        }
        Ok(())
    }
}

/// The request to publish `stream` at `destination`. As in SRS, it carries the publisher's
/// parameters where the destination has no name of its own for the stream.
fn request(destination: &Destination, stream: &Stream, parameters: &Parameters) -> ClientConfig {
    let key = stream.key();
    let app = destination
        .app
        .clone()
        .unwrap_or_else(|| match &*key.vhost {
            DEFAULT_VHOST => key.app.clone(),
            vhost => format!("{}?vhost={vhost}", key.app),
        });
    let name = destination.stream.clone();
    let name = name.unwrap_or_else(|| format!("{}{}", key.stream, parameters.without_vhost()));
    let tc_url = format!("{}/{app}", destination.server.url());
    ClientConfig::new(Purpose::Publish, &tc_url, &app, &name)
}

/// `message` of a log as a publisher sends it; `None` if none does.
fn for_server(message: &Message) -> Option<Message> {
    if !message.message_type.is_media() {
        return None;
    }
    if message.message_type != MessageType::DATA_AMF0 || data::kind(message) != DataKind::Metadata {
        return Some(message.clone());
    }
    let mut payload = BytesMut::with_capacity(message.payload.len() + 16);
    write_value(&"@setDataFrame".into(), &mut payload);
    payload.extend_from_slice(&message.payload);
    Some(Message {
        payload: payload.freeze(),
        ..message.clone()
    })
}
