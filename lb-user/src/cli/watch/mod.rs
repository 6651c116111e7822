//! `lb-user watch`: services, servers and events in a terminal, live.

mod screen;

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::agent::UsageError;
use crate::control::protocol::{Request, Response};
use crate::control::{self, Client};
use screen::{Screen, Update};

/// Interval at which the agent is asked, and pause before one that has gone is asked
/// again.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows what there is until `q`, Ctrl-C or a signal. An agent that goes
/// meanwhile is waited for.
///
/// # Errors
/// [`UsageError`] without a terminal; no agent answers at first; the terminal fails.
pub(super) async fn watch(socket: &Path) -> anyhow::Result<()> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(UsageError(
            "`lb-user watch` needs a terminal; without one there are `lb-user list --json` \
             and `lb-user events --json`"
                .to_owned(),
        )
        .into());
    }
    let response = control::request(socket, &Request::List).await?;
    let Response::Listing(listing) = response else {
        return super::response::finish(response);
    };
    let (sender, updates) = mpsc::channel(16);
    tokio::spawn(poll(socket.to_owned(), sender.clone()));
    tokio::spawn(follow(socket.to_owned(), sender));
    let _restore = Restore;
    // A panic restores the terminal, too, before its message is printed.
    let mut terminal = ratatui::try_init().context("cannot draw on this terminal")?;
    show(&mut terminal, Screen::new(listing), updates).await
}

/// Leaves the terminal as it was found.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn show(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    mut updates: mpsc::Receiver<Update>,
) -> anyhow::Result<()> {
    let mut input = EventStream::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        // This also follows the size of the terminal.
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            Some(update) = updates.recv() => screen.take(update),
            input = input.next() => match input {
                Some(input) => if screen.handle(&input?) == ControlFlow::Break(()) {
                    return Ok(());
                },
                None => return Ok(()),
            },
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
    }
}

/// Keeps asking the agent how things are.
async fn poll(socket: PathBuf, sender: mpsc::Sender<Update>) {
    loop {
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
