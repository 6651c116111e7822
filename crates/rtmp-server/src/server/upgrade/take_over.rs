//! A server goes on with what the process has had before.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use rtmp_proto::session::{Parameters, StreamKey};
use service_kit::process::end_former_children;

use super::parts::{ByStream, ClientsPart, CountersPart};
use super::{Phase, ServerPart};
use crate::config::{Config, Origin, Role};
use crate::hand_over::{HandOverError, Inherited, Steps};
use crate::server::admission::Admitted;
use crate::server::client::{Activity, Client, ClientProtocol, StatsSnapshot};
use crate::server::connection::close::log_publish;
use crate::server::connection::{Connection, ConnectionPart};
use crate::server::dvr::RecorderPart;
use crate::server::forward::ForwardPart;
use crate::server::hls::SessionUse;
use crate::server::hooks::StreamEvent;
use crate::server::http::{self, HttpPart};
use crate::server::player::ConnectInfo;
use crate::server::slate::{self, Showing, SlatePart};
use crate::server::upstream::{self, PullPart, PullParts};
use crate::server::viewer::Viewer;
use crate::server::{Identity, Server, dvr, forward, stream_settings};
use crate::stream::fanout::{Adopting, Delivery, PlayerPart};
use crate::stream::{Stream, TakenStream, lock};
use crate::transport::StdTransport;

/// What goes on with the server.
#[derive(Debug, Default)]
struct Taken {
    streams: HashMap<u64, Arc<Stream>>,
    /// Clients that somebody goes on with.
    clients: Vec<u64>,
    /// Publications that somebody goes on with: the stream, and their number there.
    publications: Vec<(u64, u64)>,
}

