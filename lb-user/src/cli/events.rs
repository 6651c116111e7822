//! `lb-user events`: what happens, as it happens.

use std::io::{self, Write};
use std::path::Path;

use crate::control::Client;
use crate::control::protocol::{Request, Response};

/// Prints every event until the agent goes.
///
/// # Errors
/// No agent answers, or it stops.
pub(super) async fn follow(socket: &Path, json: bool) -> anyhow::Result<()> {
    let mut client = Client::connect(socket).await?;
    client.send(&Request::Follow).await?;
    while let Some(response) = client.receive().await? {
        let Response::Event(event) = response else {
            super::response::finish(response)?;
            continue;
        };
        let line = if json {
            serde_json::to_string(&event)?
        } else {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(event.time_ms);
            format!("{} {}", humantime(time), event.message)
        };
        let mut output = io::stdout().lock();
        writeln!(output, "{line}")?;
        output.flush()?;
    }
    anyhow::bail!("the agent has stopped")
}

/// A time as the log writes it.
fn humantime(time: std::time::SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}
