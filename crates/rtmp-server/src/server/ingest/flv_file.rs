//! FLV files, repeated, at the pace of their timestamps.
//!
//! A thread reads ahead by a few messages: files may be of any length, and disks slow.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, SeekFrom};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_flv::file::{TagHeader, first_tag};
use http_flv::tag::{FILE_HEADER_BYTES, TAG_HEADER_BYTES};
use rtmp_proto::session::StreamKey;
use rtmp_proto::wire::media::MediaClass;
use service_kit::sleep_until;
use tokio::sync::mpsc;

use super::error::{FlvFileError, IngestError};
use super::publisher::Publisher;
use super::report::IngestReport;
use crate::server::Server;
use crate::server::pace::{Pace, at};
use crate::stream::{Headers, MediaMessage};

/// Messages that are read ahead.
const READ_AHEAD: usize = 64;
/// Time from the last frame to the first of the next turn, ms.
const LAST_FRAME_MS: u64 = 40;

/// What the thread that reads has found.
enum Found {
    /// A message, at a time that begins with 0 and rises from turn to turn.
    Message(MediaMessage, u64),
    /// The file cannot be read on.
    Failed(IngestError),
}

/// Publishes the file.
pub(super) async fn publish(
    server: &Arc<Server>,
    report: &Arc<IngestReport>,
    key: &StreamKey,
) -> Result<Infallible, IngestError> {
    let (sender, mut found) = mpsc::channel(READ_AHEAD);
    let file = report.job.input.url.clone();
    // It ends when `found` is dropped.
    tokio::task::spawn_blocking(move || {
        let Err(error) = read(&file, &sender);
        // An error means that nobody waits for it.
        let _ = sender.blocking_send(Found::Failed(error));
    });
    let mut next = message(found.recv().await)?;
    let mut publisher = Publisher::begin(server, report, key).await?;
    let mut pace = Pace::new(Instant::now());
    loop {
        let (media, time_ms) = next;
        let due = pace.due(time_ms);
        tokio::select! {
            () = sleep_until(Some(due)) => {}
            error = publisher.follow() => return Err(error),
        }
        pace.pass(due, Instant::now());
        publisher.append(&[at(&media, time_ms)])?;
        // A disk may take its time: the publisher is still to be followed.
        next = tokio::select! {
            found = found.recv() => message(found)?,
            error = publisher.follow() => return Err(error),
        };
    }
}

fn message(found: Option<Found>) -> Result<(MediaMessage, u64), IngestError> {
    match found {
        Some(Found::Message(message, time_ms)) => Ok((message, time_ms)),
        Some(Found::Failed(error)) => Err(error),
        None => Err(IngestError::Ended),
    }
}

/// Reads the file again and again.
fn read(name: &str, found: &mpsc::Sender<Found>) -> Result<Infallible, IngestError> {
    let failed = |error| IngestError::File {
        file: name.to_owned(),
        error,
    };
    let wrong = |error| IngestError::NotFlv {
        file: name.to_owned(),
        error,
    };
    let mut begin_ms = 0;
    for turn in 0_u64.. {
        // Opened anew: it may have been replaced.
        let file = BufReader::new(File::open(name).map_err(failed)?);
        let mut tags = TagFile::open(file).map_err(failed)?.map_err(wrong)?;
        let (mut first, mut last_ms) = (None, 0);
        while let Some(tag) = tags.next().map_err(failed)? {
            let message = tag.map_err(wrong)?;
            let Some(head) = message.head() else {
                continue;
            };
            let is_header = Headers::keeps_class(head.class);
            // The end of a sequence (FLV E.4.3.1) is none here: the file is repeated. Headers
            // are in force since the first turn; those of a file that was replaced change.
            if head.class == MediaClass::VideoOther {
                continue;
            }
            let timestamp = message.message().timestamp;
            if !is_header {
                first.get_or_insert(timestamp);
            }
            let time_ms = first.map_or(0, |first| timestamp.saturating_sub(first));
            last_ms = last_ms.max(u64::from(time_ms));
            let time_ms = begin_ms + u64::from(time_ms);
            if found
                .blocking_send(Found::Message(message, time_ms))
                .is_err()
            {
                return Err(IngestError::Ended);
            }
        }
        if first.is_none() {
            return Err(wrong(FlvFileError::Empty));
        }
        log::debug!("{name}: turn {turn} has been read");
        begin_ms += last_ms + LAST_FRAME_MS;
    }
    Err(IngestError::Ended)
}

