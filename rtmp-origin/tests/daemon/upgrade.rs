//! SIGUSR2: what a viewer and a server that is forwarded to see of an upgrade.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_flv::tag::{TagKind, file_header, write_tag};
use netbed::local::free_address;
use netbed::{TIME_LIMIT, wait_for};
use nix::sys::signal::Signal;
use rtmp_proto::session::{ConnectSettings, ServerEvent, ServerSession};
use rtmp_proto::wire::{Limits, MessageType};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::hooks::openssl;
use crate::peer::{Peer, read_some};
use crate::{Origin, read, text};

/// Pictures of half a megabyte: more than the sockets on the way to a server take.
const PICTURES: u32 = 60;
const PICTURE_BYTES: usize = 500_000;

/// Has the origin become its program anew.
pub(super) fn upgrade(origin: &Origin, times: usize) {
    origin.process.signal(Signal::SIGUSR2);
    wait_for("the upgrade", || {
        let log = read(&origin.path("origin.log"));
        log.matches("goes on in place of").count() == times
    });
}

/// A server that takes a publish, and no more of it before it is told to; the times of the
/// pictures that have come up to one of the time `last_ms`. `secure` makes a TLS connection of one.
fn slow_target<S: Read + Write>(
    listener: TcpListener,
    secure: impl FnOnce(TcpStream) -> S + Send + 'static,
    go_on: mpsc::Receiver<()>,
    last_ms: u32,
) -> JoinHandle<Vec<u32>> {
    thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        let mut socket = secure(socket);
        let mut session = ServerSession::new(&Limits::default());
        let (mut input, mut out) = (Vec::new(), Vec::new());
        let mut times = Vec::new();
        let mut is_accepted = false;
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
                    is_accepted = true;
                }
                Some(ServerEvent::Media(message)) if message.message_type == MessageType::VIDEO => {
                    assert_eq!(message.payload.len(), PICTURE_BYTES);
                    assert!(message.payload[5..].iter().all(|byte| *byte == 0x55));
                    times.push(message.timestamp);
                    if message.timestamp == last_ms {
                        let another = listener.set_nonblocking(true).map(|()| listener.accept());
                        assert!(another.unwrap().is_err(), "it has connected again");
                        return times;
                    }
                }
                Some(_) => {}
                None => {
                    socket.write_all(&out).unwrap();
                    out.clear();
                    if std::mem::take(&mut is_accepted) {
                        go_on.recv_timeout(TIME_LIMIT).unwrap();
                    }
                    let count = read_some(&mut socket, &mut input);
                    assert!(count > 0, "the origin has closed the connection");
                }
            }
        }
    })
}

#[test]
fn a_forward_goes_on_to_the_byte_though_its_server_takes_nothing() {
    goes_on_to_the_byte("", "", |socket| socket);
}

#[test]
fn a_forward_by_tls_goes_on_to_the_byte_though_its_server_takes_nothing() {
    for version in [&TLS12, &TLS13] {
        let directory = tempfile::tempdir().unwrap();
        openssl(
            directory.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN=localhost -addext subjectAltName=DNS:localhost \
             -addext basicConstraints=critical,CA:FALSE -keyout key -out certificate",
        );
        let [key, certificate] = ["key", "certificate"].map(|name| directory.path().join(name));
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&certificate).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            );
        let connection = ServerConnection::new(config.unwrap().into()).unwrap();
        let trusted = format!("ca {};", certificate.display());
        let secure = |socket| StreamOwned::new(connection, socket);
        goes_on_to_the_byte("rtmps://", &trusted, secure);
    }
}

