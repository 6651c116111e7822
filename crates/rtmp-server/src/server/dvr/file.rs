//! One file of a recording, whatever its format: its name, its beginning, its end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};

use crate::config::dvr_naming::{UNFINISHED, directory_and_name};
use crate::hand_over::{HandedOver, Inherited, hand_over};
use crate::server::file_names;

/// The most names that are tried where a file has one already.
const MAX_NAMES: u32 = 1_000;

/// Bytes that are entered at this offset of a file.
pub(super) type Patch = (u64, Vec<u8>);

/// A file that is written.
#[derive(Debug)]
pub(super) struct RecordFile {
    file: File,
    /// Its name, once it is finished.
    path: PathBuf,
    unfinished: PathBuf,
    /// Bytes that it has: what lies behind is a part of a tag that could not be written.
    length: u64,
    /// Bytes before the media.
    beginning: u64,
}

/// A [`RecordFile`] for the program that the process becomes, which has its lock, too.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordFilePart {
    descriptor: RawFd,
    path: PathBuf,
    unfinished: PathBuf,
    length: u64,
    beginning: u64,
}

impl RecordFile {
    /// The file for the program that the process becomes.
    pub(super) fn part(&self, handed_over: &mut HandedOver) -> RecordFilePart {
        RecordFilePart {
            descriptor: hand_over(&self.file, handed_over),
            path: self.path.clone(),
            unfinished: self.unfinished.clone(),
            length: self.length,
            beginning: self.beginning,
        }
    }

    /// Goes on with a file that this process has had before.
    ///
    /// # Errors
    /// The descriptor is missing.
    pub(super) fn take_over(part: &RecordFilePart, inherited: &mut Inherited) -> io::Result<Self> {
        Ok(Self {
            file: inherited.take(part.descriptor)?.into(),
            path: part.path.clone(),
            unfinished: part.unfinished.clone(),
            length: part.length,
            beginning: part.beginning,
        })
    }

    /// A new file of the stream `key`, which begins with `beginning`. No file is overwritten:
    /// where `template` gives a name that is taken, a number is put before its extension. It is
    /// locked until it is closed: so others know that it is written.
    ///
    /// # Errors
    /// It cannot be made or written, or would not lie below the directory before the first
    /// variable of `template`.
    pub(super) fn create(
        template: &str,
        key: &StreamKey,
        now: Timestamp,
        beginning: &[u8],
    ) -> io::Result<Self> {
        let (directory, name) = directory_and_name(template);
        let name = file_names::of_time(name, key, now);
        if !file_names::stays_below(&name) {
            let message = format!("`{name}` is no name of a file below {directory}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let path = Path::new(directory).join(name);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        for path in names(&path) {
            if std::fs::symlink_metadata(&path).is_ok() {
                continue;
            }
            let mut unfinished = path.clone().into_os_string();
            unfinished.push(".");
            unfinished.push(UNFINISHED);
            let opened = OpenOptions::new()
                .write(true)
                .create_new(true)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&unfinished);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            // File systems without locks have no second server on them, it is to be hoped.
            let _ = file.try_lock();
            let mut created = Self {
                file,
                path,
                unfinished: unfinished.into(),
                length: 0,
                beginning: beginning.len() as u64,
            };
            if let Err(error) = created.append(beginning) {
                created.remove();
                return Err(error);
            }
            return Ok(created);
        }
        let path = path.display();
        let message = format!("{path} and names like it are taken: put [timestamp] into dvr_path");
        Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
    }

    /// Its name while it is written.
    pub(super) fn unfinished(&self) -> &Path {
        &self.unfinished
    }

    /// Bytes that it has.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// True if something has been appended to its beginning.
    pub(super) fn has_media(&self) -> bool {
        self.length > self.beginning
    }

    /// Removes a file without media, which is of no use.
    pub(super) fn remove(self) {
        // One that cannot be removed is an empty file of the stream.
        let _ = std::fs::remove_file(&self.unfinished);
    }

    /// From now on it lies on a disk without room, or not.
    #[cfg(test)]
    pub(super) fn swap(&mut self, file: &mut File) {
        std::mem::swap(&mut self.file, file);
    }

    /// Appends whole tags. After an error it may be called again with the same ones.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Enters `patches`, and gives it its name, which is returned.
    ///
    /// # Errors
    /// It keeps the name that it has.
    pub(super) fn finish(self, patches: &[Patch]) -> io::Result<PathBuf> {
        if let Err(error) = enter(&self.file, self.length, patches) {
            log::warn!(
                "{}: its duration cannot be entered, it can be played all the same: {error}",
                self.unfinished.display()
            );
        }
        give_name(&self.unfinished, &self.path)
    }
}

/// Cuts `file` to `length`, and enters `patches`. A part of a tag or a fragment may lie behind:
/// players would stumble over it at the very end.
pub(super) fn enter(file: &File, length: u64, patches: &[Patch]) -> io::Result<()> {
    file.set_len(length)?;
    for (offset, bytes) in patches {
        file.write_all_at(bytes, *offset)?;
    }
    Ok(())
}

