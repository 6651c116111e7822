use netbed::TIME_LIMIT;
use tokio::io::AsyncReadExt;

use super::*;

fn settings() -> Upstream {
    Upstream {
        origins: Vec::new(),
        ca: None,
        remote: None,
        vhost: None,
        token_traverse: false,
        redundancy: 1,
        connect_timeout: Duration::ZERO,
        read_timeout: Duration::ZERO,
        return_timeout: Duration::ZERO,
        linger: Duration::ZERO,
    }
}

/// The request's tcUrl, application and stream.
fn asked(vhost: &str, settings: &Upstream) -> [String; 3] {
    let key = StreamKey {
        vhost: vhost.to_owned(),
        app: "live".to_owned(),
        stream: "s".to_owned(),
    };
    let parameters = Parameters("token=x&vhost=b&domain=c&z".to_owned());
    let origin = Origin::parse("origin").unwrap();
    let config = request(Purpose::Play, &origin, settings, &key, &parameters);
    [config.tc_url, config.app, config.stream]
}

#[test]
fn the_default_vhost_is_left_to_the_origin() {
    let asked = asked(DEFAULT_VHOST, &settings());
    assert_eq!(asked, ["rtmp://origin:1935/live", "live", "s"]);
}

#[test]
fn another_vhost_is_asked_for_by_name() {
    let expected = ["rtmp://origin:1935/live?vhost=a", "live?vhost=a", "s"];
    assert_eq!(asked("a", &settings()), expected);
    let with_vhost = Upstream {
        vhost: Some("a".to_owned()),
        ..settings()
    };
    assert_eq!(asked(DEFAULT_VHOST, &with_vhost), expected);
}

/// A socket that accepts no more connections, and those in its queue.
fn deaf() -> (socket2::Socket, SocketAddr, Vec<std::net::TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let limit = Duration::from_secs(1);
    let connect = || std::net::TcpStream::connect_timeout(&address, limit).ok();
    let queued = std::iter::from_fn(connect).collect();
    (socket, address, queued)
}

#[tokio::test]
async fn each_address_of_a_name_has_its_own_time_to_answer() {
    let (_socket, deaf, _queued) = deaf();
    let refusing = SocketAddr::from(([127, 0, 0, 1], 1));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = listener.local_addr().unwrap();
    let limit = Duration::from_secs(2);
    let addresses = [refusing, deaf, serving].into_iter();
    let connected = connect(addresses, limit).await.unwrap();
    assert_eq!(connected.peer_addr().unwrap(), serving);
    let end = connect([refusing, deaf].into_iter(), limit).await;
    assert!(matches!(end, Err(OriginError::Slow(_))), "{end:?}");
    let end = connect(std::iter::empty(), limit).await;
    assert!(matches!(end, Err(OriginError::Unreachable(_))), "{end:?}");
}

#[tokio::test]
async fn a_flush_that_was_cut_off_goes_on_where_it_was() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = ClientConfig::new(Purpose::Publish, "rtmp://origin/live", "live", "s");
    let mut sent = Vec::new();
    let session = ClientSession::new(config, &Limits::default(), &mut sent).unwrap();
    sent.extend((0..4_000_000_u32).flat_map(u32::to_be_bytes));
    let mut connection = OriginConnection {
        socket: TcpStream::connect(address).await.unwrap().into(),
        session,
        input: BytesMut::new(),
        out: sent.clone(),
        sent: 0,
    };
    let (mut origin, _) = listener.accept().await.unwrap();
    // More than sockets hold, and nobody reads.
    while connection.sent == 0 {
        let cut_off = timeout(Duration::from_millis(1), connection.flush()).await;
        assert!(cut_off.is_err(), "all of it went out");
    }
    let mut arrived = vec![0; sent.len()];
    let (flushed, read) = tokio::join!(connection.flush(), origin.read_exact(&mut arrived));
    flushed.unwrap();
    read.unwrap();
    assert!(arrived == sent, "not what was sent");
    assert!(connection.out.is_empty());
}

