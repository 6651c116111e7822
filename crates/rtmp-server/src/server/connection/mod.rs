//! One connection, from its handshake to its end: commands, publishing, and
//! waiting for a stream. Players are handed to the fan-out workers.

mod end;
mod handover;
mod requests;
mod waiting;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use rtmp_proto::session::Phase;
use rtmp_proto::session::{Parameters, ServerEvent, ServerSession};
use rtmp_proto::wire::Message;
use service_kit::sleep_until;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use end::{End, log_end, log_publish};
use handover::Play;
use waiting::Patience;

use super::Server;
use super::clients::{Activity, Client, StatsSnapshot};
use super::hooks::StreamEvent;
use super::memory::holds_too_much;
use super::player::ConnectInfo;
use super::upstream::dial::{self, Dialled};
use crate::config::{Config, Vhost};
use crate::stream::memory::Holding;
use crate::stream::{AppendError, MediaMessage, Publication, Stream, StreamState};

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
        /// What is published: at an edge, where its viewers find it.
        stream: Arc<Stream>,
        /// What was said beside its name.
        parameters: Parameters,
        sink: Sink,
        /// Where the connection stood when this publish began.
        begun: StatsSnapshot,
        /// Nothing has come yet.
        first: bool,
        /// The origin says that it has another publisher.
        superseded: bool,
    },
    Waiting {
        play: Play,
        state: watch::Receiver<StreamState>,
        patience: Patience,
    },
    /// The play has been accepted: on to a fan-out worker.
    Playing(Play),
}

/// Where a publisher's messages go.
enum Sink {
    /// To the stream's log.
    Log {
        publication: Publication,
        state: watch::Receiver<StreamState>,
        /// What came with the present read.
        batch: Vec<MediaMessage>,
    },
    /// To the origin, from an edge.
    Origin(Box<Dialled>),
}

/// What a connection has waited for.
enum Heard {
    /// So many bytes came; none: the peer has closed.
    Bytes(usize),
    /// The stream's state has changed.
    StreamState,
    /// The origin that the stream is forwarded to has said something, or has
    /// gone.
    Origin(Result<(), dial::End>),
    /// The connection is to end.
    Dismissal,
    /// Another configuration is in force.
    Reload,
    /// The time is over.
    Silence,
}

/// A connection that tokio serves.
pub(super) struct Connection {
    server: Arc<Server>,
    client: Arc<Client>,
    socket: TcpStream,
    session: ServerSession,
    /// What it holds of messages that are not complete.
    held: Holding,
    /// The vhost that `connect` named, or a later request.
    vhost: Option<Arc<Vhost>>,
    /// What `connect` said of the client.
    connect_info: ConnectInfo,
    engagement: Engagement,
    input: BytesMut,
    out: Vec<u8>,
    accepted: Instant,
    /// Why it ends, when that was decided before it came here.
    verdict: Option<End>,
    /// A request that has been read and not answered.
    unanswered: Option<Box<ServerEvent>>,
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(server: Arc<Server>, client: Arc<Client>, socket: TcpStream) -> Self {
        let session = ServerSession::new(&server.limits);
        let held = Holding::new(server.messages.clone());
        Self {
            server,
            client,
            socket,
            session,
            held,
            vhost: None,
            connect_info: ConnectInfo::default(),
            engagement: Engagement::None,
            input: BytesMut::new(),
            out: Vec::new(),
            accepted: Instant::now(),
            verdict: None,
            unanswered: None,
        }
    }

    /// Serves the connection until it ends or plays. Boxed, it is in the task
    /// once only.
    pub(super) async fn run(mut self: Box<Self>) {
        let end = match self.verdict.take() {
            Some(end) => end,
            None => match self.converse().await {
                Ok(play) => {
                    self.hand_over(play);
                    return;
                }
                Err(end) => end,
            },
        };
        self.tell(&end);
        // What is published ends before the last words: whoever comes next
        // need not wait for a slow peer.
        self.disengage();
        if !matches!(end, End::Closed | End::Lost(_)) {
            let _ = tokio::time::timeout(FAREWELL_TIMEOUT, self.farewell()).await;
        }
        log_end(
            &self.server,
            &self.client,
            self.vhost.as_deref(),
            &self.connect_info,
            &end,
        );
    }