/// Gives the file `unfinished` the name `path`, or one like it that no file has.
pub(super) fn give_name(unfinished: &Path, path: &Path) -> io::Result<PathBuf> {
    for path in names(path) {
        match rename_new(unfinished, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            renamed => return renamed.map(|()| path),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// `path`, and the names to try if it is taken: `x.flv`, `x-1.flv`, `x-2.flv` …
fn names(path: &Path) -> impl Iterator<Item = PathBuf> {
    let stem = path.with_extension("").into_os_string();
    let extension = path.extension().unwrap_or_default().to_owned();
    let others = (1..MAX_NAMES).map(move |number| {
        let mut name = stem.clone();
        name.push(format!("-{number}."));
        name.push(&extension);
        PathBuf::from(name)
    });
    std::iter::once(path.to_owned()).chain(others)
}

/// Renames a file to a name that no file has.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // File systems such as NFS do not know the flag: two names for a moment do as well.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::server::dvr::flv;
    use crate::server::dvr::flv::tests::duration_and_size;
    use crate::stream::PerTrack;

    const BOTH: PerTrack<bool> = PerTrack::BOTH;

    fn key(app: &str, stream: &str) -> StreamKey {
        StreamKey {
            vhost: "v".to_owned(),
            app: app.to_owned(),
            stream: stream.to_owned(),
        }
    }

    fn create(directory: &Path, name: &str, key: &StreamKey) -> io::Result<RecordFile> {
        let template = format!("{}/{name}", directory.display());
        let now = "2026-11-29T09:08:07.045Z".parse().unwrap();
        RecordFile::create(&template, key, now, &flv::beginning(BOTH, None))
    }

    fn finish(file: RecordFile, duration: Duration, media: PerTrack<bool>) -> PathBuf {
        let patches = flv::patches(media, duration, file.length());
        file.finish(&patches).unwrap()
    }

    #[test]
    fn a_finished_file_has_its_name_its_duration_and_its_size() {
        let directory = tempfile::tempdir().unwrap();
        let name = "[app]/[stream]/[2006]-[01]-[02].[timestamp].flv";
        let mut file = create(directory.path(), name, &key("live", "s")).unwrap();
        file.append(&[7; 100]).unwrap();
        assert!(
            file.unfinished()
                .ends_with("live/s/2026-11-29.1795943287045.flv.tmp")
        );
        let (unfinished, length) = (file.unfinished().to_owned(), file.length());
        let sound = PerTrack {
            audio: true,
            video: false,
        };
        let path = finish(file, Duration::from_millis(1_500), sound);
        assert!(!unfinished.exists());
        assert!(path.ends_with("live/s/2026-11-29.1795943287045.flv"));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, length);
        assert_eq!(bytes[4], 4, "it has sound alone");
        #[expect(clippy::cast_precision_loss, reason = "it is small")]
        let size = length as f64;
        assert_eq!(duration_and_size(&bytes), (1.5, size));
    }

    #[test]
    fn a_file_may_be_longer_than_four_gigabytes() {
        const LENGTH: u64 = 5 << 30;
        let directory = tempfile::tempdir().unwrap();
        let mut file = create(directory.path(), "s.flv", &key("live", "s")).unwrap();
        // A hole, which takes no room.
        file.length = LENGTH;
        file.append(b"tag").unwrap();
        let path = finish(file, Duration::ZERO, BOTH);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), LENGTH + 3);
        let mut bytes = vec![0; 200];
        File::open(path)
            .unwrap()
            .read_exact_at(&mut bytes, 0)
            .unwrap();
        #[expect(clippy::cast_precision_loss, reason = "it has 33 bits")]
        let length = (LENGTH + 3) as f64;
        assert_eq!(duration_and_size(&bytes).1, length);
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let key = key("live", "s");
        let finish = |file: RecordFile| finish(file, Duration::ZERO, BOTH);
        let first = finish(create(directory.path(), "s.flv", &key).unwrap());
        // Left behind by a server that was killed.
        let killed = create(directory.path(), "s.flv", &key).unwrap();
        assert!(killed.unfinished().ends_with("s-1.flv.tmp"));
        let third = create(directory.path(), "s.flv", &key).unwrap();
        std::fs::write(directory.path().join("s-2.flv"), "another's").unwrap();
        let third = finish(third);
        assert!(
            first.ends_with("s.flv") && third.ends_with("s-2-1.flv"),
            "{third:?}"
        );
        let other = std::fs::read_to_string(directory.path().join("s-2.flv"));
        assert_eq!(other.unwrap(), "another's");
    }

    #[test]
    fn a_streams_name_does_not_leave_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("dvr");
        for (app, stream) in [
            ("..", "x"),
            ("live", "../../x"),
            ("/etc", "x"),
            ("live/../..", "x"),
            ("live", "x\0"),
        ] {
            let created = create(&below, "[app]/[stream].flv", &key(app, stream));
            assert!(created.is_err(), "{app} {stream}");
        }
        assert!(!directory.path().join("x.flv.tmp").exists());
        // A link that lies where the file would is not followed.
        std::fs::create_dir_all(below.join("live")).unwrap();
        let target = directory.path().join("target");
        for link in ["live/s.flv.tmp", "live/s-1.flv"] {
            std::os::unix::fs::symlink(&target, below.join(link)).unwrap();
        }
        let file = create(&below, "[app]/[stream].flv", &key("live", "s")).unwrap();
        assert!(file.unfinished().ends_with("live/s-2.flv.tmp"));
        assert!(!target.exists());
    }

    #[test]
    fn tags_that_a_full_disk_does_not_take_can_be_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let full = directory.path().join("full");
        std::os::unix::fs::symlink("/dev/full", &full).unwrap();
        let mut file = RecordFile {
            file: OpenOptions::new().write(true).open(&full).unwrap(),
            path: directory.path().join("s.flv"),
            unfinished: full,
            length: 0,
            beginning: 0,
        };
        let error = file.append(b"tag").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.length(), 0, "it is written again");
    }
}
