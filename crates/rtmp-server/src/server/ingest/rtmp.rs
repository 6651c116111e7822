//! Streams of other RTMP servers.

use std::convert::Infallible;
use std::sync::Arc;

use rtmp_proto::session::{ClientEvent, StreamKey};
use tokio::time::timeout;

use super::error::IngestError;
use super::publisher::Publisher;
use super::report::IngestReport;
use crate::config::rtmp_source;
use crate::server::Server;
use crate::server::upstream::{OriginConnection, url_pull};
use crate::stream::MediaMessage;

/// Pulls the stream.
pub(super) async fn publish(
    server: &Arc<Server>,
    report: &Arc<IngestReport>,
    key: &StreamKey,
) -> Result<Infallible, IngestError> {
    let input = &report.job.input;
    let limit = input.timeout;
    // The configuration has been checked for it.
    let source = rtmp_source(&input.url).ok_or(IngestError::Ended)?;
    let mut events = Vec::new();
    let mut connection = url_pull::play(server, &source, key, limit, &mut events).await?;
    let mut publisher: Option<Publisher> = None;
    loop {
        let media = media(&mut events);
        if !media.is_empty() {
            let publisher = match &mut publisher {
                Some(publisher) => publisher,
                none => none.insert(Publisher::begin(server, report, key).await?),
            };
            publisher.append(&media)?;
        }
        let read = timeout(limit, exchange(&mut connection, &mut events));
        match &mut publisher {
            Some(publisher) => tokio::select! {
                read = read => read.map_err(|_| IngestError::Silent(limit))??,
                error = publisher.follow() => return Err(error),
            },
            None => read.await.map_err(|_| IngestError::Silent(limit))??,
        }
    }
}

async fn exchange(
    connection: &mut OriginConnection,
    events: &mut Vec<ClientEvent>,
) -> Result<(), IngestError> {
    connection.read(events).await?;
    Ok(connection.flush().await?)
}

fn media(events: &mut Vec<ClientEvent>) -> Vec<MediaMessage> {
    let media = |event| match event {
        ClientEvent::Media(message) => Some(MediaMessage::from(message)),
        _ => None,
    };
    events.drain(..).filter_map(media).collect()
}
