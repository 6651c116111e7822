//! A server's answers to requests: `NetConnection.*` and `NetStream.*`.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::amf0::Value;
use crate::wire::message::data;
use crate::wire::{Limits, Message, MessageType};

/// The codes we send and understand.
pub mod code {
    #![allow(missing_docs)] // each constant is named as its text
    pub const CONNECT_SUCCESS: &str = "NetConnection.Connect.Success";
    pub const CONNECT_REJECTED: &str = "NetConnection.Connect.Rejected";
    pub const CONNECT_INVALID_APP: &str = "NetConnection.Connect.InvalidApp";
    pub const CONNECT_CLOSED: &str = "NetConnection.Connect.Closed";
    pub const CONNECT_RECONNECT_REQUEST: &str = "NetConnection.Connect.ReconnectRequest";
    pub const CALL_FAILED: &str = "NetConnection.Call.Failed";
    pub const PUBLISH_START: &str = "NetStream.Publish.Start";
    pub const PUBLISH_BAD_NAME: &str = "NetStream.Publish.BadName";
    pub const PUBLISH_DENIED: &str = "NetStream.Publish.Denied";
    pub const PUBLISH_IDLE: &str = "NetStream.Publish.Idle";
    pub const UNPUBLISH_SUCCESS: &str = "NetStream.Unpublish.Success";
    pub const PLAY_RESET: &str = "NetStream.Play.Reset";
    pub const PLAY_START: &str = "NetStream.Play.Start";
    pub const PLAY_STOP: &str = "NetStream.Play.Stop";
    pub const PLAY_COMPLETE: &str = "NetStream.Play.Complete";
    pub const PLAY_FAILED: &str = "NetStream.Play.Failed";
    pub const PLAY_STREAM_NOT_FOUND: &str = "NetStream.Play.StreamNotFound";
    pub const PLAY_INSUFFICIENT_BW: &str = "NetStream.Play.InsufficientBW";
    pub const PLAY_PUBLISH_NOTIFY: &str = "NetStream.Play.PublishNotify";
    pub const PLAY_UNPUBLISH_NOTIFY: &str = "NetStream.Play.UnpublishNotify";
    pub const PAUSE_NOTIFY: &str = "NetStream.Pause.Notify";
    pub const UNPAUSE_NOTIFY: &str = "NetStream.Unpause.Notify";
    pub const DATA_START: &str = "NetStream.Data.Start";
}

/// The severity of a status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Level {
    /// All is as it should be.
    Status,
    /// Worth a notice.
    Warning,
    /// The request has failed.
    Error,
}

/// A status: the information object of `onStatus`, and of the results of
/// `connect`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The severity.
    pub level: Level,
    /// One of [`code`]'s, or the peer's own.
    pub code: Cow<'static, str>,
    /// For people.
    pub description: String,
    /// The server that the client is sent to instead.
    pub redirect: Option<Box<Redirect>>,
}

/// The place that a server sends a client to, as the property `ex` of an
/// information object says it: Adobe's servers with `redirect`, SRS with
/// `redirect2`, too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Redirect {
    /// `rtmp://host[:port]/app` (`redirect`), or the stream's URL (`redirect2`).
    pub url: String,
    /// True if the stream stands behind the application.
    pub names_stream: bool,
}

/// The code of `ex` that says so, as in HTTP.
const MOVED: f64 = 302.0;

impl Redirect {
    fn parse(info: &Value) -> Option<Redirect> {
        let ex = info.get("ex")?;
        let code = ex.get("code").and_then(Value::as_number);
        if code.is_some_and(|code| code != MOVED) {
            return None;
        }
        let url = |name: &str| ex.get(name).and_then(Value::as_str);
        let (url, names_stream) = match url("redirect2") {
            Some(url) => (url, true),
            None => (url("redirect")?, false),
        };
        Some(Redirect {
            url: url.to_owned(),
            names_stream,
        })
    }

