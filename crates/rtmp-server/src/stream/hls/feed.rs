//! A stream's messages on their way from its writer to its packager.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtmp_proto::wire::{Message, MessageType};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::stream::log::MESSAGE_STREAM;
use crate::stream::log::headers::Headers;

/// The most batches that wait for the packager.
const MAX_BATCHES: usize = 1_024;
/// The most bytes of payload that wait for it. Their payload is shared with nobody once it
/// has been written to the other logs.
const MAX_BYTES: u64 = 16 << 20;

/// What a packager is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FeedItem {
    /// Another publication begins.
    Publication,
    /// A message of this time on the stream's timeline, ms.
    Message(Message, u64),
    /// So many messages have been lost: the packager was too slow. The headers in force
    /// follow, as one may be lost that has changed them.
    Lost(u64),
}

/// The writer's end of the queue.
#[derive(Debug)]
pub(in crate::stream) struct Feed {
    sender: mpsc::Sender<Vec<FeedItem>>,
    /// Bytes of payload in the queue.
    queued: Arc<AtomicU64>,
    batch: Vec<FeedItem>,
    lost: Lost,
}

/// What found no room since the last batch that did.
#[derive(Debug, Default)]
struct Lost {
    messages: u64,
    /// The headers in force behind it.
    headers: Headers,
}

/// The packager's end of the queue.
#[derive(Debug)]
pub(crate) struct FeedReader {
    receiver: mpsc::Receiver<Vec<FeedItem>>,
    queued: Arc<AtomicU64>,
}

/// An empty queue.
pub(in crate::stream) fn queue() -> (Feed, FeedReader) {
    let (sender, receiver) = mpsc::channel(MAX_BATCHES);
    let queued = Arc::<AtomicU64>::default();
    let feed = Feed {
        sender,
        queued: queued.clone(),
        batch: Vec::new(),
        lost: Lost::default(),
    };
    (feed, FeedReader { receiver, queued })
}

fn payload_bytes(batch: &[FeedItem]) -> u64 {
    let lengths = batch.iter().map(|item| match item {
        FeedItem::Message(message, _) => message.payload.len() as u64,
        FeedItem::Publication | FeedItem::Lost(_) => 0,
    });
    lengths.sum()
}

impl Feed {
    /// Another publication begins with the next message.
    pub(in crate::stream) fn begin_publication(&mut self) {
        self.batch.push(FeedItem::Publication);
    }

    /// Appends a message to the batch, which shares its payload, if it is audio or video.
    pub(in crate::stream) fn append(&mut self, message: &Message, time_ms: u64) {
        if let MessageType::AUDIO | MessageType::VIDEO = message.message_type {
            self.batch.push(FeedItem::Message(message.clone(), time_ms));
        }
    }

    /// True if everything has been queued.
    pub(in crate::stream) fn is_complete(&self) -> bool {
        self.batch.is_empty() && self.lost.messages == 0
    }

    /// Drops the batch.
    pub(in crate::stream) fn discard(&mut self) {
        self.batch.clear();
    }

    /// Queues the batch, behind which `headers` are in force. Where there is no room it is
    /// lost, and the packager learns of it. Returns false if the packager is gone.
    pub(in crate::stream) fn commit(&mut self, headers: &Headers) -> bool {
        if self.batch.is_empty() {
            return !self.sender.is_closed();
        }
        let mut batch = std::mem::take(&mut self.batch);
        let has_room = self.queued.load(Ordering::Relaxed) + payload_bytes(&batch) <= MAX_BYTES;
        match self.sender.try_reserve() {
            Ok(permit) if has_room => {
                if self.lost.messages > 0 {
                    let lost = std::mem::take(&mut self.lost).told(&batch);
                    batch.splice(0..0, lost);
                }
                let bytes = payload_bytes(&batch);
                self.queued.fetch_add(bytes, Ordering::Relaxed);
                permit.send(batch);
            }
            Err(TrySendError::Closed(())) => return false,
            Ok(_) | Err(TrySendError::Full(())) => {
                self.lost.messages += batch.len() as u64;
                self.lost.headers = headers.clone();
            }
        }
        true
    }
}

impl Lost {
    /// What the packager is told of it before `next`.
    fn told(self, next: &[FeedItem]) -> Vec<FeedItem> {
        let time = next.iter().find_map(|item| match item {
            FeedItem::Message(_, time_ms) => Some(*time_ms),
            FeedItem::Publication | FeedItem::Lost(_) => None,
        });
        let headers = self.headers.since(0).map(|header| {
            let message = header.message(MESSAGE_STREAM);
            FeedItem::Message(message, time.unwrap_or(0))
        });
        std::iter::once(FeedItem::Lost(self.messages))
            .chain(headers)
            .collect()
    }
}

impl FeedReader {
    /// True if nothing is queued.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Waits for the next batch; `None` once the writer is gone.
    pub(crate) async fn next(&mut self) -> Option<Vec<FeedItem>> {
        let batch = self.receiver.recv().await?;
        self.count_taken(&batch);
        Some(batch)
    }

    /// The next batch, if one is queued.
    pub(crate) fn take_queued(&mut self) -> Option<Vec<FeedItem>> {
        let batch = self.receiver.try_recv().ok()?;
        self.count_taken(&batch);
        Some(batch)
    }

    fn count_taken(&self, batch: &[FeedItem]) {
        let bytes = payload_bytes(batch);
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(length: usize) -> Message {
        Message {
            timestamp: 0,
            message_type: MessageType::VIDEO,
            stream_id: 1,
            payload: vec![0x17; length].into(),
        }
    }

    #[tokio::test]
    async fn a_packager_gets_what_the_writer_has_written() {
        let (mut feed, mut reader) = queue();
        feed.append(&video(1), 7);
        feed.discard();
        feed.begin_publication();
        feed.append(&video(2), 1 << 40);
        feed.commit(&Headers::default());
        let batch = reader.next().await.unwrap();
        assert_eq!(
            batch,
            [FeedItem::Publication, FeedItem::Message(video(2), 1 << 40)]
        );
        drop(feed);
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn a_packager_that_is_too_slow_loses_messages_and_learns_of_it() {
        let (mut feed, mut reader) = queue();
        for _ in 0..20 {
            feed.append(&video(1 << 20), 0);
            feed.commit(&Headers::default());
        }
        let mut bytes = 0;
        for _ in 0..16 {
            bytes += payload_bytes(&reader.next().await.unwrap());
        }
        assert_eq!(bytes, MAX_BYTES);
        feed.append(&video(1), 0);
        feed.commit(&Headers::default());
        let batch = reader.next().await.unwrap();
        assert_eq!(batch, [FeedItem::Lost(4), FeedItem::Message(video(1), 0)]);
    }

    #[test]
    fn a_writer_learns_that_the_packager_is_gone() {
        let (mut feed, reader) = queue();
        feed.append(&video(1), 0);
        assert!(feed.commit(&Headers::default()));
        drop(reader);
        assert!(!feed.commit(&Headers::default()));
        feed.append(&video(1), 0);
        assert!(!feed.commit(&Headers::default()));
    }
}
