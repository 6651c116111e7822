//! One publisher: sends a source's messages when they are due, each picture
//! with a stamp. No I/O.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    address::StreamAddress,
    client::{Client, Event, Role},
    clock::Instant,
    media::{VideoKind, is_avc_picture, message_type, video_kind},
    player::EndCause,
    source::{MediaMessage, Source},
    stamp::Stamp,
};

/// A frame sent less than this ago may still be under way at the end of a run;
/// an older one that has not come is lost.
pub(crate) const DELIVERY_GRACE: Duration = Duration::from_secs(1);
/// While more than this waits for the socket, nothing is added: the server does
/// not take what is sent, and the stream falls behind its time.
const BACKLOG_BYTES: usize = 4 * 1024 * 1024;
/// NAL unit type of an access unit delimiter, which must come first.
const ACCESS_UNIT_DELIMITER: u8 = 9;
const NAL_TYPE_MASK: u8 = 0x1f;
/// The FLV header of an AVC video message.
const TAG_HEADER_BYTES: usize = 5;
/// Offset in an AVC sequence header of the size of the NAL units' length
/// fields: behind the tag header and four bytes of configuration.
const LENGTH_SIZE_AT: usize = TAG_HEADER_BYTES + 4;

/// The record of one publisher.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Connections begun.
    pub attempts: u64,
    /// Payload bytes sent.
    pub bytes: u64,
    /// Messages sent.
    pub messages: u64,
    /// Stamped pictures sent.
    pub frames: u64,
    /// The longest that a message was sent after its time.
    pub latest: Duration,
    /// Number of times that each cause ended a connection.
    pub ends: BTreeMap<String, u64>,
}

/// See the module's description.
pub(crate) struct Publisher {
    address: Arc<StreamAddress>,
    source: Box<dyn Source>,
    boot: u32,
    /// This publisher's number in its stamps.
    id: u32,
    timeout: Duration,
    client: Option<Client>,
    began: Instant,
    agreed_at: Option<Instant>,
    /// Time 0 of the source; set when the server first agrees.
    epoch: Option<Instant>,
    next: Option<MediaMessage>,
    sequence: u32,
    length_size: usize,
    /// Stamps of the last moments, for what is due at the players.
    recent: VecDeque<(u32, Instant)>,
    /// The last frame that is older than [`DELIVERY_GRACE`].
    due: Option<u32>,
    record: Record,
}

impl Publisher {
    /// A publisher that has not begun.
    pub(crate) fn new(
        address: Arc<StreamAddress>,
        source: Box<dyn Source>,
        boot: u32,
        id: u32,
        timeout: Duration,
    ) -> Self {
        Self {
            address,
            source,
            boot,
            id,
            timeout,
            client: None,
            began: Instant::default(),
            agreed_at: None,
            epoch: None,
            next: None,
            sequence: 0,
            length_size: 4,
            recent: VecDeque::new(),
            due: None,
            record: Record::default(),
        }
    }

    /// Begins a connection.
    ///
    /// # Errors
    /// If no handshake can be made.
    pub(crate) fn begin(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), EndCause> {
        self.record.attempts += 1;
        self.began = now;
        self.client = Some(Client::new(
            Role::Publisher,
            Arc::clone(&self.address),
            false,
            out,
        )?);
        Ok(())
    }

