//! A publication for the program that the process becomes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Publication, PublicationState};
use crate::hand_over::{Blob, HandOverError};
use crate::stream::log::headers::Headers;
use crate::stream::publishers::Switch;
use crate::stream::{Stream, lock};

/// A publication, written (`&PublicationState`) or read.
#[derive(Serialize, Deserialize)]
struct PublicationPart<S> {
    id: u64,
    state: S,
    switch: Option<Switch>,
}

impl Publication {
    /// The publication for the program that the process becomes.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn part(&self) -> Result<Blob, HandOverError> {
        Blob::of(&PublicationPart {
            id: self.id,
            state: &self.state,
            switch: self.switch,
        })
    }
}

impl Stream {
    /// Goes on with a publication of the stream that this process has had before.
    ///
    /// # Errors
    /// It is of another form, or the stream does not know it.
    pub(crate) fn resume_publication(
        self: &Arc<Self>,
        part: &Blob,
    ) -> Result<Publication, HandOverError> {
        let part: PublicationPart<PublicationState> = part.read()?;
        if !lock(&self.publishers).contains(part.id) {
            let missing = format!("publisher {} of {}", part.id, self.key());
            return Err(HandOverError::Missing(missing));
        }
        Ok(Publication {
            stream: self.clone(),
            id: part.id,
            state: part.state,
            switch: part.switch,
        })
    }

    /// The ids of its publishers.
    pub(crate) fn publisher_ids(&self) -> Vec<u64> {
        lock(&self.publishers).ids()
    }

    /// Those of its `former` publishers that are not among `resumed` have ended: nobody goes on
    /// with them.
    pub(crate) fn end_publishers(self: &Arc<Self>, former: Vec<u64>, resumed: &[u64]) {
        for id in former.into_iter().filter(|id| !resumed.contains(id)) {
            drop(Publication {
                stream: self.clone(),
                id,
                state: PublicationState::standby(Headers::default()),
                switch: None,
            });
        }
    }
}
