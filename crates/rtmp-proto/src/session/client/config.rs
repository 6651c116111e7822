//! The requests of a client.

use serde::{Deserialize, Serialize};

use crate::session::properties::GOP_CACHE;
use crate::wire::amf0::Value;
use crate::wire::message::Command;

/// The purpose of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// To play the stream.
    Play,
    /// To publish it.
    Publish,
}

/// The requests of a client, and the form that they take.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClientConfig {
    /// To play or to publish.
    pub purpose: Purpose,
    /// `rtmp://host[:port]/app[?parameters]`
    pub tc_url: String,
    /// The application, with its parameters if they are to travel.
    pub app: String,
    /// The stream, with its parameters if they are to travel.
    pub stream: String,
    /// The client's name for itself.
    pub flash_ver: String,
    /// The place where a player wants to begin, if our servers shall know: at
    /// the newest keyframe, or at the next.
    pub gop_cache: Option<bool>,
    /// More properties for `connect`'s command object.
    pub connect_properties: Vec<(String, Value)>,
    /// Arguments of `connect` after the command object.
    pub connect_arguments: Vec<Value>,
    /// Length of our chunks when publishing, in bytes; not 0.
    pub chunk_size: u32,
    /// Bytes after which the server shall acknowledge what a player sends.
    pub window_ack_size: u32,
    /// The buffer a player says it has, in milliseconds.
    pub buffer_length_ms: u32,
}

impl ClientConfig {
    /// A client for an application and stream, with everything else at its
    /// default.
    pub fn new(purpose: Purpose, tc_url: &str, app: &str, stream: &str) -> ClientConfig {
        ClientConfig {
            purpose,
            tc_url: tc_url.to_owned(),
            app: app.to_owned(),
            stream: stream.to_owned(),
            flash_ver: format!("Millrace/{}", env!("CARGO_PKG_VERSION")),
            gop_cache: None,
            connect_properties: Vec::new(),
            connect_arguments: Vec::new(),
            chunk_size: 60_000,
            window_ack_size: 2_500_000,
            buffer_length_ms: 1_000,
        }
    }

    pub(super) fn connect_command(&self, transaction: u32) -> Command {
        let mut object = vec![
            ("app".to_owned(), self.app.as_str().into()),
            ("flashVer".to_owned(), self.flash_ver.as_str().into()),
            ("tcUrl".to_owned(), self.tc_url.as_str().into()),
        ];
        match self.purpose {
            Purpose::Publish => object.push(("type".to_owned(), "nonprivate".into())),
            Purpose::Play => {
                // What a player can decode; servers rarely look.
                object.push(("fpad".to_owned(), false.into()));
                object.push(("capabilities".to_owned(), 15.0.into()));
                object.push(("audioCodecs".to_owned(), 4071.0.into()));
                object.push(("videoCodecs".to_owned(), 252.0.into()));
                object.push(("videoFunction".to_owned(), 1.0.into()));
            }
        }
        // Everything is passed on, so every codec is welcome.
        object.push((
            "fourCcList".to_owned(),
            Value::StrictArray(vec!["*".into()]),
        ));
        if let Some(gop_cache) = self.gop_cache {
            object.push((GOP_CACHE.to_owned(), gop_cache.into()));
        }
        object.extend(self.connect_properties.iter().cloned());
        Command {
            name: "connect".to_owned(),
            transaction_id: f64::from(transaction),
            object: Value::Object(object),
            arguments: self.connect_arguments.clone(),
        }
    }
}
