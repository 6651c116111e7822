//! `lb-user watch`: services, servers and events, live: in a terminal, as lines or as JSON.

mod screen;
mod servers;

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use lb_model::Protocol;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::control::protocol::{Listing, RateHistory, Request, Response};
use crate::control::{self, Client};
use screen::{Update, WatchScreen};

/// Interval at which the agent is asked, and pause before one that has gone is asked
/// again.
const INTERVAL: Duration = Duration::from_secs(1);
/// Number of looks after which the history has another sample.
const HISTORY_LOOKS: u32 = 5;
/// Width of the lines where there is no terminal.
const PLAIN_WIDTH: u16 = 120;

/// The form of what is watched.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct WatchOptions {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Show everything once, and exit
    #[arg(long)]
    once: bool,
}

/// The traffic of ten minutes, by service and server.
type History = HashMap<(Protocol, std::net::SocketAddr, Option<std::net::SocketAddr>), Vec<f64>>;

fn by_name(history: Vec<RateHistory>) -> History {
    let named = history
        .into_iter()
        .map(|it| ((it.protocol, it.service, it.server), it.bits_per_s));
    named.collect()
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Watched<'a> {
    #[serde(flatten)]
    listing: &'a Listing,
    history: &'a [RateHistory],
}

/// Shows what there is until `q`, Ctrl-C or a signal: in a terminal live, elsewhere and
/// with `--json` again and again. An agent that goes meanwhile is waited for.
///
/// # Errors
/// No agent answers at first; the terminal fails.
pub(super) async fn watch(socket: &Path, options: WatchOptions) -> anyhow::Result<()> {
    let listing = match control::request(socket, &Request::List).await? {
        Response::Listing(listing) => listing,
        response => return super::response::finish(response),
    };
    let history = history(socket).await;
    if options.json || options.once || !terminal_kit::has_terminal() {
        return print(socket, options, listing, history).await;
    }
    let (sender, updates) = mpsc::channel(16);
    tokio::spawn(poll(socket.to_owned(), sender.clone()));
    tokio::spawn(follow(socket.to_owned(), sender));
    let screen = WatchScreen::new(listing, by_name(history));
    let shown = terminal_kit::run(screen, updates).await;
    shown.context("cannot draw on this terminal")
}

/// Prints everything once, or at each interval.
async fn print(
    socket: &Path,
    options: WatchOptions,
    mut listing: Listing,
    mut history: Vec<RateHistory>,
) -> anyhow::Result<()> {
    loop {
        let text = if options.json {
            let (listing, history) = (&listing, &*history);
            serde_json::to_string(&Watched { listing, history })?
        } else {
            let mut screen = WatchScreen::new(listing.clone(), by_name(history));
            terminal_kit::plain(&mut screen, PLAIN_WIDTH)?
        };
        writeln!(io::stdout(), "{}", text.trim_end())?;
        if options.once {
            return Ok(());
        }
        sleep(INTERVAL).await;
        listing = match control::request(socket, &Request::List).await? {
            Response::Listing(listing) => listing,
            response => return super::response::finish(response),
        };
        history = self::history(socket).await;
    }
}

/// The rates of ten minutes; none where an agent does not know them.
async fn history(socket: &Path) -> Vec<RateHistory> {
    match control::request(socket, &Request::History).await {
        Ok(Response::History(history)) => history,
        _ => Vec::new(),
    }
}

/// Keeps asking the agent how things are.
async fn poll(socket: PathBuf, sender: mpsc::Sender<Update>) {
    for look in 1_u32.. {
        sleep(INTERVAL).await;
        let update = match control::request(&socket, &Request::List).await {
            Ok(Response::Listing(listing)) => Update::Listing(listing),
            Ok(Response::Refused(reason)) => Update::Unreachable(reason),
            Ok(_) => Update::Unreachable("the agent sent an unexpected answer".to_owned()),
            Err(error) => Update::Unreachable(error.to_string()),
        };
        if sender.send(update).await.is_err() {
            return;
        }
        if look.is_multiple_of(HISTORY_LOOKS) {
            let history = by_name(history(&socket).await);
            if sender.send(Update::History(history)).await.is_err() {
                return;
            }
        }
    }
}

/// Keeps listening to what happens. Errors are reported by [`poll`].
async fn follow(socket: PathBuf, sender: mpsc::Sender<Update>) {
    loop {
        if let Ok(mut client) = Client::connect(&socket).await
            && client.send(&Request::Watch).await.is_ok()
        {
            while let Ok(Some(response)) = client.receive().await {
                // Other answers tell of events that were missed: older ones.
                if let Response::Event(event) = response
                    && sender.send(Update::Event(event)).await.is_err()
                {
                    return;
                }
            }
        }
        sleep(INTERVAL).await;
    }
}
