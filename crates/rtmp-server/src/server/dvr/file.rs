//! One FLV file of a recording: its name, its beginning, its end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_flv::tag::{self, FILE_HEADER_BYTES, TAG_HEADER_BYTES, TagKind};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use rtmp_proto::session::StreamKey;
use rtmp_proto::wire::amf0::{Value, write_value};
use rtmp_proto::wire::message::data;
use rtmp_proto::wire::{Limits, Message, MessageType};

use crate::server::file_names;
use crate::stream::PerTrack;

/// The name of a file that is not finished has this behind it, as in SRS.
const UNFINISHED: &str = "tmp";
/// The most names that are tried where a file has one already.
const MAX_NAMES: u32 = 1_000;

/// Place of the flags that say which media there are.
const FLAGS_OFFSET: u64 = 4;
/// The name of the metadata, with its marker and length.
const NAME_BYTES: usize = 3 + METADATA.len();
/// Marker and length of an associative array.
const ARRAY_BYTES: usize = 5;
/// Length and marker before a property's number, without the property's name.
const PROPERTY_BYTES: usize = 3;
/// Place of the duration's number, which is the first property.
const DURATION_OFFSET: usize = FILE_HEADER_BYTES
    + TAG_HEADER_BYTES
    + NAME_BYTES
    + ARRAY_BYTES
    + PROPERTY_BYTES
    + DURATION.len();
/// Place of the file size's number, which is the second.
const FILE_SIZE_OFFSET: usize = DURATION_OFFSET + 8 + PROPERTY_BYTES + FILE_SIZE.len();

const METADATA: &str = "onMetaData";
const DURATION: &str = "duration";
const FILE_SIZE: &str = "filesize";

/// A file that is written.
#[derive(Debug)]
pub(super) struct FlvFile {
    file: File,
    /// Its name, once it is finished.
    path: PathBuf,
    unfinished: PathBuf,
    /// Bytes that it has: what lies behind is a part of a tag that could not be written.
    length: u64,
    /// Bytes before the media.
    beginning: u64,
}

/// The first bytes of a file: its header and its metadata, where duration and size are 0
/// until it is finished.
pub(super) fn beginning(media: PerTrack<bool>, metadata: Option<&Bytes>) -> Vec<u8> {
    let mut properties = vec![
        (DURATION.to_owned(), Value::Number(0.0)),
        (FILE_SIZE.to_owned(), Value::Number(0.0)),
    ];
    let others = metadata.map(properties_of).unwrap_or_default();
    properties.extend(others.into_iter().filter(|(name, _)| {
        let is_own = name == DURATION || name == FILE_SIZE;
        !is_own
    }));
    let mut payload = BytesMut::new();
    write_value(&METADATA.into(), &mut payload);
    write_value(&Value::EcmaArray(properties), &mut payload);
    let mut bytes = tag::file_header(media.audio, media.video).to_vec();
    tag::write_tag(TagKind::Script, 0, &payload, &mut bytes);
    bytes
}

/// The properties of metadata as a publisher has sent it.
fn properties_of(payload: &Bytes) -> Vec<(String, Value)> {
    let message = Message {
        timestamp: 0,
        message_type: MessageType::DATA_AMF0,
        stream_id: 0,
        payload: payload.clone(),
    };
    let values = data::values(&message, Limits::default().amf_nesting);
    let properties = values.iter().map(Value::properties);
    properties
        .filter(|it| !it.is_empty())
        .take(1)
        .flatten()
        .cloned()
        .collect()
}

impl FlvFile {
    /// A new file of the stream `key`, which begins with `beginning`. No file is overwritten:
    /// where `template` gives a name that is taken, a number is put before `.flv`.
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
        let variables = template.find('[').unwrap_or(template.len());
        let directory = template[..variables]
            .rfind('/')
            .map_or(0, |slash| slash + 1);
        let (directory, name) = template.split_at(directory);
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

