//! Servers that a file lists; inotify(7) tells of its changes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use lb_wire::list;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::Reports;
use lb_model::config::DiscoveredServer;

/// Length of the longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Interval at which the file is read without an event: not every file system tells of what
/// other machines change.
const READ_INTERVAL: Duration = Duration::from_secs(5);

/// Pause between an event and the reading: a file that is written in place is complete then,
/// and several changes are read once.
const SETTLING_TIME: Duration = Duration::from_millis(50);

/// Tells of the file's servers, and of each change.
pub(super) async fn follow(path: PathBuf, reports: Reports) {
    let mut events = None;
    let mut before = None;
    loop {
        // Watched before it is read: no change falls in between.
        if events.is_none() {
            events = watch(&path)
                .inspect_err(|error| log::debug!("{} is not watched: {error}", path.display()))
                .ok();
        }
        let servers = read(&path).await;
        if before.as_ref() != Some(&servers) {
            before = Some(servers.clone());
            if !reports.send(servers) {
                return;
            }
        }
        match timeout(READ_INTERVAL, changed(&mut events)).await {
            Ok(true) => sleep(SETTLING_TIME).await,
            // The folder is gone.
            Ok(false) => events = None,
            Err(_) => {}
        }
    }
}

/// Watches the file's folder: a file that is replaced is another file.
fn watch(path: &Path) -> std::io::Result<EventStream<[u8; 4096]>> {
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str() != OsStr::new("") => folder,
        _ => Path::new("."),
    };
    let inotify = Inotify::init()?;
    let changes = WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    inotify.watches().add(folder, changes)?;
    inotify.into_event_stream([0; 4096])
}

/// Waits for a change in the folder. Any will do: a file may be replaced through a link, as
/// Kubernetes does with what it mounts. Returns false if there will be no further ones.
async fn changed(events: &mut Option<EventStream<[u8; 4096]>>) -> bool {
    use inotify::EventMask;
    let Some(events) = events else {
        return std::future::pending().await;
    };
    match events.next().await {
        Some(Ok(event)) => !event
            .mask
            .intersects(EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF),
        Some(Err(_)) | None => false,
    }
}

async fn read(path: &Path) -> Result<Vec<DiscoveredServer>, String> {
    let path = path.to_owned();
    let read = move || -> Result<Vec<DiscoveredServer>, String> {
        let mut text = String::new();
        let file = File::open(&path).map_err(|error| error.to_string())?;
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
        if read.map_err(|error| error.to_string())? as u64 > MAX_BYTES {
            return Err(format!("it is longer than {MAX_BYTES} bytes"));
        }
        if text.is_empty() {
            // As it is for a moment where a writer does not replace the file.
            return Err("it is empty; `[]` says that there are no servers".to_owned());
        }
        list::parse_list(&text)
    };
    spawn_blocking(read)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::mpsc;

    use super::super::{Reading, Source};
    use super::*;
    use lb_model::config::Discover;

    /// The next reading: the last parts of the addresses, or the error.
    async fn next(readings: &mut mpsc::UnboundedReceiver<Reading>) -> Result<String, String> {
        let reading = timeout(netbed::TIME_LIMIT, readings.recv()).await;
        let reading = reading.expect("in time").expect("a reading");
        let servers = reading.servers?;
        let addresses = servers.iter().map(|server| server.address.to_string());
        Ok(addresses.collect::<Vec<_>>().join(" "))
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_written_removed_and_back_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("servers");
        let (sender, mut readings) = mpsc::unbounded_channel();
        let given = Discover {
            file: Some(path.to_string_lossy().into_owned()),
            ..Discover::default()
        };
        let source = Source::new(&given).expect("a source");
        let _task = source.follow(sender);
        let missing = next(&mut readings).await.expect_err("there is no file");
        assert!(missing.contains("No such file"), "{missing}");
        let other = folder.path().join("servers.new");
        fs::write(&other, "10.0.0.1\n").expect("written");
        fs::rename(&other, &path).expect("moved into place");
        assert_eq!(next(&mut readings).await, Ok("10.0.0.1".to_owned()));
        fs::write(&other, r#"["10.0.0.2", "10.0.0.1"]"#).expect("written");
        fs::rename(&other, &path).expect("replaced");
        let both = next(&mut readings).await;
        assert_eq!(both, Ok("10.0.0.1 10.0.0.2".to_owned()));
        fs::write(&other, "nonsense\n").expect("written");
        fs::rename(&other, &path).expect("replaced");
        let wrong = next(&mut readings).await.expect_err("it is nonsense");
        assert_eq!(wrong, "line 1: `nonsense` is no address");
        fs::remove_file(&path).expect("removed");
        let missing = next(&mut readings).await;
        assert!(missing.is_err(), "{missing:?}");
        fs::write(&path, "").expect("emptied");
        let empty = next(&mut readings).await.expect_err("nothing is there");
        assert!(empty.starts_with("it is empty"), "{empty}");
        fs::write(&other, "10.0.0.3\n").expect("written");
        fs::rename(&other, &path).expect("moved into place");
        assert_eq!(next(&mut readings).await, Ok("10.0.0.3".to_owned()));
    }
}
