//! Numbers by key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Numbers by key, of which those that are 0 take no memory.
#[derive(Debug)]
pub(super) struct Counts<K>(HashMap<K, u32>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Counts<K> {
    /// Counts one more of `key`, unless there are `max` already; 0: any number. Returns false
    /// if there are.
    pub(super) fn add(&mut self, key: K, max: u32) -> bool {
        let count = self.0.entry(key).or_default();
        let may_be = max == 0 || *count < max;
        if may_be {
            *count += 1;
        }
        may_be
    }

    /// Counts one less of `key`.
    pub(super) fn remove(&mut self, key: K) {
        if let Entry::Occupied(mut count) = self.0.entry(key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
