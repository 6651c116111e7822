//! Forwards while everybody stands still.

use rtmp_proto::session::{ConnectSettings, DEFAULT_VHOST, ServerEvent, ServerSession, StreamKey};
use rtmp_proto::wire::{Limits, MessageType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{Role, load};
use crate::hand_over::Steps;
use crate::server::stream_settings;
use crate::server::upgrade::Purpose;

/// Waits until a publish is accepted along a connection to `listener`, of which nothing more is
/// read.
async fn accept_publish(listener: TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut session = ServerSession::new(&Limits::default());
    let (mut input, mut out) = (Vec::new(), Vec::new());
    loop {
        let mut unread = &input[..];
        let event = session.read(&mut unread, &mut out).unwrap();
        let read = input.len() - unread.len();
        input.drain(..read);
        match event {
            Some(ServerEvent::Connect(_)) => {
                session.accept_connect(&ConnectSettings::default(), &mut out);
            }
            Some(ServerEvent::Publish(publish)) => {
                session.accept_publish(publish.stream_id, &mut out);
                socket.write_all(&out).await.unwrap();
                return socket;
            }
            Some(_) => {}
            None => {
                socket.write_all(&out).await.unwrap();
                out.clear();
                assert_ne!(socket.read_buf(&mut input).await.unwrap(), 0);
            }
        }
    }
}

#[tokio::test]
async fn a_forward_that_stands_still_does_not_end_however_long_that_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let text =
        format!("vhost __defaultVhost__ {{ forward {{ enabled on; destination {address}; }} }}");
    let config = load(&text, Role::Origin).unwrap().config;
    let server = Server::start(Role::Origin, config).unwrap();
    let config = server.config();
    let vhost = config.vhost(DEFAULT_VHOST).unwrap();
    let key = StreamKey {
        vhost: DEFAULT_VHOST.to_owned(),
        app: "live".to_owned(),
        stream: "s".to_owned(),
    };
    let settings = stream_settings(&config, vhost);
    let stream = server.registry.obtain(&key, &settings, Instant::now());
    let mut publication = stream.publish(Instant::now()).unwrap();
    begin(&server, &stream, vhost);
    let socket = accept_publish(listener).await;
    // More than the sockets hold.
    for number in 0..60 {
        let mut payload = vec![0x55; 500_000];
        payload[..5].copy_from_slice(&[if number == 0 { 0x17 } else { 0x27 }, 1, 0, 0, 0]);
        let message = rtmp_proto::wire::Message {
            timestamp: number * 40,
            message_type: MessageType::VIDEO,
            stream_id: 1,
            payload: payload.into(),
        };
        publication
            .append(&[message.into()], Instant::now())
            .unwrap();
    }
    let forward = &server.forwards.list()[0];
    while forward.progress().bytes == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // It has FINISH_TIMEOUT for the rest.
    drop(publication);
    sleep(Duration::from_millis(50)).await;
    let mut steps = Steps::new();
    let frozen = server.freeze(Purpose::Rehearsal, false, &mut steps).await;
    let frozen = frozen.unwrap();
    tokio::time::pause();
    sleep(10 * FINISH_TIMEOUT).await;
    tokio::time::resume();
    assert_eq!(server.forwards.list().len(), 1, "it has written, or will");
    server.thaw(frozen);
    drop(socket);
    server.forwards.finish().await;
    assert!(server.forwards.list().is_empty());
}
