//! A stream's log: its bytes in a file in memory, the index of its messages,
//! and the workers that read it.

mod encoding;
pub(super) mod file;
mod flv;
pub(super) mod headers;
mod history;
pub(super) mod index;
mod part;
mod readdressed;
mod readers;
pub(super) mod tags;
pub(super) mod waker;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rtmp_proto::session::StreamKey;
use rtmp_proto::wire::Message;
use rtmp_proto::wire::media::MediaClass;

use super::memory::{Holding, MemoryPool};
use super::sync::lock;
pub(crate) use encoding::FlvFraming;
pub(super) use encoding::{Framing, MESSAGE_STREAM, for_log, for_players, wire_timestamp};
use file::LogFile;
use index::{Index, Retention, View};
pub(crate) use part::LAYOUT;
pub(in crate::stream) use part::LogPart;
pub(super) use readers::Readers;
use waker::Wakers;

/// A stream's log.
///
/// One thread at a time writes it: it appends to the file, then enters the
/// messages into the index, then notifies the readers. In this order, since a
/// reader takes the index's end for the end of what it may send.
#[derive(Debug)]
pub(super) struct Log {
    key: Arc<StreamKey>,
    framing: Framing,
    file: LogFile,
    index: Mutex<Index>,
    /// The log's part of the memory that all logs share.
    held: Holding,
    readers: Arc<Readers>,
    /// Held by whoever copies messages: the index knows one such reader.
    copying: Mutex<()>,
    /// Nothing is written any more, though the stream goes on.
    abandoned: AtomicBool,
}

impl Log {
    /// The empty log of the stream number `id`, in chunks of `chunk_size`
    /// bytes, which the workers behind `wakers` will read.
    pub(super) fn new(
        id: u64,
        key: Arc<StreamKey>,
        chunk_size: u32,
        retention: Retention,
        wakers: Wakers,
        pool: Arc<MemoryPool>,
    ) -> Self {
        let readers = Arc::new(Readers::new(id, wakers));
        Self {
            file: LogFile::new(&format!("rtmp:{key}")),
            index: Mutex::new(Index::new(retention, readers.count())),
            held: Holding::new(pool),
            readers,
            copying: Mutex::default(),
            abandoned: AtomicBool::new(false),
            framing: Framing::Chunks(chunk_size),
            key,
        }
    }

    /// The name of the stream.
    pub(super) fn key(&self) -> &Arc<StreamKey> {
        &self.key
    }

    /// The form of the log's messages.
    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    pub(super) fn file(&self) -> &LogFile {
        &self.file
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    pub(super) fn readers(&self) -> &Arc<Readers> {
        &self.readers
    }

    /// Nothing will be written any more: its readers are to leave when they are notified.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    /// True if nothing will be written any more, though the stream goes on.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// The log's part of the memory that all logs share.
    pub(super) fn held(&self) -> &Holding {
        &self.held
    }

    /// The log as it is now, for a worker that has been notified or has a
    /// player join: see [`Index::view`]. `at_once`: for those players of the
    /// worker that get each message at once.
    pub(super) fn view(&self, worker: usize, at_once: bool, low_water: u64) -> View {
        self.readers.reset(worker);
        self.view_unnotified(worker, at_once, low_water)
    }

    /// The same for a worker that has been notified and will look again by itself: what comes
    /// until then does not wake it.
    pub(super) fn view_unnotified(&self, worker: usize, at_once: bool, low_water: u64) -> View {
        self.index()
            .view(Readers::number(worker, at_once), low_water)
    }

    /// The worker has no such player any more.
    pub(super) fn remove_reader(&self, worker: usize, at_once: bool) {
        self.index().remove_reader(Readers::number(worker, at_once));
    }

    /// True if the log has `frame` at `time`, at the offset `from` or later.
    pub(super) fn has_frame(
        &self,
        frame: &Message,
        class: MediaClass,
        time: u64,
        from: u64,
    ) -> bool {
        let frame = for_log(frame.clone(), class, time);
        let mut encoded = Vec::new();
        self.framing.encode(&frame, &mut encoded);
        // Collected, since the index is not to be locked while the file is read.
        let mut places: Vec<_> = self.index().frames_at(time).collect();
        places.retain(|place| place.start >= from);
        places.into_iter().any(|place| {
            // What cannot be read is not known.
            let bytes = self.file.copy(place.start, place.end);
            bytes.is_ok_and(|bytes| bytes == encoded)
        })
    }

    /// Gives back of the log what nobody can need any more; returns what is
    /// kept, in bytes.
    pub(super) fn give_back(&self, mut index: MutexGuard<'_, Index>) -> u64 {
        let unneeded = index.trim();
        let kept = index.kept_bytes();
        let log_bytes = index.end() - file::releasable(unneeded);
        self.held.set(log_bytes + index.entry_bytes());
        drop(index);
        if let Err(error) = self.file.release(unneeded) {
            log::warn!(
                "{}: memory of the log cannot be given back: {error}",
                self.key
            );
        }
        kept
    }

    /// Gives up the oldest group of the log; returns what is kept, in bytes.
    pub(super) fn give_up_oldest(&self) -> u64 {
        let mut index = self.index();
        index.give_up_oldest();
        let kept = self.give_back(index);
        // What a player is about to read is kept until its worker has looked.
        self.readers.notify();
        kept
    }

    /// The bytes of memory that the log's file holds.
    ///
    /// # Errors
    /// The kernel's refusal to say.
    pub(super) fn memory(&self) -> io::Result<u64> {
        self.file.memory()
    }
}
