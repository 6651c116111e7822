//! Connections as they are used up and end.

mod client;
mod hand_over;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::process::Command;
use std::sync::Arc;

use ::tokio::sync::Semaphore;
use ::tokio::time::timeout;
use bytes::BytesMut;
use netbed::TIME_LIMIT;
use nix::sys::sendfile::sendfile64;
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite, SupportedProtocolVersion, Tls13CipherSuite,
};
use tls_record::Role;

use super::kernel::{KernelSupport, KernelTls};
use super::key_limit::KeyLimit;
use super::{Encryption, MAX_FRAGMENT, StdTransport, Transport, handshake};

/// The other end of a connection, by rustls.
pub(crate) struct Peer {
    conn: Connection,
    sock: TcpStream,
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.conn.wants_read() && self.conn.complete_io(&mut self.sock)?.0 > 0 {}
        self.conn.reader().read(buffer)
    }
}

/// A server and a client that trusts it.
fn configs(version: &'static SupportedProtocolVersion) -> (ServerConfig, ClientConfig) {
    configs_with(ring::default_provider(), version)
}

/// The same with these cipher suites.
fn configs_with(
    provider: CryptoProvider,
    version: &'static SupportedProtocolVersion,
) -> (ServerConfig, ClientConfig) {
    let directory = tempfile::tempdir().unwrap();
    let [key, cert, settings] = ["key", "cert", "conf"].map(|name| directory.path().join(name));
    // The machine's own configuration may be missing.
    std::fs::write(&settings, "[req]\ndistinguished_name = dn\n[dn]\n").unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256".split(' '));
    openssl.arg("-config").arg(settings);
    openssl.args("-subj /CN=localhost -addext subjectAltName=DNS:localhost".split(' '));
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    let made = openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert);
    assert!(made.output().unwrap().status.success());
    let cert = CertificateDer::from_pem_file(cert).unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(provider);
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, client)
}

/// Both ends of a connection.
fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    (server, client)
}

/// Both ends of a connection that is encrypted here, after the handshake; ours is the server.
async fn connected(version: &'static SupportedProtocolVersion) -> (Transport, Peer) {
    let (server, client) = configs(version);
    connect(Role::Server, (server.into(), client.into()), None).await
}

/// The same where we are `role` and the peer is the other one; for a server the kernel encrypts
/// that is given.
async fn connect(
    role: Role,
    (server, client): (Arc<ServerConfig>, Arc<ClientConfig>),
    kernel: Option<&KernelSupport>,
) -> (Transport, Peer) {
    let (ours, theirs) = sockets();
    let name: ServerName<'_> = "localhost".try_into().unwrap();
    let conn = match role {
        Role::Server => ClientConnection::new(client.clone(), name.clone())
            .unwrap()
            .into(),
        Role::Client => ServerConnection::new(server.clone()).unwrap().into(),
    };
    let mut peer = Peer { conn, sock: theirs };
    let peer = ::tokio::task::spawn_blocking(move || {
        while peer.conn.is_handshaking() {
            peer.conn.complete_io(&mut peer.sock).unwrap();
        }
        peer
    });
    let ours = ::tokio::net::TcpStream::from_std(ours).unwrap();
    let transport = match role {
        Role::Server => {
            let accepted = handshake::accept(ours, server, &Semaphore::new(1), kernel).await;
            accepted.map_err(|(_, error)| error).unwrap().transport
        }
        Role::Client => {
            let connected = handshake::connect(ours, client, name).await;
            connected.unwrap()
        }
    };
    (transport, peer.await.unwrap())
}

#[tokio::test]
async fn a_key_that_is_used_up_leaves_room_for_the_last_words() {
    let (transport, mut client) = connected(&TLS12).await;
    let mut worker = transport.into_std().unwrap();
    let Encryption::User(session) = &mut worker.encryption else {
        panic!("{worker:?}");
    };
    session.limit = KeyLimit::of_delivery(3);
    let written = (0..10).map_while(|_| worker.write(b"x").ok());
    assert_eq!(written.count(), 3);
    let refused = worker.write_or_fill();
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    let mut transport = Transport::from_std(worker).unwrap();
    transport.write_all(b"the end").await.unwrap();
    transport.shutdown().await.unwrap();
    let mut came = Vec::new();
    // Without `close_notify`, rustls calls the end unexpected.
    client.read_to_end(&mut came).unwrap();
    assert_eq!(came, b"xxxthe end");
}

