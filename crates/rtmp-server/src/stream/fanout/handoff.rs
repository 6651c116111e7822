//! A player on its way to a worker, and on its way back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hand_over::{Blob, HandOverError};
use crate::stream::{FlvLog, PerTrack, Stream};
use crate::transport::StdTransport;

/// The player's side of the conversation, which the workers know nothing of:
/// what the player sends is handed here.
pub(crate) trait Dialogue: Send + 'static {
    /// Takes what the player has sent. Replies are appended to `replies`, and
    /// what concerns the delivery to `requests`.
    ///
    /// # Errors
    /// The connection must end, and why.
    fn receive(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
        requests: &mut Vec<Request>,
    ) -> Result<(), String>;

    /// The conversation for the program that the process becomes.
    ///
    /// # Errors
    /// It cannot be written down.
    fn part(&self) -> Result<Blob, HandOverError>;

    /// The server begins to drain: what the player is told is appended to `out`.
    fn announce_drain(&mut self, out: &mut Vec<u8>);
}

/// A player's request about its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Halts, or goes on.
    Pause(bool),
    /// Sound on or off.
    Audio(bool),
    /// Pictures on or off.
    Video(bool),
    /// Wants no more of this stream: socket and dialogue go back.
    Leave,
}

/// The form in which a player gets its stream.
#[derive(Debug, Clone)]
pub(crate) enum Delivery {
    /// RTMP chunks.
    Chunks,
    /// FLV tags, as this log has them.
    Flv(FlvLog),
}

/// The totals of what has been delivered to a player.
#[derive(Debug, Default)]
pub struct Meter {
    /// Bytes sent.
    pub bytes: AtomicU64,
    /// Pictures sent, as of the player's last change of place in the log.
    pub pictures: AtomicU64,
    /// Number of times that the player was too slow and skipped to a keyframe.
    pub skips: AtomicU64,
    /// Bytes that had been sent when its last play began.
    play_from: AtomicU64,
    plays: AtomicBool,
}

/// A [`Meter`] as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MeterPart {
    bytes: u64,
    pictures: u64,
    skips: u64,
    play_from: u64,
    plays: bool,
}

impl From<&Meter> for MeterPart {
    fn from(meter: &Meter) -> Self {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Self {
            bytes: read(&meter.bytes),
            pictures: read(&meter.pictures),
            skips: read(&meter.skips),
            play_from: read(&meter.play_from),
            plays: meter.plays.load(Ordering::Relaxed),
        }
    }
}

impl From<MeterPart> for Meter {
    fn from(part: MeterPart) -> Self {
        Self {
            bytes: part.bytes.into(),
            pictures: part.pictures.into(),
            skips: part.skips.into(),
            play_from: part.play_from.into(),
            plays: part.plays.into(),
        }
    }
}

impl Meter {
    /// A play begins.
    pub(super) fn begin_play(&self) {
        let sent = self.bytes.load(Ordering::Relaxed);
        self.play_from.store(sent, Ordering::Relaxed);
        self.plays.store(true, Ordering::Relaxed);
    }

    /// The play ends; returns the bytes that were sent for it.
    pub(super) fn end_play(&self) -> u64 {
        let sent = self.sent_of_play();
        self.plays.store(false, Ordering::Relaxed);
        sent
    }

    /// Bytes that were sent for the present play.
    pub(crate) fn sent_of_play(&self) -> u64 {
        if !self.plays.load(Ordering::Relaxed) {
            return 0;
        }
        let sent = self.bytes.load(Ordering::Relaxed);
        sent.saturating_sub(self.play_from.load(Ordering::Relaxed))
    }
}

/// A player on its way to a worker.
#[derive(Debug)]
pub(crate) struct Joining<D> {
    /// Unique among the connections of this process.
    pub id: u64,
    /// The connection, in non-blocking mode, with `TCP_NODELAY`.
    pub socket: StdTransport,
    /// Who understands what the player sends.
    pub dialogue: D,
    /// The stream that it plays.
    pub stream: Arc<Stream>,
    /// The form in which it gets the stream.
    pub delivery: Delivery,
    /// The tracks that it may have at all.
    pub tracks: PerTrack<bool>,
    /// The message stream that it plays on.
    pub stream_id: u32,
    /// Bytes to be sent before the stream.
    pub unsent: Vec<u8>,
    /// Requests that it has made already.
    pub requests: Vec<Request>,
    /// The counters of its delivery.
    pub meter: Arc<Meter>,
    /// True if it begins at the newest keyframe, false if it waits for the
    /// next; `None`: as the stream's `gop_cache` says.
    pub gop_cache: Option<bool>,
    /// True if it gets each message as soon as that is in the log, whatever the
    /// stream's `mw_latency` is: it is another server's pull, which gathers
    /// for its own players.
    pub at_once: bool,
    /// The time after which it is dropped, if it takes nothing of what is there
    /// for it.
    pub send_timeout: Duration,
    /// Length of the stream that it wants, on the stream's timeline.
    pub duration: Option<Duration>,
}

/// The reason for which a player has left its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It asked to: the connection goes on.
    Asked,
    /// It closed the connection.
    Closed,
    /// The connection broke.
    Broken(io::ErrorKind),
    /// It sent nonsense, or has passed a limit.
    Misbehaved(String),
    /// It took nothing for the send time-out.
    Stalled,
    /// The stream has ended.
    StreamEnded,
    /// It has had as much as it wanted.
    Complete,
    /// Its log can no longer be written, for want of memory.
    LogLost,
    /// Its TLS key may encrypt no more.
    KeyExhausted,
    /// It was dismissed: by an operator, or because the server stops.
    Dismissed,
}

impl From<io::Error> for Reason {
    /// The end of a player whose connection returned `error`.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::QuotaExceeded => Self::KeyExhausted,
            io::ErrorKind::InvalidData => Self::Misbehaved(error.to_string()),
            kind => Self::Broken(kind),
        }
    }
}

impl Reason {
    /// True if the connection is of no more use.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Closed | Self::Broken(_) | Self::Stalled)
    }
}

/// A player that is no longer a worker's.
#[derive(Debug)]
pub(crate) struct ReturnedPlayer<D> {
    /// As it came.
    pub id: u64,
    /// The connection.
    pub socket: StdTransport,
    /// The dialogue, where it stands.
    pub dialogue: D,
    /// Bytes that must be sent before anything else: the rest of a message.
    pub unsent: Vec<u8>,
    /// The reason for which it left.
    pub reason: Reason,
}
