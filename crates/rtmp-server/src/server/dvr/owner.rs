//! The server as a recorder knows it.

use std::path::Path;
use std::sync::Arc;

use rtmp_proto::session::Parameters;
use serde::{Deserialize, Serialize};

use super::recording::Recording;
use crate::server::Server;
use crate::server::client::{Client, ClientPart};
use crate::server::hooks::FileEvent;
use crate::stream::{Stream, lock};

/// Who published when a file began.
#[derive(Debug, Clone, Default)]
pub(super) struct FilePublisher {
    /// The connection.
    client: Option<Arc<Client>>,
    /// The parameters that the stream was published with.
    parameters: Parameters,
}

/// A [`FilePublisher`] for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FilePublisherPart {
    client: Option<ClientPart>,
    parameters: Parameters,
}

impl FilePublisher {
    /// The publisher for the program that the process becomes.
    pub(super) fn part(&self) -> FilePublisherPart {
        FilePublisherPart {
            client: self.client.as_ref().map(|client| client.part()),
            parameters: self.parameters.clone(),
        }
    }
}

impl From<FilePublisherPart> for FilePublisher {
    /// The publisher as it was: it may have gone, and another one be there.
    fn from(part: FilePublisherPart) -> Self {
        Self {
            client: part.client.map(|part| Arc::new(Client::take_over(part))),
            parameters: part.parameters,
        }
    }
}

/// The owner of a recorder.
pub(super) trait Owner: Send {
    /// Who publishes now, as a file begins.
    fn publisher(&self) -> FilePublisher;

    /// A file that began with `publisher` is finished, and has the name `path`.
    fn finished(&self, path: &Path, publisher: &FilePublisher);

    /// The recorder has nothing to do any more; true if it may go.
    fn forget(&self) -> bool;
}

/// The server as a recorder's owner.
pub(super) struct ServerOwner {
    pub(super) server: Arc<Server>,
    pub(super) stream: Arc<Stream>,
    pub(super) recording: Arc<Recording>,
}

impl Owner for ServerOwner {
    fn publisher(&self) -> FilePublisher {
        FilePublisher {
            client: self.server.clients.publisher(self.stream.key()),
            parameters: self.stream.parameters(),
        }
    }

    fn finished(&self, path: &Path, publisher: &FilePublisher) {
        let config = self.server.config();
        let Some(vhost) = config.vhost(&self.stream.key().vhost) else {
            return;
        };
        let event = FileEvent {
            publisher: publisher.client.as_deref(),
            parameters: &publisher.parameters,
            stream: &self.stream,
            file: &path.display().to_string(),
        };
        self.server.hooks.notify(&vhost.http_hooks.on_dvr, &event);
    }

    fn forget(&self) -> bool {
        let mut recordings = lock(&self.server.dvr.recordings);
        // A publisher that has come meanwhile has found this recorder.
        if !self.recording.is_stopped() && self.stream.has_encoder() {
            return false;
        }
        recordings.remove(&self.recording.stream_id);
        true
    }
}
