//! `lb-user stop` and `lb-user upgrade`: ends of an agent.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use terminal_kit::Progress;

use super::process::RunningProcess;
use crate::agent::cleanup::Cleanup;
use crate::agent::saved::SavedFile;
use crate::control::protocol::{Request, Response};
use crate::control::{self, Client, Error};
use netlink::{Connection, interfaces};

/// Time limit for the new program's first answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval at which it is asked.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Ends the agent, and takes away what an agent has left that was killed.
///
/// # Errors
/// The system refuses.
pub(super) async fn stop(socket: &Path, pins: Option<&Path>) -> anyhow::Result<()> {
    match last_request(socket, &Request::Stop).await {
        Ok(_) => say("the agent has stopped")?,
        Err(error) if matches!(error.downcast_ref(), Some(Error::Connect { .. })) => {
            say("no agent runs")?;
        }
        Err(error) => return Err(error),
    }
    let mut file = SavedFile::beside(socket);
    let saved = file.read();
    let netlink = Connection::open().context("cannot open a netlink socket")?;
    let interfaces = interfaces::read(&netlink.handle).await?;
    Cleanup::all(&saved)
        .run(&netlink.handle, &interfaces, |sentence| say(&sentence))
        .await?;
    if let Some(pins) = pins {
        for what in lb_dataplane::remove_leftovers(pins)? {
            say(&format!("removed: {what}"))?;
        }
    }
    file.forget(false);
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", socket.display()))
        }
        _ => Ok(()),
    }
}

/// Has the agent become the program that is installed now, and waits until
/// that answers.
///
/// # Errors
/// The new program refuses the configuration; nothing has changed then. Or it
/// cannot be run after all, and the former one has begun anew. Or it ends before
/// it has taken over. Or none answers.
pub(super) async fn upgrade(socket: &Path) -> anyhow::Result<()> {
    let agent = last_request(socket, &Request::Upgrade).await?;
    let start = Instant::now();
    // Carrying a million connections over takes seconds.
    let progress = Progress::new("the new program takes over", 0);
    while start.elapsed() < ANSWER_TIMEOUT {
        // Another that answers would be one that was started since.
        if agent.is_some_and(|agent| !agent.lives()) {
            let report = SavedFile::beside(socket).read().exit_report;
            bail!(
                "the new program has ended before it had taken over: {} (the data plane \
                 forwards meanwhile; it needs an agent soon)",
                report.as_deref().unwrap_or("its log says why")
            );
        }
        if let Ok(Response::Listing(listing)) = control::request(socket, &Request::List).await {
            drop(progress);
            return match listing.not_upgraded {
                None => say("upgraded"),
                Some(reason) => bail!("not upgraded, the former program goes on: {reason}"),
            };
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    bail!("the new program does not answer; its log says why (the data plane forwards meanwhile)")
}

/// Asks for what ends the agent, and waits for that end; the agent's process.
async fn last_request(socket: &Path, request: &Request) -> anyhow::Result<Option<RunningProcess>> {
    let mut client = Client::connect(socket).await?;
    let agent = client.agent().and_then(RunningProcess::with_id);
    client.send(request).await?;
    while let Some(response) = client.receive().await? {
        super::response::finish(response)?;
    }
    Ok(agent)
}

fn say(sentence: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{sentence}")?;
    Ok(())
}