/// Forwards to a server at a URL of `scheme`, whose connection `secure` makes, over two upgrades.
fn goes_on_to_the_byte<S: Read + Write>(
    scheme: &str,
    directives: &str,
    secure: impl FnOnce(TcpStream) -> S + Send + 'static,
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!(
        "{scheme}localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let (go_on, told) = mpsc::channel();
    let last_ms = (PICTURES + 9) * 40;
    let pictures = slow_target(listener, secure, told, last_ms);
    let origin = Origin::start(&[
        "--log-file",
        "origin.log",
        "--min-latency",
        "on",
        "--set",
        &format!("forward {{ enabled on; destination {target}; {directives} }}"),
    ]);
    let mut publisher = Peer::publish(origin.address, "livestream").unwrap();
    let mut viewer = Peer::play(origin.address, "livestream");
    let mut send = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let sent = publisher.send_picture(number * 40, number == 0, PICTURE_BYTES);
            sent.unwrap();
            assert_eq!(viewer.next_picture(), Some(number * 40));
        }
    };
    send(0..1);
    wait_for("the forward", || {
        read(&origin.path("origin.log")).contains(&format!("forwarded to {target}"))
    });
    send(1..PICTURES);
    upgrade(&origin, 1);
    send(PICTURES..PICTURES + 5);
    upgrade(&origin, 2);
    send(PICTURES + 5..PICTURES + 10);
    go_on.send(()).unwrap();
    let expected: Vec<_> = (0..PICTURES + 10).map(|number| number * 40).collect();
    assert_eq!(pictures.join().unwrap(), expected);
}

/// Pictures of a slate, and the time from one to the next, ms.
const SLATE_PICTURES: u8 = 100;
const SLATE_STEP_MS: u32 = 50;

/// A slate of one keyframe and many pictures: each says its number, and `mark`.
pub(super) fn write_slate(path: &Path, mark: u8) {
    let mut file = file_header(false, true).to_vec();
    write_tag(TagKind::Video, 0, &[0x17, 0, 0, 0, 0, mark], &mut file);
    for number in 0..SLATE_PICTURES {
        let first = if number == 0 { 0x17 } else { 0x27 };
        let time_ms = u32::from(number) * SLATE_STEP_MS;
        let payload = [first, 1, 0, 0, 0, number, mark];
        write_tag(TagKind::Video, time_ms, &payload, &mut file);
    }
    std::fs::write(path, file).unwrap();
}

/// The next picture of a slate: its number and its mark. Time rises from `last_ms` on.
fn next_of_slate(viewer: &mut Peer, last_ms: &mut u32) -> (u8, u8) {
    loop {
        let message = viewer.next_video().expect("the stream goes on");
        assert!(message.timestamp >= *last_ms, "time falls from {last_ms}");
        let is_header = message.payload[1] == 0;
        if !is_header {
            assert!(message.timestamp > *last_ms, "{last_ms} twice");
            *last_ms = message.timestamp;
            return (message.payload[5], message.payload[6]);
        }
    }
}

#[test]
fn a_slate_goes_on_at_its_next_picture_or_with_another_file() {
    let directory = tempfile::tempdir().unwrap();
    let [slate, other] = ["slate.flv", "other.flv"].map(|name| directory.path().join(name));
    write_slate(&slate, 1);
    write_slate(&other, 2);
    let conf = directory.path().join("x.conf");
    let configure = |file: &Path, slate_after_ms: u32| {
        let file = file.display();
        let text = format!(
            "vhost __defaultVhost__ {{ min_latency on; publish_return_timeout 3600000; \
             publish {{ slate {file}; slate_after {slate_after_ms}; }} }}"
        );
        std::fs::write(&conf, text).unwrap();
    };
    configure(&slate, 100);
    let conf_name = conf.to_str().unwrap();
    let origin = Origin::start(&["-c", conf_name, "--log-file", "origin.log"]);
    let mut publisher = Peer::publish(origin.address, "livestream").unwrap();
    publisher.send_picture(0, true, 7).unwrap();
    publisher.send_picture(40, false, 7).unwrap();
    let mut viewer = Peer::play(origin.address, "livestream");
    assert_eq!(viewer.next_picture(), Some(0));
    assert_eq!(viewer.next_picture(), Some(40));
    drop(publisher);
    let mut last_ms = 40;
    assert_eq!(next_of_slate(&mut viewer, &mut last_ms), (0, 1));
    // Whoever began anew would have nothing to show for most of an hour.
    configure(&slate, 3_000_000);
    upgrade(&origin, 1);
    // To the next turn of the file, and beyond.
    let turn = 1..SLATE_PICTURES + 3;
    for number in turn.clone() {
        let shown = next_of_slate(&mut viewer, &mut last_ms);
        assert_eq!(shown, (number % SLATE_PICTURES, 1));
    }
    configure(&other, 3_000_000);
    upgrade(&origin, 2);
    let mut shown = next_of_slate(&mut viewer, &mut last_ms);
    let mut number = turn.end % SLATE_PICTURES;
    while shown.1 == 1 {
        assert_eq!(shown.0, number);
        number += 1;
        shown = next_of_slate(&mut viewer, &mut last_ms);
    }
    for number in 0..3 {
        assert_eq!(shown, (number, 2), "from its beginning");
        shown = next_of_slate(&mut viewer, &mut last_ms);
    }
    let mut publisher = Peer::publish(origin.address, "livestream").unwrap();
    publisher.send_picture(0, true, 8).unwrap();
    publisher.send_picture(40, false, 8).unwrap();
    loop {
        let message = viewer.next_video().expect("the stream goes on");
        assert!(message.timestamp >= last_ms);
        last_ms = message.timestamp;
        if message.payload.len() == 8 {
            break;
        }
    }
    let log = read(&origin.path("origin.log"));
    assert_eq!(log.matches("the slate goes on air").count(), 1, "{log}");
}

