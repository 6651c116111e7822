//! The message streams of a connection.

use serde::{Deserialize, Serialize};

/// The state of a message stream.
///
/// ```text
/// None ─ createStream ─▶ Idle ◀─ refused, or ended ──────────────┐
///  ▲                     │  │                                    │
///  │ deleteStream        │  └─ publish ─▶ PublishRequested ─▶ Publishing
///  │                     │                                       │
///  └─ from any state     └─ play ─▶ PlayRequested ───────▶ Playing
///                                      └▶ PlayDeferred ─────▲
/// ```
///
/// While one is in `PublishRequested` or `PlayRequested`, the session reads no
/// input. Clients that never create a stream publish or play from `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Activity {
    /// The stream does not exist.
    None,
    /// Created, and nothing more.
    Idle,
    PublishRequested,
    Publishing,
    PlayRequested,
    /// The play waits for its answer while input is read on.
    PlayDeferred,
    Playing,
}

impl Activity {
    pub(super) fn is_publish(self) -> bool {
        matches!(self, Activity::PublishRequested | Activity::Publishing)
    }

    pub(super) fn is_play_waiting(self) -> bool {
        matches!(self, Activity::PlayRequested | Activity::PlayDeferred)
    }

    pub(super) fn is_play(self) -> bool {
        self == Activity::Playing || self.is_play_waiting()
    }
}

/// Message streams 1 to the limit; stream 0 is the connection itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Streams {
    /// Index 0 is stream 1. As long as the highest stream ever used.
    activities: Vec<Activity>,
    max: u32,
}

impl Streams {
    pub(super) fn new(max: u32) -> Streams {
        Streams {
            activities: Vec::new(),
            max,
        }
    }

    /// The lowest free id; `None`: there are as many as there may be.
    pub(super) fn create(&mut self) -> Option<u32> {
        let free = (1..=self.max).find(|&id| self.activity(id) == Activity::None)?;
        self.set(free, Activity::Idle);
        Some(free)
    }

    /// True if a stream of this id may exist.
    pub(super) fn is_valid(&self, id: u32) -> bool {
        (1..=self.max).contains(&id)
    }

    pub(super) fn activity(&self, id: u32) -> Activity {
        let index = (id as usize).wrapping_sub(1);
        self.activities
            .get(index)
            .copied()
            .unwrap_or(Activity::None)
    }

    pub(super) fn set(&mut self, id: u32, activity: Activity) {
        debug_assert!(self.is_valid(id));
        let index = id as usize - 1;
        if index >= self.activities.len() {
            self.activities.resize(index + 1, Activity::None);
        }
        self.activities[index] = activity;
    }

    /// The stream with this activity, if there is exactly one.
    pub(super) fn only(&self, activity: Activity) -> Option<u32> {
        let mut ids = self.with(activity);
        ids.next().filter(|_| ids.next().is_none())
    }

    /// The lowest stream with this activity.
    pub(super) fn first(&self, activity: Activity) -> Option<u32> {
        self.with(activity).next()
    }

    /// True if a request waits for its answer and no input may be read.
    pub(super) fn awaits_answer(&self) -> bool {
        self.activities.iter().any(|activity| {
            matches!(
                activity,
                Activity::PublishRequested | Activity::PlayRequested
            )
        })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.activities.capacity() * size_of::<Activity>()
    }

    fn with(&self, activity: Activity) -> impl Iterator<Item = u32> {
        (1..)
            .zip(&self.activities)
            .filter(move |(_, a)| **a == activity)
            .map(|(id, _)| id)
    }
}
