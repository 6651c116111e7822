//! The smallest server around a [`ServerSession`]: threads, blocking reads,
//! one stream, everything published is kept and played from the beginning.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netbed::TIME_LIMIT;
use rtmp_proto::session::{ConnectSettings, ServerEvent, ServerSession, Status};
use rtmp_proto::wire::message::{MessageType, data};
use rtmp_proto::wire::{Limits, Message};

/// Reply of the relay to a play or publish.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Plays what there is, and then ends the play in good order.
    Complete,
    /// There is no stream.
    NotFound,
    /// The stream has a publisher already.
    Busy,
}

/// Everything that the connections share.
struct Shared {
    ending: Reply,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    /// The published messages.
    pub stream: Vec<Message>,
    /// Names of the events of all connections, media left out.
    pub told: Vec<&'static str>,
    /// Bytes of the first connection after the handshake, up to the first media
    /// message or its play.
    pub heard: Vec<u8>,
    /// Connections that have ended, and how.
    pub ended: Vec<String>,
}

/// A listening relay.
pub(crate) struct Relay {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    pub(crate) fn start(ending: Reply) -> Relay {
        Relay::with_stream(ending, Vec::new())
    }

    pub(crate) fn with_stream(ending: Reply, stream: Vec<Message>) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Mutex::new(State {
            stream,
            ..State::default()
        });
        let shared = Arc::new(Shared {
            ending,
            state,
            changed: Condvar::new(),
        });
        let relay = Relay {
            address,
            shared: shared.clone(),
        };
        // The thread ends with the test's process: it waits in accept.
        let _: JoinHandle<()> = std::thread::spawn(move || {
            for connection in listener.incoming() {
                let shared = shared.clone();
                std::thread::spawn(move || {
                    let end = match serve(&connection.unwrap(), &shared) {
                        Ok(()) => "closed".to_owned(),
                        Err(error) => error,
                    };
                    shared.state.lock().unwrap().ended.push(end);
                    shared.changed.notify_all();
                });
            }
        });
        relay
    }

    pub(crate) fn url(&self) -> String {
        format!("rtmp://{}/live/camera", self.address)
    }

    /// Waits until the relay has come to this, and returns what is to be known.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, mut reached: impl FnMut(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + TIME_LIMIT;
        let mut state = self.shared.state.lock().unwrap();
        loop {
            if let Some(result) = reached(&state) {
                return result;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{what} has not come: {:?} {:?}",
                state.told,
                state.ended
            );
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Writes what the client said to a file, if that is asked for.
    pub(crate) fn record(&self, name: &str) {
        let Some(directory) = std::env::var_os("MILLRACE_RECORD") else {
            return;
        };
        let heard = self.shared.state.lock().unwrap().heard.clone();
        let lines: Vec<String> = heard
            .chunks(32)
            .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        let path = PathBuf::from(directory).join(format!("{name}.hex"));
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
    }
}

/// Serves one connection until it ends.
fn serve(mut connection: &TcpStream, shared: &Shared) -> Result<(), String> {
    connection.set_nodelay(true).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    let mut session = ServerSession::new(&Limits::default());
    let mut buffer = vec![0; 64 << 10];
    let mut out = Vec::new();
    let mut heard = Vec::new();
    let mut seen_media = false;
    let mut playing = None;
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                let mut input = &buffer[..len];
                if !seen_media {
                    heard.extend_from_slice(input);
                }
                loop {
                    match session.read(&mut input, &mut out) {
                        Ok(Some(event)) => {
                            let state = &mut *shared.state.lock().unwrap();
                            if let ServerEvent::Media(_) = event {
                                if !seen_media && state.heard.is_empty() {
                                    heard.truncate(heard.len() - input.len());
                                    state.heard = heard.split_off(HANDSHAKE_LEN);
                                }
                                seen_media = true;
                            }
                            obey(
                                &mut session,
                                event,
                                shared.ending,
                                state,
                                &mut playing,
                                &mut out,
                            );
                            shared.changed.notify_all();
                        }
                        Ok(None) => break,
                        Err(error) => return Err(error.to_string()),
                    }
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        if let Some(stream_id) = playing.take() {
            let state = &mut *shared.state.lock().unwrap();
            if state.heard.is_empty() {
                state.heard = heard.split_off(HANDSHAKE_LEN);
            }
            for message in &state.stream {
                session.send(
                    &Message {
                        stream_id,
                        ..message.clone()
                    },
                    &mut out,
                );
            }
            session.end_play(stream_id, &mut out);
        }
        if connection.write_all(&out).is_err() {
            return Ok(());
        }
        out.clear();
    }
}

const HANDSHAKE_LEN: usize = 1 + 1536 + 1536;

fn obey(
    session: &mut ServerSession,
    event: ServerEvent,
    ending: Reply,
    state: &mut State,
    playing: &mut Option<u32>,
    out: &mut Vec<u8>,
) {
    let told = match event {
        ServerEvent::Connect(request) => {
            assert_eq!(request.app, "live");
            session.accept_connect(&ConnectSettings::default(), out);
            "Connect"
        }
        ServerEvent::Publish(request) => {
            assert_eq!(request.key.stream, "camera");
            match ending {
                Reply::Busy => {
                    let busy = Status::publish_bad_name("live/camera is being published");
                    session.refuse_publish(request.stream_id, &busy, out)
                }
                _ => session.accept_publish(request.stream_id, out),
            };
            "Publish"
        }
        ServerEvent::Play(request) => {
            assert_eq!(request.key.stream, "camera");
            match ending {
                Reply::NotFound => {
                    let absent = Status::stream_not_found("nobody publishes live/camera");
                    session.refuse_play(request.stream_id, &absent, out);
                }
                _ => {
                    session.accept_play(request.stream_id, out);
                    *playing = Some(request.stream_id);
                }
            }
            "Play"
        }
        ServerEvent::Media(message) => {
            let message = match message.message_type {
                MessageType::DATA_AMF0 | MessageType::DATA_AMF3 => data::for_players(&message),
                _ => message,
            };
            state.stream.push(message);
            return;
        }
        ServerEvent::PublishEnded { .. } => "PublishEnded",
        ServerEvent::PlayEnded { .. } => "PlayEnded",
        _ => return,
    };
    state.told.push(told);
}
