//! Durations in the unit of their directive, as the HTTP API shows them.

use std::time::Duration;

use serde::Serializer;

/// A duration whose directive is in milliseconds.
pub(super) fn milliseconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    serializer.serialize_u64(milliseconds)
}

/// The same where there may be none.
pub(super) fn optional_milliseconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => milliseconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// A duration whose directive is in seconds, with a fraction if it has one.
pub(super) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if duration.subsec_nanos() == 0 {
        serializer.serialize_u64(duration.as_secs())
    } else {
        serializer.serialize_f64(duration.as_secs_f64())
    }
}

/// The same where there may be none.
pub(super) fn optional_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}
