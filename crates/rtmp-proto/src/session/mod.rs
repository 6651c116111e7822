//! The dialogue of a connection: commands and statuses, server and client
//! side.
//!
//! A session takes the bytes that its peer sent and says what they mean
//! (`read`), and appends to a buffer what is to be sent. It performs no I/O and
//! looks at no clock; the buffer is the caller's, and what one `read` appends is
//! meant to be sent in one piece: small pieces wait for the peer's delayed
//! acknowledgement.

mod client;
mod error;
mod name;
mod properties;
mod server;
pub mod status;

pub use client::{ClientConfig, ClientEvent, ClientSession, Purpose};
pub use error::SessionError;
pub use name::{AppName, DEFAULT_VHOST, NameError, Parameters, StreamKey, StreamName};
pub use server::{
    ConnectRequest, ConnectSettings, Phase, PlayRequest, PlayStart, PublishKind, PublishRequest,
    ServerEvent, ServerSession,
};
pub use status::{Level, Redirect, Status};
