//! Connections that come: counted, by TLS where the port has it, and served by their
//! protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

use super::client::{Client, ClientProtocol};
use super::clients::LimitReached;
use super::connection::Connection;
use super::refusal::RefusalReason;
use super::{EventKind, Server, http, http2, socket, tls};
use crate::transport::Transport;

/// Pause after an accept has failed, most likely for want of descriptors: without
/// it, the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The protocol of a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP.
    Rtmp,
    /// RTMP over TLS.
    Rtmps,
    /// HTTP-FLV and WebSocket-FLV.
    HttpFlv,
    /// The same over TLS.
    Https,
}

impl Server {
    /// Accepts connections of `protocol` from `listener` until the task is dropped.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, protocol: Protocol) {
        let participant = self.safepoint.join();
        loop {
            let accepted = tokio::select! {
                biased;
                () = participant.frozen() => {
                    // Who comes now waits in the queue of the listening socket.
                    participant.park(|_| Ok(())).await;
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let client = match self.add_client(peer) {
                Ok(client) => client,
                Err(limit) => {
                    self.refusals.count(RefusalReason::MaxConnections);
                    log::warn!("{peer}: refused: {limit}");
                    let ip = Some(peer.ip());
                    self.events.record(EventKind::Refused, None, ip, limit);
                    if protocol == Protocol::HttpFlv {
                        http::refuse(&self, socket.into());
                    }
                    continue;
                }
            };
            match socket::prepare(&socket) {
                Ok(()) => {
                    let server = self.clone();
                    match protocol {
                        Protocol::Rtmp => serve_rtmp(server, client, socket.into()),
                        Protocol::HttpFlv => serve_http(server, client, socket.into()),
                        Protocol::Rtmps => {
                            tokio::spawn(accept_tls(server, client, socket, tls::Port::Rtmps));
                        }
                        Protocol::Https => {
                            client.set_protocol(ClientProtocol::Http);
                            tokio::spawn(accept_tls(server, client, socket, tls::Port::Https));
                        }
                    }
                    // Connections that have begun go first. If a thousand arrive
                    // together, few are in their handshake at a time, where each
                    // takes several times the memory of a player.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    log::debug!("{client}: gone before it was accepted: {error}");
                    self.clients.remove(client.id, true);
                }
            }
        }
    }

    /// Adds a connection of `peer` to the table.
    ///
    /// # Errors
    /// There are as many as may be already.
    pub(super) fn add_client(&self, peer: SocketAddr) -> Result<Arc<Client>, LimitReached> {
        self.clients
            .add(peer, self.connection_limits(), Instant::now())
    }
}

/// Serves a connection that was just made.
fn serve_rtmp(server: Arc<Server>, client: Arc<Client>, transport: Transport) {
    tokio::spawn(Box::new(Connection::new(server, client, transport)).run());
}

/// Serves a connection that was just made.
pub(super) fn serve_http(server: Arc<Server>, client: Arc<Client>, transport: Transport) {
    client.set_protocol(ClientProtocol::Http);
    tokio::spawn(Box::new(http::Connection::new(server, client, transport)).run());
}

/// Performs the TLS handshake, then serves the connection.
async fn accept_tls(server: Arc<Server>, client: Arc<Client>, socket: TcpStream, port: tls::Port) {
    let Some(accepted) = tls::accept(&server, &client, socket, port).await else {
        return;
    };
    let transport = accepted.transport;
    match port {
        tls::Port::Rtmps => serve_rtmp(server, client, transport),
        tls::Port::Https if accepted.protocol.as_deref() == Some(tls::HTTP_2) => {
            tokio::spawn(http2::serve(server, client, transport));
        }
        tls::Port::Https => serve_http(server, client, transport),
    }
}