impl Server {
    /// Starts a server that goes on with what `part` has. It must be called within a tokio
    /// runtime. What cannot be taken over is left out, with a line in the log. `steps` get what the
    /// time has gone by with.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub(crate) async fn take_over(
        role: Role,
        config: Config,
        part: ServerPart,
        mut inherited: Inherited,
        steps: &mut Steps,
    ) -> io::Result<Arc<Self>> {
        // Programs of `ingest`, `transcode` and `exec`: the sweep starts them again.
        end_former_children();
        let identity = Identity {
            id: part.id,
            started: part.started,
            epoch: part.registry.epoch,
        };
        // Nobody sweeps or measures what is not complete.
        let server = Self::start_as(identity, role, config, Phase::Settling)?;
        server.events.take_over(part.events);
        for (key, record) in part.dvr_orders {
            server.dvr.order(key, record);
        }
        server.take_counters(part.counters);
        // None is posted before it is known who publishes.
        server.hooks.hold();
        let weak = Arc::downgrade(&server);
        server.hooks.resume(part.notifications, move |key| {
            let stream = weak.upgrade().and_then(|it| it.registry.find(key));
            stream.is_some_and(|stream| stream.has_encoder())
        });
        steps.end("started");
        server.take_clients(part.clients);
        let outputs = part.program_outputs;
        server.programs.take_over(outputs, &server.clients);
        steps.end("clients");
        if let Some(load) = part.load {
            server.load.take_over(load);
        }
        let config = server.config();
        let settings = |key: &StreamKey| {
            config
                .vhost(&key.vhost)
                .map(|vhost| stream_settings(&config, vhost))
        };
        let registry = &server.registry;
        let streams = registry.take_over(part.registry, settings, &mut inherited);
        let mut taken = Taken::default();
        for stream in &streams {
            let stream = &stream.stream;
            taken.streams.insert(stream.id(), stream.clone());
        }
        let viewers = server
            .hls
            .take_over(&server, part.hls, &taken.streams, &mut inherited);
        taken.clients.extend(viewers);
        steps.end("streams");
        // Before anybody publishes: what players read is not given back meanwhile.
        server
            .take_players(part.players, &streams, &mut taken, &mut inherited)
            .await;
        steps.end("players");
        let now = Instant::now();
        for TakenStream { stream, .. } in &streams {
            stream.excuse_silence(now);
        }
        // Before pulls go on, which may publish at once.
        let former: Vec<_> = streams.iter().map(|it| it.stream.publisher_ids()).collect();
        let connections = server.take_connections(part.connections, &mut taken, &mut inherited);
        let http = server.take_http(part.http, &mut taken, &mut inherited);
        let pulls = PullParts {
            single: ByStream::new(part.pulls, PullPart::stream_id),
            legs: ByStream::new(part.legs, PullPart::stream_id),
            merged: part.merged,
        };
        server.take_pulls(&pulls, &streams, &mut taken, &mut inherited);
        let mut slates = take_slates(part.slates, &mut taken);
        let publications = ByStream::new(std::mem::take(&mut taken.publications), |it| it.0);
        let forwards = ByStream::new(part.forwards, ForwardPart::stream_id);
        let recordings = ByStream::new(part.recordings, RecorderPart::stream_id);
        for (it, former) in streams.iter().zip(former) {
            let stream = &it.stream;
            let resumed = publications.of(stream).iter();
            let resumed: Vec<_> = resumed.map(|(_, publication)| *publication).collect();
            let has_ended = former.iter().any(|id| !resumed.contains(id));
            stream.end_publishers(former, &resumed);
            if it.part.has_slate_task {
                slate::resume(&server, it, slates.remove(&stream.id()));
            } else if has_ended {
                slate::arm(&server, stream);
            }
            forward::take_over(&server, it, forwards.of(stream), &mut inherited);
            dvr::take_over(&server, it, recordings.of(stream), &mut inherited);
        }
        // A file that nobody goes on with is not locked when others look for such.
        drop(inherited);
        server.forget_others(&taken);
        for connection in connections {
            tokio::spawn(Box::new(connection).run());
        }
        for connection in http {
            tokio::spawn(Box::new(connection).run());
        }
        server.hooks.go_on();
        server.safepoint.set_phase(Phase::Running);
        steps.end("connections");
        Ok(server)
    }

    fn take_counters(&self, part: CountersPart) {
        self.refusals.add(&part.refusals);
        self.switches.add(&part.switches);
        self.add_totals(&part.totals);
        self.hooks.take_over(&part.hooks);
        let workers = self.flush_times().count();
        for (number, counts) in part.flush_times.iter().enumerate() {
            // There may be fewer workers now: totals stay what they are.
            if let Some(times) = self.flush_times().nth(number % workers.max(1)) {
                times.add(counts);
            }
        }
        self.lag_times.add(&part.lag_times);
        let mut good = lock(&self.last_good_origins);
        for (vhost, origin) in part.last_good_origins {
            good.extend(Origin::parse(&origin).map(|origin| (vhost, origin)));
        }
    }

    fn take_clients(&self, part: ClientsPart) {
        let counted: HashMap<_, _> = part
            .clients
            .iter()
            .filter_map(|client| {
                let (action, key) = client.counted()?;
                Some((client.id, (action, Arc::new(key.clone()))))
            })
            .collect();
        for client in self.clients.take_over(part) {
            if let Some((action, key)) = counted.get(&client.id) {
                let permit = self.quotas.resume(key.clone(), *action, client.peer.ip());
                client.hold(Admitted::resume(permit));
            }
        }
    }

    async fn take_players(
        &self,
        parts: Vec<PlayerPart>,
        streams: &[TakenStream],
        taken: &mut Taken,
        inherited: &mut Inherited,
    ) {
        let anew: Vec<_> = streams
            .iter()
            .filter(|stream| stream.is_new_log)
            .map(|stream| stream.stream.id())
            .collect();
        let mut players = Vec::with_capacity(parts.len());
        for mut part in parts {
            let id = part.id;
            if anew.contains(&part.stream) {
                part.wait_for_keyframe();
            }
            match self.take_player(part, taken, inherited) {
                Ok(player) => {
                    taken.clients.push(id);
                    players.push(player);
                }
                Err(error) => log::warn!("c{id}: {error}"),
            }
        }
        self.fanout.adopt(players).await;
    }

    fn take_player(
        &self,
        part: PlayerPart,
        taken: &Taken,
        inherited: &mut Inherited,
    ) -> Result<Adopting<Viewer>, HandOverError> {
        let client = self.clients.handed_over(part.id)?;
        let stream = taken.streams.get(&part.stream).cloned();
        let missing = || HandOverError::Missing(format!("stream {}", part.stream));
        let stream = stream.ok_or_else(missing)?;
        let delivery = match part.framing {
            None => Delivery::Chunks,
            Some(framing) => Delivery::Flv(stream.flv_log(framing)?),
        };
        let subscription = stream.add_subscription();
        Ok(Adopting {
            socket: StdTransport::take_over(&part.socket, inherited)?,
            dialogue: Viewer::take_over(&part, self, client.clone(), subscription)?,
            meter: client.meter.clone(),
            delivery,
            stream,
            part,
        })
    }

    fn take_connections(
        self: &Arc<Self>,
        parts: Vec<ConnectionPart>,
        taken: &mut Taken,
        inherited: &mut Inherited,
    ) -> Vec<Connection> {
        let mut connections = Vec::new();
        for part in parts {
            let id = part.client;
            match Connection::take_over(self, part, &taken.streams, inherited) {
                Ok(connection) => {
                    taken.clients.push(id);
                    taken.publications.extend(connection.publication());
                    connections.push(connection);
                }
                Err(error) => log::warn!("c{id}: {error}"),
            }
        }
        connections
    }

    fn take_http(
        self: &Arc<Self>,
        parts: Vec<HttpPart>,
        taken: &mut Taken,
        inherited: &mut Inherited,
    ) -> Vec<http::Connection> {
        let mut connections = Vec::new();
        let viewers = parts.iter().filter_map(HttpPart::viewer).collect();
        let sessions = self.hls.use_again(&viewers);
        for part in parts {
            let id = part.client;
            let session = part.viewer().and_then(|id| sessions.get(&id));
            let session = session.map(SessionUse::again);
            match http::Connection::take_over(self, part, &taken.streams, session, inherited) {
                Ok(connection) => {
                    taken.clients.push(id);
                    connections.push(connection);
                }
                Err(error) => log::warn!("c{id}: {error}"),
            }
        }
        connections
    }

    /// Goes on with the pulls, and begins those anew that were not to be handed over.
    fn take_pulls(
        self: &Arc<Self>,
        parts: &PullParts,
        streams: &[TakenStream],
        taken: &mut Taken,
        inherited: &mut Inherited,
    ) {
        let config = self.config();
        self.pulls.take_over(&parts.merged);
        for TakenStream { stream, part, .. } in streams {
            let vhost = config.vhost(&stream.key().vhost);
            let settings = vhost.and_then(|vhost| vhost.upstream.as_ref());
            let Some(settings) = settings.filter(|_| part.is_pulled) else {
                continue;
            };
            let publication = upstream::resume_pull(self, stream, settings, parts, inherited);
            let publication = publication.map(|publication| (stream.id(), publication));
            taken.publications.extend(publication);
        }
    }

    /// Forgets the clients that nobody goes on with. Those that the server itself is, whose
    /// sources it fetches anew, are none that were to be handed over.
    fn forget_others(&self, taken: &Taken) {
        let known: std::collections::HashSet<_> = taken.clients.iter().copied().collect();
        let mut clients = self.clients.list();
        clients.retain(|client| !known.contains(&client.id));
        let mut lost = 0;
        for client in &clients {
            let is_lost = client.protocol() != ClientProtocol::Ingest;
            lost += usize::from(is_lost);
            self.tell_unpublished(client);
            self.clients.remove(client.id, is_lost);
        }
        if lost > 0 {
            log::warn!("upgrade: {lost} connections were not handed over, and have ended");
        }
    }

    /// Logs and tells hooks that what `client` has published, if it has, has ended: whoever
    /// comes back publishes anew.
    fn tell_unpublished(&self, client: &Client) {
        let (Activity::Publishing(key) | Activity::StandingBy(key)) = client.activity() else {
            return;
        };
        log_publish(self, client, &key, &StatsSnapshot::at_beginning(client));
        let config = self.config();
        let vhost = config.vhost(&key.vhost);
        let Some((stream, vhost)) = self.registry.find(&key).zip(vhost) else {
            return;
        };
        let parameters = match client.protocol() {
            ClientProtocol::Ingest => Parameters::default(),
            _ => stream.parameters(),
        };
        let urls = client.urls();
        let event = StreamEvent {
            action: "on_unpublish",
            client,
            connect_info: &ConnectInfo {
                app: key.app.clone(),
                tc_url: urls.map(|it| it.tc_url.clone()).unwrap_or_default(),
                ..ConnectInfo::default()
            },
            parameters: &parameters,
            stream: &stream,
            ends_publication: vhost.upstream.is_none(),
        };
        self.hooks.notify(&vhost.http_hooks.on_unpublish, &event);
    }
}

/// Goes on with the publications of slates, by the ids of their streams.
fn take_slates(parts: Vec<SlatePart>, taken: &mut Taken) -> HashMap<u64, Showing> {
    let mut slates = HashMap::new();
    for part in parts {
        let id = part.stream_id();
        let Some(stream) = taken.streams.get(&id) else {
            continue;
        };
        match part.take_over(stream) {
            Ok(showing) => {
                taken.publications.push((id, showing.publication.id()));
                slates.insert(id, showing);
            }
            Err(error) => log::warn!("{}: its slate {error}: it begins anew", stream.key()),
        }
    }
    slates
}
