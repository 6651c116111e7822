//! Effects of a vhost's directives on a connection. Of a delay, the minimum is
//! measured, never the maximum.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use netbed::TIME_LIMIT;
use netbed::local::free_address;
use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientConfig, ClientEvent, ClientSession, Purpose};
use rtmp_proto::wire::chunk::ChunkReader;
use rtmp_proto::wire::message::{Command, Control};
use rtmp_proto::wire::{Limits, Message, MessageType};
use rtmp_server::config::{self, Role, conf};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Client, TestServer, keyframe, message, picture, sound, until};

#[tokio::test(flavor = "multi_thread")]
async fn max_pacing_rate_spreads_what_a_player_gets_when_it_joins() {
    // A million bytes at 8000 kbit/s are a second.
    let origin = TestServer::origin("play { max_pacing_rate 8000; }");
    let mut publisher = origin.publisher("s").await;
    let mut payload = vec![0x55; 1_000_000];
    payload[..5].copy_from_slice(&[0x17, 1, 0, 0, 0]);
    let large = message(MessageType::VIDEO, 0, &payload);
    publisher.publish(std::slice::from_ref(&large)).await;
    origin.arrived("s", 1).await;
    let begun = Instant::now();
    let mut player = origin.player("s").await;
    assert_eq!(player.frame().await, large);
    assert!(begun.elapsed() >= KEPT_BACK, "sent in a burst");
}

/// Long enough to be told from a loaded machine's delays only by what waits
/// for it.
const KEPT_BACK: Duration = Duration::from_millis(500);

