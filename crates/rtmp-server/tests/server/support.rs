//! Servers and clients for the tests.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use bytes::BytesMut;
use netbed::TIME_LIMIT;
use rtmp_proto::session::{ClientConfig, ClientEvent, ClientSession, Purpose, Status};
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::message::Command;
use rtmp_proto::wire::{Limits, Message, MessageType};
use rtmp_server::Server;
use rtmp_server::config::{self, Config, Role, conf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::common::server::{Serving, any_port, configuration, serve};

/// A server at a port of its own.
pub(crate) struct TestServer {
    pub server: Arc<Server>,
    pub address: SocketAddr,
    /// Where it serves HTTP-FLV.
    pub http: Option<SocketAddr>,
    /// The same by HTTPS.
    pub https: Option<SocketAddr>,
    /// Where it takes RTMPS.
    pub rtmps: Option<SocketAddr>,
    accepting: JoinHandle<()>,
}

impl TestServer {
    /// An origin with these directives in its default vhost.
    pub(crate) fn origin(vhost: &str) -> Self {
        Self::start(
            Role::Origin,
            &format!("vhost __defaultVhost__ {{ min_latency on; {vhost} }}"),
        )
    }

    /// An edge of these origins, with these directives in its default vhost.
    pub(crate) fn edge(origins: &[SocketAddr], vhost: &str) -> Self {
        let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
        let origins = origins.join(" ");
        Self::start(
            Role::Edge,
            &format!(
                "vhost __defaultVhost__ {{ mode remote; origin {origins}; min_latency on; {vhost} }}"
            ),
        )
    }

    /// A server with this configuration, [`patient`].
    pub(crate) fn start(role: Role, text: &str) -> Self {
        Self::start_at(any_port(), role, text)
    }

    /// As [`Self::start`], at `address`.
    pub(crate) fn start_at(address: SocketAddr, role: Role, text: &str) -> Self {
        Self::with(address, role, configuration(role, &patient(text)))
    }

    /// A server at `address` with this configuration.
    pub(crate) fn with(address: SocketAddr, role: Role, config: Config) -> Self {
        let Serving {
            server,
            address,
            http,
            https,
            rtmps,
            accepting,
        } = serve(address, role, config);
        Self {
            server,
            address,
            http,
            https,
            rtmps,
            accepting,
        }
    }

    /// Puts the configuration `text` in force, [`patient`].
    pub(crate) fn reload(&self, text: &str) {
        let directives = conf::parse("new.conf", &patient(text)).unwrap();
        let loaded = config::build(&directives, self.server.role()).unwrap();
        self.server.reconfigure(loaded.config);
    }

    /// Takes the server away, as a crash would: its port is closed and its
    /// connections end.
    pub(crate) async fn stop(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
        self.server.dismiss_all();
        until(|| self.server.clients().count() == 0).await;
    }

    /// Waits until `count` messages of `stream` have arrived.
    pub(crate) async fn arrived(&self, stream: &str, count: u64) {
        let streams = self.server.streams();
        let stream = streams.iter().find(|known| known.key().stream == stream);
        let totals = stream.expect("the stream is not there").totals();
        until(|| totals.messages_in.load(Ordering::Relaxed) == count).await;
    }

    /// A publisher that has been accepted.
    pub(crate) async fn publisher(&self, stream: &str) -> Client {
        let mut client = self.client(Purpose::Publish, stream).await;
        client.may_publish().await;
        client
    }

    /// A publisher that takes the place of another, as soon as that has been
    /// silent for long enough.
    pub(crate) async fn replacing_publisher(&self, stream: &str) -> Client {
        loop {
            let mut client = self.client(Purpose::Publish, stream).await;
            assert_eq!(client.event().await, Some(ClientEvent::Connected));
            match client.event().await {
                Some(ClientEvent::Publishing) => return client,
                Some(ClientEvent::Rejected(_)) => {}
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The refusal of a publish or play.
    pub(crate) async fn refused(&self, purpose: Purpose, stream: &str) -> Status {
        self.client(purpose, stream).await.refusal().await
    }

    /// A player that has asked for `stream`.
    pub(crate) fn player(&self, stream: &str) -> impl Future<Output = Client> + use<> {
        self.client(Purpose::Play, stream)
    }

    fn client(&self, purpose: Purpose, stream: &str) -> impl Future<Output = Client> + use<> {
        let tc_url = format!("rtmp://{}/live", self.address);
        let config = ClientConfig::new(purpose, &tc_url, "live", stream);
        Client::connect(self.address, config)
    }
}

/// The configuration `text`, by which publishers may be silent unless it says for how
/// long: a busy machine may take longer over a test than the default allows.
fn patient(text: &str) -> String {
    const DIRECTIVE: &str = "publish_normal_timeout";
    if text.contains(DIRECTIVE) {
        return text.to_owned();
    }
    let mut blocks = text.split("vhost ");
    let before = blocks.next().unwrap_or_default().to_owned();
    blocks.fold(before, |patient, block| match block.split_once('{') {
        Some((name, rest)) if !name.contains(';') => {
            format!("{patient}vhost {name}{{ {DIRECTIVE} 600000; {rest}")
        }
        // The directive `vhost` of an edge.
        _ => format!("{patient}vhost {block}"),
    })
}

/// A client that publishes `stream` at `address`.
pub(crate) fn publishing(address: SocketAddr, stream: &str) -> ClientConfig {
    ClientConfig::new(
        Purpose::Publish,
        &format!("rtmp://{address}/live"),
        "live",
        stream,
    )
}

/// Waits until `condition` holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(TIME_LIMIT, wait)
        .await
        .expect("the condition never held");
}

/// Asks again and again until there is an answer, and returns it.
pub(crate) async fn eventually<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let answer = tokio::time::timeout(TIME_LIMIT, wait).await;
    answer.expect("the answer never came")
}

/// A connection of our own client session.
pub(crate) struct Client {
    pub socket: TcpStream,
    session: ClientSession,
    input: BytesMut,
    out: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, config: ClientConfig) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), config)
    }

    /// A client on a connection that was just made.
    pub(crate) fn over(socket: TcpStream, config: ClientConfig) -> Self {
        socket.set_nodelay(true).unwrap();
        let mut out = Vec::new();
        let session = ClientSession::new(config, &Limits::default(), &mut out).unwrap();
        Self {
            socket,
            session,
            input: BytesMut::new(),
            out,
        }
    }

    /// The next event; `None` when the server has closed the connection.
    pub(crate) async fn event(&mut self) -> Option<ClientEvent> {
        tokio::time::timeout(TIME_LIMIT, self.read())
            .await
            .expect("no event came")
    }

    async fn read(&mut self) -> Option<ClientEvent> {
        loop {
            let mut input = &self.input[..];
            let event = self.session.read(&mut input, &mut self.out).unwrap();
            let read = self.input.len() - input.len();
            bytes::Buf::advance(&mut self.input, read);
            if !self.out.is_empty() {
                // An error does not matter: if the server has closed, its last status
                // is still to be read.
                let _ = self.socket.write_all(&self.out).await;
                self.out.clear();
            }
            if event.is_some() {
                return event;
            }
            match self.socket.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Waits until its publish has been accepted.
    pub(crate) async fn may_publish(&mut self) {
        assert_eq!(self.event().await, Some(ClientEvent::Connected));
        assert_eq!(self.event().await, Some(ClientEvent::Publishing));
    }

    /// The next media message.
    pub(crate) async fn media(&mut self) -> Message {
        loop {
            match self.event().await.expect("the connection was closed") {
                ClientEvent::Media(message) => return message,
                ClientEvent::Connected
                | ClientEvent::Playing
                | ClientEvent::StreamBegin
                | ClientEvent::Status(_) => {}
                other => panic!("not media: {other:?}"),
            }
        }
    }

    /// Waits until the player stands in its stream, which has headers.
    pub(crate) async fn joined(&mut self) {
        let header = self.media().await;
        assert_eq!(header.message_type, MessageType::DATA_AMF0);
    }

    /// The next picture or sound, past headers and data.
    pub(crate) async fn frame(&mut self) -> Message {
        loop {
            let message = self.media().await;
            let header = message.payload.get(1) == Some(&0);
            if message.message_type != MessageType::DATA_AMF0 && !header {
                return message;
            }
        }
    }

    /// The server's refusal.
    pub(crate) async fn refusal(&mut self) -> Status {
        loop {
            match self.event().await.expect("closed without a word") {
                ClientEvent::Rejected(status) => return status,
                ClientEvent::Connected | ClientEvent::Status(_) => {}
                other => panic!("not refused: {other:?}"),
            }
        }
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&mut self) {
        while self.event().await.is_some() {}
    }

    pub(crate) async fn publish(&mut self, messages: &[Message]) {
        for message in messages {
            assert!(
                self.session.publish(message, &mut self.out),
                "nothing may be published"
            );
        }
        self.socket.write_all(&self.out).await.unwrap();
        self.out.clear();
    }

    /// Calls a command on the message stream `stream_id`.
    pub(crate) async fn call(&mut self, stream_id: u32, name: &str, arguments: Vec<Value>) {
        let command = Command::new(name, 0.0, arguments);
        self.send(&command.to_message(stream_id)).await;
    }

    pub(crate) async fn send(&mut self, message: &Message) {
        let mut bytes = Vec::new();
        rtmp_proto::wire::chunk::encode_message(message, 128, 3, &mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
    }
}

pub(crate) fn message(message_type: MessageType, timestamp: u32, payload: &[u8]) -> Message {
    let payload = payload.to_vec().into();
    Message {
        timestamp,
        message_type,
        stream_id: 1,
        payload,
    }
}

/// The first picture of a group.
pub(crate) fn keyframe(timestamp: u32) -> Message {
    message(MessageType::VIDEO, timestamp, &[0x17, 1, 0, 0, 0, 0x65])
}

/// A picture that needs the one before.
pub(crate) fn picture(timestamp: u32) -> Message {
    message(MessageType::VIDEO, timestamp, &[0x27, 1, 0, 0, 0, 0x41])
}

/// A frame of sound.
pub(crate) fn sound(timestamp: u32) -> Message {
    message(MessageType::AUDIO, timestamp, &[0xaf, 1, 0x21])
}

/// Metadata and sequence headers.
pub(crate) fn headers() -> Vec<Message> {
    vec![
        message(
            MessageType::DATA_AMF0,
            0,
            b"\x02\0\x0d@setDataFrame\x02\0\x0aonMetaData\x05",
        ),
        message(MessageType::VIDEO, 0, &[0x17, 0, 0, 0, 0, 1, 2, 3]),
        message(MessageType::AUDIO, 0, &[0xaf, 0, 0x12, 0x10]),
    ]
}

/// Starts a web server, and returns its address.
pub(crate) async fn web_server(router: Router) -> SocketAddr {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

/// The log lines of this process since it was first asked for them.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// Keeps log lines from here on, for [`log_lines`].
pub(crate) fn keep_log() {
    // Another test may have asked for them already.
    let _ = log::set_logger(&LINES);
    log::set_max_level(log::LevelFilter::Info);
}

/// The kept log lines that contain `text`, each behind its level.
pub(crate) fn log_lines(text: &str) -> Vec<String> {
    let lines = LINES.0.lock().unwrap();
    lines
        .iter()
        .filter(|line| line.contains(text))
        .cloned()
        .collect()
}
