//! `lb-user drain`, `undrain`, `disable`, `weight`: orders for real servers.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use crate::control;
use crate::control::protocol::{ListedServer, Listing, Order, Request, Response};
use crate::control::selection::Endpoint;

/// Interval at which a draining server is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Gives an order for `server`, or takes back what was ordered.
///
/// # Errors
/// No agent answers, or it knows no such server.
pub(super) async fn give(socket: &Path, server: &str, order: Option<Order>) -> anyhow::Result<()> {
    let request = Request::Order {
        server: server.to_owned(),
        order,
    };
    super::response::finish(control::request(socket, &request).await?)
}

/// Waits until `server` has no connections, showing how many there are.
///
/// # Errors
/// No agent answers.
pub(super) async fn wait_until_drained(socket: &Path, server: &str) -> anyhow::Result<()> {
    let name: Endpoint = server.parse().map_err(anyhow::Error::msg)?;
    let terminal = io::stderr().is_terminal();
    let mut before = None;
    loop {
        let response = control::request(socket, &Request::List).await?;
        let Response::Listing(listing) = response else {
            return super::response::finish(response);
        };
        let left = connections(&listing, name);
        if terminal {
            eprint!("\r{left} connection(s) left \x1b[K");
            io::stderr().flush()?;
        } else if before != Some(left) {
            eprintln!("{left} connection(s) left");
        }
        before = Some(left);
        if left == 0 {
            if terminal {
                eprintln!();
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Live connections of a server, in all services.
fn connections(listing: &Listing, name: Endpoint) -> u64 {
    let servers = listing.services.iter().flat_map(|service| &service.servers);
    let live = |server: &ListedServer| server.active_connections;
    servers
        .filter(|server| name.names(server.address))
        .map(live)
        .sum()
}
