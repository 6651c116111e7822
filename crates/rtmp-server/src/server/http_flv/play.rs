//! A play that was asked for over HTTP: checks, hooks, the wait for the stream, and the
//! way to the fan-out worker.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use http_flv::request::{Method, Request};
use http_flv::{tag, websocket};
use rtmp_proto::session::Parameters;
use serde::{Deserialize, Serialize};

use super::player::FlvPlayer;
use crate::config::{HttpRemux, Vhost};
use crate::hand_over::HandOverError;
use crate::server::Server;
use crate::server::client::{Activity, ClientProtocol, ClientUrls, StatsSnapshot};
use crate::server::connection::close::CloseReason;
use crate::server::hooks::StreamEvent;
use crate::server::http::close::log_end;
use crate::server::http::wanted::{Refusal, StreamWait, Wanted, find_vhost};
use crate::server::http::{Connection, NoStream, answers};
use crate::server::player::ConnectInfo;
use crate::server::refusal::Denial;
use crate::server::socket::prepare_playing;
use crate::server::upgrade::Participant;
use crate::server::viewer::Viewer;
use crate::stream::fanout::{Delivery, Joining};
use crate::stream::{FlvFraming, FlvLog, PerTrack, Stream, Subscription};

/// A play that `on_play` has let in.
pub(in crate::server) struct Play {
    vhost: Arc<Vhost>,
    parameters: Parameters,
    connect_info: ConnectInfo,
    subscription: Subscription,
    /// The value of `Sec-WebSocket-Accept` for WebSocket-FLV.
    websocket: Option<String>,
    /// The wait for the stream, once it has begun.
    wait: Option<StreamWait>,
}

impl Connection {
    /// Makes all checks, with the requests to hooks and origins.
    pub(in crate::server) async fn request_play(
        &self,
        request: Box<Request>,
    ) -> Result<Box<Play>, NoStream> {
        let server = &self.server;
        let wanted = self.find_wanted(&request)?;
        if request.method == Method::Head {
            // Who asks for the head does not play: hooks get no request, and no pull begins.
            let stream = server.registry.find(&wanted.key);
            let live = stream.is_some_and(|stream| stream.state().borrow().live);
            if live || wanted.vhost.upstream.is_some() {
                return Err(NoStream::Answered(answers(server).stream()));
            }
            return Err(Refusal::nobody_publishes(&wanted.key).into());
        }
        let _in_progress = server.safepoint.begin_request().await;
        let subscription = wanted.admit(server, &self.client).await?;
        Ok(Box::new(Play {
            vhost: wanted.vhost,
            parameters: wanted.parameters,
            connect_info: wanted.connect_info,
            subscription,
            websocket: request.websocket,
            wait: None,
        }))
    }

    /// The stream that `request` names, if the client may ask for it.
    fn find_wanted(&self, request: &Request) -> Result<Wanted, Refusal> {
        let server = &self.server;
        let found = find_vhost(server, request);
        let vhost = found.ok_or_else(|| Refusal::not_found("there is no such vhost here"))?;
        let remux = &vhost.http_remux;
        let place = remux.mount.stream(&request.path);
        // A `?` that was encoded would cut the name elsewhere.
        let place = place.filter(|_| remux.enabled && !request.path.contains('?'));
        let place = place.ok_or_else(|| Refusal::not_found("no stream is served at this path"))?;
        let wanted = Wanted::new(server, &self.client, vhost.clone(), place, request)?;
        wanted.check(server, self.client.peer.ip())?;
        // CORS does not apply to WebSockets: a browser lets every page read them.
        let foreign = request.websocket.is_some() && request.is_of_another_site();
        if foreign && !answers(server).crossdomain {
            return Err(Refusal::new(403, "not allowed from pages of other sites"));
        }
        self.client.set_protocol(match request.websocket {
            Some(_) => ClientProtocol::WebSocketFlv,
            None => ClientProtocol::HttpFlv,
        });
        self.client.set_urls(ClientUrls {
            tc_url: wanted.connect_info.tc_url.clone(),
            page_url: wanted.connect_info.page_url.clone(),
            ..ClientUrls::default()
        });
        Ok(wanted)
    }

    /// Waits until there is something to play.
    pub(in crate::server) async fn wait(
        &mut self,
        play: &mut Play,
        participant: &Participant,
    ) -> Result<(), NoStream> {
        let stream = play.subscription.stream().clone();
        if !stream.state().borrow().live {
            self.client
                .set_activity(Activity::Waiting(stream.key().clone()));
            let (server, client) = (self.server.clone(), self.client.clone());
            let new = || StreamWait::new(&stream, &play.vhost);
            let mut wait = play.wait.take().unwrap_or_else(new);
            loop {
                tokio::select! {
                    biased;
                    () = participant.frozen() => {
                        play.wait = Some(wait);
                        self.park_waiting(participant, play).await;
                    }
                    () = client.dismissal() => return Err(Self::dismissed().into()),
                    read = self.read_and_ignore() => read?,
                    live = wait.until_live(&server, &stream, &play.vhost) => {
                        live?;
                        break;
                    }
                }
            }
            play.vhost = server.current_vhost(play.vhost.clone());
        }
        self.check_wanted().await
    }

