//! The pull of a stream from one origin, for the program that the process becomes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Outlet, Relay, RelayState};
use crate::config::Origin;
use crate::hand_over::{Blob, HandOverError, Inherited};
use crate::server::upgrade::TaskParts;
use crate::server::upstream::{OriginConnection, OriginConnectionPart};
use crate::stream::{MergedRelay, Stream};

/// A pull for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct PullPart {
    /// Id of the stream.
    stream: u64,
    /// Its number among the connections of that.
    #[serde(default)]
    pub(in crate::server::upstream) leg: usize,
    /// The origin, one of the configuration's.
    pub(in crate::server::upstream) origin: String,
    /// The server that it is connected to, after redirects.
    address: String,
    connection: OriginConnectionPart,
    state: RelayStatePart,
    /// What it sends is a slate.
    #[serde(default)]
    is_slate: bool,
}

/// A [`RelayState`].
#[derive(Debug, Serialize, Deserialize)]
enum RelayStatePart {
    Asked,
    PublisherExpected,
    Publishing(Blob),
}

impl PullPart {
    /// Id of the stream.
    pub(in crate::server) fn stream_id(&self) -> u64 {
        self.stream
    }

    /// Checks that this program can go on with it.
    ///
    /// # Errors
    /// Why it cannot.
    pub(in crate::server) fn check(&self) -> Result<(), HandOverError> {
        self.connection.check()
    }
}

/// A pull that this process has had before.
pub(in crate::server::upstream) struct ResumedPull {
    pub(super) address: Origin,
    pub(super) connection: OriginConnection,
    pub(super) state: RelayState,
    /// What flows is a slate.
    pub(super) is_slate: bool,
}

impl ResumedPull {
    /// That of `stream` which `part` is; its media go to `merged`, if that is there.
    ///
    /// # Errors
    /// It is of another form, or something that it needs is missing.
    pub(in crate::server::upstream) fn take_over(
        part: &PullPart,
        stream: &Arc<Stream>,
        merged: Option<&Arc<MergedRelay>>,
        inherited: &mut Inherited,
    ) -> Result<Self, HandOverError> {
        let missing = || HandOverError::Missing(format!("origin {}", part.address));
        // A former program does not say so; the headers in force do.
        let publishes = matches!(part.state, RelayStatePart::Publishing(_)) && merged.is_none();
        let is_slate = part.is_slate || publishes && stream.shows_slate();
        Ok(Self {
            address: Origin::parse(&part.address).ok_or_else(missing)?,
            connection: OriginConnection::take_over(&part.connection, inherited)?,
            state: match &part.state {
                RelayStatePart::Asked => RelayState::Asked,
                RelayStatePart::PublisherExpected => {
                    RelayState::PublisherExpected(stream.expect_publisher())
                }
                RelayStatePart::Publishing(outlet) => RelayState::Publishing(match merged {
                    None => Outlet::Stream(stream.resume_publication(outlet)?),
                    Some(merged) => Outlet::Leg(merged.resume(part.leg, outlet)?),
                }),
            },
            is_slate,
        })
    }

    /// True if media flows.
    pub(in crate::server::upstream) fn flows(&self) -> bool {
        matches!(self.state, RelayState::Publishing(_))
    }

    /// The number of its publication in the stream, if it has one of its own.
    pub(in crate::server::upstream) fn publication(&self) -> Option<u64> {
        match &self.state {
            RelayState::Publishing(Outlet::Stream(publication)) => Some(publication.id()),
            _ => None,
        }
    }
}

impl Relay<'_> {
    /// Writes the pull down for the program that the process becomes. One beside a slate is
    /// begun anew there.
    pub(super) fn write_down(
        &self,
        connection: &OriginConnection,
        parts: &mut TaskParts,
    ) -> Result<(), HandOverError> {
        if self.origin.is_beside_slate() {
            return Ok(());
        }
        let Some(connection) = connection.part(&mut parts.handed_over)? else {
            return Ok(());
        };
        let merged = self.origin.merged.as_ref();
        let pulls = match merged {
            None => &mut parts.pulls,
            Some(_) => &mut parts.legs,
        };
        pulls.push(PullPart {
            stream: self.origin.stream.id(),
            leg: merged.map_or(0, |(_, leg)| *leg),
            origin: self.origin.address.to_string(),
            address: self.address.url(),
            connection,
            state: match &self.state {
                RelayState::Asked => RelayStatePart::Asked,
                RelayState::PublisherExpected(_) => RelayStatePart::PublisherExpected,
                RelayState::Publishing(outlet) => RelayStatePart::Publishing(outlet.part()?),
            },
            is_slate: self.is_slate,
        });
        Ok(())
    }
}

impl Outlet {
    /// The place for the program that the process becomes.
    ///
    /// # Errors
    /// It cannot be written down.
    fn part(&self) -> Result<Blob, HandOverError> {
        match self {
            Self::Stream(publication) => publication.part(),
            Self::Leg(leg) => leg.part(),
        }
    }
}
