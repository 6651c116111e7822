//! Servers that speak TLS, and clients for them: those of the other tests, behind a tunnel
//! that speaks TLS for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtmp_proto::session::{ClientConfig as SessionConfig, Purpose};
use rtmp_proto::wire::{Message, MessageType};
use rtmp_server::config::Role;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::certificates::{Authority, Certificate};
use crate::common::server::any_port;
use crate::support::{Client, TestServer, keyframe, message, publishing};

/// A server with certificates for `localhost`, and these directives outside of vhosts and
/// in its default vhost.
pub(crate) struct TlsServer {
    pub(crate) authority: Authority,
    pub(crate) certificate: Certificate,
    pub(crate) server: TestServer,
    /// Its configuration.
    pub(crate) text: String,
}

impl TlsServer {
    pub(crate) fn origin(globals: &str, vhost: &str) -> Self {
        let authority = Authority::new();
        let certificate = authority.issue("default", "localhost");
        Self::with(authority, certificate, globals, vhost)
    }

    pub(crate) fn with(
        authority: Authority,
        certificate: Certificate,
        globals: &str,
        vhost: &str,
    ) -> Self {
        let files = certificate.directives();
        let text = format!(
            "rtmps {{ enabled on; {files} }} \
             http_server {{ enabled on; https {{ enabled on; {files} }} }} {globals} \
             vhost __defaultVhost__ {{ min_latency on; publish_normal_timeout 600000; \
             http_remux {{ enabled on; }} {vhost} }}"
        );
        Self {
            authority,
            certificate,
            server: TestServer::start(Role::Origin, &text),
            text,
        }
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.server.https.unwrap()
    }

    pub(crate) fn rtmps(&self) -> SocketAddr {
        self.server.rtmps.unwrap()
    }

    /// A plain address that leads to `address` by TLS.
    pub(crate) async fn tunnel(&self, address: SocketAddr) -> SocketAddr {
        tunnel(address, self.authority.client()).await
    }

    /// The certificate that a client is shown which asks for `name`.
    pub(crate) async fn certificate_for(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> CertificateDer<'static> {
        let stream = connect(address, name, self.authority.client())
            .await
            .unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }
}

pub(crate) async fn connect(
    address: SocketAddr,
    name: &str,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
}

pub(crate) async fn tunnel(address: SocketAddr, config: ClientConfig) -> SocketAddr {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let entrance = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            let config = config.clone();
            tokio::spawn(async move {
                let mut secured = connect(address, "localhost", config).await.unwrap();
                let _ = copy_bidirectional(&mut plain, &mut secured).await;
            });
        }
    });
    entrance
}

/// A client by RTMP at `address`.
pub(crate) async fn rtmp(address: SocketAddr, purpose: Purpose, stream: &str) -> Client {
    let tc_url = format!("rtmp://{address}/live");
    let config = SessionConfig::new(purpose, &tc_url, "live", stream);
    Client::connect(address, config).await
}

pub(crate) async fn publisher(address: SocketAddr, stream: &str) -> Client {
    let mut client = Client::connect(address, publishing(address, stream)).await;
    client.may_publish().await;
    client
}

/// Pictures of several records, with the bytes of `seed`.
pub(crate) fn large_pictures(seed: u8, count: u32) -> Vec<Message> {
    let payload = |number: u32| {
        let mut payload = vec![0x27, 1, 0, 0, 0];
        payload.extend((0..100_000_u32).map(|it| (it * 7 + number) as u8 ^ seed));
        payload
    };
    (1..=count)
        .map(|number| message(MessageType::VIDEO, 40 * number, &payload(number)))
        .collect()
}

/// Publishes large pictures, with a keyframe now and then, until one of the server's players
/// skips; returns the time of the last keyframe, in ms.
pub(crate) async fn publish_until_a_player_skips(
    origin: &TlsServer,
    publisher: &mut Client,
) -> u32 {
    let has_skipped = || {
        let clients = origin.server.server.clients().list();
        let skips = |it: &Arc<rtmp_server::Client>| it.meter.skips.load(Ordering::Relaxed);
        clients.iter().any(|it| skips(it) > 0)
    };
    let mut timestamp = 0;
    while !has_skipped() {
        for mut picture in large_pictures(1, 25) {
            timestamp += 40;
            picture.timestamp = timestamp;
            publisher.publish(&[picture]).await;
        }
        timestamp += 40;
        publisher.publish(&[keyframe(timestamp)]).await;
    }
    timestamp
}