    /// Takes bytes as they came; appends answers to `out`. `true`: the server
    /// has just agreed to take the stream.
    ///
    /// # Errors
    /// The connection is of no more use and has to be closed.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, EndCause> {
        let Some(client) = &mut self.client else {
            return Ok(false);
        };
        let mut agreed = false;
        client.receive(bytes, out, |event| agreed |= matches!(event, Event::Agreed))?;
        if agreed {
            self.agreed_at = Some(now);
            self.source
                .restart()
                .map_err(|error| EndCause::Source(error.to_string()))?;
            self.fetch()?;
            let first_at = self.next.as_ref().map_or(0, |message| message.at_ms);
            self.epoch = Some(now - Duration::from_millis(first_at));
        }
        Ok(agreed)
    }

    /// The time at which the next message is to be sent, if the server takes
    /// any.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let message = self.next.as_ref()?;
        Some(self.epoch? + Duration::from_millis(message.at_ms))
    }

    /// Appends all that is due to `out`, which holds what the socket has not
    /// taken yet.
    ///
    /// # Errors
    /// If the source fails.
    pub(crate) fn send_due(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), EndCause> {
        while let Some(at) = self.due_at().filter(|at| *at <= now)
            && out.len() < BACKLOG_BYTES
        {
            let Some(message) = self.next.take() else {
                break;
            };
            self.record.latest = self.record.latest.max(now.since(at));
            self.send(message, out);
            self.fetch()?;
        }
        while let Some((sequence, _)) = self
            .recent
            .pop_front_if(|(_, sent_at)| *sent_at + DELIVERY_GRACE <= now)
        {
            self.due = Some(sequence);
        }
        Ok(())
    }

    /// The connection is over.
    pub(crate) fn ended(&mut self, cause: &EndCause) {
        *self.record.ends.entry(cause.to_string()).or_default() += 1;
        self.client = None;
        self.agreed_at = None;
        self.next = None;
    }

    /// The cause to give the connection up for, if the server has not agreed
    /// in time.
    pub(crate) fn overdue(&self, now: Instant) -> Option<EndCause> {
        let waiting = self.client.is_some() && self.agreed_at.is_none();
        (waiting && now.since(self.began) > self.timeout).then_some(EndCause::TimedOut {
            seconds: self.timeout.as_secs(),
            progress: crate::player::Progress::Negotiating,
        })
    }

    /// True if the server takes the stream.
    pub(crate) fn is_publishing(&self) -> bool {
        self.agreed_at.is_some()
    }

    /// The end of the run.
    pub(crate) fn finish(self) -> Finished {
        Finished {
            publishing: self.is_publishing(),
            address: self.address,
            id: self.id,
            due: self.due,
            record: self.record,
        }
    }

    fn fetch(&mut self) -> Result<(), EndCause> {
        let message = self
            .source
            .next_message()
            .map_err(|error| EndCause::Source(error.to_string()))?;
        self.next = Some(message);
        Ok(())
    }

    fn send(&mut self, mut message: MediaMessage, out: &mut Vec<u8>) {
        if message.type_id == message_type::VIDEO {
            if video_kind(&message.payload) == VideoKind::SequenceHeader
                && let Some(configuration) = message.payload.get(LENGTH_SIZE_AT)
            {
                self.length_size = usize::from(configuration & 3) + 1;
            }
            if is_avc_picture(&message.payload) {
                self.stamp(&mut message.payload);
            }
        }
        self.record.bytes += message.payload.len() as u64;
        self.record.messages += 1;
        if let Some(client) = &self.client {
            client.send(message.type_id, message.at_ms as u32, message.payload, out);
        }
    }

    fn stamp(&mut self, payload: &mut Vec<u8>) {
        let at = stamp_position(payload, self.length_size);
        let stamp = Stamp {
            boot: self.boot,
            publisher: self.id,
            sequence: self.sequence,
            sent_at: Instant::now(),
            checksum: crc32fast::hash(&payload[at..]),
        };
        insert_nal(payload, at, self.length_size, &stamp.to_nal());
        self.recent.push_back((self.sequence, stamp.sent_at));
        self.sequence += 1;
        self.record.frames += 1;
    }
}

/// Behind the tag header and, if there is one, the access unit delimiter.
fn stamp_position(payload: &[u8], length_size: usize) -> usize {
    let length_field = payload.get(TAG_HEADER_BYTES..TAG_HEADER_BYTES + length_size);
    let Some(length_field) = length_field else {
        return payload.len();
    };
    let length = length_field
        .iter()
        .fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
    let header = TAG_HEADER_BYTES + length_size;
    let is_delimiter = payload
        .get(header)
        .is_some_and(|byte| byte & NAL_TYPE_MASK == ACCESS_UNIT_DELIMITER);
    match header + length {
        end if is_delimiter && end <= payload.len() => end,
        _ => TAG_HEADER_BYTES,
    }
}

fn insert_nal(payload: &mut Vec<u8>, at: usize, length_size: usize, nal: &[u8]) {
    let length = (nal.len() as u32).to_be_bytes();
    let unit = length[4 - length_size..].iter().chain(nal).copied();
    payload.splice(at..at, unit);
}

/// A publisher after the run.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The stream that it published.
    pub address: Arc<StreamAddress>,
    /// Its number in the stamps.
    pub id: u32,
    /// The last frame that every player should have.
    pub due: Option<u32>,
    /// True if the server was taking the stream at the end.
    pub publishing: bool,
    /// Its record.
    pub record: Record,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_goes_in_front_of_the_slice() {
        let mut payload = b"\x17\x01\0\0\0\0\0\0\x02\x65\xff".to_vec();
        let at = stamp_position(&payload, 4);
        insert_nal(&mut payload, at, 4, b"\x06SEI");
        assert_eq!(
            payload,
            b"\x17\x01\0\0\0\0\0\0\x04\x06SEI\0\0\0\x02\x65\xff"
        );
    }

    #[test]
    fn a_stamp_goes_behind_the_access_unit_delimiter() {
        let mut payload = b"\x17\x01\0\0\0\0\0\0\x02\x09\xf0\0\0\0\x01\x65".to_vec();
        let at = stamp_position(&payload, 4);
        insert_nal(&mut payload, at, 4, b"\x06");
        assert_eq!(
            payload,
            b"\x17\x01\0\0\0\0\0\0\x02\x09\xf0\0\0\0\x01\x06\0\0\0\x01\x65"
        );
    }

    #[test]
    fn a_stamp_uses_the_streams_own_length_fields() {
        let mut payload = b"\x17\x01\0\0\0\0\x01\x65".to_vec();
        let at = stamp_position(&payload, 2);
        insert_nal(&mut payload, at, 2, b"\x06S");
        assert_eq!(payload, b"\x17\x01\0\0\0\0\x02\x06S\0\x01\x65");
    }

    #[test]
    fn a_picture_whose_lengths_lie_is_still_stamped_within_bounds() {
        for payload in [
            &b"\x17\x01\0\0\0\xff"[..],
            b"\x17\x01\0\0\0\xff\xff\xff\xff\x09",
        ] {
            assert!(stamp_position(payload, 4) <= payload.len());
        }
    }
}
