//! What is counted for metrics alone: pulls from origins.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use crate::stream::lock;

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

    /// Origin and state by stream.
    pub(crate) fn list(&self) -> HashMap<u64, (String, &'static str)> {
        lock(&self.0).clone()
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
