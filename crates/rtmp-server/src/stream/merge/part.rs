//! A stream that is relayed from several origins at once, for the program that the process
//! becomes.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::relay::OnAir;
use super::{LegPublication, MergedRelay};
use crate::hand_over::{Blob, HandOverError};
use crate::stream::{Stream, lock};

/// A [`MergedRelay`] for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MergedRelayPart {
    on_air: Blob,
    publication: Option<Blob>,
}

impl MergedRelayPart {
    /// Checks that this program can go on with it.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn check(&self) -> Result<(), HandOverError> {
        self.on_air.read::<OnAir>().map(drop)
    }
}

/// A [`LegPublication`].
#[derive(Serialize, Deserialize)]
struct LegPart {
    number: u64,
    lost: u64,
}

impl MergedRelay {
    /// The relay for the program that the process becomes.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn part(&self) -> Result<MergedRelayPart, HandOverError> {
        let on_air = lock(&self.on_air);
        let publication = on_air.publication.as_ref();
        Ok(MergedRelayPart {
            on_air: Blob::of(&*on_air)?,
            publication: publication.map(|it| it.part()).transpose()?,
        })
    }

    /// Goes on with a relay of `stream` that this process has had before, if it has `legs` legs.
    /// Their connections come later.
    ///
    /// # Errors
    /// It is of another form, or the stream does not know its publication.
    pub(crate) fn take_over(
        part: &MergedRelayPart,
        stream: &Arc<Stream>,
        legs: usize,
    ) -> Result<Arc<Self>, HandOverError> {
        let mut on_air: OnAir = part.on_air.read()?;
        if on_air.merge.legs() != legs || on_air.connections.len() != legs {
            return Err(HandOverError::Missing(format!("merge of {legs} origins")));
        }
        if let Some(publication) = &part.publication {
            on_air.publication = Some(stream.resume_publication(publication)?);
        }
        on_air.merge.excuse_silence(Instant::now());
        on_air.merge.recognise_slate();
        Ok(Arc::new(Self {
            stream: stream.clone(),
            on_air: Mutex::new(on_air),
        }))
    }

    /// Goes on with the connection of the leg numbered `leg`, which is `part`.
    ///
    /// # Errors
    /// It is of another form, or had ended.
    pub(crate) fn resume(
        self: &Arc<Self>,
        leg: usize,
        part: &Blob,
    ) -> Result<LegPublication, HandOverError> {
        let LegPart { number, lost } = part.read()?;
        let connection = lock(&self.on_air).connections.get(leg).copied().flatten();
        if connection != Some(number) {
            return Err(HandOverError::Missing(format!("leg {leg}")));
        }
        Ok(LegPublication {
            relay: self.clone(),
            leg,
            number,
            lost,
        })
    }

    /// The legs that are not among `resumed` have ended: nobody goes on with them.
    pub(crate) fn end_legs_but(&self, resumed: &[usize]) {
        let settings = self.settings();
        let mut on_air = lock(&self.on_air);
        for leg in 0..on_air.connections.len() {
            if on_air.connections[leg].is_some() && !resumed.contains(&leg) {
                on_air.leave(&self.stream, leg, &settings, Instant::now());
            }
        }
    }

    /// The number of its publication in the stream, if an origin brings something.
    pub(crate) fn publication(&self) -> Option<u64> {
        let on_air = lock(&self.on_air);
        on_air.publication.as_ref().map(|it| it.id())
    }
}

impl LegPublication {
    /// The leg for the program that the process becomes.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn part(&self) -> Result<Blob, HandOverError> {
        Blob::of(&LegPart {
            number: self.number,
            lost: self.lost,
        })
    }
}
