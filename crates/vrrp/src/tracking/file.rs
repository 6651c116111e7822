//! Files whose number virtual routers track (`track_file`).

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use lb_script::{NumberFile, READ_INTERVAL};
use tokio_util::task::AbortOnDropHandle;

/// A file that is tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// Its name.
    pub name: String,
    /// The file.
    pub file: NumberFile,
}

/// The number that was read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileNumber {
    /// The name of the `track_file`.
    pub name: String,
    /// Its number.
    pub number: i32,
}

/// A file that is read again and again, until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningFile {
    _task: AbortOnDropHandle<()>,
}

impl RunningFile {
    /// Starts to read it; the first number, and each other one, is sent to
    /// `numbers`.
    pub(crate) fn start(
        settings: FileSettings,
        numbers: mpsc::UnboundedSender<FileNumber>,
    ) -> Self {
        Self {
            _task: AbortOnDropHandle::new(tokio::spawn(follow(settings, numbers))),
        }
    }
}

async fn follow(settings: FileSettings, numbers: mpsc::UnboundedSender<FileNumber>) {
    let FileSettings { name, file } = settings;
    let mut due = interval(READ_INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = None;
    loop {
        due.tick().await;
        let number = file.read().await;
        if sent.replace(number) == Some(number) {
            continue;
        }
        let name = name.clone();
        if numbers.send(FileNumber { name, number }).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_number_is_told_and_then_each_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("number");
        let settings = FileSettings {
            name: "F".to_owned(),
            file: NumberFile {
                path: path.clone(),
                initial: None,
            },
        };
        let (sender, mut numbers) = mpsc::unbounded_channel();
        let _running = RunningFile::start(settings, sender);
        assert_eq!(numbers.recv().await.expect("a number").number, 0);
        std::fs::write(&path, "-7\n").expect("it is written");
        assert_eq!(numbers.recv().await.expect("a number").number, -7);
        std::fs::remove_file(&path).expect("it exists");
        assert_eq!(numbers.recv().await.expect("a number").number, 0);
    }
}
