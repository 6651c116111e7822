//! TLS in front of the protocols: who is listened to, with which certificate, and what a
//! client must speak.
//!
//! TLS 1.2 and 1.3 only, with the ciphers of rustls: forward secrecy and AEAD.

mod certificates;
mod client;

use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, version};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::client::Client;
use super::connection::close::{CloseReason, GRACEFUL_CLOSE_TIMEOUT};
use super::http::answers;
use super::socket::close_gracefully;
use super::{Events, Server};
use crate::config::Config;
use crate::transport::Transport;
use crate::transport::handshake::{self, Accepted, HandshakeError};
use crate::transport::kernel::KernelSupport;
pub(super) use certificates::watch;
use certificates::{Certificates, Owner, Resolver};
pub(crate) use client::TlsClient;

/// The name of HTTP/2 in a handshake (RFC 9113 §3.2).
pub(super) const HTTP_2: &[u8] = b"h2";

/// What speaks TLS at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// `https` of `http_server`.
    Https,
    /// `rtmps`.
    Rtmps,
}

/// The TLS side of the server's ports.
#[derive(Debug)]
pub(super) struct Acceptor {
    certificates: Arc<Certificates>,
    /// With HTTP/2 and without.
    https: Arc<ServerConfig>,
    https_without_http2: Arc<ServerConfig>,
    rtmps: Arc<ServerConfig>,
    http_api: Arc<ServerConfig>,
    /// For the CPU's part of handshakes, about a millisecond each: who comes later waits,
    /// within its `handshake_timeout`, and leaves cores to those who publish and play.
    handshakes: Semaphore,
    /// What the kernel encrypts.
    kernel: Option<KernelSupport>,
}

impl Acceptor {
    /// Reads the certificates of `config`; `events` hear of later ones.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub(super) fn new(config: &Config, events: Arc<Events>, goes_on: bool) -> io::Result<Self> {
        let certificates = Arc::new(match goes_on {
            true => Certificates::load_what_can_be(config, events),
            false => Certificates::load(config, events)?,
        });
        let speaks_tls = config.https().is_some() || config.rtmps.is_some();
        let kernel = speaks_tls.then(probe_kernel).flatten();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let make =
            |owner, protocols: &[&[u8]]| server_config(certificates.clone(), owner, protocols);
        Ok(Self {
            https: make(Owner::Https, &[HTTP_2, b"http/1.1"])?,
            https_without_http2: make(Owner::Https, &[b"http/1.1"])?,
            rtmps: make(Owner::Rtmps, &[])?,
            http_api: make(Owner::HttpApi, &[b"http/1.1"])?,
            handshakes: Semaphore::new((cores / 2).max(1)),
            certificates,
            kernel,
        })
    }

    /// Reads the certificates of `config`, and keeps those in force that cannot be read.
    pub(super) fn reload(&self, config: &Config) {
        self.certificates.reload(config);
    }

    /// TLS for the HTTP API.
    pub(super) fn http_api(&self) -> tokio_rustls::TlsAcceptor {
        self.http_api.clone().into()
    }
}

/// What the kernel encrypts; the log says who does.
fn probe_kernel() -> Option<KernelSupport> {
    match KernelSupport::probe() {
        Ok(support) => {
            log::info!(
                "TLS: the kernel encrypts (kTLS), `sendfile` serves players, but for those by \
                 HTTP/2"
            );
            Some(support)
        }
        Err(error) => {
            let why = match error.kind() {
                io::ErrorKind::NotFound => {
                    "the kernel has no module `tls` loaded (modprobe tls)".to_owned()
                }
                _ => {
                    format!("a connection with ourselves could not be given to the kernel: {error}")
                }
            };
            log::info!("TLS: this process encrypts, which costs more than kTLS: {why}");
            None
        }
    }
}

/// Checks that the certificates of `config` can be used.
///
/// # Errors
/// The first that cannot.
pub(crate) fn check_certificates(config: &Config) -> io::Result<()> {
    Certificates::load(config, Arc::default()).map(drop)
}

/// What a port says and wants in the handshake.
fn server_config(
    certificates: Arc<Certificates>,
    owner: Owner,
    protocols: &[&[u8]],
) -> io::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver {
            certificates,
            owner,
        }));
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // A session lives in the client's ticket: nothing is kept here for clients that have
    // gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

/// Performs the handshake with `client`; `None` if there is no TLS connection, which has
/// been logged then.
pub(super) async fn accept(
    server: &Server,
    client: &Client,
    socket: TcpStream,
    port: Port,
) -> Option<Accepted> {
    let tls = &server.tls;
    let current = server.config();
    let config = match port {
        Port::Https if current.http_server.as_ref().is_some_and(|it| it.http2) => tls.https.clone(),
        Port::Https => tls.https_without_http2.clone(),
        Port::Rtmps => tls.rtmps.clone(),
    };
    let limit = current.handshake_timeout;
    let handshake = handshake::accept(socket, config, &tls.handshakes, tls.kernel.as_ref());
    let accepted = tokio::select! {
        biased;
        () = client.dismissal() => Err(CloseReason::Dismissed),
        accepted = timeout(limit, handshake) => match accepted {
            Ok(Ok(accepted)) => Ok(accepted),
            Ok(Err((socket, error))) => {
                refuse(server, socket, &error, port).await;
                Err(CloseReason::Tls(error))
            }
            Err(_) => Err(CloseReason::TimedOut("handshake_timeout")),
        },
    };
    match accepted {
        Ok(accepted) => {
            if let Some(place) = accepted.transport.tls_place() {
                client.set_tls(place);
            }
            Some(accepted)
        }
        Err(reason) => {
            log_refused(server, client, &reason);
            None
        }
    }
}

/// Closes a connection whose handshake has failed.
async fn refuse(server: &Server, socket: TcpStream, error: &HandshakeError, port: Port) {
    let last_words = match (error, port) {
        (HandshakeError::PlainHttp, Port::Https) => {
            let reason = "this port speaks HTTPS: use https://";
            answers(server).refusal(400, reason, None, false)
        }
        (HandshakeError::Unused | HandshakeError::Lost(_), _) => return,
        _ => String::new(),
    };
    let mut transport = Transport::from(socket);
    let closing = close_gracefully(&mut transport, last_words.as_bytes());
    // An error does not matter: the connection ends anyway.
    let _ = timeout(GRACEFUL_CLOSE_TIMEOUT, closing).await;
}

fn log_refused(server: &Server, client: &Client, reason: &CloseReason) {
    // Health checks connect and close every few seconds: not at `info`.
    let level = match reason {
        CloseReason::Tls(HandshakeError::Unused | HandshakeError::Lost(_)) => log::Level::Debug,
        _ => log::Level::Info,
    };
    log::log!(level, "{client}: no TLS connection: {reason}");
    server.clients.remove(client.id, true);
}
