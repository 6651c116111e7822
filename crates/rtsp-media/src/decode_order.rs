//! The times at which pictures are decoded, by those at which they are shown.
//!
//! RTP tells only when a picture is shown (RFC 6184 §5.1); RTMP tells when it is decoded,
//! and how much later it is shown. Pictures come in the order in which they are decoded. So
//! one is decoded at the time at which that picture is shown which as many others follow as
//! the encoder reorders.

/// The most pictures that an encoder reorders (H.264 §E.2.1, `max_dec_frame_buffering`).
const MAX_DEPTH: usize = 16;
/// A picture that is shown further than this from the one before, in ms, is none of the same
/// order.
const MAX_STEP_MS: i64 = 10_000;

/// The order of one stream's pictures.
#[derive(Debug, Default)]
pub(super) struct DecodeOrder {
    /// Number of pictures that come before one which is shown before them, as far as has been
    /// seen: cameras, as a rule, reorder none.
    depth: usize,
    /// The latest times at which pictures are shown, in order.
    shown: Vec<i64>,
    last: Option<i64>,
}

impl DecodeOrder {
    /// The time at which the next picture is decoded, which is shown at `shown_ms`. It never
    /// falls, as long as `shown_ms` does not by much, and is never negative: the timestamps of
    /// messages would begin just before they wrap.
    pub(super) fn decoded_at(&mut self, shown_ms: i64) -> i64 {
        let latest = self.shown.last().copied().unwrap_or(shown_ms);
        if (latest - shown_ms).abs() > MAX_STEP_MS {
            self.shown.clear();
            self.last = None;
        }
        let place = self.shown.partition_point(|&it| it <= shown_ms);
        let shown_later = self.shown.len() - place;
        self.depth = self.depth.max(shown_later.min(MAX_DEPTH));
        self.shown.insert(place, shown_ms);
        if self.shown.len() > MAX_DEPTH + 1 {
            self.shown.remove(0);
        }
        let place = self.shown.len().saturating_sub(1 + self.depth);
        let decoded = self.shown[place];
        let decoded = decoded.max(self.last.unwrap_or(0));
        self.last = Some(decoded);
        decoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times at which pictures are decoded that are shown at these.
    fn decoded(shown: &[i64]) -> Vec<i64> {
        let mut order = DecodeOrder::default();
        shown.iter().map(|&it| order.decoded_at(it)).collect()
    }

    #[test]
    fn pictures_in_their_order_are_decoded_when_they_are_shown() {
        assert_eq!(decoded(&[5, 40, 80, 120]), [5, 40, 80, 120]);
    }

    #[test]
    fn reordered_pictures_are_decoded_before_they_are_shown() {
        // I P b b P b b: the first group tells how many are reordered.
        let shown = [0, 120, 40, 80, 240, 160, 200, 360, 280, 320];
        let decoded = decoded(&shown);
        assert_eq!(decoded, [0, 120, 120, 120, 120, 160, 200, 240, 280, 320]);
        let late = |(decoded, shown): (&i64, &i64)| decoded > shown;
        let late = decoded.iter().zip(&shown).skip(4).any(late);
        assert!(!late, "{decoded:?}");
    }

    #[test]
    fn a_pyramid_takes_two_pictures() {
        // I P B b b, again and again.
        let group = [160, 80, 40, 120];
        let groups = (0..4).flat_map(|number| group.map(|it| it + number * 160));
        let shown: Vec<_> = [0].into_iter().chain(groups).collect();
        let decoded = decoded(&shown);
        assert!(decoded.is_sorted(), "{decoded:?}");
        let late = decoded
            .iter()
            .zip(&shown)
            .skip(5)
            .any(|(at, shown)| at > shown);
        assert!(!late, "{decoded:?} {shown:?}");
    }

    #[test]
    fn no_picture_is_decoded_before_the_play_begins() {
        assert_eq!(decoded(&[-80, -200, -40, 40, 80]), [0, 0, 0, 0, 40]);
    }

    #[test]
    fn a_clock_that_is_set_begins_a_new_order() {
        let decoded = decoded(&[0, 40, 3_600_000, 3_600_040, 5, 45]);
        assert_eq!(decoded, [0, 40, 3_600_000, 3_600_040, 5, 45]);
    }
}