    /// Reads and answers until the client plays.
    async fn converse(&mut self) -> Result<Play, End> {
        let mut last_word = Instant::now();
        let mut configuration = self.server.config.subscribe();
        self.take_settings();
        loop {
            let mut heard = self.interpret();
            while heard.is_ok()
                && let Some(request) = self.unanswered.take()
            {
                // What came after a request waits for the answer to it.
                // What web servers and origins are asked with is large, and
                // few connections wait for that: most hold none of it.
                let decided = Box::pin(self.decide(*request)).await;
                heard = decided.and_then(|()| self.interpret());
                // Nor can the client be blamed for the time that it has taken.
                last_word = Instant::now();
            }
            let heard = heard.and_then(|()| self.count_memory());
            // Replies go out in one write, even those before a mistake. That it
            // could not be told to a client that has gone does not matter then.
            let flushed = self.flush().await;
            heard?;
            flushed?;
            match std::mem::replace(&mut self.engagement, Engagement::None) {
                Engagement::Playing(play) => return Ok(play),
                other => self.engagement = other,
            }
            let deadline = self.deadline(last_word);
            let until = deadline.map(|(until, _)| until);
            match self.listen(until, &mut configuration).await? {
                Heard::Bytes(0) => return Err(End::Closed),
                Heard::Bytes(count) => {
                    last_word = Instant::now();
                    self.client
                        .received
                        .fetch_add(count as u64, Ordering::Relaxed);
                }
                Heard::StreamState | Heard::Origin(Ok(())) => {}
                Heard::Origin(Err(end)) => return Err(self.origin_lost(end)),
                Heard::Dismissal => return Err(End::Dismissed),
                Heard::Reload => self.take_settings(),
                Heard::Silence => {
                    let limit = deadline.map_or("", |(_, limit)| limit);
                    return Err(self.expired(limit));
                }
            }
            self.stream_state_changed()?;
            if self.gather().await {
                // Silence begins where there is somebody to hear it.
                last_word = Instant::now();
            }
        }
    }

    /// Counts what is held of messages that are not complete.
    fn count_memory(&mut self) -> Result<(), End> {
        let mut bytes = self.session.unfinished_bytes();
        if let Engagement::Publishing {
            sink: Sink::Origin(dialled),
            ..
        } = &self.engagement
        {
            bytes += dialled.unsent_bytes();
        }
        self.held.set(bytes as u64);
        if holds_too_much(&self.held) {
            return Err(End::NoMemory);
        }
        Ok(())
    }

    /// Takes over what the configuration in force says of the vhost.
    fn take_settings(&mut self) {
        self.vhost = self.vhost.take().map(|vhost| self.server.in_force(vhost));
    }

    /// Waits for whatever comes first.
    async fn listen(
        &mut self,
        deadline: Option<Instant>,
        configuration: &mut watch::Receiver<Arc<Config>>,
    ) -> io::Result<Heard> {
        let most = match self.engagement {
            Engagement::Publishing { .. } => READ_SIZE,
            _ => COMMAND_READ_SIZE,
        };
        let other = async {
            match &mut self.engagement {
                Engagement::Publishing {
                    sink: Sink::Log { state, .. },
                    ..
                }
                | Engagement::Waiting { state, .. } => {
                    // The sender lives as long as the stream, which we hold.
                    let _ = state.changed().await;
                    Heard::StreamState
                }
                Engagement::Publishing {
                    sink: Sink::Origin(dialled),
                    ..
                } => {
                    // Whatever it says that is not the end needs no answer
                    // but the session's own.
                    Heard::Origin(dialled.read(&mut Vec::new()).await)
                }
                Engagement::None | Engagement::Playing(_) => std::future::pending().await,
            }
        };
        // What has come counts before the time that it took.
        tokio::select! {
            biased;
            () = self.client.dismissal() => Ok(Heard::Dismissal),
            heard = other => Ok(heard),
            // The sender is the server's, which we hold.
            _ = configuration.changed() => Ok(Heard::Reload),
            read = read_up_to(most, &self.socket, &mut self.input) => read.map(Heard::Bytes),
            () = sleep_until(deadline) => Ok(Heard::Silence),
        }
    }