/// An origin with merged writes, unlike those of most tests.
fn merging_origin(vhost: &str) -> TestServer {
    TestServer::start(
        Role::Origin,
        &format!("vhost __defaultVhost__ {{ {vhost} }}"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn mw_latency_gathers_messages_and_min_latency_does_not() {
    let origin = merging_origin("mw_latency 500;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    let begun = Instant::now();
    publisher.publish(&[picture(40)]).await;
    assert_eq!(player.frame().await, picture(40));
    assert!(begun.elapsed() >= KEPT_BACK, "sent before mw_latency");

    let origin = TestServer::origin("mw_latency 10000;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    let one_by_one = async {
        for number in 1..20 {
            publisher.publish(&[picture(number * 40)]).await;
            assert_eq!(player.frame().await, picture(number * 40));
        }
    };
    let sent = tokio::time::timeout(TIME_LIMIT, one_by_one).await;
    assert!(sent.is_ok(), "messages are gathered with min_latency on");
}

#[tokio::test(flavor = "multi_thread")]
async fn mr_lets_a_publishers_input_gather() {
    let origin = TestServer::origin("mr { enabled on; latency 500; }");
    let mut publisher = origin.publisher("s").await;
    let begun = Instant::now();
    publisher.publish(&[keyframe(0)]).await;
    origin.arrived("s", 1).await;
    assert!(begun.elapsed() >= KEPT_BACK, "read before the latency");
    // Much of it is read as it comes: 20 MB by 64 kB would take 150 s.
    let mut large = picture(40);
    large.payload = [large.payload.as_ref(), &vec![7; 1 << 20]].concat().into();
    publisher.publish(&vec![large; 20]).await;
    origin.arrived("s", 21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_nodelay_decides_whether_a_players_small_packets_wait() {
    for (directive, nodelay) in [("", false), ("tcp_nodelay on;", true)] {
        let origin = merging_origin(directive);
        let mut publisher = origin.publisher("s").await;
        publisher.publish(&[keyframe(0)]).await;
        let mut player = origin.player("s").await;
        let address = player.socket.local_addr().unwrap();
        assert_eq!(player.event().await, Some(ClientEvent::Connected));
        assert!(has_nodelay(address), "commands wait for each other");
        assert_eq!(player.frame().await, keyframe(0));
        until(|| has_nodelay(address) == nodelay).await;
    }
}

/// Returns true if the server's end of the connection with the client at `address` has
/// `TCP_NODELAY`. It is a descriptor of this very process.
fn has_nodelay(address: SocketAddr) -> bool {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = descriptors.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let nodelay = |number: i32| {
        // SAFETY: borrowed for two calls only; where the descriptor has been
        // closed or replaced meanwhile, they fail or tell of another socket,
        // which has another peer.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let socket = SockRef::from(&descriptor);
        let peer = socket.peer_addr().ok()?.as_socket();
        (peer == Some(address)).then(|| socket.tcp_nodelay().unwrap())
    };
    numbers
        .into_iter()
        .find_map(nodelay)
        .expect("the connection is gone")
}

/// A client whose server's every message is seen.
struct Tapped {
    socket: TcpStream,
    session: ClientSession,
    heard: ChunkReader,
    out: Vec<u8>,
    /// Bytes of the server's handshake that have not come.
    handshake: usize,
}

impl Tapped {
    async fn publisher(origin: &TestServer) -> Self {
        let tc_url = format!("rtmp://{}/live", origin.address);
        let config = ClientConfig::new(Purpose::Publish, &tc_url, "live", "s");
        let mut out = Vec::new();
        Self {
            socket: TcpStream::connect(origin.address).await.unwrap(),
            session: ClientSession::new(config, &Limits::default(), &mut out).unwrap(),
            heard: ChunkReader::new(&Limits::default()),
            out,
            handshake: 1 + 2 * 1_536,
        }
    }

    /// The control messages up to the event `last`, or to the first that
    /// `wanted` names.
    async fn controls(
        &mut self,
        last: Option<&ClientEvent>,
        wanted: impl Fn(&Control) -> bool,
    ) -> Vec<Control> {
        let mut controls = Vec::new();
        loop {
            self.socket.write_all(&self.out).await.unwrap();
            self.out.clear();
            let mut bytes = vec![0; 65_536];
            let read = tokio::time::timeout(TIME_LIMIT, self.socket.read(&mut bytes)).await;
            let count = read.expect("the server is silent").unwrap();
            assert!(count > 0, "the server has closed");
            let bytes = &bytes[..count];
            let mut input = &bytes[self.handshake.min(count)..];
            self.handshake -= self.handshake.min(count);
            while let Some(message) = self.heard.read(&mut input).unwrap() {
                controls.extend(Control::parse(&message));
            }
            let mut input = bytes;
            while let Some(event) = self.session.read(&mut input, &mut self.out).unwrap() {
                if Some(&event) == last {
                    return controls;
                }
            }
            if controls.iter().any(&wanted) {
                return controls;
            }
        }
    }

    async fn publish(&mut self, message: &Message) {
        assert!(self.session.publish(message, &mut self.out));
        self.socket.write_all(&self.out).await.unwrap();
        self.out.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunk_size_and_out_ack_size_are_announced() {
    let origin = TestServer::origin("chunk_size 4321; out_ack_size 1234567;");
    let mut client = Tapped::publisher(&origin).await;
    let connected = Some(&ClientEvent::Connected);
    let controls = client.controls(connected, |_| false).await;
    assert!(
        controls.contains(&Control::SetChunkSize(4_321)),
        "{controls:?}"
    );
    assert!(
        controls.contains(&Control::WindowAckSize(1_234_567)),
        "{controls:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_ack_size_makes_the_server_acknowledge() {
    let origin = TestServer::origin("in_ack_size 4000;");
    let mut client = Tapped::publisher(&origin).await;
    let publishing = Some(&ClientEvent::Publishing);
    client.controls(publishing, |_| false).await;
    let mut large = keyframe(0);
    large.payload = [large.payload.as_ref(), &[7; 10_000]].concat().into();
    client.publish(&large).await;
    let acknowledged =
        |control: &Control| matches!(control, Control::Acknowledgement(bytes) if *bytes > 10_000);
    client.controls(None, acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_length_decides_when_a_player_is_too_slow() {
    // Twenty seconds, more bytes than any socket holds.
    let origin = TestServer::origin("queue_length 2;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let socket = socket.connect(origin.address).await.unwrap();
    let tc_url = format!("rtmp://{}/live", origin.address);
    let config = ClientConfig::new(Purpose::Play, &tc_url, "live", "s");
    let mut player = Client::over(socket, config);
    assert_eq!(player.frame().await, keyframe(0));
    for second in 1..=20 {
        let mut large = keyframe(second * 1_000);
        large.payload = [large.payload.as_ref(), &vec![7; 1 << 20]].concat().into();
        publisher.publish(&[large, sound(second * 1_000)]).await;
    }
    let clients = origin.server.clients().list();
    let skips = || {
        let skips = clients.iter().map(|client| &client.meter.skips);
        skips
            .map(|skips| skips.load(std::sync::atomic::Ordering::Relaxed))
            .sum::<u64>()
    };
    until(|| skips() > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_to_a_player_are_cut_as_its_stream_is() {
    let settings = |chunk_size| {
        format!(
            "vhost __defaultVhost__ {{ min_latency on; play_wait_timeout 0; chunk_size {chunk_size}; }}"
        )
    };
    let origin = TestServer::start(Role::Origin, &settings(128));
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.arrived("s", 1).await;
    let directives = conf::parse("test.conf", &settings(60_000)).unwrap();
    let config = config::build(&directives, Role::Origin).unwrap().config;
    origin.server.reconfigure(config);
    // The stream's chunks stay as they were, the connection's are larger.
    let mut player = origin.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    let absent = "a".repeat(200);
    let play = Command::new("play", 0.0, vec![absent.as_str().into()]);
    player.send(&play.to_message(1)).await;
    let told = loop {
        match player.event().await.expect("closed without a word") {
            ClientEvent::Status(status) | ClientEvent::Rejected(status)
                if status.code == code::PLAY_STREAM_NOT_FOUND =>
            {
                break status.description;
            }
            _ => {}
        }
    };
    assert!(told.contains(&absent), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_serves_an_origin_and_an_edge() {
    let addresses = [free_address(), free_address()];
    let text = format!(
        "vhost source.example.com {{ min_latency on; publish_normal_timeout 600000; }}
         vhost edge.example.com {{
             cluster {{ mode remote; origin {}; vhost source.example.com; }}
         }}",
        addresses[0]
    );
    let origin = TestServer::start_at(addresses[0], Role::Origin, &text);
    let edge = TestServer::start_at(addresses[1], Role::Edge, &text);
    let client = async |server: &TestServer, purpose, vhost: &str| {
        let app = format!("live?vhost={vhost}");
        let tc_url = format!("rtmp://{}/{app}", server.address);
        let config = ClientConfig::new(purpose, &tc_url, &app, "s");
        Client::connect(server.address, config).await
    };
    let mut publisher = client(&origin, Purpose::Publish, "source.example.com").await;
    publisher.may_publish().await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = client(&edge, Purpose::Play, "edge.example.com").await;
    assert_eq!(player.frame().await, keyframe(0));
    for (server, left) in [(&origin, "edge.example.com"), (&edge, "source.example.com")] {
        let mut player = client(server, Purpose::Play, left).await;
        assert_eq!(player.refusal().await.code, code::CONNECT_REJECTED);
    }
}
