//! Pictures and sound on one timeline, by the reports of their sender (RFC 3550 §6.4.1).
//!
//! Each RTP stream counts from a number of its own. Where a server does not say in `RTP-Info`
//! which numbers belong together (RFC 2326 §12.33), only its reports do: they give the
//! time on one clock that a timestamp of a stream stands for.

use retina::rtcp::ReceivedCompoundPacket;

use super::frames::milliseconds;

/// Nobody notices less (ITU-R BT.1359: sound that is 45 ms early, or 125 ms late).
const TOLERANCE_MS: i64 = 40;
/// Reports that ask for more, at once or in all, come from clocks that are not one; GStreamer's
/// `rtpbin` has the same limit (`max-ts-offset`).
const MAX_SHIFT_MS: i64 = 3_000;

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// The pictures.
    Pictures,
    /// The sound.
    Sound,
}

/// What is added to the times of each stream.
#[derive(Debug, Default)]
pub struct Alignment {
    pictures: Clock,
    sound: Clock,
    /// By how much sound was to be later than pictures, by the two reports before.
    wanted_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Clock {
    /// When the stream's time was 0, by its newest report, on the sender's clock: ms.
    origin_ms: Option<i64>,
    /// That report has not been compared with one of the other stream.
    is_new: bool,
    /// Never less than before, so that times do not fall.
    shift_ms: i64,
}

impl Alignment {
    /// The time of what has the time `ms` in its own stream.
    pub fn time(&self, track: Track, ms: i64) -> i64 {
        ms + match track {
            Track::Pictures => self.pictures.shift_ms,
            Track::Sound => self.sound.shift_ms,
        }
    }

    /// Takes a report into account. Returns by how many milliseconds sound now comes
    /// later than before, against pictures; `None`: nothing has changed.
    pub fn report(&mut self, track: Track, packet: &ReceivedCompoundPacket) -> Option<i64> {
        let time_ms = milliseconds(packet.rtp_timestamp()?);
        let report = packet.pkts().next()?.as_sender_report().ok()??;
        let clock_ms = clock_milliseconds(report.ntp_timestamp().0)?;
        self.align(track, clock_ms - time_ms)
    }

    /// Compares reports by twos, one of each stream: the sender's clock may have been set
    /// between two of one stream. The first two count at once, later ones where those
    /// before say the same: others jitter.
    fn align(&mut self, track: Track, origin_ms: i64) -> Option<i64> {
        let clock = match track {
            Track::Pictures => &mut self.pictures,
            Track::Sound => &mut self.sound,
        };
        clock.origin_ms = Some(origin_ms);
        clock.is_new = true;
        if !(self.pictures.is_new && self.sound.is_new) {
            return None;
        }
        (self.pictures.is_new, self.sound.is_new) = (false, false);
        let wanted = self.sound.origin_ms? - self.pictures.origin_ms?;
        let before = self.wanted_ms.replace(wanted);
        let is_steady = before.is_none_or(|before| (wanted - before).abs() <= TOLERANCE_MS);
        let change = wanted - (self.sound.shift_ms - self.pictures.shift_ms);
        let late = match change > 0 {
            true => &mut self.sound,
            false => &mut self.pictures,
        };
        let shift = late.shift_ms + change.abs();
        if !is_steady || change.abs() <= TOLERANCE_MS || shift > MAX_SHIFT_MS {
            return None;
        }
        late.shift_ms = shift;
        Some(change)
    }
}

/// An NTP timestamp (RFC 3550 §4) in milliseconds; `None` for that of a sender without a clock.
fn clock_milliseconds(timestamp: u64) -> Option<i64> {
    let milliseconds = (u128::from(timestamp) * 1_000) >> 32;
    i64::try_from(milliseconds).ok().filter(|it| *it != 0)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use retina::Timestamp;

    use super::Track::{Pictures, Sound};
    use super::*;

    /// A report that something of the time `ms` belongs to the second `clock` of the sender.
    fn report(ms: i64, clock: f64) -> ReceivedCompoundPacket {
        let rate = NonZeroU32::new(90_000).unwrap();
        let start = 7_u32;
        let time = Timestamp::new(i64::from(start) + ms * 90, rate, start).unwrap();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small"
        )]
        let ntp = (clock * 2_f64.powi(32)) as u64;
        let mut packet = b"\x80\xc8\x00\x06ssrc".to_vec();
        packet.extend(ntp.to_be_bytes());
        packet.extend([0; 12]);
        ReceivedCompoundPacket::dummy(Some(time), &packet)
    }

    #[test]
    fn reports_bring_pictures_and_sound_together_and_no_time_falls() {
        let mut alignment = Alignment::default();
        assert_eq!(alignment.report(Sound, &report(1_000, 100.5)), None);
        // Pictures began half a second before sound.
        assert_eq!(alignment.report(Pictures, &report(2_000, 101.0)), Some(500));
        assert_eq!(alignment.time(Sound, 1_000), 1_500);
        assert_eq!(alignment.time(Pictures, 1_500), 1_500);
        // Both clocks drift, and less than anybody notices.
        assert_eq!(alignment.report(Pictures, &report(12_000, 111.03)), None);
        // Sound turns out to be late by 200 ms: pictures wait for it, once that is sure.
        assert_eq!(alignment.report(Sound, &report(11_000, 110.33)), None);
        assert_eq!(alignment.report(Sound, &report(16_000, 115.33)), None);
        let change = alignment.report(Pictures, &report(17_000, 116.03));
        assert_eq!(change, Some(-200));
        assert_eq!(alignment.time(Sound, 11_000), 11_500);
        assert_eq!(alignment.time(Pictures, 12_000), 12_200);
    }

    #[test]
    fn reports_that_jitter_shift_nothing_and_no_shift_is_without_end() {
        let mut alignment = Alignment::default();
        let mut both = |clock: f64, sound: f64| {
            let ms = (clock * 1_000.0).round();
            #[expect(clippy::cast_possible_truncation, reason = "small")]
            let ms = ms as i64;
            alignment.report(Pictures, &report(ms, 100.0 + clock));
            alignment.report(Sound, &report(ms, 100.0 + clock + sound))
        };
        assert_eq!(both(0.0, 0.0), None);
        for round in 0..50 {
            let jitter = if round % 2 == 0 { 0.06 } else { -0.06 };
            assert_eq!(both(f64::from(round) * 5.0, jitter), None);
        }
        // A sender whose difference goes back and forth for good.
        let mut shifts = 0;
        for round in 50..150 {
            let late = if round / 2 % 2 == 0 { 1.0 } else { -1.0 };
            shifts += i32::from(both(f64::from(round) * 5.0, late).is_some());
        }
        assert!((1..=4).contains(&shifts), "{shifts}");
        assert!(alignment.time(Sound, 0) <= MAX_SHIFT_MS);
        assert!(alignment.time(Pictures, 0) <= MAX_SHIFT_MS);
    }

    #[test]
    fn reports_of_no_clock_or_of_two_change_nothing() {
        let mut alignment = Alignment::default();
        assert_eq!(alignment.report(Pictures, &report(0, 0.0)), None);
        assert_eq!(alignment.report(Sound, &report(0, 100.0)), None);
        assert_eq!(alignment.report(Pictures, &report(0, 90_000.0)), None);
        assert_eq!(alignment.time(Sound, 40), 40);
        assert_eq!(alignment.time(Pictures, 40), 40);
        // Sound alone, or a packet that is no report.
        let goodbye = ReceivedCompoundPacket::dummy(None, b"\x81\xcb\x00\x01ssrc");
        assert_eq!(Alignment::default().report(Sound, &goodbye), None);
    }
}