#[tokio::test]
async fn what_tls_has_kept_goes_out_though_nothing_follows() {
    let (socket, mut peer) = Transport::secured_for_tests().await;
    let config = ClientConfig::new(Purpose::Publish, "rtmp://origin/live", "live", "s");
    let mut out = Vec::new();
    let session = ClientSession::new(config, &Limits::default(), &mut out).unwrap();
    let mut connection = OriginConnection {
        socket,
        session,
        input: BytesMut::new(),
        out,
        sent: 0,
    };
    let mut count = connection.unsent();
    // Nobody reads, and what is not a whole record more has been encrypted.
    while timeout(Duration::from_millis(1), connection.flush())
        .await
        .is_ok()
    {
        connection.out = vec![7; 10_000];
        count += connection.unsent();
    }
    assert_eq!(connection.unsent(), 0);
    let (all, all_read) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut came = vec![0; count];
        let read = std::io::Read::read_exact(&mut peer, &mut came);
        // An error means that the test has ended.
        let _ = all.send(read.map(|()| peer));
    });
    let mut events = Vec::new();
    tokio::select! {
        read = timeout(TIME_LIMIT, all_read) => {
            read.expect("it is kept").unwrap().unwrap();
        }
        end = connection.exchange(&mut events) => panic!("{end:?}"),
    }
}

#[test]
fn parameters_travel_where_configured() {
    let traverse = Upstream {
        token_traverse: true,
        ..settings()
    };
    assert_eq!(asked(DEFAULT_VHOST, &traverse)[2], "s?token=x&z");
}

/// [`OriginConnectionPart`] of programs that hand over plain connections alone.
#[derive(Serialize, Deserialize)]
struct Former {
    descriptor: RawFd,
    session: Blob,
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    input: Bytes,
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    out: Bytes,
}

/// The part of a connection by `socket`, whose handshake has got so far that it can be written
/// down.
fn part(socket: Transport) -> (OriginConnectionPart, HandedOver) {
    let config = ClientConfig::new(Purpose::Play, "rtmp://origin/live", "live", "s");
    let mut out = Vec::new();
    let mut session = ClientSession::new(config, &Limits::default(), &mut out).unwrap();
    let mut packets = vec![0; 1 + 1536];
    packets[0] = 3;
    assert_eq!(session.read(&mut &packets[..], &mut out), Ok(None));
    let connection = OriginConnection {
        socket,
        session,
        input: BytesMut::from("half"),
        out,
        sent: 5,
    };
    let mut handed_over = HandedOver::default();
    let part = connection.part(&mut handed_over).unwrap().unwrap();
    // What is handed over stays open, and is tokio's no longer.
    std::mem::forget(connection.socket.into_std().unwrap());
    (part, handed_over)
}

fn written<T: serde::de::DeserializeOwned>(part: &impl Serialize) -> T {
    Blob::of(part).unwrap().read().unwrap()
}

#[tokio::test]
async fn a_plain_connection_is_known_to_former_programs_and_theirs_to_this_one() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = TcpStream::connect(address).await.unwrap();
    let (part, handed_over) = part(socket.into());
    part.check().unwrap();
    let former: Former = written(&part);
    assert_eq!(handed_over.numbers(), [former.descriptor]);
    let part: OriginConnectionPart = written(&former);
    // SAFETY: nobody has it but the connection, which is forgotten.
    let mut inherited = unsafe { Inherited::adopt(handed_over.numbers()) };
    let connection = OriginConnection::take_over(&part, &mut inherited).unwrap();
    assert_eq!(connection.socket.tls_place(), None);
    assert_eq!(&connection.input[..], b"half");
    assert!(connection.unsent() > 1_000);
}

#[tokio::test]
async fn former_programs_do_not_go_on_in_plain_text_with_a_connection_by_tls() {
    let (socket, _peer) = Transport::secured_for_tests().await;
    let (part, handed_over) = part(socket);
    part.check().unwrap();
    let former: Former = written(&part);
    assert!(!handed_over.numbers().contains(&former.descriptor));
    // SAFETY: as above.
    let mut inherited = unsafe { Inherited::adopt(handed_over.numbers()) };
    assert!(inherited.take(former.descriptor).is_err());
    let connection = OriginConnection::take_over(&written(&part), &mut inherited).unwrap();
    let place = connection.socket.tls_place();
    assert_eq!(place, Some(crate::transport::TlsPlace::UserSpace));
}
