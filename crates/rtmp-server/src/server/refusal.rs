//! Refusals: why a client was refused, and what it is told.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use rtmp_proto::session::Status;
use rtmp_proto::session::status::code;

/// Why a client was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalReason {
    /// `max_connections` is reached.
    MaxConnections,
    /// `security` does not allow its address.
    Security,
    /// `refer` does not allow its page.
    Referer,
    /// `signed_urls`: its URL's signature is not valid.
    Signature,
    /// `quota` is exhausted.
    Quota,
    /// `admission`: what may be sent is.
    Capacity,
    /// A hook does not allow it.
    Hook,
    /// Nobody publishes the stream.
    NoStream,
    /// The stream has another publisher.
    Busy,
    /// No memory is left.
    Memory,
    /// The server is about to stop.
    Draining,
    /// Anything else.
    Other,
}

impl RefusalReason {
    const ALL: [Self; 12] = [
        Self::MaxConnections,
        Self::Security,
        Self::Referer,
        Self::Signature,
        Self::Quota,
        Self::Capacity,
        Self::Hook,
        Self::NoStream,
        Self::Busy,
        Self::Memory,
        Self::Draining,
        Self::Other,
    ];

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MaxConnections => "max-connections",
            Self::Security => "security",
            Self::Referer => "refer",
            Self::Signature => "signature",
            Self::Quota => "quota",
            Self::Capacity => "capacity",
            Self::Hook => "hook",
            Self::NoStream => "no-stream",
            Self::Busy => "busy",
            Self::Memory => "memory",
            Self::Draining => "draining",
            Self::Other => "other",
        }
    }
}

/// A refusal, before the protocol of the client gives it a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) reason: RefusalReason,
    /// Text for the client and the log.
    pub(crate) text: Cow<'static, str>,
}

impl Denial {
    pub(super) fn new(reason: RefusalReason, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }

    /// That of a hook.
    pub(super) fn by_hook() -> Self {
        Self::new(RefusalReason::Hook, "not allowed")
    }

    /// That of a server which drains.
    pub(super) fn draining() -> Self {
        Self::new(RefusalReason::Draining, "the server is about to stop")
    }

    /// The same by RTMP, with the status that `status` makes of the text.
    pub(super) fn with(self, status: fn(Cow<'static, str>) -> Status) -> RefusedRequest {
        RefusedRequest {
            reason: self.reason,
            status: status(self.text),
        }
    }
}

/// The refusal of a request by RTMP.
#[derive(Debug, thiserror::Error)]
#[error("{status}")]
pub(super) struct RefusedRequest {
    pub(super) reason: RefusalReason,
    pub(super) status: Status,
}

impl RefusedRequest {
    /// An origin's refusal, which has the reason in its code, as far as RTMP has one.
    pub(super) fn by_origin(status: Status) -> Self {
        let reason = match &*status.code {
            code::PLAY_STREAM_NOT_FOUND => RefusalReason::NoStream,
            code::PUBLISH_BAD_NAME => RefusalReason::Busy,
            _ => RefusalReason::Other,
        };
        Self { reason, status }
    }
}

/// Number of refusals by reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals([AtomicU64; RefusalReason::ALL.len()]);

impl Refusals {
    /// Counts one.
    pub(super) fn count(&self, reason: RefusalReason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds what this process has counted before, by the names of reasons.
    pub(super) fn add(&self, counts: &HashMap<String, u64>) {
        for (reason, count) in RefusalReason::ALL.into_iter().zip(&self.0) {
            let before = counts.get(reason.name()).copied().unwrap_or(0);
            count.fetch_add(before, Ordering::Relaxed);
        }
    }

    /// The counts.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (RefusalReason, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        RefusalReason::ALL.into_iter().zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_under_their_own_names() {
        let refusals = Refusals::default();
        for (number, reason) in RefusalReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number, "{reason:?}");
        }
        refusals.count(RefusalReason::Busy);
        let counted = refusals.counts().filter(|(_, count)| *count > 0);
        assert_eq!(counted.collect::<Vec<_>>(), [(RefusalReason::Busy, 1)]);
    }

    #[test]
    fn an_origins_refusal_keeps_the_reason_that_its_code_has() {
        let reason = |status| RefusedRequest::by_origin(status).reason;
        let gone = Status::stream_not_found("live/s");
        assert_eq!(reason(gone), RefusalReason::NoStream);
        let busy = Status::publish_bad_name("live/s");
        assert_eq!(reason(busy), RefusalReason::Busy);
        assert_eq!(reason(Status::play_failed("no")), RefusalReason::Other);
    }
}
