//! Players for the program that the process becomes.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;

use super::handoff::{Delivery, Meter};
use super::player::PlayState;
use super::stall::StallTimer;
use crate::hand_over::{Blob, HandOverError, HandedOver};
use crate::stream::log::index::Filter;
use crate::stream::{FlvFraming, Stream};
use crate::transport::{StdTransport, TransportPart};

/// A player for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PlayerPart {
    pub(crate) id: u64,
    pub(crate) socket: TransportPart,
    /// Id of the stream that it plays.
    pub(crate) stream: u64,
    /// What stands around its tags; `None`: it gets RTMP chunks.
    pub(crate) framing: Option<FlvFraming>,
    pub(crate) stream_id: u32,
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    pub(super) private: Bytes,
    pub(super) replies: usize,
    pub(super) state: PlayState,
    pub(super) offset: u64,
    pub(super) filter: Filter,
    pub(super) run_end: u64,
    pub(super) pictures_counted: u64,
    pub(super) blocked: bool,
    pub(super) stall: StallTimer,
    pub(super) send_timeout: Duration,
    pub(super) at_once: bool,
    pub(super) nodelay: bool,
    pub(super) duration: Option<Duration>,
    pub(super) until: Option<u64>,
    pub(crate) dialogue: Blob,
}

impl PlayerPart {
    /// The stream's log begins anew: the player goes on at the next keyframe.
    pub(crate) fn wait_for_keyframe(&mut self) {
        self.state = match self.state {
            PlayState::Following | PlayState::Waiting => PlayState::Waiting,
            PlayState::Paused | PlayState::PausedWaiting => PlayState::PausedWaiting,
        };
        self.offset = 0;
        self.run_end = 0;
        self.pictures_counted = 0;
        self.until = None;
    }
}

/// The players of a worker for the program that the process becomes.
#[derive(Debug, Default)]
pub(crate) struct WorkerPart {
    pub(crate) players: Vec<PlayerPart>,
    pub(crate) handed_over: HandedOver,
}

/// The workers while they stand still; dropped, they go on.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(super) parts: UnboundedReceiver<Result<WorkerPart, HandOverError>>,
    /// Each worker waits until its sender is gone.
    pub(super) _held: Vec<mpsc::Sender<()>>,
}

impl Frozen {
    /// The players of a worker, once for each; `None` when all workers stand still.
    pub(crate) async fn next(&mut self) -> Option<Result<WorkerPart, HandOverError>> {
        self.parts.recv().await
    }
}

/// A player that this process has had before, on its way to a worker.
#[derive(Debug)]
pub(crate) struct Adopting<D> {
    pub(crate) part: PlayerPart,
    pub(crate) socket: StdTransport,
    pub(crate) dialogue: D,
    pub(crate) stream: Arc<Stream>,
    pub(crate) delivery: Delivery,
    pub(crate) meter: Arc<Meter>,
}