/// A web server that answers each hook when it is told to; what it is asked.
fn held_site() -> (SocketAddr, mpsc::Receiver<String>, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, events) = mpsc::channel();
    let (answer, may_answer) = mpsc::channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut request = Vec::new();
            // The event's last character ends the request.
            while request.last() != Some(&b'}') {
                assert!(read_some(&mut socket, &mut request) > 0, "a whole request");
            }
            // An error means that the test has ended.
            if told.send(text(&request)).is_err() || may_answer.recv().is_err() {
                return;
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0";
            socket.write_all(answer).unwrap();
        }
    });
    (address, events, answer)
}

#[test]
fn players_over_http_that_hooks_are_asked_about_play_after_an_upgrade() {
    let (site, asked, answer) = held_site();
    let http = free_address();
    let origin = Origin::start(&[
        "--log-file",
        "origin.log",
        "--min-latency",
        "on",
        "--set",
        &format!("http_server {{ enabled on; listen {http}; }}"),
        "--set",
        &format!(
            "vhost __defaultVhost__ {{ play_wait_timeout 3600000; http_remux {{ enabled on; }} \
             http_hooks {{ enabled on; on_play http://{site}/; on_stop http://{site}/; }} }}"
        ),
    ]);
    let ask = || {
        let mut player = TcpStream::connect(http).unwrap();
        player.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        player
            .write_all(b"GET /live/livestream.flv HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        player
    };
    let is_asked = || {
        let event = asked.recv_timeout(TIME_LIMIT).expect("a hook");
        assert!(event.contains("on_play"), "{event}");
    };
    let mut players = vec![ask()];
    is_asked();
    origin.process.signal(Signal::SIGUSR2);
    wait_for("the upgrade to begin", || {
        read(&origin.path("origin.log")).contains("upgrade: rehearsing")
    });
    // Most of them find that requests are waited for, and wait themselves.
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(50));
        players.push(ask());
    }
    for number in 0..players.len() {
        if number > 0 {
            is_asked();
        }
        answer.send(()).unwrap();
    }
    wait_for("the upgrade", || {
        read(&origin.path("origin.log")).contains("goes on in place of")
    });
    let mut publisher = Peer::publish(origin.address, "livestream").unwrap();
    publisher.send_picture(0, true, 7).unwrap();
    publisher.send_picture(40, false, 7).unwrap();
    for player in &mut players {
        let mut got = Vec::new();
        while !got.windows(3).any(|bytes| bytes == b"FLV") {
            assert!(read_some(player, &mut got) > 0, "{}", text(&got));
        }
    }
    assert!(asked.try_recv().is_err(), "nobody has stopped");
    let log = read(&origin.path("origin.log"));
    assert!(!log.contains("were not handed over"), "{log}");
}

