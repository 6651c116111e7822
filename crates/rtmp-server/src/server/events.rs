//! What happens at the server, for whoever looks on: the latest events.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Mutex;

use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};
use service_kit::{EventRing, Numbered, unix_ms};

use super::upgrade::EventsPart;
use crate::stream::lock;

/// Events that are kept.
const KEPT: usize = 400;
/// Those of each kind that clients can cause without having been let in, with ever new words.
const KEPT_REPEATING: usize = 100;
/// Maximum length of an event's text and of its stream's name, in bytes.
const MAX_TEXT_BYTES: usize = 512;

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EventKind {
    /// A client publishes a stream.
    Publish,
    /// It does so no longer.
    Unpublish,
    /// A client was refused.
    Refused,
    /// A stream flows from an origin.
    Pull,
    /// An origin does not have the stream, or cannot be reached, or has gone.
    PullFailed,
    /// Nobody plays the stream any more.
    PullEnded,
    /// A client's publish could not be forwarded to an origin.
    ForwardFailed,
    /// Another configuration is in force.
    Reload,
    /// The configuration is wrong; the former one stays in force.
    ReloadFailed,
    /// Another certificate is in force.
    Certificate,
    /// A certificate cannot be used; the former one stays in force.
    CertificateFailed,
    /// The server takes no new clients.
    Drain,
    /// An operator has ended a connection.
    Dismiss,
    /// The process has become another program, or the same one anew.
    Upgrade,
    /// It could not: the program before goes on.
    UpgradeFailed,
}

impl EventKind {
    /// True for what may come again and again with the same words: it is kept once, with a
    /// count.
    fn repeats(self) -> bool {
        matches!(self, Self::Refused | Self::PullFailed | Self::ForwardFailed)
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Unix time in ms.
    time_ms: u64,
    kind: EventKind,
    /// `vhost/app/stream`
    stream: Option<String>,
    /// The client's address.
    ip: Option<IpAddr>,
    text: String,
    /// Number of times that it has happened; `time_ms` is the last one.
    count: u32,
}

/// The latest events.
#[derive(Debug)]
pub(crate) struct Events(Mutex<EventRing<Event>>);

impl Default for Events {
    fn default() -> Self {
        Self(Mutex::new(EventRing::new(KEPT)))
    }
}

impl Events {
    /// Keeps an event about a stream and a client, where it is about them.
    pub(crate) fn record(
        &self,
        kind: EventKind,
        stream: Option<&StreamKey>,
        ip: Option<IpAddr>,
        text: impl Display,
    ) {
        let mut event = Event {
            time_ms: unix_ms(),
            kind,
            stream: stream.map(|key| shortened(key.to_string())),
            ip,
            text: shortened(text.to_string()),
            count: 1,
        };
        let mut ring = lock(&self.0);
        if kind.repeats() {
            let is_same =
                |it: &Event| (it.kind, &it.stream, &it.text) == (kind, &event.stream, &event.text);
            if let Some(former) = ring.take(is_same) {
                event.count = former.count.saturating_add(1);
            }
            let is_alike = |it: &Event| it.kind == kind;
            if ring.iter().filter(|it| is_alike(it)).count() >= KEPT_REPEATING {
                ring.take(is_alike);
            }
        }
        ring.push(event);
    }

    /// The events for the program that the process becomes.
    pub(super) fn part(&self) -> EventsPart {
        let ring = lock(&self.0);
        let events = ring.after(0).into_iter();
        EventsPart {
            last: ring.last(),
            events: events.map(|it| (it.number, it.event)).collect(),
        }
    }

    /// Goes on with the events that this process has had before.
    pub(super) fn take_over(&self, part: EventsPart) {
        let events = part.events.into_iter();
        let events = events.map(|(number, event)| Numbered { number, event });
        lock(&self.0).resume(part.last, events);
    }

    /// The events with greater numbers than `number`, the oldest first.
    pub(crate) fn after(&self, number: u64) -> Vec<Numbered<Event>> {
        lock(&self.0).after(number)
    }
}

/// The first bytes of a text that is too long.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_and_push_nothing_else_out() {
        let events = Events::default();
        events.record(EventKind::Reload, None, None, "reloaded");
        for _ in 0..3 {
            events.record(EventKind::Refused, None, None, "wrong");
        }
        let kept = events.after(0);
        assert_eq!((kept.len(), kept[1].event.count), (2, 3));
        let kinds = [
            EventKind::Refused,
            EventKind::PullFailed,
            EventKind::ForwardFailed,
        ];
        for number in 0..2 * KEPT {
            for kind in kinds {
                events.record(kind, None, None, number);
            }
        }
        let kept = events.after(0);
        assert_eq!(kept.len(), 1 + kinds.len() * KEPT_REPEATING);
        assert_eq!(kept[0].event.kind, EventKind::Reload);
    }

    #[test]
    fn a_long_text_is_shortened_between_two_characters() {
        let text = shortened("ä".repeat(MAX_TEXT_BYTES));
        assert_eq!(text, "ä".repeat(MAX_TEXT_BYTES / 2) + "…");
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
