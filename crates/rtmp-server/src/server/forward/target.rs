//! The forward of a stream to one server: connects, sends what the log has, tries again.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtmp_proto::session::{ClientConfig, ClientEvent, DEFAULT_VHOST, Parameters, Purpose};
use rtmp_proto::wire::amf0::write_value;
use rtmp_proto::wire::message::data::{self, DataKind};
use rtmp_proto::wire::{Message, MessageType};
use service_kit::sleep_until;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::FINISH_TIMEOUT;
use super::backoff::Backoff;
use super::part::StepPart;
use super::progress::Forward;
use crate::config::Destination;
use crate::server::upgrade::{Participant, TaskParts};
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
    pub(super) participant: Participant,
    pub(super) backoff: Backoff,
}

/// What a target does next.
pub(super) enum Step {
    Connect,
    Send(Box<Sending>),
    /// It tries again at this time.
    Wait(Instant),
}

/// A connection along which a stream is sent.
pub(super) struct Sending {
    pub(super) connection: OriginConnection,
    pub(super) reader: MessageReader,
    /// Time since which it may send.
    pub(super) since: Instant,
}

impl Target {
    /// Forwards until it is stopped, `step` first.
    ///
    /// ```text
    ///               accepted
    ///  Connect ──────────────────▶ Send
    ///   ▲  │ fails                  │ fails
    ///   │  ▼                        │
    ///   Wait ◀──────────────────────┘
    /// ```
    pub(super) async fn run(mut self, step: Step) {
        let mut next = Some(step);
        while let Some(step) = next {
            next = match step {
                Step::Connect => self.connect().await,
                Step::Send(sending) => self.send(*sending).await,
                Step::Wait(until) => self.wait(until).await,
            };
        }
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.forward.stream
    }

    /// Connects; `None`: it is stopped.
    async fn connect(&mut self) -> Option<Step> {
        self.forward.begin_attempt();
        let opened = self
            .unless_stopped(self.open(), || StepPart::Connect)
            .await?;
        Some(match opened {
            Ok(sending) => {
                self.forward.accepted();
                let (key, destination) = (self.stream().key(), &self.forward.destination);
                log::info!("{key}: forwarded to {destination}");
                Step::Send(Box::new(sending))
            }
            Err(error) => self.fail(&error, Duration::ZERO),
        })
    }

    /// Waits until the next attempt; `None`: it is stopped.
    async fn wait(&self, until: Instant) -> Option<Step> {
        let waited = self.unless_stopped(sleep_until(Some(until)), || StepPart::Wait(until));
        waited.await.map(|()| Step::Connect)
    }

    /// Waits for `future`, unless it is stopped. `step` is handed over where everybody has to
    /// stand still meanwhile.
    async fn unless_stopped<T>(
        &self,
        future: impl Future<Output = T>,
        step: impl Fn() -> StepPart,
    ) -> Option<T> {
        let future = pin!(self.stop.run_until_cancelled(future));
        let write = |parts: &mut TaskParts| {
            parts.forwards.push(self.part(step()));
            Ok(())
        };
        self.participant.follow(future, write).await
    }

    /// An attempt has failed, or a connection that had worked for `worked`.
    fn fail(&mut self, error: &OriginError, worked: Duration) -> Step {
        let (key, destination) = (self.stream().key(), &self.forward.destination);
        let text = error.to_string();
        let events = self.server.events();
        let event = format!("to {destination}: {text}");
        events.record(EventKind::ForwardFailed, Some(key), None, event);
        // The same again is no news.
        if self.forward.failed(text) {
            log::warn!("{key}: cannot be forwarded to {destination}, tried again: {error}");
        }
        Step::Wait(Instant::now() + self.backoff.after(worked))
    }

    /// A connection that may send.
    async fn open(&self) -> Result<Sending, OriginError> {
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
        Ok(Sending {
            connection,
            reader: MessageReader::new(stream)?,
            since: Instant::now(),
        })
    }

    /// Sends until the connection fails; `None`: it is stopped.
    async fn send(&mut self, mut sending: Sending) -> Option<Step> {
        if let Err(error) = self.send_until_stopped(&mut sending).await {
            return Some(self.fail(&error, sending.since.elapsed()));
        }
        // A server that takes no more is not waited for, nor at an upgrade.
        let closed = pin!(timeout(FINISH_TIMEOUT, sending.connection.close()));
        let _ = self.participant.unless_frozen(closed).await;
        let (key, destination) = (self.stream().key(), &self.forward.destination);
        let bytes = self.forward.progress().bytes;
        log::info!("{key}: no longer forwarded to {destination}: {bytes} bytes");
        None
    }

    /// Sends until the connection fails, or it is stopped and everything has been sent. Where
    /// everybody has to stand still, so does this, whatever happens meanwhile: what has been
    /// written down is the next program's.
    async fn send_until_stopped(&self, sending: &mut Sending) -> Result<(), OriginError> {
        loop {
            tokio::select! {
                biased;
                () = self.participant.frozen() => self.park(sending).await,
                () = self.stop.cancelled() => break,
                sent = self.follow(sending, false) => return sent,
            }
        }
        // It may be as slow as it likes: nobody waits for the rest.
        let end = tokio::time::Instant::now() + FINISH_TIMEOUT;
        loop {
            tokio::select! {
                biased;
                () = self.participant.frozen() => self.park(sending).await,
                sent = timeout_at(end, self.follow(sending, true)) => {
                    return sent.unwrap_or(Ok(()));
                }
            }
        }
    }

    /// Sends what the log has: up to its present end if `is_last`, else for ever. It may be
    /// dropped unfinished and called again.
    async fn follow(&self, sending: &mut Sending, is_last: bool) -> Result<(), OriginError> {
        let mut events = Vec::new();
        loop {
            let connection = &mut sending.connection;
            self.send_queued(connection, &mut events).await?;
            self.forward.reach(sending.reader.offset());
            events.clear();
            let news = self.stream().news();
            match sending.reader.read(MAX_READ_BYTES)? {
                MessageRead::Messages(messages) => {
                    for message in messages.iter().filter_map(for_server) {
                        sending.connection.publish(&message);
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
                    read = sending.connection.exchange(&mut events) => read?,
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