#[test]
fn hooks_hear_of_a_connection_that_is_about_to_end_at_an_upgrade() {
    let (site, events, answer) = held_site();
    for _ in 0..3 {
        answer.send(()).unwrap();
    }
    let api = free_address();
    let vhost = format!(
        "vhost __defaultVhost__ {{ http_hooks {{ enabled on; on_publish http://{site}/; \
         on_unpublish http://{site}/; on_close http://{site}/; }} }}"
    );
    let origin = Origin::start(&[
        "--log-file",
        "origin.log",
        "--http-api",
        &api.to_string(),
        "--set",
        &vhost,
    ]);
    // It does not close its end, which is waited for.
    let publisher = Peer::publish(origin.address, "livestream").unwrap();
    let mut dismissal = TcpStream::connect(api).unwrap();
    dismissal
        .write_all(b"DELETE /api/v1/clients/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let told = || events.recv_timeout(TIME_LIMIT).expect("a hook");
    assert!(told().contains("on_publish"));
    assert!(told().contains("on_unpublish"));
    upgrade(&origin, 1);
    assert!(told().contains("on_close"));
    let log = read(&origin.path("origin.log"));
    assert!(!log.contains("were not handed over"), "{log}");
    drop(publisher);
}

#[test]
fn a_fetched_stream_whose_source_is_gone_has_ended_after_an_upgrade() {
    let (site, events, answer) = held_site();
    for _ in 0..100 {
        answer.send(()).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let [film, slate] = ["film.flv", "slate.flv"].map(|name| directory.path().join(name));
    write_slate(&slate, 2);
    // It is on air until the upgrade, though its file is gone before: its next turn is an hour
    // away.
    let mut file = file_header(false, true).to_vec();
    write_tag(TagKind::Video, 0, &[0x17, 0, 0, 0, 0, 1], &mut file);
    for (first, time_ms) in [(0x17, 0), (0x27, 40), (0x27, 3_600_000)] {
        write_tag(
            TagKind::Video,
            time_ms,
            &[first, 1, 0, 0, 0, 0, 1],
            &mut file,
        );
    }
    std::fs::write(&film, file).unwrap();
    let vhost = format!(
        "vhost __defaultVhost__ {{ min_latency on; play_wait_timeout 3600000; \
         publish_return_timeout 3600000; publish {{ slate {}; slate_after 100; }} \
         http_hooks {{ enabled on; on_publish http://{site}/; on_unpublish http://{site}/; }} \
         ingest film {{ enabled on; input {{ type file; url {}; }} \
         engine {{ output rtmp://127.0.0.1:[port]/live/livestream; }} }} }}",
        slate.display(),
        film.display()
    );
    let origin = Origin::start(&["--log-file", "origin.log", "--set", &vhost]);
    let mut viewer = Peer::play(origin.address, "livestream");
    let mut last_ms = 0;
    while last_ms == 0 {
        last_ms = viewer.next_video().expect("the film").timestamp;
    }
    let told = || events.recv_timeout(TIME_LIMIT).expect("a hook");
    assert!(told().contains("on_publish"));
    std::fs::remove_file(&film).unwrap();
    upgrade(&origin, 1);
    assert!(told().contains("on_unpublish"));
    for number in 0..3 {
        assert_eq!(next_of_slate(&mut viewer, &mut last_ms), (number, 2));
    }
    let log = read(&origin.path("origin.log"));
    assert!(log.contains("cannot be read"), "{log}");
    let published = log.matches(": published live/livestream: ");
    assert_eq!(published.count(), 1, "{log}");
    assert!(!log.contains("were not handed over"), "{log}");
}

#[test]
fn a_viewer_of_a_fetched_file_has_it_after_an_upgrade_too() {
    let directory = tempfile::tempdir().unwrap();
    let film = directory.path().join("film.flv");
    write_slate(&film, 1);
    let ingest = format!(
        "vhost __defaultVhost__ {{ min_latency on; play_wait_timeout 3600000; ingest film {{ \
         enabled on; input {{ type file; url {}; }} \
         engine {{ output rtmp://127.0.0.1:[port]/live/livestream; }} }} }}",
        film.display()
    );
    let origin = Origin::start(&["--log-file", "origin.log", "--set", &ingest]);
    let mut viewer = Peer::play(origin.address, "livestream");
    let mut has_picture = || viewer.next_video().expect("the stream goes on");
    has_picture();
    for number in 1..=3 {
        upgrade(&origin, number);
        wait_for("the file to be fetched again", || {
            let log = read(&origin.path("origin.log"));
            log.matches("ingest film: publish").count() > number
        });
        // More than the sockets may hold from before.
        for _ in 0..5 {
            has_picture();
        }
    }
    let log = read(&origin.path("origin.log"));
    assert!(!log.contains("were not handed over"), "{log}");
}
