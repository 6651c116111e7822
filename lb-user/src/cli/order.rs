//! `lb-user drain`, `undrain`, `disable`, `weight`: orders for real servers.

use std::path::Path;
use std::time::Duration;

use terminal_kit::Progress;

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
    let mut progress: Option<Progress> = None;
    let (mut before, mut most) = (None, None);
    loop {
        let response = control::request(socket, &Request::List).await?;
        let Response::Listing(listing) = response else {
            return super::response::finish(response);
        };
        let left = connections(&listing, name);
        // Further ones may come, of clients that persistence ties to it.
        let most = *most.get_or_insert(left);
        let progress = progress.get_or_insert_with(|| Progress::new("draining", most));
        progress.set(most.saturating_sub(left));
        progress.say(format!("{left} connection(s) left"));
        if progress.is_hidden() && before != Some(left) {
            eprintln!("{left} connection(s) left");
        }
        before = Some(left);
        if left == 0 {
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
