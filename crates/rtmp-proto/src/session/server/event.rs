//! The requests and notices of a client.

use serde::{Deserialize, Serialize};

use crate::session::name::{Parameters, StreamKey};
use crate::session::status::Status;
use crate::wire::Message;
use crate::wire::amf0::Value;

/// An event of the client's side.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum ServerEvent {
    /// The client wants to use an application; waits for
    /// [`accept_connect`](super::ServerSession::accept_connect) or
    /// [`refuse_connect`](super::ServerSession::refuse_connect).
    Connect(Box<ConnectRequest>),
    /// The client wants to publish; waits for
    /// [`accept_publish`](super::ServerSession::accept_publish) or
    /// [`refuse_publish`](super::ServerSession::refuse_publish).
    Publish(Box<PublishRequest>),
    /// The client wants to play; waits for
    /// [`accept_play`](super::ServerSession::accept_play),
    /// [`refuse_play`](super::ServerSession::refuse_play) or
    /// [`defer_play`](super::ServerSession::defer_play).
    Play(Box<PlayRequest>),
    /// The session has refused a command by itself; the client has been told,
    /// and the connection goes on.
    Refused(Box<Status>),
    /// Audio, video or data of a stream that this client publishes. Aggregates
    /// have been split. Data messages still carry their `@setDataFrame`, see
    /// [`data::for_players`](crate::wire::message::data::for_players).
    Media(Message),
    /// The client publishes no more on this message stream.
    PublishEnded {
        /// The message stream.
        stream_id: u32,
    },
    /// The client plays no more on this message stream.
    PlayEnded {
        /// The message stream.
        stream_id: u32,
    },
    /// A player halts or goes on; it has had its answer.
    Pause {
        /// The message stream.
        stream_id: u32,
        /// Halts, or goes on.
        paused: bool,
    },
    /// A player wants audio, or none.
    ReceiveAudio {
        /// The message stream.
        stream_id: u32,
        /// Wants it.
        receive: bool,
    },
    /// A player wants video, or none.
    ReceiveVideo {
        /// The message stream.
        stream_id: u32,
        /// Wants it.
        receive: bool,
    },
    /// A player's buffer.
    BufferLength {
        /// The message stream.
        stream_id: u32,
        /// Milliseconds.
        milliseconds: u32,
    },
    /// The client has received this many bytes of ours, modulo 2³².
    Acknowledged(u32),
    /// The answer to a ping, with its timestamp.
    Pong(u32),
}

/// `connect`, as it came. What is not a name is the client's own text: a log
/// line should escape it (`{:?}`).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConnectRequest {
    /// The requested virtual host: from parameters, else the host of tcUrl;
    /// empty if neither names one.
    pub vhost: String,
    /// The application, without parameters and `_definst_`; with the stream
    /// behind it, where a client names both in one.
    pub app: String,
    /// The application's parameters.
    pub parameters: Parameters,
    /// `tcUrl`, as it came; empty if there was none.
    pub tc_url: String,
    /// `pageUrl`: the page that a browser's player sits in.
    pub page_url: String,
    /// `flashVer`: what the client says it is.
    pub flash_ver: String,
    /// The place where a player wants to begin (`gopCache`): true at the newest
    /// keyframe, false at the next; `None`: the server is to decide.
    pub gop_cache: Option<bool>,
    /// The codecs of Enhanced RTMP that the client knows (`fourCcList`), each
    /// a FourCC, or `*` for any.
    pub four_cc_list: Vec<String>,
    /// The client connects again when it is asked to (`capsEx`, Enhanced RTMP v2).
    pub reconnects: bool,
    /// The whole command object.
    pub object: Value,
    /// Arguments after the command object, for whoever authenticates by them.
    pub arguments: Vec<Value>,
}

/// The settings that an accepted connection is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectSettings {
    /// Length of our chunks, in bytes; not 0.
    pub chunk_size: u32,
    /// Bytes after which we acknowledge what the client sends, whether it asks
    /// for it or not; 0: as it asks.
    pub in_ack_size: u32,
    /// Bytes after which the client shall acknowledge what we send; 0: it is
    /// not asked to.
    pub out_ack_size: u32,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        ConnectSettings {
            chunk_size: 60_000,
            in_ack_size: 0,
            out_ack_size: 2_500_000,
        }
    }
}

/// `publish`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PublishRequest {
    /// The message stream.
    pub stream_id: u32,
    /// The stream to publish; the virtual host is as requested.
    pub key: StreamKey,
    /// The stream's parameters.
    pub parameters: Parameters,
    /// The way in which it is kept.
    pub kind: PublishKind,
}

/// The way in which a publisher wants its stream kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PublishKind {
    /// Broadcast it.
    Live,
    /// Broadcast and record it.
    Record,
    /// Broadcast it and add it to the recording.
    Append,
}

/// `play`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PlayRequest {
    /// The message stream.
    pub stream_id: u32,
    /// The stream to play; the virtual host is as requested.
    pub key: StreamKey,
    /// The stream's parameters.
    pub parameters: Parameters,
    /// The place to begin.
    pub start: PlayStart,
    /// The time to play, in milliseconds; `None`: to the end.
    pub duration_ms: Option<u32>,
    /// True if an earlier play on this message stream is to end.
    pub reset: bool,
}

/// The place where a player wants to begin (RTMP 1.0 §7.2.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PlayStart {
    /// The live stream, else a recorded one of that name.
    LiveOrRecorded,
    /// The live stream only.
    Live,
    /// A recorded one, from this many milliseconds on.
    Recorded(u32),
}