/// An FLV file that is read tag by tag.
struct TagFile<R> {
    file: R,
    offset: u64,
}

impl<R: Read + io::Seek> TagFile<R> {
    fn open(mut file: R) -> io::Result<Result<Self, FlvFileError>> {
        let mut header = [0; FILE_HEADER_BYTES];
        let read = file.read_exact(&mut header);
        match read {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok(Err(FlvFileError::NoFlv));
            }
            read => read?,
        }
        let Some(offset) = first_tag(&header) else {
            return Ok(Err(FlvFileError::NoFlv));
        };
        let offset = offset as u64;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Ok(Self { file, offset }))
    }

    /// The next tag as a message; `None` at the end, also within a tag: the file may be one
    /// that is still written, or was cut off.
    fn next(&mut self) -> io::Result<Option<Result<MediaMessage, FlvFileError>>> {
        match self.read() {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            read => read.map(Some),
        }
    }

    fn read(&mut self) -> io::Result<Result<MediaMessage, FlvFileError>> {
        let mut header = [0; TAG_HEADER_BYTES];
        self.file.read_exact(&mut header)?;
        let Some(header) = TagHeader::parse(&header) else {
            return Ok(Err(FlvFileError::UnknownTag(self.offset)));
        };
        let mut payload = vec![0; header.length];
        self.file.read_exact(&mut payload)?;
        self.offset += (TAG_HEADER_BYTES + header.length + 4) as u64;
        // The last tag's own length may be missing: then the next read is the end.
        self.file.seek_relative(4)?;
        Ok(Ok(MediaMessage::of_tag(
            header.kind,
            header.timestamp,
            Bytes::from(payload),
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::flv_file::{INTER, KEYFRAME, file};

    fn tags(bytes: &[u8]) -> Result<usize, FlvFileError> {
        let mut file = TagFile::open(Cursor::new(bytes)).unwrap()?;
        let mut count = 0;
        while let Some(tag) = file.next().unwrap() {
            tag?;
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn a_file_ends_where_its_last_whole_tag_does() {
        let whole = file(&[KEYFRAME, INTER]);
        assert_eq!(tags(&whole), Ok(2));
        assert_eq!(tags(&whole[..whole.len() - 4]), Ok(2));
        assert_eq!(tags(&whole[..whole.len() - 5]), Ok(1));
        assert_eq!(tags(b"RIFF"), Err(FlvFileError::NoFlv));
        assert_eq!(tags(&[b'x'; 100]), Err(FlvFileError::NoFlv));
        let mut wrong = whole.clone();
        wrong[13] = 77;
        assert_eq!(tags(&wrong), Err(FlvFileError::UnknownTag(13)));
    }

    #[test]
    fn a_files_time_goes_on_from_turn_to_turn() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("a.flv");
        std::fs::write(&name, file(&[KEYFRAME, INTER, INTER])).unwrap();
        let (sender, mut found) = mpsc::channel(5);
        let name = name.to_str().unwrap().to_owned();
        let thread = std::thread::spawn(move || read(&name, &sender));
        let times: Vec<_> = (0..5)
            .map(|_| message(found.blocking_recv()).unwrap().1)
            .collect();
        assert_eq!(times, [0, 100, 200, 240, 340]);
        drop(found);
        assert!(thread.join().unwrap().is_err());
    }

    #[test]
    fn a_file_without_media_is_not_read_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("a.flv");
        std::fs::write(&name, file(&[])).unwrap();
        let (sender, _found) = mpsc::channel(5);
        let Err(error) = read(name.to_str().unwrap(), &sender);
        assert!(
            error.to_string().contains("neither pictures nor sound"),
            "{error}"
        );
    }
}
