//! What a segmenter made of a stream.

use std::time::Duration;

use hls::segmenter::{Initialization, Output, Part, SegmentEnd, Segmenter, Settings};
use rtmp_proto::wire::Message;

use crate::boxes::{self, ReadSample, TrackHeader};
use crate::properties::handed_over;

/// A segment as it came out.
#[derive(Debug, Default)]
pub(crate) struct MadeSegment {
    pub(crate) discontinuity: bool,
    pub(crate) initialization: Option<Initialization>,
    pub(crate) parts: Vec<Part>,
    pub(crate) end: Option<SegmentEnd>,
}

impl MadeSegment {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.parts
            .iter()
            .flat_map(|part| part.bytes.to_vec())
            .collect()
    }
}

/// What a segmenter makes of these messages at their own times, up to their end. It is handed
/// over now and then.
pub(crate) fn segment(settings: &Settings, messages: &[Message]) -> Vec<Output> {
    let mut segmenter = Segmenter::new(settings);
    let mut out = Vec::new();
    for (number, message) in messages.iter().enumerate() {
        if number % 50 == 49 {
            segmenter = handed_over(&segmenter);
        }
        segmenter.push(message, message.timestamp.into(), &mut out);
    }
    segmenter.finish(&mut out);
    out
}

/// The segments of a segmenter's outputs.
pub(crate) fn segments(outputs: &[Output]) -> Vec<MadeSegment> {
    let mut segments = vec![MadeSegment::default()];
    for output in outputs {
        let segment = segments.last_mut().unwrap();
        match output {
            Output::Discontinuity => segment.discontinuity = true,
            Output::Initialization(it) => segment.initialization = Some(it.clone()),
            Output::Part(part) => segment.parts.push(part.clone()),
            Output::SegmentEnd(end) => {
                segment.end = Some(end.clone());
                segments.push(MadeSegment::default());
            }
            Output::TargetDuration(_) | Output::LeftOut(_) | Output::Key(_) => {}
        }
    }
    if segments.last().is_some_and(|it| it.parts.is_empty()) {
        segments.pop();
    }
    segments
}

/// Checks the rules for parts and segments (RFC 8216bis §4.4.4.9, §4.4.3.1).
pub(crate) fn check_rules(settings: &Settings, outputs: &[Output]) {
    let target = outputs.iter().find_map(|output| match output {
        Output::TargetDuration(target) => Some(*target),
        _ => None,
    });
    let shortest = settings.part_target.mul_f64(0.85) - Duration::from_micros(50);
    for (number, segment) in segments(outputs).iter().enumerate() {
        let last = segment.parts.len() - 1;
        for (index, part) in segment.parts.iter().enumerate() {
            let duration = part.duration;
            assert!(!part.bytes.is_empty());
            assert!(
                duration <= settings.part_target,
                "{number}.{index}: {duration:?}"
            );
            if index < last {
                assert!(duration >= shortest, "{number}.{index}: {duration:?}");
            }
        }
        if let Some(end) = &segment.end {
            let rounded = end.duration.as_secs_f64().round();
            let target = target.expect("a target duration").as_secs_f64();
            assert!(rounded <= target, "{number}: {:?}", end.duration);
            let sum: Duration = segment.parts.iter().map(|part| part.duration).sum();
            // Nothing may be left for a last part, where sound comes later than pictures.
            let rest = (end.duration + Duration::from_micros(50)).checked_sub(sum);
            let rest = rest.expect("parts are within their segment");
            assert!(rest < settings.part_target, "{number}: {sum:?} of {end:?}");
        }
    }
}

/// The samples of all parts with their tracks. Fragments are numbered in order.
pub(crate) fn read_samples(outputs: &[Output]) -> Vec<(TrackHeader, ReadSample)> {
    let mut tracks = Vec::new();
    let mut sequence = 0;
    let mut samples = Vec::new();
    for output in outputs {
        match output {
            Output::Initialization(it) => tracks = boxes::read_header(&it.bytes),
            Output::Part(part) => {
                let fragment = boxes::read_part(&tracks, &part.bytes);
                sequence += 1;
                assert_eq!(fragment.sequence, sequence);
                samples.extend(fragment.samples.into_iter().map(|sample| {
                    let track = tracks.iter().find(|track| track.id == sample.track);
                    (track.unwrap().clone(), sample)
                }));
            }
            _ => {}
        }
    }
    samples
}