    fn dismissed() -> Refusal {
        Refusal::new(503, "the server ends the connection")
    }

    /// Refuses a client that an operator, or the server's stop, has ended while it waited
    /// or hooks were asked: at a worker nobody would find that out.
    async fn check_wanted(&self) -> Result<(), NoStream> {
        tokio::select! {
            biased;
            () = self.client.dismissal() => Err(Self::dismissed().into()),
            () = std::future::ready(()) => match self.server.is_draining() {
                true => Err(Denial::draining().with_http(503).into()),
                false => Ok(()),
            },
        }
    }
}

/// A [`Play`] that waits for its stream, for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct PlayPart {
    vhost: String,
    parameters: Parameters,
    connect_info: ConnectInfo,
    /// Id of the stream.
    stream: u64,
    websocket: Option<String>,
    wait: Option<StreamWait>,
}

impl Play {
    /// The play for the program that the process becomes.
    pub(in crate::server) fn part(&self) -> PlayPart {
        PlayPart {
            vhost: self.vhost.name.clone(),
            parameters: self.parameters.clone(),
            connect_info: self.connect_info.clone(),
            stream: self.subscription.stream().id(),
            websocket: self.websocket.clone(),
            wait: self.wait,
        }
    }

    /// Goes on with a play that this process has had before.
    ///
    /// # Errors
    /// Its vhost is no longer configured, or its stream is not there.
    pub(in crate::server) fn take_over(
        part: PlayPart,
        server: &Server,
        streams: &HashMap<u64, Arc<Stream>>,
    ) -> Result<Self, HandOverError> {
        let vhost = server.config().vhost(&part.vhost).cloned();
        let no_vhost = || HandOverError::Missing(format!("vhost {}", part.vhost));
        let no_stream = || HandOverError::Missing(format!("stream {}", part.stream));
        let stream = streams.get(&part.stream).ok_or_else(no_stream)?;
        Ok(Self {
            vhost: vhost.ok_or_else(no_vhost)?,
            parameters: part.parameters,
            connect_info: part.connect_info,
            subscription: stream.add_subscription(),
            websocket: part.websocket,
            wait: part.wait,
        })
    }

    /// Notifies `on_stop`: the client does not get to play.
    pub(in crate::server) fn notify_stop(&self, connection: &Connection) {
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
    pub(in crate::server) async fn flv_log(&self) -> Result<FlvLog, NoStream> {
        let stream = self.subscription.stream().clone();
        let framing = match self.websocket {
            Some(_) => FlvFraming::WebSocket,
            None => FlvFraming::Bare,
        };
        let obtained = if stream.has_flv_log(framing) {
            stream.flv_log(framing)
        } else {
            // The first player has the newest group of pictures copied, which takes
            // milliseconds.
            let stream = stream.clone();
            let made = tokio::task::spawn_blocking(move || stream.flv_log(framing)).await;
            made.unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        obtained.map_err(|error| {
            log::warn!("{}: no log of FLV tags: {error}", stream.key());
            Refusal::no_memory().into()
        })
    }

    /// Hands the connection to a fan-out worker, with the answer's head as its first bytes.
    pub(in crate::server) fn hand_to_worker(self, log: FlvLog, connection: Connection) {
        let stream = self.subscription.stream().clone();
        let Connection {
            server,
            client,
            socket,
            ..
        } = connection;
        let remux = &self.vhost.http_remux;
        let header = file_header(remux, &stream);
        let answers = answers(&server);
        let mut unsent = Vec::new();
        let protocol = match &self.websocket {
            Some(accept) => {
                unsent.extend_from_slice(answers.websocket(accept).as_bytes());
                websocket::write_binary_header(header.len() as u64, &mut unsent);
                "WebSocket-FLV"
            }
            None => {
                unsent.extend_from_slice(answers.stream().as_bytes());
                "HTTP-FLV"
            }
        };
        unsent.extend_from_slice(&header);
        let tracks = PerTrack {
            audio: remux.has_audio || !remux.drop_if_not_match,
            video: remux.has_video || !remux.drop_if_not_match,
        };
        let (send_timeout, max_pacing_rate) = (self.vhost.send_timeout, self.vhost.max_pacing_rate);
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
        let prepared = socket
            .and_then(|it| prepare_playing(it.tcp(), max_pacing_rate, send_timeout).map(|()| it));
        let socket = match prepared {
            Ok(socket) => socket,
            Err(error) => {
                player.notify_stop(&server);
                log_end(&server, &client, &CloseReason::Lost(error));
                return;
            }
        };
        log::info!("{client}: play {} by {protocol}", stream.key());
        client.set_activity(Activity::Playing(stream.key().clone()));
        server.fanout.join(Joining {
            id: client.id,
            socket,
            dialogue: Viewer::Flv(player),
            delivery: Delivery::Flv(log),
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
