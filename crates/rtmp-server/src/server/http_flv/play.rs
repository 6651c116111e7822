//! A play that was asked for over HTTP: checks, hooks, the wait for the stream, and the
//! way to the fan-out worker.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use http_flv::request::{Method, Request};
use http_flv::{tag, websocket};
use rtmp_proto::session::status::code;
use rtmp_proto::session::{AppName, Parameters, StreamKey};
use tokio::time::Instant;

use super::player::FlvPlayer;
use super::{Connection, NoStream, answers, read};
use crate::config::{Action, HttpRemux, Vhost};
use crate::server::admission::Asked;
use crate::server::clients::{Activity, StatsSnapshot};
use crate::server::connection::close::CloseReason;
use crate::server::connection::waiting::PlayWait;
use crate::server::hooks::StreamEvent;
use crate::server::loop_guard::LoopGuard;
use crate::server::player::ConnectInfo;
use crate::server::socket::prepare_playing;
use crate::server::upstream::{self, permission};
use crate::server::viewer::Viewer;
use crate::stream::fanout::{Delivery, Joining};
use crate::stream::{FlvLog, PerTrack, Stream, Subscription};

/// A play that `on_play` has let in.
pub(super) struct Play {
    vhost: Arc<Vhost>,
    parameters: Parameters,
    connect_info: ConnectInfo,
    subscription: Subscription,
    /// The value of `Sec-WebSocket-Accept` for WebSocket-FLV.
    websocket: Option<String>,
}

/// A stream that was asked for.
struct Wanted {
    vhost: Arc<Vhost>,
    key: StreamKey,
    parameters: Parameters,
    connect_info: ConnectInfo,
}

impl Connection {
    /// Makes all checks, with the requests to hooks and origins.
    pub(super) async fn request_play(&self, request: Request) -> Result<Box<Play>, NoStream> {
        let wanted = self.find_wanted(&request)?;
        let Wanted {
            vhost,
            key,
            parameters,
            connect_info,
        } = wanted;
        let server = &self.server;
        if request.method == Method::Head {
            // Who asks for the head does not play: hooks get no request, and no pull begins.
            let stream = server.registry.find(&key);
            let live = stream.is_some_and(|stream| stream.state().borrow().live);
            if live || vhost.upstream.is_some() {
                return Err(NoStream::Answered(answers(server).stream()));
            }
            return Err(nobody_publishes(&key));
        }
        let stream = server.stream(&key, &vhost);
        let permit =
            server
                .quotas
                .acquire(&vhost, stream.key(), Action::Play, self.client.peer.ip());
        let permit = permit.map_err(|it| NoStream::Refused(it.status(), it.to_string()))?;
        let event = StreamEvent {
            action: "on_play",
            client: &self.client,
            connect_info: &connect_info,
            parameters: &parameters,
            stream: &stream,
            ends_publication: false,
        };
        let hooks = &vhost.http_hooks;
        if !server.hooks.authorize(&hooks.on_play, &event).await {
            return Err((403, "not allowed").into());
        }
        if let Some(settings) = vhost.upstream.as_ref().filter(|it| it.token_traverse) {
            let loop_guard = LoopGuard::default().with(&server.id);
            let asked =
                permission::request_play(server, settings, &key, &parameters, &loop_guard).await;
            asked.map_err(|refusal| {
                let event = StreamEvent {
                    action: "on_stop",
                    ..event
                };
                server.hooks.notify(&hooks.on_stop, &event);
                match refusal.code == code::PLAY_STREAM_NOT_FOUND {
                    true => nobody_publishes(&key),
                    false => NoStream::Refused(403, refusal.to_string()),
                }
            })?;
        }
        // Looked up again: nothing kept the stream from ending during the requests to
        // hooks and origins.
        let stream = server.stream(&key, &vhost);
        let subscription = stream.add_subscription();
        self.client.hold(permit);
        if let Some(settings) = &vhost.upstream {
            upstream::ensure_pull(server, &stream, settings, &parameters);
        }
        Ok(Box::new(Play {
            vhost,
            parameters,
            connect_info,
            subscription,
            websocket: request.websocket,
        }))
    }

