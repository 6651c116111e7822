//! One connection, from its handshake to its end: commands, publishing, and
//! waiting for a stream. Players are handed to the fan-out workers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Server;
use super::clients::{Activity, Client};
use super::player::PlayerDialogue;
use super::upstream;
use crate::config::{Action, Vhost};
use crate::session::server::Phase;
use crate::session::{
    ConnectRequest, ConnectSettings, PlayRequest, PublishRequest, ServerEvent, ServerSession,
    Status, StreamKey,
};
use crate::stream::fanout::{Departed, Dialogue, Joining, Reason};
use crate::stream::{AppendError, MESSAGE_STREAM, Publication, Seat, Standing};
use crate::wire::Message;
use crate::wire::message::Control;

/// Time for the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time from accept to a `connect` that makes sense.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a word on a connection that neither publishes nor plays.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for a peer to take our last words and to close.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes read from a publisher at once.
const READ_SIZE: usize = 64 * 1024;
/// Bytes read at once from whoever only sends commands.
const COMMAND_READ_SIZE: usize = 4 * 1024;

/// What a connection is engaged in.
enum Engagement {
    None,
    Publishing {
        stream_id: u32,
        publication: Publication,
        standing: watch::Receiver<Standing>,
        /// What came with the present read.
        batch: Vec<Message>,
        /// Nothing has come yet.
        first: bool,
    },
    Waiting {
        request: Box<PlayRequest>,
        seat: Seat,
        standing: watch::Receiver<Standing>,
        until: Instant,
    },
    /// The play has been accepted: on to a fan-out worker.
    Playing {
        request: Box<PlayRequest>,
        seat: Seat,
    },
}

