//! One connection, from its handshake to its end: commands, publishing, and
//! waiting for a stream. Players are handed to the fan-out workers.

pub(super) mod close;
mod handover;
mod part;
mod play;
mod publishing;
mod requests;
mod role;
mod socket_io;
mod timeouts;
mod turns;
pub(super) mod waiting;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, BytesMut};
use rtmp_proto::session::{ServerEvent, ServerSession};
use service_kit::sleep_until;
use tokio::sync::watch;
use tokio::time::Instant;

use close::{CloseReason, GRACEFUL_CLOSE_TIMEOUT, log_close};
pub(super) use part::ConnectionPart;
use play::Play;
use publishing::StreamChange;
use role::ConnectionRole;
use socket_io::{COMMAND_READ_SIZE, MEDIA_READ_SIZE};

use super::Server;
use super::client::Client;
use super::memory::exceeds_memory_share;
use super::player::ConnectInfo;
use super::socket::close_gracefully;
use super::upgrade::{Participant, RequestInProgress};
use crate::config::{Config, Vhost};
use crate::stream::memory::Holding;
use crate::transport::Transport;

/// The event that ends a connection's wait.
enum ConnectionEvent {
    /// Number of bytes that came; 0: the peer has closed.
    Bytes(usize),
    /// Something has changed at the stream that is published or waited for.
    Stream(StreamChange),
    /// An operator, or the server's stop, ends the connection.
    Dismissed,
    /// Another configuration is in force.
    ConfigChanged,
    /// The deadline has passed.
    Timeout,
}

/// A connection that a tokio task serves.
///
/// ```text
/// accept ──▶ serve_requests ──accepted play──▶ fan-out worker
///                 │    ▲                             │
///                 │    └────── the play ends ────────┤
///                 ▼                                  ▼
///            graceful close ◀─── connection ends, peer to be told
/// ```
///
/// Within `serve_requests` its state is the [`ConnectionRole`].
pub(super) struct Connection {
    server: Arc<Server>,
    /// It stands still before an upgrade.
    participant: Participant,
    /// The request that is being answered: an upgrade waits for it. Here, since tasks are to
    /// be small.
    under_way: Option<RequestInProgress>,
    client: Arc<Client>,
    socket: Transport,
    session: ServerSession,
    /// Memory that its incomplete messages take, of what all connections share.
    held: Holding,
    /// The vhost of `connect`, or of a later publish or play.
    vhost: Option<Arc<Vhost>>,
    /// The client's description of itself in `connect`.
    connect_info: ConnectInfo,
    role: ConnectionRole,
    input: BytesMut,
    out: Vec<u8>,
    accepted: Instant,
    /// Time of its last input. Here, since tasks are to be small.
    last_input: Instant,
    /// Reason to close it, while the peer is still to be told: at once, if its fan-out worker
    /// has ended it.
    close_reason: Option<CloseReason>,
    /// A request that has been read and not answered. Nothing is read until it
    /// has been: what follows depends on the answer.
    pending_request: Option<Box<ServerEvent>>,
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(server: Arc<Server>, client: Arc<Client>, socket: Transport) -> Self {
        let session = ServerSession::new(&server.limits);
        let held = Holding::new(server.messages.clone());
        Self {
            participant: server.safepoint.join(),
            under_way: None,
            server,
            client,
            socket,
            session,
            held,
            vhost: None,
            connect_info: ConnectInfo::default(),
            role: ConnectionRole::Idle,
            input: BytesMut::new(),
            out: Vec::new(),
            accepted: Instant::now(),
            last_input: Instant::now(),
            close_reason: None,
            pending_request: None,
        }
    }

    /// Serves the connection until it ends or plays. It is boxed so that it is
    /// in the task only once.
    pub(super) async fn run(mut self: Box<Self>) {
        let reason = match self.close_reason.take() {
            Some(reason) => reason,
            None => match self.serve_requests().await {
                Ok(play) => {
                    self.hand_to_worker(play);
                    return;
                }
                Err(reason) => reason,
            },
        };
        // Boxed, as it is needed once.
        Box::pin(self.close(reason)).await;
    }

