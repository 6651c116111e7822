//! Checks of publishes and plays that need no answer of anybody else.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use rtmp_proto::session::{Parameters, StreamKey};
use signed_url::Request;

use crate::config::{Action, Vhost};

/// Text of a refusal by `security`.
pub(super) const WRONG_ADDRESS: &str = "not allowed from this address";
/// Text of a refusal by `refer`.
pub(super) const WRONG_PAGE: &str = "not allowed from this page";

/// True if `text` is that of a refusal by `signed_urls`.
pub(super) fn is_of_signature(text: &str) -> bool {
    use signed_url::Refusal::{Expired, Malformed, Mismatch, Unsigned};
    let refusals = [Unsigned, Malformed, Mismatch, Expired];
    refusals.iter().any(|refusal| refusal.to_string() == text)
}

/// A publish or play that is asked for.
pub(crate) struct Asked<'a> {
    pub(crate) action: Action,
    pub(crate) key: &'a StreamKey,
    /// Path of the URL over HTTP; RTMP has `/app/stream`.
    pub(crate) path: Option<&'a str>,
    pub(crate) parameters: &'a Parameters,
    pub(crate) page_url: &'a str,
    pub(crate) peer: IpAddr,
}

impl Asked<'_> {
    /// Checks the client's address, its page and the signature of its URL by the
    /// directives `security`, `refer` and `signed_urls` of `vhost`.
    ///
    /// # Errors
    /// The reason for the refusal.
    pub(crate) fn check(&self, vhost: &Vhost) -> Result<(), Cow<'static, str>> {
        if !vhost.security.permits(self.action, self.peer) {
            return Err(WRONG_ADDRESS.into());
        }
        if !vhost.referers.permit(self.action, self.page_url) {
            return Err(WRONG_PAGE.into());
        }
        let Some(policy) = vhost.signed_urls.policy(self.action) else {
            return Ok(());
        };
        let StreamKey { app, stream, .. } = self.key;
        let uri = format!("/{app}/{stream}");
        let request = Request {
            uri: self.path.unwrap_or(&uri),
            app,
            stream,
            query: &self.parameters.0,
            remote_addr: self.peer,
        };
        // With a clock before 1970 every signature has expired.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(u64::MAX, |time| time.as_secs());
        let verdict = policy.verify(&request, now);
        verdict
            .map(drop)
            .map_err(|refusal| refusal.to_string().into())
    }
}