    /// Both names where the stream is known, as SRS 4 and later send them: `redirect` has
    /// the application's URL then.
    fn property(&self) -> (String, Value) {
        let mut ex = vec![("code".to_owned(), MOVED.into())];
        if !self.names_stream {
            ex.push(("redirect".to_owned(), self.url.as_str().into()));
        } else {
            let path = self
                .url
                .split_once('?')
                .map_or(&*self.url, |(path, _)| path);
            if let Some((application, _)) = path.rsplit_once('/') {
                ex.push(("redirect".to_owned(), application.into()));
            }
            ex.push(("redirect2".to_owned(), self.url.as_str().into()));
        }
        ("ex".to_owned(), Value::Object(ex))
    }
}

impl Status {
    /// A status that reports success or a change.
    pub fn notice(code: &'static str, description: impl Into<String>) -> Status {
        Status {
            level: Level::Status,
            code: code.into(),
            description: description.into(),
            redirect: None,
        }
    }

    /// A status that refuses or ends something.
    pub fn error(code: &'static str, description: impl Into<String>) -> Status {
        Status {
            level: Level::Error,
            code: code.into(),
            description: description.into(),
            redirect: None,
        }
    }

    /// `NetConnection.Connect.Rejected`.
    pub fn connect_rejected(description: impl Into<String>) -> Status {
        Status::error(code::CONNECT_REJECTED, description)
    }

    /// `NetStream.Publish.BadName`: the stream has a publisher already.
    pub fn publish_bad_name(description: impl Into<String>) -> Status {
        Status::error(code::PUBLISH_BAD_NAME, description)
    }

    /// `NetStream.Publish.Denied`: this client may not publish here.
    pub fn publish_denied(description: impl Into<String>) -> Status {
        Status::error(code::PUBLISH_DENIED, description)
    }

    /// `NetStream.Play.StreamNotFound`: nobody publishes this stream.
    pub fn stream_not_found(description: impl Into<String>) -> Status {
        Status::error(code::PLAY_STREAM_NOT_FOUND, description)
    }

    /// `NetStream.Play.Failed`: this client may not play here.
    pub fn play_failed(description: impl Into<String>) -> Status {
        Status::error(code::PLAY_FAILED, description)
    }

    /// Reads an information object; what is missing is empty.
    pub fn parse(info: &Value) -> Status {
        let text = |name: &str| info.get(name).and_then(Value::as_str).unwrap_or_default();
        let level = match text("level") {
            "error" => Level::Error,
            "warning" => Level::Warning,
            _ => Level::Status,
        };
        Status {
            level,
            code: text("code").to_owned().into(),
            description: text("description").to_owned(),
            redirect: Redirect::parse(info).map(Box::new),
        }
    }

    /// The information object's properties.
    pub fn properties(&self) -> Vec<(String, Value)> {
        let level = match self.level {
            Level::Status => "status",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let mut properties = vec![
            ("level".into(), level.into()),
            ("code".into(), Value::String(self.code.to_string())),
            ("description".into(), self.description.as_str().into()),
        ];
        properties.extend(self.redirect.as_ref().map(|redirect| redirect.property()));
        properties
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if self.description.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.description)
        }
    }
}

/// The code that a server's own data message tells its players about playing,
/// which is no part of the stream; empty if it says nothing in particular.
/// `None`: it is not one.
pub(super) fn play_code(message: &Message, limits: &Limits) -> Option<String> {
    let kind = message.message_type;
    if !matches!(kind, MessageType::DATA_AMF0 | MessageType::DATA_AMF3)
        || message.payload.len() > limits.command_bytes as usize
    {
        return None;
    }
    match data::name(message).as_deref() {
        Some(b"|RtmpSampleAccess") => Some(String::new()),
        Some(b"onStatus" | b"onPlayStatus") => {
            let values = data::values(message, limits.amf_nesting);
            let code = Status::parse(values.get(1).unwrap_or(&Value::Null)).code;
            code.starts_with("NetStream.").then(|| code.into_owned())
        }
        _ => None,
    }
}