#[tokio::test]
async fn who_polls_a_key_until_it_is_used_up_can_still_say_so() {
    let (mut transport, mut client) = connected(&TLS12).await;
    let Encryption::User(session) = &mut transport.encryption else {
        panic!("{transport:?}");
    };
    session.limit = KeyLimit::of_delivery(3);
    let mut written = 0;
    let refused = loop {
        let write = std::future::poll_fn(|context| transport.poll_write(context, b"x"));
        match write.await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((written, refused.kind()), (3, io::ErrorKind::QuotaExceeded));
    transport.shutdown().await.unwrap();
    let mut came = Vec::new();
    // Without `close_notify`, rustls calls the end unexpected.
    client.read_to_end(&mut came).unwrap();
    assert_eq!(came, b"xxx");
}

impl Transport {
    /// A client's connection that is encrypted here, and its server.
    pub(crate) async fn secured_for_tests() -> (Self, Peer) {
        let (server, client) = configs(&TLS13);
        connect(Role::Client, (server.into(), client.into()), None).await
    }
}

impl StdTransport {
    /// Sends of a file of zeros.
    fn write_or_fill(&mut self) -> io::Result<usize> {
        self.send_file(1, |_| unreachable!(), |_| Ok(()))
    }
}

/// `suite`, whose key may encrypt `limit` records.
fn limited(suite: &'static Tls13CipherSuite, limit: u64) -> SupportedCipherSuite {
    let common = CipherSuiteCommon {
        suite: suite.common.suite,
        hash_provider: suite.common.hash_provider,
        confidentiality_limit: limit,
    };
    SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
        common,
        hkdf_provider: suite.hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: suite.quic,
    })))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_kernel_is_used_up_and_the_connection_ends_in_order() {
    const LIMIT: u64 = 1_500;
    let kernel = match KernelSupport::probe() {
        Ok(kernel) => kernel,
        Err(error) => netbed::skip!("this kernel has no TLS: {error}"),
    };
    let mut provider = ring::default_provider();
    provider.cipher_suites = provider
        .cipher_suites
        .iter()
        .filter_map(|suite| suite.tls13())
        .filter(|suite| suite.common.confidentiality_limit < u64::MAX)
        .map(|suite| limited(suite, LIMIT))
        .collect();
    let (server, client) = configs_with(provider, &TLS13);
    let configs = (server.into(), client.into());
    let (transport, mut client) = connect(Role::Server, configs, Some(&kernel)).await;
    assert!(matches!(transport.encryption, Encryption::Kernel(_)));
    let bytes: Vec<u8> = (0..3 * MAX_FRAGMENT + 100).map(|it| it as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let reading = ::tokio::task::spawn_blocking(move || {
        let mut came = Vec::new();
        // Without `close_notify`, rustls calls the end unexpected.
        client.read_to_end(&mut came).map(|_| came)
    });
    let mut worker = transport.into_std().unwrap();
    let mut sent = 0;
    let error = loop {
        let mut from = (sent % bytes.len()) as i64;
        let length = bytes.len() - sent % bytes.len();
        let send = |socket: BorrowedFd<'_>| {
            sendfile64(socket, &file, Some(&mut from), length).map_err(io::Error::from)
        };
        match worker.send_file(length as u64, send, |_| unreachable!()) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ::tokio::task::yield_now().await;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    assert!(sent > bytes.len() && sent < LIMIT as usize * MAX_FRAGMENT);
    let mut transport = Transport::from_std(worker).unwrap();
    transport.write_all(b"the end").await.unwrap();
    transport.shutdown().await.unwrap();
    let came = timeout(TIME_LIMIT, reading).await.expect("it waits");
    let came = came.unwrap().unwrap();
    let expected = bytes.iter().cycle().take(sent).chain(b"the end");
    assert!(came.iter().eq(expected), "{} of {sent} bytes", came.len());
}

#[tokio::test]
async fn a_key_of_tls_1_3_has_no_limit() {
    let (transport, _client) = connected(&TLS13).await;
    let Encryption::User(session) = &transport.encryption else {
        panic!("{transport:?}");
    };
    assert_eq!(session.limit.left(), u64::MAX);
}

#[tokio::test]
async fn the_end_that_a_worker_has_read_is_read_after_it() {
    let (transport, mut client) = connected(&TLS13).await;
    client.conn.writer().write_all(b"x").unwrap();
    client.conn.send_close_notify();
    let mut records = Vec::new();
    client.conn.write_tls(&mut records).unwrap();
    client.sock.write_all(&records).unwrap();
    let mut worker = transport.into_std().unwrap();
    let mut buffer = [0; super::MAX_READ];
    let count = loop {
        match worker.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ::tokio::task::yield_now().await;
            }
            read => break read.unwrap(),
        }
    };
    assert_eq!(&buffer[..count], b"x");
    // Nothing more comes, and the client does not close the socket.
    let mut transport = Transport::from_std(worker).unwrap();
    let mut input = BytesMut::new();
    let read = timeout(TIME_LIMIT, transport.read(1_024, &mut input)).await;
    assert_eq!(read.expect("it waits").unwrap(), 0);
}

/// Where the kernel has no TLS, it ignores the type of a record, and sends it as data.
#[tokio::test]
async fn close_notify_waits_for_room_in_the_socket() {
    let (ours, mut theirs) = sockets();
    let mut fill = ours.try_clone().unwrap();
    let (server, _) = configs(&TLS13);
    let limit = KeyLimit::new(server.crypto_provider().cipher_suites[0], 0);
    let worker = StdTransport {
        tcp: ours,
        encryption: Encryption::Kernel(KernelTls::new(limit)),
    };
    let mut transport = Transport::from_std(worker).unwrap();
    // tokio takes the socket for writable, and does not see that it is filled.
    transport.tcp.writable().await.unwrap();
    let mut filled = 0;
    while let Ok(count) = fill.write(&[7; 65_536]) {
        filled += count;
    }
    drop(fill);
    let mut shutdown = Box::pin(transport.shutdown());
    ::tokio::select! {
        biased;
        ended = &mut shutdown => panic!("{ended:?} though the socket takes nothing"),
        () = ::tokio::task::yield_now() => {}
    }
    let reading = ::tokio::task::spawn_blocking(move || {
        let mut came = Vec::new();
        theirs.read_to_end(&mut came).map(|_| came)
    });
    timeout(TIME_LIMIT, shutdown)
        .await
        .expect("it waits")
        .unwrap();
    let came = reading.await.unwrap().unwrap();
    assert_eq!(came.len(), filled + 2);
    // A warning: `close_notify` (RFC 8446 §6.1).
    assert_eq!(came[filled..], [1, 0]);
}
