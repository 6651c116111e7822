//! The end of an HTTP connection.

use std::io;
use std::sync::atomic::Ordering;

use log::Level;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Server;
use crate::server::clients::Client;
use crate::server::connection::close::{CloseReason, log_totals};

/// Sends `out`, then reads what the peer still sends: closing with unread input would
/// send an RST, which discards what the peer has not read yet (RFC 1122 §4.2.2.13).
pub(super) async fn close_gracefully(socket: &mut TcpStream, out: &[u8]) -> io::Result<()> {
    socket.write_all(out).await?;
    socket.shutdown().await?;
    let mut ignored = [0; 1024];
    while socket.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// Logs the end of a connection, and forgets the client.
pub(super) fn log_end(server: &Server, client: &Client, reason: &CloseReason) {
    // Health checks connect and close every few seconds: not at `info`.
    let probe = client.received.load(Ordering::Relaxed) == 0;
    let level = if probe { Level::Debug } else { Level::Info };
    log_totals(client, reason, level);
    // Last: a stop waits until no client is left, then for the queued hooks.
    server.clients.remove(client.id);
}