/// What a connection has waited for.
enum Heard {
    /// So many bytes came; none: the peer has closed.
    Bytes(usize),
    /// The stream's standing has changed.
    Standing,
    /// The connection is to end.
    Dismissal,
    /// The time is over.
    Silence,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed by the peer")]
    Closed,
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    #[error("{0}")]
    Session(#[from] crate::session::SessionError),
    #[error("refused: {0}")]
    Refused(Status),
    #[error("limit exceeded: {0}")]
    TimedOut(&'static str),
    #[error("{0}")]
    Publishing(#[from] AppendError),
    #[error("{0}")]
    Misbehaved(String),
    #[error("took nothing for the send_timeout")]
    Stalled,
    #[error("the stream has ended")]
    StreamOver,
    #[error("dismissed")]
    Dismissed,
}

/// A connection that tokio serves.
pub(super) struct Connection {
    server: Arc<Server>,
    client: Arc<Client>,
    socket: TcpStream,
    session: ServerSession,
    /// The vhost that `connect` named.
    vhost: Option<Arc<Vhost>>,
    engagement: Engagement,
    input: BytesMut,
    out: Vec<u8>,
    accepted: Instant,
    /// Why it ends, when that was decided before it came here.
    verdict: Option<End>,
    /// An event that has been read and not answered.
    unanswered: Option<Box<ServerEvent>>,
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(server: Arc<Server>, client: Arc<Client>, socket: TcpStream) -> Self {
        let session = ServerSession::new(&server.limits);
        Self {
            server,
            client,
            socket,
            session,
            vhost: None,
            engagement: Engagement::None,
            input: BytesMut::new(),
            out: Vec::new(),
            accepted: Instant::now(),
            verdict: None,
            unanswered: None,
        }
    }

    /// A connection that comes back from its fan-out worker; none if there is
    /// nothing more to say to it.
    pub(super) fn take_back(
        server: Arc<Server>,
        departed: Departed<PlayerDialogue>,
    ) -> Option<Self> {
        let Departed {
            socket,
            mut dialogue,
            unsent,
            reason,
            ..
        } = departed;
        let client = dialogue.client.clone();
        let key = dialogue.seat.stream().key().clone();
        let mut out = unsent;
        let (verdict, silent) = match reason {
            Reason::Asked => (None, false),
            Reason::Closed => (Some(End::Closed), true),
            Reason::Broken(kind) => (Some(End::Lost(kind.into())), true),
            Reason::Misbehaved(why) => (Some(End::Misbehaved(why)), false),
            Reason::Stalled => (Some(End::Stalled), true),
            Reason::StreamOver => {
                dialogue.session.end_play(dialogue.stream_id, &mut out);
                (Some(End::StreamOver), false)
            }
            Reason::Complete => {
                dialogue.session.end_play(dialogue.stream_id, &mut out);
                (None, false)
            }
            Reason::Dismissed => {
                dialogue.session.end_play(dialogue.stream_id, &mut out);
                (Some(End::Dismissed), false)
            }
        };
        log_play(&client, &key, verdict.as_ref());
        client.set_activity(Activity::Idle);
        let socket = match TcpStream::from_std(socket) {
            Ok(socket) if !silent => socket,
            _ => {
                log_end(&server, &client, verdict.as_ref().unwrap_or(&End::Closed));
                return None;
            }
        };
        let (unanswered, unread) = match dialogue.left_with {
            Some((event, unread)) => (Some(event), unread),
            None => (None, Vec::new()),
        };
        Some(Self {
            server,
            client,
            socket,
            session: dialogue.session,
            vhost: Some(dialogue.vhost),
            engagement: Engagement::None,
            input: BytesMut::from(unread.as_slice()),
            out,
            accepted: Instant::now(),
            verdict,
            unanswered,
        })
    }

    /// Serves the connection until it ends or plays.
    pub(super) async fn run(mut self) {
        let end = match self.verdict.take() {
            Some(end) => end,
            None => match self.converse().await {
                Ok((request, seat)) => {
                    self.hand_over(&request, seat);
                    return;
                }
                Err(end) => end,
            },
        };
        // What is published ends before the last words: whoever comes next
        // need not wait for a slow peer.
        self.disengage();
        if !matches!(end, End::Closed | End::Lost(_)) {
            let _ = tokio::time::timeout(FAREWELL_TIMEOUT, self.farewell()).await;
        }
        log_end(&self.server, &self.client, &end);
    }

    /// Reads and answers until the client plays.
    async fn converse(&mut self) -> Result<(Box<PlayRequest>, Seat), End> {
        let mut last_word = Instant::now();
        loop {
            let heard = self.interpret();
            // Replies go out in one write, even those before a mistake.
            self.flush().await?;
            heard?;
            match std::mem::replace(&mut self.engagement, Engagement::None) {
                Engagement::Playing { request, seat } => return Ok((request, seat)),
                other => self.engagement = other,
            }
            let deadline = self.deadline(last_word);
            self.input.reserve(match self.engagement {
                Engagement::Publishing { .. } => READ_SIZE,
                _ => COMMAND_READ_SIZE,
            });
            match self.listen(deadline.0).await? {
                Heard::Bytes(0) => return Err(End::Closed),
                Heard::Bytes(count) => {
                    last_word = Instant::now();
                    self.client
                        .received
                        .fetch_add(count as u64, Ordering::Relaxed);
                }
                Heard::Standing => {}
                Heard::Dismissal => return Err(End::Dismissed),
                Heard::Silence => return Err(self.expired(deadline.1)),
            }
            self.standing_changed()?;
            self.gather().await;
        }
    }

    /// Waits for whatever comes first.
    async fn listen(&mut self, deadline: Instant) -> io::Result<Heard> {
        let changed = async {
            match &mut self.engagement {
                Engagement::Publishing { standing, .. } | Engagement::Waiting { standing, .. } => {
                    // The sender lives as long as the stream, which we hold.
                    let _ = standing.changed().await;
                }
                Engagement::None | Engagement::Playing { .. } => std::future::pending().await,
            }
        };
        tokio::select! {
            read = self.socket.read_buf(&mut self.input) => read.map(Heard::Bytes),
            () = changed => Ok(Heard::Standing),
            () = self.client.dismissal() => Ok(Heard::Dismissal),
            () = tokio::time::sleep_until(deadline) => Ok(Heard::Silence),
        }
    }

    /// Takes what has been read, event by event.
    fn interpret(&mut self) -> Result<(), End> {
        if let Some(event) = self.unanswered.take() {
            self.answer(*event)?;
        }
        let bytes = self.input.split();
        let mut input = &bytes[..];
        let outcome = loop {
            if matches!(self.engagement, Engagement::Playing { .. }) {
                break Ok(());
            }
            match self.session.read(&mut input, &mut self.out) {
                Ok(Some(event)) => {
                    if let Err(end) = self.answer(event) {
                        break Err(end);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        // Only an accepted play leaves something: it is read by the worker's
        // dialogue.
        let unread = input.len();
        let appended = self.append();
        self.input = bytes;
        let read = self.input.len() - unread;
        bytes::Buf::advance(&mut self.input, read);
        outcome.and(appended)
    }

    /// Appends what the publisher sent to its stream.
    fn append(&mut self) -> Result<(), End> {
        let Engagement::Publishing {
            publication,
            batch,
            first,
            ..
        } = &mut self.engagement
        else {
            return Ok(());
        };
        if batch.is_empty() {
            return Ok(());
        }
        *first = false;
        let count = batch.len() as u64;
        self.client
            .messages_received
            .fetch_add(count, Ordering::Relaxed);
        let appended = publication.append(batch, std::time::Instant::now());
        batch.clear();
        Ok(appended?)
    }

    fn answer(&mut self, event: ServerEvent) -> Result<(), End> {
        match event {
            ServerEvent::Connect(request) => self.connect(&request),
            ServerEvent::Publish(request) => self.publish(*request),
            ServerEvent::Play(request) => self.play(request),
            ServerEvent::Media(message) => {
                if let Engagement::Publishing {
                    batch, stream_id, ..
                } = &mut self.engagement
                    && message.stream_id == *stream_id
                {
                    batch.push(message);
                }
                Ok(())
            }
            ServerEvent::PublishEnded { .. } => {
                self.append()?;
                self.disengage();
                Ok(())
            }
            ServerEvent::PlayEnded { .. } => {
                if matches!(self.engagement, Engagement::Waiting { .. }) {
                    self.disengage();
                }
                Ok(())
            }
            ServerEvent::Pause { .. }
            | ServerEvent::ReceiveAudio { .. }
            | ServerEvent::ReceiveVideo { .. }
            | ServerEvent::BufferLength { .. }
            | ServerEvent::Acknowledged(_)
            | ServerEvent::Pong(_) => Ok(()),
        }
    }

    fn connect(&mut self, request: &ConnectRequest) -> Result<(), End> {
        let Some(vhost) = self.server.config().vhost(&request.vhost).cloned() else {
            let status =
                Status::connect_rejected(format!("there is no vhost {} here", request.vhost));
            self.session.refuse_connect(&status, &mut self.out);
            return Err(End::Refused(status));
        };
        log::debug!(
            "{}: connect to {} ({})",
            self.client,
            request.tc_url,
            request.flash_ver
        );
        let settings = ConnectSettings {
            chunk_size: vhost.chunk_size,
            in_ack_size: vhost.in_ack_size,
            out_ack_size: vhost.out_ack_size,
        };
        self.session.accept_connect(&settings, &mut self.out);
        self.vhost = Some(vhost);
        Ok(())
    }

    /// The vhost that serves a request, and the stream's name there.
    fn resolve(&self, key: StreamKey) -> Option<(Arc<Vhost>, StreamKey)> {
        let vhost = self.server.config().vhost(&key.vhost).cloned()?;
        let key = StreamKey {
            vhost: vhost.name.clone(),
            ..key
        };
        Some((vhost, key))
    }

    fn publish(&mut self, request: PublishRequest) -> Result<(), End> {
        let PublishRequest { stream_id, key, .. } = request;
        let peer = self.client.peer.ip();
        let refusal = 'refused: {
            let Some((vhost, key)) = self.resolve(key) else {
                break 'refused Status::publish_denied("there is no such vhost here");
            };
            if !vhost.security.permits(Action::Publish, peer) {
                break 'refused Status::publish_denied("this address may not publish here");
            }
            if self.server.is_draining() {
                break 'refused Status::publish_denied("the server is about to stop");
            }
            if vhost.upstream.is_some() {
                break 'refused Status::publish_denied("publish at the origin, this is an edge");
            }
            if !matches!(self.engagement, Engagement::None) {
                break 'refused Status::publish_denied("this connection is engaged already");
            }
            let stream = match self.server.stream(&key, &vhost) {
                Ok(stream) => stream,
                Err(error) => {
                    log::error!("{}: no log for {key}: {error}", self.client);
                    break 'refused Status::publish_denied("the server has no room for a stream");
                }
            };
            let standing = stream.standing();
            let Ok(publication) = stream.publish(std::time::Instant::now()) else {
                break 'refused Status::publish_bad_name(format!("{key} has a publisher already"));
            };
            log::info!("{}: publish {key}", self.client);
            self.session.accept_publish(stream_id, &mut self.out);
            self.client
                .set_activity(Activity::Publishing(Arc::new(key)));
            self.vhost = Some(vhost);
            self.engagement = Engagement::Publishing {
                stream_id,
                publication,
                standing,
                batch: Vec::new(),
                first: true,
            };
            return Ok(());
        };
        self.session
            .refuse_publish(stream_id, &refusal, &mut self.out);
        Err(End::Refused(refusal))
    }

    fn play(&mut self, request: Box<PlayRequest>) -> Result<(), End> {
        let peer = self.client.peer.ip();
        let refusal = 'refused: {
            let Some((vhost, key)) = self.resolve(request.key.clone()) else {
                break 'refused Status::play_failed("there is no such vhost here");
            };
            if !vhost.security.permits(Action::Play, peer) {
                break 'refused Status::play_failed("this address may not play here");
            }
            if self.server.is_draining() {
                break 'refused Status::play_failed("the server is about to stop");
            }
            if request.stream_id != MESSAGE_STREAM {
                break 'refused Status::play_failed("one stream can be played per connection");
            }
            if matches!(self.engagement, Engagement::Waiting { .. }) {
                self.disengage();
            }
            if !matches!(self.engagement, Engagement::None) {
                break 'refused Status::play_failed("this connection is engaged already");
            }
            let stream = match self.server.stream(&key, &vhost) {
                Ok(stream) => stream,
                Err(error) => {
                    log::error!("{}: no log for {key}: {error}", self.client);
                    break 'refused Status::play_failed("the server has no room for a stream");
                }
            };
            let seat = stream.take_seat();
            let standing = stream.standing();
            if let Some(settings) = &vhost.upstream {
                upstream::ensure(&self.server, &stream, settings, &request.parameters);
            }
            let live = standing.borrow().live;
            let until = Instant::now() + vhost.play_wait_timeout;
            self.vhost = Some(vhost);
            if live {
                self.accept_play(request, seat);
            } else {
                self.client.set_activity(Activity::Waiting(Arc::new(key)));
                self.session.defer_play(request.stream_id);
                self.engagement = Engagement::Waiting {
                    request,
                    seat,
                    standing,
                    until,
                };
            }
            return Ok(());
        };
        self.session
            .refuse_play(request.stream_id, &refusal, &mut self.out);
        Err(End::Refused(refusal))
    }

    fn accept_play(&mut self, request: Box<PlayRequest>, seat: Seat) {
        self.session.accept_play(request.stream_id, &mut self.out);
        self.engagement = Engagement::Playing { request, seat };
    }

    /// The stream that this connection publishes or waits for has a new
    /// standing.
    fn standing_changed(&mut self) -> Result<(), End> {
        match &mut self.engagement {
            Engagement::Publishing {
                publication,
                standing,
                ..
            } => {
                if publication.holds(&standing.borrow_and_update()) {
                    return Ok(());
                }
                let taken_over = !publication.stream().is_over();
                Err(if taken_over {
                    AppendError::TakenOver
                } else {
                    AppendError::Over
                }
                .into())
            }
            Engagement::Waiting { standing, .. } => {
                let now = *standing.borrow_and_update();
                if now.live {
                    let engagement = std::mem::replace(&mut self.engagement, Engagement::None);
                    if let Engagement::Waiting { request, seat, .. } = engagement {
                        self.accept_play(request, seat);
                    }
                } else if now.over {
                    return Err(self.expired(""));
                }
                Ok(())
            }
            Engagement::None | Engagement::Playing { .. } => Ok(()),
        }
    }

    /// With `mr`, lets a publisher's input gather before it is read.
    async fn gather(&mut self) {
        let Engagement::Publishing { .. } = self.engagement else {
            return;
        };
        let latency = self.vhost.as_ref().and_then(|vhost| vhost.mr);
        if let Some(latency) = latency
            && self.input.len() < READ_SIZE
        {
            tokio::time::sleep(latency).await;
        }
    }

    /// When patience ends, and with what.
    fn deadline(&self, last_word: Instant) -> (Instant, &'static str) {
        match (&self.engagement, &self.vhost) {
            (Engagement::Waiting { until, .. }, _) => (*until, "play_wait_timeout"),
            (Engagement::Publishing { first: true, .. }, Some(vhost)) => (
                last_word + vhost.publish_1stpkt_timeout,
                "publish_1stpkt_timeout",
            ),
            (Engagement::Publishing { .. }, Some(vhost)) => (
                last_word + vhost.publish_normal_timeout,
                "publish_normal_timeout",
            ),
            _ => match self.session.phase() {
                Phase::Handshake => (self.accepted + HANDSHAKE_TIMEOUT, "5 s for the handshake"),
                Phase::Connecting => (self.accepted + CONNECT_TIMEOUT, "10 s to connect"),
                Phase::Connected => (last_word + IDLE_TIMEOUT, "60 s without a word"),
            },
        }
    }

    /// Patience has ended.
    fn expired(&mut self, limit: &'static str) -> End {
        if let Engagement::Waiting { request, seat, .. } = &self.engagement {
            let key = seat.stream().key();
            let status = Status::stream_not_found(format!("nobody publishes {key}"));
            self.session
                .refuse_play(request.stream_id, &status, &mut self.out);
            return End::Refused(status);
        }
        End::TimedOut(limit)
    }

    /// Ends what the connection is engaged in.
    fn disengage(&mut self) {
        let engagement = std::mem::replace(&mut self.engagement, Engagement::None);
        if let Engagement::Publishing { publication, .. } = engagement {
            let key = publication.stream().key();
            let messages = self.client.messages_received.load(Ordering::Relaxed);
            let bytes = self.client.received.load(Ordering::Relaxed);
            log::info!(
                "{}: published {key}: {bytes} bytes, {messages} messages",
                self.client
            );
        }
        self.client.set_activity(Activity::Idle);
    }

    /// Hands the connection to a fan-out worker.
    fn hand_over(mut self, request: &PlayRequest, seat: Seat) {
        let Some(vhost) = self.vhost.take() else {
            return;
        };
        let stream = seat.stream().clone();
        log::info!("{}: play {}", self.client, stream.key());
        self.client
            .set_activity(Activity::Playing(Arc::new(stream.key().clone())));
        let socket = match self.socket.into_std() {
            Ok(socket) => socket,
            Err(error) => {
                log_end(&self.server, &self.client, &End::Lost(error));
                return;
            }
        };
        let mut unsent = self.out;
        // The log's chunks may be of another size than the connection's, when
        // the configuration has changed since one of them began.
        let size = Control::SetChunkSize(stream.chunk_size()).to_message();
        self.session.send(&size, &mut unsent);
        let mut dialogue = PlayerDialogue {
            session: self.session,
            client: self.client.clone(),
            vhost: vhost.clone(),
            seat,
            stream_id: request.stream_id,
            left_with: None,
        };
        let mut requests = Vec::new();
        let heard = dialogue.receive(&self.input, &mut unsent, &mut requests);
        if let Err(why) = heard {
            log_end(&self.server, &self.client, &End::Misbehaved(why));
            return;
        }
        self.server.fanout.join(Joining {
            id: self.client.id,
            socket,
            dialogue,
            stream,
            unsent,
            requests,
            meter: self.client.meter.clone(),
            nodelay: vhost.tcp_nodelay,
            send_timeout: vhost.send_timeout,
            duration: request
                .duration_ms
                .map(|length| Duration::from_millis(length.into())),
        });
    }

    async fn flush(&mut self) -> Result<(), End> {
        if matches!(self.engagement, Engagement::Playing { .. }) || self.out.is_empty() {
            // The replies to an accepted play go out with the stream's headers.
            return Ok(());
        }
        let sent = tokio::time::timeout(IDLE_TIMEOUT, self.socket.write_all(&self.out)).await;
        self.client
            .meter
            .bytes
            .fetch_add(self.out.len() as u64, Ordering::Relaxed);
        self.out = Vec::new();
        sent.map_err(|_| End::TimedOut("60 s to take an answer"))??;
        Ok(())
    }

    /// Sends the last words, and reads what the peer still sends: closing with
    /// unread input would throw away our last words with it (RFC 1122
    /// §4.2.2.13).
    async fn farewell(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.out).await?;
        self.socket.shutdown().await?;
        let mut ignored = [0; COMMAND_READ_SIZE];
        while self.socket.read(&mut ignored).await? > 0 {}
        Ok(())
    }
}

/// The line that closes a play.
fn log_play(client: &Client, key: &StreamKey, end: Option<&End>) {
    let why = end.map_or("ended by the player".to_owned(), ToString::to_string);
    let duration = client.age(std::time::Instant::now()).as_secs_f64();
    let bytes = client.meter.bytes.load(Ordering::Relaxed);
    let pictures = client.meter.pictures.load(Ordering::Relaxed);
    let skips = client.meter.skips.load(Ordering::Relaxed);
    log::info!(
        "{client}: played {key}: {duration:.1} s, {bytes} bytes, {pictures} frames, \
         {skips} skips; {why}"
    );
}

/// The line that closes a connection; it is forgotten with it.
fn log_end(server: &Server, client: &Client, end: &End) {
    let duration = client.age(std::time::Instant::now()).as_secs_f64();
    let received = client.received.load(Ordering::Relaxed);
    let sent = client.meter.bytes.load(Ordering::Relaxed);
    log::info!("{client}: {end} ({duration:.1} s, {received} bytes in, {sent} out)");
    server.clients.remove(client.id);
}
