//! A publisher within the process.
//!
//! It is a publisher of its stream like any other: `second_publisher` decides beside whom,
//! hooks are asked and told, recordings and programs begin with it, and the HTTP API shows it
//! as a client at 127.0.0.1, as which SRS's ffmpeg would come. `security`, `signed_urls` and
//! quotas are for those who come from elsewhere: the operator has named this source.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rtmp_proto::session::{Parameters, StreamKey};
use service_kit::sleep_until;
use tokio::sync::watch;

use super::error::IngestError;
use super::report::IngestReport;
use crate::config::Vhost;
use crate::server::client::{Client, ClientProtocol, ClientUrls, StatsSnapshot};
use crate::server::hooks::StreamEvent;
use crate::server::player::ConnectInfo;
use crate::server::turns::{self, Turn};
use crate::server::{EventKind, Server, connection, dvr, programs, slate};
use crate::stream::{Candidate, MediaMessage, Publication, Rank, Stream, StreamState};

/// A publisher within the process; dropped, it ends.
pub(super) struct Publisher {
    server: Arc<Server>,
    report: Arc<IngestReport>,
    vhost: Arc<Vhost>,
    stream: Arc<Stream>,
    client: ListedClient,
    connect_info: ConnectInfo,
    begun: StatsSnapshot,
    is_on_air: bool,
    /// Until it is dropped.
    publication: Option<Publication>,
    state: watch::Receiver<StreamState>,
}

/// A client in the table of clients; dropped, it is removed.
struct ListedClient {
    server: Arc<Server>,
    client: Arc<Client>,
}

impl std::ops::Deref for ListedClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for ListedClient {
    fn drop(&mut self) {
        self.server.clients.remove(self.client.id, false);
    }
}

/// What goes into `tcUrl` of hooks.
fn connect_info(server: &Server, key: &StreamKey) -> ConnectInfo {
    let port = crate::config::port(&server.config().listen);
    ConnectInfo {
        app: key.app.clone(),
        tc_url: format!("rtmp://127.0.0.1:{port}/{}", key.app).into(),
        ..ConnectInfo::default()
    }
}

impl Publisher {
    /// Publishes the stream `key`, or waits beside the one who does.
    ///
    /// # Errors
    /// It may not, or cannot.
    pub(super) async fn begin(
        server: &Arc<Server>,
        report: &Arc<IngestReport>,
        key: &StreamKey,
    ) -> Result<Self, IngestError> {
        let config = server.config();
        let vhost = config.vhost(&key.vhost).cloned();
        let vhost = vhost.ok_or_else(|| IngestError::NoVhost(key.vhost.clone()))?;
        let key = StreamKey {
            vhost: vhost.name.clone(),
            ..key.clone()
        };
        let stream = server.stream(&key, &vhost);
        let expectation = stream.expect_publisher();
        let now = Instant::now();
        if let Some(busy) = stream.refusal(Rank::Primary, now) {
            return Err(busy.into());
        }
        if !server.registry.logs().has_room(now) {
            return Err(IngestError::NoRoom);
        }
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let client = ListedClient {
            server: server.clone(),
            client: server.clients.add_own(peer, ClientProtocol::Ingest, now),
        };
        let connect_info = connect_info(server, &key);
        client.set_urls(ClientUrls {
            tc_url: connect_info.tc_url.clone(),
            ..ClientUrls::default()
        });
        let none = Parameters::default();
        let event = StreamEvent {
            action: "on_publish",
            client: &client,
            connect_info: &connect_info,
            parameters: &none,
            stream: &stream,
            ends_publication: false,
        };
        let urls = &vhost.http_hooks.on_publish;
        if !server.hooks.authorize(urls, &event).await {
            return Err(IngestError::Forbidden);
        }
        let candidate = Candidate {
            rank: Rank::Primary,
            client: Some(client.id),
        };
        let state = stream.state();
        let publication = stream.publish_as(candidate, Instant::now())?;
        drop(expectation);
        let is_on_air = publication.is_on_air();
        client.set_activity(turns::activity(&publication));
        // From here on its end is told, whenever it comes: also while it begins.
        let publisher = Self {
            begun: StatsSnapshot::of(&client, Instant::now()),
            server: server.clone(),
            report: report.clone(),
            vhost,
            stream,
            client,
            connect_info,
            is_on_air,
            publication: Some(publication),
            state,
        };
        let Self {
            client,
            stream,
            vhost,
            ..
        } = &publisher;
        let beside = if is_on_air { "" } else { " as a standby" };
        log::info!("{}: {}: publish {key}{beside}", **client, report.name());
        let events = server.events();
        events.record(
            EventKind::Publish,
            Some(&key),
            Some(peer.ip()),
            beside.trim(),
        );
        dvr::begin(server, stream, vhost).await;
        programs::published::begin(server, stream, vhost, client, &none, is_on_air);
        report.flow();
        Ok(publisher)
    }

    /// Publishes messages that have come together.
    ///
    /// # Errors
    /// The stream is no longer this publisher's, or cannot be written.
    pub(super) fn append(&mut self, messages: &[MediaMessage]) -> Result<(), IngestError> {
        let Some(publication) = &mut self.publication else {
            return Ok(());
        };
        let bytes = messages.iter().map(|it| it.message().payload.len() as u64);
        let bytes = bytes.sum();
        let pictures = messages.iter().filter(|it| it.is_picture()).count() as u64;
        let client = &*self.client;
        client.received.fetch_add(bytes, Ordering::Relaxed);
        let count = messages.len() as u64;
        client.messages_received.fetch_add(count, Ordering::Relaxed);
        client
            .pictures_received
            .fetch_add(pictures, Ordering::Relaxed);
        self.report.count_bytes(bytes);
        publication.append(messages, Instant::now())?;
        self.note_turn();
        Ok(())
    }

    /// Does what the stream's state asks for, until the publication ends. It may be dropped
    /// unfinished and called again.
    pub(super) async fn follow(&mut self) -> IngestError {
        let Err(error) = self.try_follow().await;
        error
    }

    async fn try_follow(&mut self) -> Result<Infallible, IngestError> {
        loop {
            let deadline = match &self.publication {
                Some(publication) => publication.deadline(Instant::now()),
                None => None,
            };
            tokio::select! {
                // An error cannot be: the sender is the stream's, which we hold.
                _ = self.state.changed() => {}
                () = sleep_until(deadline) => {}
                () = self.client.dismissal() => return Err(IngestError::Dismissed),
            }
            if let Some(publication) = &mut self.publication {
                publication.follow(Instant::now())?;
            }
            self.note_turn();
        }
    }

    fn note_turn(&mut self) {
        let Some(publication) = &mut self.publication else {
            return;
        };
        let turn = Turn {
            server: &self.server,
            client: &self.client,
            vhost: Some(&self.vhost),
            stream: &self.stream,
            parameters: &Parameters::default(),
            is_on_air: &mut self.is_on_air,
        };
        turn.note(publication);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        connection::close::log_publish(&self.server, &self.client, self.stream.key(), &self.begun);
        // Before the hook is queued, which is left out if the stream is published when its
        // turn comes.
        self.publication = None;
        slate::arm(&self.server, &self.stream);
        let event = StreamEvent {
            action: "on_unpublish",
            client: &self.client,
            connect_info: &self.connect_info,
            parameters: &Parameters::default(),
            stream: &self.stream,
            ends_publication: true,
        };
        let urls = &self.vhost.http_hooks.on_unpublish;
        self.server.hooks.notify(urls, &event);
    }
}