    /// Ends the connection: tells the peer, then the hooks.
    async fn close(mut self: Box<Self>, reason: CloseReason) {
        self.notify_peer(&reason);
        // The publication ends before the graceful close: the next publisher
        // need not wait for a slow peer.
        self.end_role();
        if !matches!(reason, CloseReason::Closed | CloseReason::Lost(_)) {
            let Self {
                participant,
                socket,
                out,
                ..
            } = &mut *self;
            let closing = close_gracefully(socket, out);
            let mut closing = pin!(tokio::time::timeout(GRACEFUL_CLOSE_TIMEOUT, closing));
            // Hooks hear of the end from whoever has it: it is not put off beyond an upgrade.
            let _ = participant.unless_frozen(closing.as_mut()).await;
        }
        log_close(
            &self.server,
            &self.client,
            self.vhost.as_deref(),
            &self.connect_info,
            &reason,
        );
    }

    /// Reads and answers until a play is accepted.
    async fn serve_requests(&mut self) -> Result<Play, CloseReason> {
        self.last_input = Instant::now();
        let mut configuration = self.server.config.subscribe();
        self.refresh_vhost();
        loop {
            let mut processed = self.process_input();
            while processed.is_ok()
                && let Some(request) = self.pending_request.take()
            {
                self.under_way = self.participant.begin_request();
                if self.under_way.is_none() {
                    // An upgrade is near: the request is answered afterwards, by whichever
                    // program.
                    self.pending_request = Some(request);
                    Box::pin(self.wait_for_upgrade()).await;
                    continue;
                }
                // Boxed: requests to web servers and origins make a large
                // future, and few connections wait for one at a time.
                let answered = Box::pin(self.handle_request(*request)).await;
                self.under_way = None;
                processed = answered.and_then(|()| self.process_input());
                // The time that the decision took is not the client's silence.
                self.last_input = Instant::now();
            }
            let processed = processed.and_then(|()| self.account_memory());
            // Replies go out in one write, even those before an error. The first
            // error counts: that a client who has gone could not be told of it
            // does not matter. Kept meanwhile: a connection that ends is not handed over.
            self.close_reason = processed.err();
            let flushed = self.flush().await;
            if let Some(reason) = self.close_reason.take() {
                return Err(reason);
            }
            flushed?;
            match std::mem::take(&mut self.role) {
                ConnectionRole::Playing(play) => return Ok(play),
                other => self.role = other,
            }
            let deadline = self.deadline(self.last_input);
            match self.next_event(deadline, &mut configuration).await? {
                ConnectionEvent::Bytes(0) => return Err(CloseReason::Closed),
                ConnectionEvent::Bytes(count) => {
                    self.last_input = Instant::now();
                    self.client
                        .received
                        .fetch_add(count as u64, Ordering::Relaxed);
                }
                ConnectionEvent::Stream(StreamChange::Origin(Err(error))) => {
                    return Err(self.on_origin_lost(error));
                }
                ConnectionEvent::Stream(_) => {}
                ConnectionEvent::Dismissed => return Err(CloseReason::Dismissed),
                ConnectionEvent::ConfigChanged => {
                    self.refresh_vhost();
                    self.announce_drain();
                    if self.participant.is_frozen() {
                        self.stand_still().await;
                    }
                }
                ConnectionEvent::Timeout => return Err(self.on_timeout(self.last_input)),
            }
            self.on_stream_state_changed()?;
            if self.wait_for_merged_read(&mut configuration).await? {
                // The publisher's time-out counts from when it is read again.
                self.last_input = Instant::now();
            }
        }
    }

    /// Waits while requests have to, and stands still if everybody has to.
    async fn wait_for_upgrade(&mut self) {
        self.participant.settling().await;
        if self.participant.is_frozen() {
            self.park().await;
        }
        // Nobody has listened meanwhile.
        self.last_input = Instant::now();
    }

    /// Stands still until everybody goes on.
    async fn stand_still(&mut self) {
        // Boxed, as an upgrade is rare.
        Box::pin(self.park()).await;
        // Nobody has listened meanwhile.
        self.last_input = Instant::now();
    }

    /// Waits for the first event.
    async fn next_event(
        &mut self,
        deadline: Option<Instant>,
        configuration: &mut watch::Receiver<Arc<Config>>,
    ) -> io::Result<ConnectionEvent> {
        let max_bytes = match self.role {
            ConnectionRole::Publishing(_) => MEDIA_READ_SIZE,
            _ => COMMAND_READ_SIZE,
        };
        let role = &mut self.role;
        // In this order: input that has come counts before the deadline that
        // has passed meanwhile.
        tokio::select! {
            biased;
            () = self.client.dismissal() => Ok(ConnectionEvent::Dismissed),
            change = role.next_event() => Ok(ConnectionEvent::Stream(change)),
            // An error cannot be: the sender is the server's, which we hold.
            _ = configuration.changed() => Ok(ConnectionEvent::ConfigChanged),
            read = self.socket.read(max_bytes, &mut self.input) => {
                read.map(ConnectionEvent::Bytes)
            }
            () = sleep_until(deadline) => Ok(ConnectionEvent::Timeout),
        }
    }

