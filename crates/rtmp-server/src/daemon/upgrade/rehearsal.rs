//! The rehearsal of an upgrade: the installed program says, beside the one that runs, whether it
//! could go on in its place.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::layout::{ProcessPart, introduction, log_layout_of};
use crate::config::Config;
use crate::daemon::listeners;
use crate::daemon::logging::LogOutput;
use crate::hand_over::Blob;
use crate::server::ServerPart;
use crate::stream::lock;

/// The argument by which a program rehearses its start: it reads the configuration, says which
/// layouts it reads, then reads from its standard input what would be handed over, and tries
/// whether it could listen and log as the configuration says. It changes nothing but that it makes
/// the file of the log.
const REHEARSE: &str = "--rehearse";
/// Time for the program to read its configuration.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time for it to read a copy of what is handed over, while requests wait.
const STATE_LIMIT: Duration = Duration::from_secs(5);
/// Time for a program that has failed to say why, and to end.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);
/// Bytes of that which are kept.
const MAX_WORDS: usize = 4 * 1024;
/// Bytes of the line by which a program introduces itself.
const MAX_INTRODUCTION: u64 = 1_024;

/// The rehearsing program's part, once its configuration is read: says which layouts it reads,
/// reads what would be handed over, and tries what else it would need.
///
/// # Errors
/// It could not go on with that.
pub(in crate::daemon) fn rehearse(config: &Config) -> anyhow::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}", introduction())?;
    out.flush()?;
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        // The upgrade has been given up.
        return Ok(());
    }
    let bytes = Blob::from(bytes);
    let part = ProcessPart::read(bytes.as_bytes())?;
    let server: ServerPart = Blob::read_from(part.server.0)?;
    server.check()?;
    listeners::check(config, &part.listeners)?;
    LogOutput::check(&config.log)
}

/// A program that has read the configuration, and waits for what is handed over.
pub(in crate::daemon) struct Rehearsed {
    child: Child,
    state: ChildStdin,
    words: Words,
    /// The layout of logs that it reads.
    pub(super) log_layout: u32,
}

/// Starts `program` with our arguments and [`REHEARSE`], and waits until it has read the
/// configuration.
///
/// # Errors
/// Why it would not start.
pub(super) async fn start(program: PathBuf) -> Result<Rehearsed, String> {
    let cannot = |reason: String| format!("{} cannot take over: {reason}", program.display());
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut child = tokio::process::Command::new(&program)
        .args(arguments)
        .arg(REHEARSE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot(error.to_string()))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(state), Some(out), Some(errors)) = pipes else {
        return Err(cannot("it has no pipes".to_owned()));
    };
    let words = Words::of(errors);
    let mut line = String::new();
    let mut out = BufReader::new(out.take(MAX_INTRODUCTION));
    match timeout(START_LIMIT, out.read_line(&mut line)).await {
        Ok(Ok(1..)) => {}
        Ok(_) => {
            let reason = failure(&mut child, words).await;
            return Err(cannot(reason));
        }
        Err(_) => {
            let limit = START_LIMIT.as_secs();
            return Err(cannot(format!(
                "it does not read its configuration within {limit} s"
            )));
        }
    }
    let log_layout = log_layout_of(&line, child.id()).map_err(cannot)?;
    Ok(Rehearsed {
        child,
        state,
        words,
        log_layout,
    })
}

impl Rehearsed {
    /// Has it read what is handed over.
    ///
    /// # Errors
    /// Why it cannot go on with that.
    pub(super) async fn read(mut self, state: &Blob) -> Result<(), String> {
        let reading = async {
            let written = self.state.write_all(state.as_bytes()).await;
            // Closed, which is the end.
            drop(self.state);
            let status = self.child.wait().await.map_err(|error| error.to_string())?;
            match (status.success(), written) {
                (true, Ok(())) => Ok(()),
                (true, Err(error)) => Err(error.to_string()),
                (false, _) => Err(failure(&mut self.child, self.words).await),
            }
        };
        let limit = STATE_LIMIT.as_secs();
        let late = |_| Err(format!("it does not read it within {limit} s"));
        timeout(STATE_LIMIT, reading).await.unwrap_or_else(late)
    }
}

/// What a program that has failed has said. It is ended if it has not.
async fn failure(child: &mut Child, words: Words) -> String {
    let said = words.end().await;
    let status = match timeout(LAST_WORDS_LIMIT, child.wait()).await {
        Ok(status) => status.map(|status| status.to_string()),
        Err(_) => child
            .kill()
            .await
            .map(|()| "it says nothing, and does not end".to_owned()),
    };
    match (said.trim(), status) {
        ("", Ok(status)) => status,
        ("", Err(error)) => error.to_string(),
        (said, _) => said.to_owned(),
    }
}

/// What a program says on its standard error: all of it is read, so that it goes on, and the
/// beginning is kept.
struct Words {
    said: Arc<Mutex<Vec<u8>>>,
    reading: AbortOnDropHandle<()>,
}

impl Words {
    fn of(mut errors: ChildStderr) -> Self {
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let kept = said.clone();
        let reading = tokio::spawn(async move {
            let mut bytes = [0; 1_024];
            while let Ok(count @ 1..) = errors.read(&mut bytes).await {
                let mut kept = lock(&kept);
                let room = MAX_WORDS - kept.len();
                kept.extend_from_slice(&bytes[..count.min(room)]);
            }
        });
        Self {
            said,
            reading: AbortOnDropHandle::new(reading),
        }
    }

    /// All that is kept, once the program has closed its end. Another process that has it open,
    /// too, is not waited for.
    async fn end(self) -> String {
        let _ = timeout(LAST_WORDS_LIMIT, self.reading).await;
        String::from_utf8_lossy(&lock(&self.said)).into_owned()
    }
}
