//! What is counted for metrics alone: refusals, and pulls from origins.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rtmp_proto::session::status::code;

use super::{admission, quotas};
use crate::stream::{Busy, lock};

/// Why a client was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
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

/// Beginning of the texts of refusals for want of memory.
const NO_MEMORY: &str = "no memory is left";
/// Text of a refusal by a hook.
pub(super) const BY_HOOK: &str = "not allowed";
/// Text of a refusal while the server drains.
pub(super) const DRAINING: &str = "the server is about to stop";

impl Refusal {
    const ALL: [Self; 11] = [
        Self::MaxConnections,
        Self::Security,
        Self::Referer,
        Self::Signature,
        Self::Quota,
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
            Self::Hook => "hook",
            Self::NoStream => "no-stream",
            Self::Busy => "busy",
            Self::Memory => "memory",
            Self::Draining => "draining",
            Self::Other => "other",
        }
    }

    /// The reason behind a status of RTMP, of which many share a code, or behind the text
    /// of an HTTP answer.
    pub(super) fn of(status: &str, text: &str) -> Self {
        match (status, text) {
            (code::PLAY_STREAM_NOT_FOUND, _) => Self::NoStream,
            (code::PUBLISH_BAD_NAME, text) if text.ends_with(&Busy.to_string()) => Self::Busy,
            (_, BY_HOOK) => Self::Hook,
            (_, DRAINING) => Self::Draining,
            (_, admission::WRONG_ADDRESS) => Self::Security,
            (_, admission::WRONG_PAGE) => Self::Referer,
            (_, text) if admission::is_of_signature(text) => Self::Signature,
            (_, text) if text.starts_with(NO_MEMORY) => Self::Memory,
            (_, text) if text.ends_with(quotas::MARK) => Self::Quota,
            _ => Self::Other,
        }
    }
}

/// Number of refusals by reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals([AtomicU64; Refusal::ALL.len()]);

impl Refusals {
    /// Counts one.
    pub(super) fn count(&self, refusal: Refusal) {
        self.0[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Refusal, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Refusal::ALL.into_iter().zip(counts)
    }
}

/// The pulls from origins: by stream the origin and the state.
#[derive(Debug, Default)]
pub(crate) struct Pulls(Mutex<HashMap<u64, (String, &'static str)>>);

impl Pulls {
    /// The pull of the stream number `id` is in `state`, at or on its way to `origin`.
    pub(super) fn set(&self, id: u64, origin: &str, state: &'static str) {
        let mut pulls = lock(&self.0);
        match pulls.get_mut(&id) {
            Some((known, known_state)) if known == origin => *known_state = state,
            _ => drop(pulls.insert(id, (origin.to_owned(), state))),
        }
    }

    /// The stream number `id` is no longer pulled.
    pub(super) fn remove(&self, id: u64) {
        lock(&self.0).remove(&id);
    }

    /// Number of pulls by origin and state.
    pub(crate) fn counts(&self) -> BTreeMap<(String, &'static str), u64> {
        let mut counts = BTreeMap::new();
        for pull in lock(&self.0).values() {
            *counts.entry(pull.clone()).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_under_their_own_names() {
        let refusals = Refusals::default();
        for (number, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, number, "{refusal:?}");
        }
        refusals.count(Refusal::Busy);
        let counted = refusals.counts().filter(|(_, count)| *count > 0);
        assert_eq!(counted.collect::<Vec<_>>(), [(Refusal::Busy, 1)]);
    }

    #[test]
    fn a_status_tells_why_a_client_was_refused() {
        for (status, text, reason) in [
            (code::PLAY_STREAM_NOT_FOUND, "live/s", Refusal::NoStream),
            (
                code::PUBLISH_BAD_NAME,
                "v/live/s: the stream has a publisher already",
                Refusal::Busy,
            ),
            (code::PUBLISH_DENIED, BY_HOOK, Refusal::Hook),
            (code::CONNECT_REJECTED, BY_HOOK, Refusal::Hook),
            (code::PLAY_FAILED, DRAINING, Refusal::Draining),
            (
                code::PLAY_FAILED,
                "not allowed from this page",
                Refusal::Referer,
            ),
            ("", "not allowed from this address", Refusal::Security),
            ("", "the URL's signature has expired", Refusal::Signature),
            (
                code::PLAY_FAILED,
                "this address has its 5 players already (`quota`)",
                Refusal::Quota,
            ),
            (code::PLAY_FAILED, "", Refusal::Other),
        ] {
            assert_eq!(Refusal::of(status, text), reason, "{status} {text}");
        }
    }
}
