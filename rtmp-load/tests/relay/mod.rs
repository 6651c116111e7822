//! A relay for tests: an RTMP server on `rml_rtmp`'s sessions, which share
//! nothing with the project's own, and which misbehaves as it is told to.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    sessions::{
        ServerSession, ServerSessionConfig, ServerSessionEvent as Event, ServerSessionResult,
    },
    time::RtmpTimestamp,
};

/// What the relay does wrong, each to every player.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Leaves out each n-th video message.
    pub drop_video_every: Option<u64>,
    /// Changes the last byte of each n-th video message.
    pub change_byte_every: Option<u64>,
    /// Sets each n-th video timestamp back by a second.
    pub step_back_every: Option<u64>,
    /// Closes a player's connection after so many video messages.
    pub close_after: Option<u64>,
    /// Refuses publishers with this code.
    pub refuse_publish: Option<&'static str>,
}

/// A relay on a port of its own on all loopback addresses.
pub(crate) struct Relay {
    address: SocketAddr,
    hub: Arc<Hub>,
}

#[derive(Default)]
struct Hub {
    faults: Faults,
    players: Mutex<Vec<Player>>,
    clients: Mutex<BTreeSet<IpAddr>>,
}

struct Player {
    stream: String,
    stream_id: u32,
    session: Arc<Mutex<ServerSession>>,
    socket: TcpStream,
    videos: u64,
}

impl Relay {
    /// Starts one that does this wrong.
    pub(crate) fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let hub = Arc::new(Hub {
            faults,
            ..Hub::default()
        });
        let shared = Arc::clone(&hub);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, hub) = (socket.unwrap(), Arc::clone(&shared));
                hub.clients
                    .lock()
                    .unwrap()
                    .insert(socket.peer_addr().unwrap().ip());
                thread::spawn(move || serve(socket, &hub));
            }
        });
        Self {
            address: ([127, 0, 0, 1], port).into(),
            hub,
        }
    }

    /// The address of a stream on it.
    pub(crate) fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/live/{stream}", self.address)
    }

    /// The addresses that clients came from.
    pub(crate) fn clients(&self) -> Vec<IpAddr> {
        self.hub.clients.lock().unwrap().iter().copied().collect()
    }
}

/// Serves one connection until it ends, which is no error.
fn serve(mut socket: TcpStream, hub: &Hub) {
    socket.set_nodelay(true).unwrap();
    let Some(remaining) = shake_hands(&mut socket) else {
        return;
    };
    let (session, first) = ServerSession::new(ServerSessionConfig::new()).unwrap();
    let session = Arc::new(Mutex::new(session));
    let mut waiting = answer(first, &mut socket, &session, hub);
    let mut input = remaining;
    let mut buffer = vec![0; 65536];
    while waiting.is_some() {
        let results = session.lock().unwrap().handle_input(&input).unwrap();
        waiting = answer(results, &mut socket, &session, hub);
        match socket.read(&mut buffer) {
            Ok(count) if count > 0 => input = buffer[..count].to_vec(),
            _ => return,
        }
    }
}

fn shake_hands(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut handshake = Handshake::new(PeerType::Server);
    let mut buffer = vec![0; 4096];
    loop {
        let count = socket.read(&mut buffer).ok().filter(|count| *count > 0)?;
        let (response, remaining) = match handshake.process_bytes(&buffer[..count]).unwrap() {
            HandshakeProcessResult::InProgress { response_bytes } => (response_bytes, None),
            HandshakeProcessResult::Completed {
                response_bytes,
                remaining_bytes,
            } => (response_bytes, Some(remaining_bytes)),
        };
        socket.write_all(&response).ok()?;
        if remaining.is_some() {
            return remaining;
        }
    }
}

/// Sends what is to be sent and acts on what has happened; `None` ends the
/// connection.
fn answer(
    results: Vec<ServerSessionResult>,
    socket: &mut TcpStream,
    session: &Arc<Mutex<ServerSession>>,
    hub: &Hub,
) -> Option<()> {
    for result in results {
        let event = match result {
            ServerSessionResult::OutboundResponse(packet) => {
                socket.write_all(&packet.bytes).ok()?;
                continue;
            }
            ServerSessionResult::RaisedEvent(event) => event,
            ServerSessionResult::UnhandleableMessageReceived(_) => continue,
        };
        let accept = |id| session.lock().unwrap().accept_request(id).unwrap();
        let more = match event {
            Event::ConnectionRequested { request_id, .. }
            | Event::ReleaseStreamRequested { request_id, .. } => accept(request_id),
            Event::PublishStreamRequested { request_id, .. } => match hub.faults.refuse_publish {
                Some(code) => session
                    .lock()
                    .unwrap()
                    .reject_request(request_id, code, "by the test")
                    .unwrap(),
                None => accept(request_id),
            },
            Event::PlayStreamRequested {
                request_id,
                stream_key,
                stream_id,
                ..
            } => {
                let results = accept(request_id);
                answer(results, socket, session, hub)?;
                hub.players.lock().unwrap().push(Player {
                    stream: stream_key,
                    stream_id,
                    session: Arc::clone(session),
                    socket: socket.try_clone().unwrap(),
                    videos: 0,
                });
                continue;
            }
            Event::VideoDataReceived {
                stream_key,
                data,
                timestamp,
                ..
            } => {
                hub.each_player(&stream_key, |player| {
                    player.video(&hub.faults, data.to_vec(), timestamp)
                });
                continue;
            }
            Event::AudioDataReceived {
                stream_key,
                data,
                timestamp,
                ..
            } => {
                hub.each_player(&stream_key, |player| {
                    player.send(|session, id| {
                        session
                            .send_audio_data(id, data.clone(), timestamp, false)
                            .unwrap()
                            .bytes
                    })
                });
                continue;
            }
            _ => continue,
        };
        answer(more, socket, session, hub)?;
    }
    Some(())
}

impl Hub {
    /// Gives each player of a stream its due, and forgets those that left.
    fn each_player(&self, stream: &str, mut give: impl FnMut(&mut Player) -> Option<()>) {
        let mut players = self.players.lock().unwrap();
        players.retain_mut(|player| player.stream != stream || give(player).is_some());
    }
}

impl Player {
    fn video(&mut self, faults: &Faults, mut data: Vec<u8>, at: RtmpTimestamp) -> Option<()> {
        self.videos += 1;
        let hit = |every: Option<u64>| every.is_some_and(|every| self.videos.is_multiple_of(every));
        if hit(faults.drop_video_every) {
            return Some(());
        }
        if hit(faults.change_byte_every)
            && let Some(last) = data.last_mut()
        {
            *last ^= 1;
        }
        let at = if hit(faults.step_back_every) {
            RtmpTimestamp::new(at.value.saturating_sub(1000))
        } else {
            at
        };
        if faults.close_after.is_some_and(|after| self.videos > after) {
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
            return None;
        }
        self.send(|session, id| {
            session
                .send_video_data(id, data.clone().into(), at, false)
                .unwrap()
                .bytes
        })
    }

    fn send(&mut self, encode: impl Fn(&mut ServerSession, u32) -> Vec<u8>) -> Option<()> {
        let bytes = encode(&mut self.session.lock().unwrap(), self.stream_id);
        self.socket.write_all(&bytes).ok()
    }
}