    /// Processes the bytes that have been read, event by event.
    fn process_input(&mut self) -> Result<(), CloseReason> {
        let bytes = self.input.split();
        let mut input = &bytes[..];
        let processed = loop {
            // The rest is read later: after the answer to a request, or, behind
            // an accepted play, by the worker's dialogue.
            let playing = matches!(self.role, ConnectionRole::Playing(_));
            if playing || self.pending_request.is_some() {
                break Ok(());
            }
            match self.session.read(&mut input, &mut self.out) {
                Ok(Some(event)) => {
                    if let Err(reason) = self.handle_event(event) {
                        break Err(reason);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        let unread = input.len();
        let appended = self.append_batch();
        self.input = bytes;
        let read = self.input.len() - unread;
        self.input.advance(read);
        if self.input.is_empty() && !matches!(self.role, ConnectionRole::Publishing(_)) {
            // No buffer is kept for a connection that only sends commands: there
            // may be thousands of them.
            self.input = BytesMut::new();
        }
        processed.and(appended)
    }

    fn handle_event(&mut self, event: ServerEvent) -> Result<(), CloseReason> {
        match event {
            ServerEvent::Connect(_) | ServerEvent::Publish(_) | ServerEvent::Play(_) => {
                self.pending_request = Some(Box::new(event));
            }
            ServerEvent::Refused(status) => self.client.log_refusal(&status),
            ServerEvent::Media(message) => {
                // Media of a connection that publishes nothing is ignored.
                if let ConnectionRole::Publishing(publishing) = &mut self.role {
                    publishing.receive(message, &self.client);
                }
            }
            ServerEvent::PublishEnded { .. } => {
                self.append_batch()?;
                self.end_role();
            }
            ServerEvent::PlayEnded { .. } => {
                if matches!(self.role, ConnectionRole::Waiting(_)) {
                    self.end_role();
                }
            }
            ServerEvent::Pause { .. }
            | ServerEvent::ReceiveAudio { .. }
            | ServerEvent::ReceiveVideo { .. } => {
                if let ConnectionRole::Waiting(waiting) = &mut self.role {
                    waiting.play.options.record(&event);
                }
            }
            ServerEvent::BufferLength { .. }
            | ServerEvent::Acknowledged(_)
            | ServerEvent::Pong(_) => {}
        }
        Ok(())
    }

    /// Appends what a publisher sent with the present read.
    fn append_batch(&mut self) -> Result<(), CloseReason> {
        match &mut self.role {
            ConnectionRole::Publishing(publishing) => {
                publishing.append_batch(self.session.unfinished_bytes() > 0)?;
            }
            _ => return Ok(()),
        }
        self.note_turn();
        Ok(())
    }

    /// Accounts for the memory of incomplete messages, of what an origin has
    /// not taken yet, and of a standby's group of pictures.
    fn account_memory(&mut self) -> Result<(), CloseReason> {
        let mut bytes = self.session.unfinished_bytes();
        if let ConnectionRole::Publishing(publishing) = &self.role {
            bytes += publishing.held_bytes();
        }
        self.held.set(bytes as u64);
        if exceeds_memory_share(&self.held) {
            return Err(CloseReason::NoMemory);
        }
        Ok(())
    }

    /// Asks the client to connect again, if the server drains.
    fn announce_drain(&mut self) {
        if self.server.is_draining() {
            let session = &mut self.session;
            self.connect_info.request_reconnect(session, &mut self.out);
        }
    }

    /// Takes the vhost's settings from the configuration in force.
    fn refresh_vhost(&mut self) {
        self.vhost = self
            .vhost
            .take()
            .map(|vhost| self.server.current_vhost(vhost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size in bytes of the task that runs `future`.
    fn size_of_task<F>(_: fn(Box<Connection>) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of players join within a second, and each has a task until it
    /// plays: its memory must not exceed that of a player.
    #[test]
    fn a_connections_task_is_small() {
        let size = size_of_task(Connection::run);
        assert!(size <= 1_024, "{size} bytes");
    }
}
