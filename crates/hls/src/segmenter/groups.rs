//! Lengths of groups of pictures, by which the next keyframe is expected.

use serde::{Deserialize, Serialize};

use super::track::Ticks;

/// Groups of which the longest is the measure: encoders begin a group early where a scene
/// changes, and a standby that takes over begins one at any time.
const REMEMBERED: usize = 16;

/// The newest groups of pictures.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Groups {
    lengths: [Ticks; REMEMBERED],
    /// Number of groups so far.
    count: usize,
}

impl Groups {
    /// A group of this length has ended.
    pub(super) fn push(&mut self, length: Ticks) {
        self.lengths[self.count % REMEMBERED] = length;
        self.count = self.count.wrapping_add(1);
    }

    /// The longest of the newest groups; `None` before the first.
    pub(super) fn longest(&self) -> Option<Ticks> {
        self.lengths.iter().copied().max().filter(|it| *it > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_group_does_not_hide_long_ones_and_old_ones_are_forgotten() {
        let mut groups = Groups::default();
        assert_eq!(groups.longest(), None);
        groups.push(90_000);
        groups.push(20);
        assert_eq!(groups.longest(), Some(90_000));
        for _ in 1..REMEMBERED {
            groups.push(45_000);
        }
        assert_eq!(groups.longest(), Some(45_000));
    }
}