    /// The stream that `request` names, if the client may ask for it.
    fn find_wanted(&self, request: &Request) -> Result<Wanted, NoStream> {
        let server = &self.server;
        let query = Parameters(request.query.clone());
        let named = query.get("vhost").or_else(|| query.get("domain"));
        let requested = named.unwrap_or(&request.host);
        let vhost = server.config().vhost(requested).cloned();
        let vhost = vhost.ok_or((404, "there is no such vhost here"))?;
        let remux = &vhost.http_remux;
        let place = remux.mount.stream(&request.path);
        // A `?` that was encoded would cut the name elsewhere.
        let place = place.filter(|_| remux.enabled && !request.path.contains('?'));
        let (app, name) = place.ok_or((404, "no stream is served at this path"))?;
        let app_name = AppName {
            vhost: requested.to_owned(),
            app: app.to_owned(),
            parameters: Parameters::default(),
        };
        let name = app_name.stream(&format!("{name}?{}", request.query), &server.limits);
        let name = name.map_err(|error| NoStream::Refused(404, error.to_string()))?;
        let key = StreamKey {
            vhost: vhost.name.clone(),
            ..name.key
        };
        let asked = Asked {
            action: Action::Play,
            key: &key,
            path: Some(&request.path),
            parameters: &name.parameters,
            page_url: request.page(),
            peer: self.client.peer.ip(),
        };
        let permitted = asked.check(&vhost);
        permitted.map_err(|reason| NoStream::Refused(403, reason.into_owned()))?;
        // CORS does not apply to WebSockets: a browser lets every page read them.
        let foreign = request.websocket.is_some() && request.is_of_another_site();
        if foreign && !answers(server).crossdomain {
            return Err((403, "not allowed from pages of other sites").into());
        }
        if server.is_draining() {
            return Err((503, "the server is about to stop").into());
        }
        let scheme = match self.client.tls() {
            Some(_) => "https",
            None => "http",
        };
        let connect_info = ConnectInfo {
            app: key.app.clone(),
            page_url: request.page().to_owned(),
            tc_url: format!("{scheme}://{}/{}", request.host, key.app),
            ..ConnectInfo::default()
        };
        Ok(Wanted {
            vhost,
            key,
            parameters: name.parameters,
            connect_info,
        })
    }

    /// Waits until there is something to play.
    pub(super) async fn wait(&mut self, play: &mut Play) -> Result<(), NoStream> {
        let stream = play.subscription.stream().clone();
        let key = stream.key();
        let mut states = stream.state();
        let mut state = *states.borrow_and_update();
        let begun = Instant::now();
        let mut wait = PlayWait::new(&state, &play.vhost, begun);
        let mut ignored = BytesMut::new();
        loop {
            if state.live {
                return self.check_wanted().await;
            }
            if state.ended {
                return Err(nobody_publishes(key));
            }
            self.client.set_activity(Activity::Waiting(key.clone()));
            let deadline = match wait {
                PlayWait::Until(until) => Some(until),
                PlayWait::ForPublisher => None,
                PlayWait::ForOrigins(_) => Some(begun + self.server.config().idle_timeout),
            };
            tokio::select! {
                biased;
                () = self.client.dismissal() => {
                    return Err((503, "the server ends the connection").into());
                }
                // An error cannot be: the sender lives as long as the stream.
                _ = states.changed() => {
                    state = *states.borrow_and_update();
                    play.vhost = self.server.current_vhost(play.vhost.clone());
                    wait = wait.after(&state, &play.vhost, Instant::now());
                }
                read = read(&mut self.socket, &self.client, &mut ignored) => {
                    read?;
                    ignored.clear();
                }
                () = service_kit::sleep_until(deadline) => return Err(nobody_publishes(key)),
            }
        }
    }
}

impl Connection {
    /// Refuses a client that an operator, or the server's stop, has ended while it waited
    /// or hooks were asked: at a worker nobody would find that out.
    async fn check_wanted(&self) -> Result<(), NoStream> {
        tokio::select! {
            biased;
            () = self.client.dismissal() => Err((503, "the server ends the connection").into()),
            () = std::future::ready(()) => match self.server.is_draining() {
                true => Err((503, "the server is about to stop").into()),
                false => Ok(()),
            },
        }
    }
}

