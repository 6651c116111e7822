//! Signatures in URLs: who knows a secret key lets others publish or play one stream
//! until a time. The verdict is a function of URL, keys and time: no I/O, no clock.
//!
//! - [`Scheme`]: the text that is signed, the hash, and the parameters that carry the
//!   signature. Four are known by name, others are written as a [`Template`].
//! - [`Policy`]: a scheme and the keys that are valid; gives verdicts and makes signatures.

#![forbid(unsafe_code)]

mod policy;
mod scheme;
mod template;

pub use policy::{Key, Policy, Refusal};
pub use scheme::{Encoding, Hash, Scheme, SchemeError};
pub use template::{Template, TemplateError};

use std::net::IpAddr;

/// A request to publish or to play.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The path of the URL, without host and query: `/app/stream`, with the suffix where
    /// it is asked for over HTTP.
    pub uri: &'a str,
    /// The application.
    pub app: &'a str,
    /// The stream, without suffix.
    pub stream: &'a str,
    /// The query of the URL, without the question mark.
    pub query: &'a str,
    /// The client's address.
    pub remote_addr: IpAddr,
}

impl<'a> Request<'a> {
    /// The value of the first parameter called `name`.
    fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.query.split('&').filter_map(|it| it.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }
}