    /// Takes what has been read, event by event.
    fn interpret(&mut self) -> Result<(), End> {
        let bytes = self.input.split();
        let mut input = &bytes[..];
        let outcome = loop {
            let playing = matches!(self.engagement, Engagement::Playing(_));
            if playing || self.unanswered.is_some() {
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
        // A request that has to be decided about, and an accepted play, leave
        // the rest to be read later: the latter to the worker's dialogue.
        let unread = input.len();
        let appended = self.append();
        self.input = bytes;
        let read = self.input.len() - unread;
        bytes::Buf::advance(&mut self.input, read);
        if self.input.is_empty() && !matches!(self.engagement, Engagement::Publishing { .. }) {
            // Nothing is held for who only sends commands: many wait at a time.
            self.input = BytesMut::new();
        }
        outcome.and(appended)
    }

    /// Appends what the publisher sent to its stream.
    fn append(&mut self) -> Result<(), End> {
        let Engagement::Publishing {
            sink: Sink::Log {
                publication, batch, ..
            },
            ..
        } = &mut self.engagement
        else {
            return Ok(());
        };
        if batch.is_empty() {
            return Ok(());
        }
        let appended = publication.append(batch, std::time::Instant::now());
        batch.clear();
        Ok(appended?)
    }

    /// Takes a message of the stream that the connection publishes.
    fn media(&mut self, message: Message) {
        let Engagement::Publishing {
            stream_id,
            sink,
            first,
            ..
        } = &mut self.engagement
        else {
            return;
        };
        if message.stream_id != *stream_id {
            return;
        }
        *first = false;
        let media = MediaMessage::from(message);
        let client = &self.client;
        client.messages_received.fetch_add(1, Ordering::Relaxed);
        if media.is_picture() {
            client.pictures_received.fetch_add(1, Ordering::Relaxed);
        }
        match sink {
            Sink::Log { batch, .. } => batch.push(media),
            Sink::Origin(dialled) => {
                // Where the origin takes no more, reading from it says why.
                let _ = dialled.publish(media.message());
            }
        }
    }

    fn answer(&mut self, event: ServerEvent) -> Result<(), End> {
        match event {
            ServerEvent::Connect(_) | ServerEvent::Publish(_) | ServerEvent::Play(_) => {
                self.unanswered = Some(Box::new(event));
                Ok(())
            }
            ServerEvent::Refused(status) => {
                self.client.log_refusal(&status);
                Ok(())
            }
            ServerEvent::Media(message) => {
                self.media(message);
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
            | ServerEvent::ReceiveVideo { .. } => {
                if let Engagement::Waiting { play, .. } = &mut self.engagement {
                    play.options.apply(&event);
                }
                Ok(())
            }
            ServerEvent::BufferLength { .. }
            | ServerEvent::Acknowledged(_)
            | ServerEvent::Pong(_) => Ok(()),
        }
    }

    /// The stream that this connection publishes or waits for has a new
    /// state.
    fn stream_state_changed(&mut self) -> Result<(), End> {
        match &mut self.engagement {
            Engagement::Publishing {
                sink: Sink::Log {
                    publication, state, ..
                },
                ..
            } => {
                if publication.holds(&state.borrow_and_update()) {
                    return Ok(());
                }
                let over = publication.stream().has_ended();
                Err(if over {
                    AppendError::Ended
                } else {
                    AppendError::TakenOver
                }
                .into())
            }
            Engagement::Waiting { state, .. } => {
                let state = *state.borrow_and_update();
                self.wait_on(state)
            }
            Engagement::None | Engagement::Publishing { .. } | Engagement::Playing(_) => Ok(()),
        }
    }

    /// With `mr`, lets a publisher's input gather before it is read; whether
    /// it did. What another server forwards has been gathered there, where its
    /// `mr` is on.
    async fn gather(&mut self) -> bool {
        let Engagement::Publishing { sink, .. } = &self.engagement else {
            return false;
        };
        if self.connect_info.peer.is_server() {
            return false;
        }
        let latency = self.vhost.as_ref().and_then(|vhost| vhost.mr);
        let Some(latency) = latency.filter(|_| self.input.len() < READ_SIZE) else {
            return false;
        };
        if let Sink::Log { publication, .. } = sink {
            publication.expect_silence_until(std::time::Instant::now() + latency);
        }
        tokio::time::sleep(latency).await;
        true
    }

    /// When patience ends, and with what.
    fn deadline(&self, last_word: Instant) -> Option<(Instant, &'static str)> {
        let config = self.server.config();
        Some(match (&self.engagement, &self.vhost) {
            (Engagement::Waiting { patience, .. }, _) => match patience {
                Patience::Until(until) => (*until, "play_wait_timeout"),
                Patience::WithPublisher => return None,
                Patience::AfterOrigins(_) => (
                    last_word + config.idle_timeout,
                    "idle_timeout, for the origins",
                ),
            },
            (Engagement::Publishing { first: true, .. }, Some(vhost)) => (
                last_word + vhost.publish_1stpkt_timeout,
                "publish_1stpkt_timeout",
            ),
            (Engagement::Publishing { .. }, Some(vhost)) => (
                last_word + vhost.publish_normal_timeout,
                "publish_normal_timeout",
            ),
            _ => match self.session.phase() {
                Phase::Handshake => (
                    self.accepted + config.handshake_timeout,
                    "handshake_timeout",
                ),
                Phase::Connecting => (self.accepted + config.connect_timeout, "connect_timeout"),
                Phase::Connected => (last_word + config.idle_timeout, "idle_timeout"),
            },
        })
    }

    /// Ends what the connection is engaged in.
    fn disengage(&mut self) {
        let engagement = std::mem::replace(&mut self.engagement, Engagement::None);
        match engagement {
            Engagement::Publishing {
                stream,
                parameters,
                sink,
                begun,
                superseded,
                ..
            } => {
                log_publish(&self.client, stream.key(), &begun);
                let ends_publication = match sink {
                    Sink::Log { publication, .. } => {
                        // Whether there is another is asked when this is told.
                        drop(publication);
                        true
                    }
                    Sink::Origin(dialled) => {
                        tokio::spawn(tokio::time::timeout(FAREWELL_TIMEOUT, dialled.close()));
                        false
                    }
                };
                if let Some(vhost) = self.vhost.as_ref().filter(|_| !superseded) {
                    let event = StreamEvent {
                        action: "on_unpublish",
                        ends_publication,
                        ..self.stream_event(&stream, &parameters)
                    };
                    let urls = &vhost.http_hooks.on_unpublish;
                    self.server.hooks.tell(urls, &event);
                }
            }
            Engagement::Waiting { play, .. } | Engagement::Playing(play) => self.tell_stop(&play),
            Engagement::None => {}
        }
        self.client.set_activity(Activity::Idle);
    }

    /// What hooks are told of the client and `stream`, to which it has said
    /// `parameters`.
    fn stream_event<'a>(
        &'a self,
        stream: &'a Arc<Stream>,
        parameters: &'a Parameters,
    ) -> StreamEvent<'a> {
        StreamEvent {
            action: "",
            client: &self.client,
            connect_info: &self.connect_info,
            parameters,
            stream,
            ends_publication: false,
        }
    }

    /// Tells `on_stop` of a client that was let in by `on_play`, and plays no
    /// more or never did.
    fn tell_stop(&self, play: &Play) {
        let Some(vhost) = &self.vhost else { return };
        let event = StreamEvent {
            action: "on_stop",
            ..self.stream_event(play.subscription.stream(), &play.request.parameters)
        };
        self.server.hooks.tell(&vhost.http_hooks.on_stop, &event);
    }

    /// Sends what is to be sent to either side.
    async fn flush(&mut self) -> Result<(), End> {
        if matches!(self.engagement, Engagement::Playing(_)) {
            // The replies to an accepted play go out with the stream's headers.
            return Ok(());
        }
        let idle = self.server.config().idle_timeout;
        let vhost = self.vhost.as_ref();
        let patience = vhost.map_or(idle, |vhost| vhost.send_timeout.min(idle));
        if !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            let sent = tokio::time::timeout(patience, self.socket.write_all(&out)).await;
            sent.map_err(|_| End::Stalled)??;
            let bytes = &self.client.meter.bytes;
            bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        }
        if let Engagement::Publishing {
            sink: Sink::Origin(dialled),
            ..
        } = &mut self.engagement
        {
            let sent = tokio::time::timeout(patience, dialled.flush()).await;
            let sent = sent.unwrap_or(Err(dial::End::Slow(patience)));
            return sent.map_err(|end| self.origin_lost(end));
        }
        Ok(())
    }

    /// Sends the last words, and reads what the peer still sends: closing with
    /// unread input would throw away our last words with it (RFC 1122
    /// §4.2.2.13).
    async fn farewell(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.out).await?;
        self.socket.shutdown().await?;
        loop {
            self.socket.readable().await?;
            // Not held while it waits: every connection's task would be larger
            // by that much, from its first moment on.
            let mut ignored = [0; COMMAND_READ_SIZE];
            match self.socket.try_read(&mut ignored) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }
}

/// Reads at most so many bytes into `input`, once there are some: until then no
/// room is taken for them.
async fn read_up_to(most: usize, socket: &TcpStream, input: &mut BytesMut) -> io::Result<usize> {
    loop {
        socket.readable().await?;
        input.reserve(most);
        match socket.try_read_buf(input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that a task takes which runs `future`.
    fn size_of_task<F>(_: fn(Box<Connection>) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of players join within a second, and each has a task until it
    /// plays: what that takes must not exceed what playing does.
    #[test]
    fn a_connections_task_is_small() {
        let size = size_of_task(Connection::run);
        assert!(size <= 1_024, "{size} bytes");
    }
}
