//! The end of an HTTP connection.

use std::sync::atomic::Ordering;

use log::Level;

use crate::server::Server;
use crate::server::client::Client;
use crate::server::connection::close::{CloseReason, log_totals};

/// Logs the end of a connection, and forgets the client.
pub(in crate::server) fn log_end(server: &Server, client: &Client, reason: &CloseReason) {
    // Health checks connect and close every few seconds, and a viewer of HLS has a line for
    // its session: neither at `info`.
    let probe = client.received.load(Ordering::Relaxed) == 0;
    let level = match reason {
        _ if probe => Level::Debug,
        CloseReason::AnsweredHls => Level::Debug,
        _ => Level::Info,
    };
    log_totals(client, reason, level);
    // Last: a stop waits until no client is left, then for the queued hooks.
    server.count_end(client, reason);
    server.clients.remove(client.id, reason.is_failure());
}