    /// Enters its duration, its size and the media that it has, and gives it its name, which
    /// is returned.
    ///
    /// # Errors
    /// It keeps the name that it has.
    pub(super) fn finish(self, duration: Duration, media: PerTrack<bool>) -> io::Result<PathBuf> {
        // A part of a tag may lie behind: players would stumble over it at the very end.
        let entered = self.file.set_len(self.length).and_then(|()| {
            let header = tag::file_header(media.audio, media.video);
            self.file.write_all_at(&header[4..5], FLAGS_OFFSET)?;
            let seconds = duration.as_secs_f64();
            self.file
                .write_all_at(&seconds.to_be_bytes(), DURATION_OFFSET as u64)?;
            #[expect(clippy::cast_precision_loss, reason = "AMF0 has no other numbers")]
            let size = self.length as f64;
            self.file
                .write_all_at(&size.to_be_bytes(), FILE_SIZE_OFFSET as u64)
        });
        if let Err(error) = entered {
            log::warn!(
                "{}: its duration cannot be entered, it can be played all the same: {error}",
                self.unfinished.display()
            );
        }
        for path in names(&self.path) {
            match rename_new(&self.unfinished, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                renamed => return renamed.map(|()| path),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// `path`, and the names to try if it is taken: `x.flv`, `x-1.flv`, `x-2.flv` …
fn names(path: &Path) -> impl Iterator<Item = PathBuf> {
    let stem = path.with_extension("").into_os_string();
    let others = (1..MAX_NAMES).map(move |number| {
        let mut name = stem.clone();
        name.push(format!("-{number}.flv"));
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
    use super::*;

    const BOTH: PerTrack<bool> = PerTrack::BOTH;

    fn key(app: &str, stream: &str) -> StreamKey {
        StreamKey {
            vhost: "v".to_owned(),
            app: app.to_owned(),
            stream: stream.to_owned(),
        }
    }

    fn create(directory: &Path, name: &str, key: &StreamKey) -> io::Result<FlvFile> {
        let template = format!("{}/{name}", directory.display());
        let now = "2026-11-29T09:08:07.045Z".parse().unwrap();
        FlvFile::create(&template, key, now, &beginning(BOTH, None))
    }

    fn number(bytes: &[u8], offset: usize) -> f64 {
        f64::from_be_bytes(bytes[offset..offset + 8].try_into().unwrap())
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
        let path = file.finish(Duration::from_millis(1_500), sound).unwrap();
        assert!(!unfinished.exists());
        assert!(path.ends_with("live/s/2026-11-29.1795943287045.flv"));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, length);
        assert_eq!(bytes[4], 4, "it has sound alone");
        assert_eq!(number(&bytes, DURATION_OFFSET), 1.5);
        #[expect(clippy::cast_precision_loss, reason = "it is small")]
        let size = length as f64;
        assert_eq!(number(&bytes, FILE_SIZE_OFFSET), size);
    }

    #[test]
    fn a_file_may_be_longer_than_four_gigabytes() {
        const LENGTH: u64 = 5 << 30;
        let directory = tempfile::tempdir().unwrap();
        let mut file = create(directory.path(), "s.flv", &key("live", "s")).unwrap();
        // A hole, which takes no room.
        file.length = LENGTH;
        file.append(b"tag").unwrap();
        let path = file.finish(Duration::ZERO, BOTH).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), LENGTH + 3);
        let mut bytes = vec![0; FILE_SIZE_OFFSET + 8];
        File::open(path)
            .unwrap()
            .read_exact_at(&mut bytes, 0)
            .unwrap();
        #[expect(clippy::cast_precision_loss, reason = "it has 33 bits")]
        let length = (LENGTH + 3) as f64;
        assert_eq!(number(&bytes, FILE_SIZE_OFFSET), length);
    }

    #[test]
    fn a_publishers_metadata_stays_but_for_duration_and_size() {
        let mut payload = BytesMut::new();
        write_value(&METADATA.into(), &mut payload);
        let properties = vec![
            (DURATION.to_owned(), Value::Number(7.0)),
            ("width".to_owned(), Value::Number(640.0)),
        ];
        write_value(&Value::Object(properties), &mut payload);
        let bytes = beginning(BOTH, Some(&payload.freeze()));
        let end = bytes.len() - 4;
        let payload = bytes[FILE_HEADER_BYTES + TAG_HEADER_BYTES..end].to_vec();
        let properties = properties_of(&payload.into());
        let names: Vec<_> = properties.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [DURATION, FILE_SIZE, "width"]);
        assert_eq!(properties[0].1, Value::Number(0.0));
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let key = key("live", "s");
        let finish = |file: FlvFile| file.finish(Duration::ZERO, BOTH).unwrap();
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
        let mut file = FlvFile {
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