fn nobody_publishes(key: &StreamKey) -> NoStream {
    NoStream::Refused(404, format!("nobody publishes {key}"))
}

impl Play {
    /// Notifies `on_stop`: the client does not get to play.
    pub(super) fn notify_stop(&self, connection: &Connection) {
        let event = StreamEvent {
            action: "on_stop",
            client: &connection.client,
            connect_info: &self.connect_info,
            parameters: &self.parameters,
            stream: self.subscription.stream(),
            ends_publication: false,
        };
        let hooks = &connection.server.hooks;
        hooks.notify(&self.vhost.http_hooks.on_stop, &event);
    }

    /// The log to play.
    pub(super) async fn flv_log(&self) -> Result<FlvLog, NoStream> {
        let stream = self.subscription.stream().clone();
        let obtained = if stream.has_flv_log() {
            stream.flv_log()
        } else {
            // The first player has the newest group of pictures copied, which takes
            // milliseconds.
            let stream = stream.clone();
            let made = tokio::task::spawn_blocking(move || stream.flv_log()).await;
            made.unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        obtained.map_err(|error| {
            log::warn!("{}: no log of FLV tags: {error}", stream.key());
            (503, "no memory is left for this stream").into()
        })
    }

    /// Hands the connection to a fan-out worker, with the answer's head as its first bytes.
    pub(super) fn hand_to_worker(self, log: FlvLog, connection: Connection) {
        let stream = self.subscription.stream().clone();
        let Connection {
            server,
            client,
            socket,
        } = connection;
        let remux = &self.vhost.http_remux;
        let header = file_header(remux, &stream);
        let answers = answers(&server);
        let mut unsent = Vec::new();
        let (protocol, delivery) = match &self.websocket {
            Some(accept) => {
                unsent.extend_from_slice(answers.websocket(accept).as_bytes());
                websocket::write_binary_header(header.len() as u64, &mut unsent);
                ("WebSocket-FLV", Delivery::WebSocket(log))
            }
            None => {
                unsent.extend_from_slice(answers.stream().as_bytes());
                ("HTTP-FLV", Delivery::Flv(log))
            }
        };
        unsent.extend_from_slice(&header);
        let tracks = PerTrack {
            audio: remux.has_audio || !remux.drop_if_not_match,
            video: remux.has_video || !remux.drop_if_not_match,
        };
        let send_timeout = self.vhost.send_timeout;
        let player = FlvPlayer {
            client: client.clone(),
            vhost: self.vhost,
            parameters: self.parameters,
            connect_info: self.connect_info,
            subscription: self.subscription,
            begun: StatsSnapshot::of(&client, std::time::Instant::now()),
            websocket: self.websocket.map(|_| websocket::FrameReader::default()),
            closed: false,
        };
        let socket = socket.into_std();
        let socket = match socket.and_then(|it| prepare_playing(it.tcp()).map(|()| it)) {
            Ok(socket) => socket,
            Err(error) => {
                player.notify_stop(&server);
                super::log_end(&server, &client, &CloseReason::Lost(error));
                return;
            }
        };
        log::info!("{client}: play {} by {protocol}", stream.key());
        client.set_activity(Activity::Playing(stream.key().clone()));
        server.fanout.join(Joining {
            id: client.id,
            socket,
            dialogue: Viewer::Flv(player),
            delivery,
            tracks,
            stream_id: FLV_STREAM,
            stream,
            unsent,
            requests: Vec::new(),
            meter: client.meter.clone(),
            gop_cache: None,
            at_once: false,
            send_timeout,
            duration: None,
        });
    }
}

/// The message stream of the log: FLV names none.
const FLV_STREAM: u32 = 1;

/// The file header for a player of `stream`.
fn file_header(remux: &HttpRemux, stream: &Stream) -> [u8; tag::FILE_HEADER_BYTES] {
    let PerTrack { audio, video } = stream.media();
    let (audio, video) = (remux.has_audio && audio, remux.has_video && video);
    if remux.guess_has_av && (audio || video) {
        tag::file_header(audio, video)
    } else {
        tag::file_header(remux.has_audio, remux.has_video)
    }
}
