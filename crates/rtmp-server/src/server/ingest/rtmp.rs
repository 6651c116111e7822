//! Streams of other RTMP servers.

use std::convert::Infallible;
use std::sync::Arc;

use rtmp_proto::session::{ClientEvent, StreamKey};
use tokio::time::{Instant, timeout_at};

use super::error::IngestError;
use super::publisher::Publisher;
use super::report::IngestReport;
use crate::config::rtmp_source;
use crate::server::Server;
use crate::server::upstream::{OriginConnection, announces_publisher, url_pull};
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
    // What else a server sends is no sign of life: pings come from one without the stream.
    let mut deadline = Instant::now() + limit;
    loop {
        let (media, is_over) = media(&mut events);
        if !media.is_empty() {
            deadline = Instant::now() + limit;
            let publisher = match &mut publisher {
                Some(publisher) => publisher,
                none => none.insert(Publisher::begin(server, report, key).await?),
            };
            publisher.append(&media)?;
        }
        if is_over && publisher.is_some() {
            return Err(IngestError::Ended);
        }
        let read = timeout_at(deadline, exchange(&mut connection, &mut events));
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

/// The media among `events`, and true if their publisher has gone after them.
fn media(events: &mut Vec<ClientEvent>) -> (Vec<MediaMessage>, bool) {
    let mut media = Vec::new();
    let mut is_over = false;
    for event in events.drain(..) {
        match event {
            ClientEvent::Media(message) => {
                media.push(MediaMessage::from(message));
                is_over = false;
            }
            ClientEvent::Status(status) if announces_publisher(&status) == Some(false) => {
                is_over = true;
            }
            _ => {}
        }
    }
    (media, is_over)
}

#[cfg(test)]
mod tests {
    use rtmp_proto::session::Status;
    use rtmp_proto::session::status::code;
    use rtmp_proto::wire::{Message, MessageType};

    use super::*;

    #[test]
    fn a_publisher_that_leaves_ends_the_stream() {
        let gone = || {
            let mut status = Status::play_failed("gone");
            status.code = code::PLAY_UNPUBLISH_NOTIFY.into();
            ClientEvent::Status(status)
        };
        let picture = || {
            ClientEvent::Media(Message {
                timestamp: 0,
                message_type: MessageType::VIDEO,
                stream_id: 1,
                payload: vec![0x17, 1, 0, 0, 0].into(),
            })
        };
        for (mut events, expected) in [
            (vec![], (0, false)),
            (vec![ClientEvent::StreamBegin], (0, false)),
            (vec![picture(), gone()], (1, true)),
            // Another one has come at once.
            (vec![gone(), picture()], (1, false)),
        ] {
            let (media, is_over) = media(&mut events);
            assert_eq!((media.len(), is_over), expected);
        }
    }
}
