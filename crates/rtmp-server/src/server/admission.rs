//! Checks of publishes and plays that need no answer of anybody else.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use rtmp_proto::session::{Parameters, StreamKey};
use signed_url::Request;

use super::refusal::{Denial, RefusalReason};
use crate::config::{Action, Vhost};

/// Checks the address of a client by the directive `security` of `vhost`.
///
/// # Errors
/// It may not do that.
pub(super) fn check_address(vhost: &Vhost, action: Action, peer: IpAddr) -> Result<(), Denial> {
    match vhost.security.permits(action, peer) {
        true => Ok(()),
        false => Err(Denial::new(
            RefusalReason::Security,
            "not allowed from this address",
        )),
    }
}

/// The parameter by which a publisher marks itself as a standby.
pub(super) const BACKUP: &str = "backup";

/// True if `parameters` mark a publisher as a standby.
pub(super) fn marks_backup(parameters: &Parameters) -> bool {
    matches!(parameters.get(BACKUP), Some("1" | "on" | "true"))
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
    pub(crate) fn check(&self, vhost: &Vhost) -> Result<(), Denial> {
        check_address(vhost, self.action, self.peer)?;
        if !vhost.referers.permit(self.action, self.page_url) {
            let text = "not allowed from this page";
            return Err(Denial::new(RefusalReason::Referer, text));
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
        let denied = |refusal: signed_url::Refusal| {
            Denial::new(RefusalReason::Signature, refusal.to_string())
        };
        verdict.map(drop).map_err(denied)
    }
}
