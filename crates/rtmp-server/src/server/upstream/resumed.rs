//! The pull of a stream that this process has had before: its connections to origins, one or
//! several, and what these bring.

use std::sync::Arc;

use super::connections;
use super::origin_pull::{PullPart, ResumedPull};
use crate::config::Upstream;
use crate::hand_over::Inherited;
use crate::server::counters::MergedPullsPart;
use crate::server::upgrade::ByStream;
use crate::stream::{MergedRelay, Stream};

/// All pulls that a process hands over.
pub(in crate::server) struct PullParts {
    /// Those of streams that have one connection each.
    pub(in crate::server) single: ByStream<PullPart>,
    /// Those of streams that have several.
    pub(in crate::server) legs: ByStream<PullPart>,
    /// What is known of these.
    pub(in crate::server) merged: MergedPullsPart,
}

/// The pull of a stream that goes on, or begins.
pub(super) struct Resumed {
    /// The connection of each leg, if it is there, and the number of its origin.
    pub(super) connections: Vec<Option<(usize, Box<ResumedPull>)>>,
    /// What brings the media of several legs together.
    pub(super) merged: Option<Arc<MergedRelay>>,
    /// Of each leg its origin, if it is known, and pictures of former ones.
    pub(super) counted: Vec<(String, u64)>,
}

impl Resumed {
    /// Nothing goes on: `count` connections are to be made.
    pub(super) fn nothing(stream: &Arc<Stream>, count: usize) -> Self {
        Self {
            connections: (0..count).map(|_| None).collect(),
            merged: (count > 1).then(|| MergedRelay::new(stream.clone(), count)),
            counted: vec![(String::new(), 0); count],
        }
    }

    /// Goes on with what `parts` have of `stream`. What cannot be taken over is left out, with a
    /// line in the log.
    pub(super) fn take_over(
        stream: &Arc<Stream>,
        settings: &Upstream,
        parts: &PullParts,
        inherited: &mut Inherited,
    ) -> Self {
        let count = connections(settings);
        let mut resumed = Self::nothing(stream, count);
        let parts = match count {
            1 => &parts.single,
            _ => match resumed.take_merged(stream, &parts.merged, count) {
                true => &parts.legs,
                // Its connections are of no use without what they have brought.
                false => return resumed,
            },
        };
        for part in parts.of(stream) {
            resumed.take_connection(part, stream, settings, inherited);
        }
        if let Some(merged) = &resumed.merged {
            let legs = resumed.connections.iter().enumerate();
            let legs: Vec<_> = legs
                .filter_map(|(leg, it)| it.as_ref().map(|_| leg))
                .collect();
            merged.end_legs_but(&legs);
        }
        resumed
    }

    /// Takes over what has been merged; false if there is nothing.
    fn take_merged(&mut self, stream: &Arc<Stream>, parts: &MergedPullsPart, count: usize) -> bool {
        let part = parts.streams.get(&stream.id());
        // Another configuration may ask another number of origins.
        let Some(part) = part.filter(|it| it.legs.len() == count) else {
            return false;
        };
        match MergedRelay::take_over(&part.relay, stream, count) {
            Ok(merged) => {
                self.merged = Some(merged);
                self.counted.clone_from(&part.legs);
                true
            }
            Err(error) => {
                let key = stream.key();
                log::warn!("{key}: what its origins bring {error}: they are asked anew");
                false
            }
        }
    }

    fn take_connection(
        &mut self,
        part: &PullPart,
        stream: &Arc<Stream>,
        settings: &Upstream,
        inherited: &mut Inherited,
    ) {
        let mut origins = settings.origins.iter();
        let origin = origins.position(|origin| origin.to_string() == part.origin);
        // Another configuration asks other origins.
        let (Some(origin), Some(connection)) = (origin, self.connections.get_mut(part.leg)) else {
            return;
        };
        match ResumedPull::take_over(part, stream, self.merged.as_ref(), inherited) {
            Ok(pull) => *connection = Some((origin, Box::new(pull))),
            Err(error) => log::warn!("{}: its pull {error}: it is begun anew", stream.key()),
        }
    }

    /// The number of its publication in the stream, if media flows.
    pub(super) fn publication(&self) -> Option<u64> {
        if let Some(merged) = &self.merged {
            return merged.publication();
        }
        let connections = self.connections.iter().flatten();
        connections
            .filter_map(|(_, pull)| pull.publication())
            .next()
    }
}
