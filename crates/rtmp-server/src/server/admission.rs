//! Checks of publishes and plays that need no answer of anybody else, and what they are
//! counted for.

use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rtmp_proto::session::{Parameters, StreamKey};
use signed_url::Request;

use super::Server;
use super::load::{Applicant, Full, Reservation};
use super::quotas::{Exceeded, Permit};
use super::refusal::{Denial, RefusalReason};
use crate::config::{Action, Vhost};
use crate::stream::Stream;

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

/// One client's part of the counts of quotas, and of what may be sent, as long as it is held.
#[derive(Debug)]
pub(super) struct Admitted {
    _permit: Permit,
    /// Boxed: most clients have none.
    reservation: Option<Box<Reservation>>,
}

impl Admitted {
    /// That of a client which this process has counted before.
    pub(super) fn resume(permit: Permit) -> Self {
        Self {
            _permit: permit,
            reservation: None,
        }
    }

    /// The client begins to be sent what it plays.
    pub(super) fn begin(&self) {
        if let Some(reservation) = &self.reservation {
            reservation.begin();
        }
    }
}

/// Why there is no room for a client.
#[derive(Debug)]
pub(super) enum NoRoom {
    /// A quota is exhausted.
    Quota(Exceeded),
    /// What may be sent is.
    Capacity(Full),
}

impl Server {
    /// Counts a client at `peer` that is about to publish or play `stream` of `vhost`;
    /// `is_relay`: it is a server.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn admit(
        &self,
        vhost: &Vhost,
        stream: &Stream,
        action: Action,
        peer: SocketAddr,
        is_relay: bool,
    ) -> Result<Admitted, NoRoom> {
        let permit = self.quotas.acquire(vhost, stream.key(), action, peer.ip());
        let permit = permit.map_err(NoRoom::Quota)?;
        let applicant = Applicant {
            action,
            is_relay,
            stream: stream.id(),
            is_published: stream.is_playable(),
        };
        let reservation = self.load.admit(&self.config(), applicant, Instant::now());
        Ok(Admitted {
            _permit: permit,
            reservation: reservation.map_err(NoRoom::Capacity)?.map(Box::new),
        })
    }
}
