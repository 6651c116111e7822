//! Headers and data that came before the frame that decides about them.

use rtmp_proto::wire::Message;
use serde::{Deserialize, Serialize};

use crate::stream::log::headers::Headers;

/// The most bytes of data messages that wait for a publisher's first frame.
const MAX_PENDING_DATA_BYTES: usize = 64 * 1024;

/// Headers and data that wait for the next frame.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) headers: Headers,
    pub(super) data: Vec<Message>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.data.is_empty()
    }

    /// Keeps a data message, unless there are too many.
    pub(super) fn keep_data(&mut self, message: Message) {
        let kept = self.data.iter().map(|known| known.payload.len());
        if kept.sum::<usize>() + message.payload.len() <= MAX_PENDING_DATA_BYTES {
            self.data.push(message);
        }
    }
}
