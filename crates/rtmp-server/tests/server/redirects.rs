//! Redirects of origins (RTMP 302), as those of an SRS cluster send them that do not
//! have the stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rtmp_proto::session::status::code;
use rtmp_proto::session::{ConnectSettings, Level, Redirect, ServerEvent, ServerSession, Status};
use rtmp_proto::wire::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{TestServer, keep_log, keyframe, log_lines, until};

/// The request that the server answers with a redirect.
#[derive(Clone, Copy)]
enum At {
    Connect,
    /// After `NetStream.Play.Start`, as SRS does it.
    Play,
    Publish,
}

/// A server that redirects every client.
struct RedirectingServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl RedirectingServer {
    /// Redirects to the URL that `url` makes of its own address.
    async fn start(at: At, url: impl Fn(SocketAddr) -> String) -> RedirectingServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let redirect = Redirect {
            url: url(address),
            names_stream: matches!(at, At::Play),
        };
        let status = Status {
            level: Level::Error,
            redirect: Some(Box::new(redirect)),
            ..Status::connect_rejected("RTMP 302 Redirect")
        };
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer_with_redirect(socket, at, status.clone()));
            }
        });
        RedirectingServer { address, asked }
    }

    /// One that shows to the stream `live/s` at `target`.
    async fn to(at: At, target: SocketAddr) -> RedirectingServer {
        let path = match at {
            At::Play => "live/s",
            At::Connect | At::Publish => "live",
        };
        RedirectingServer::start(at, |_| format!("rtmp://{target}/{path}")).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn answer_with_redirect(mut socket: TcpStream, at: At, status: Status) {
    let mut session = ServerSession::new(&Limits::default());
    let (mut buffer, mut out) = (vec![0; 16 << 10], Vec::new());
    while let Ok(length @ 1..) = socket.read(&mut buffer).await {
        let mut input = &buffer[..length];
        while let Some(event) = session.read(&mut input, &mut out).unwrap() {
            match (event, at) {
                (ServerEvent::Connect(_), At::Connect) => session.refuse_connect(&status, &mut out),
                (ServerEvent::Connect(_), _) => {
                    session.accept_connect(&ConnectSettings::default(), &mut out);
                }
                (ServerEvent::Play(request), _) => {
                    session.accept_play(request.stream_id, &mut out);
                    session.send_status(0, &status, &mut out);
                }
                (ServerEvent::Publish(request), _) => {
                    session.refuse_publish(request.stream_id, &status, &mut out);
                }
                _ => {}
            }
        }
        socket.write_all(&out).await.unwrap();
        out.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_goes_where_its_origin_sends_it() {
    keep_log();
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    for at in [At::Connect, At::Play] {
        let last = RedirectingServer::to(at, origin.address).await;
        let first = RedirectingServer::to(at, last.address).await;
        for vhost in ["", "token_traverse on;"] {
            let edge = TestServer::edge(&[first.address], vhost);
            let mut player = edge.player("s").await;
            assert_eq!(player.frame().await, keyframe(0));
        }
        let line = format!(
            "live/s: {} redirects to rtmp://{}/",
            first.address, last.address
        );
        assert!(!log_lines(&line).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_goes_where_the_origin_sends_it() {
    for at in [At::Connect, At::Publish] {
        let origin = TestServer::origin("");
        let redirecting = RedirectingServer::to(at, origin.address).await;
        let edge = TestServer::edge(&[redirecting.address], "");
        let mut publisher = edge.publisher("s").await;
        publisher.publish(&[keyframe(0)]).await;
        let mut player = origin.player("s").await;
        assert_eq!(player.frame().await, keyframe(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_sent_nowhere_asks_the_next_origin() {
    keep_log();
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let itself = |address| format!("rtmp://{address}/live");
    let other = |_| "http://other.example.com/live".to_owned();
    for (redirecting, why) in [
        (
            RedirectingServer::start(At::Connect, itself).await,
            "it was tried before",
        ),
        (
            RedirectingServer::start(At::Connect, other).await,
            "no rtmp:// or rtmps:// URL",
        ),
    ] {
        let edge = TestServer::edge(&[redirecting.address, origin.address], "");
        let mut player = edge.player("s").await;
        assert_eq!(player.frame().await, keyframe(0));
        let lines = log_lines(&format!("from {}: ", redirecting.address));
        assert!(lines.iter().any(|line| line.contains(why)), "{lines:?}");
        assert_eq!(redirecting.asked(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_of_origins_that_lead_in_a_circle_is_told_that_there_is_no_stream() {
    let itself = |address| format!("rtmp://{address}/live");
    let redirecting = RedirectingServer::start(At::Connect, itself).await;
    let edge = TestServer::edge(&[redirecting.address], "play_wait_timeout 100;");
    let mut player = edge.player("s").await;
    assert_eq!(player.refusal().await.code, code::PLAY_STREAM_NOT_FOUND);
    until(|| edge.server.clients().count() == 0).await;
}
