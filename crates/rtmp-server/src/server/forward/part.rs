//! Forwards for the program that the process becomes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::progress::Progress;
use super::target::{Sending, Step, Target};
use crate::config::{Destination, Origin};
use crate::hand_over::{HandOverError, Inherited};
use crate::server::upgrade::TaskParts;
use crate::server::upstream::{OriginConnection, OriginConnectionPart};
use crate::stream::{MessageReader, MessageReaderPart, Stream};

/// The forward of a stream to one server, for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct ForwardPart {
    /// Id of the stream.
    stream: u64,
    destination: DestinationPart,
    pub(super) authorities: Option<PathBuf>,
    pub(super) progress: Progress,
    pub(super) backoff: Backoff,
    step: StepPart,
}

/// A [`Destination`], with what may be secret.
#[derive(Debug, Serialize, Deserialize)]
struct DestinationPart {
    server: String,
    app: Option<String>,
    stream: Option<String>,
}

impl From<&Destination> for DestinationPart {
    fn from(destination: &Destination) -> Self {
        Self {
            server: destination.server.to_string(),
            app: destination.app.clone(),
            stream: destination.stream.clone(),
        }
    }
}

impl DestinationPart {
    fn read(&self) -> Option<Destination> {
        Some(Destination {
            server: Origin::parse(&self.server)?,
            app: self.app.clone(),
            stream: self.stream.clone(),
        })
    }
}

/// A [`Step`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum StepPart {
    /// It connects, which is begun anew.
    Connect,
    Send(Box<SendingPart>),
    Wait(#[serde(with = "crate::hand_over::monotonic")] Instant),
}

/// A [`Sending`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SendingPart {
    connection: OriginConnectionPart,
    reader: MessageReaderPart,
    #[serde(with = "crate::hand_over::monotonic")]
    since: Instant,
}

impl ForwardPart {
    /// Id of the stream.
    pub(in crate::server) fn stream_id(&self) -> u64 {
        self.stream
    }

    /// The server that the stream is forwarded to.
    pub(super) fn destination(&self) -> Option<Destination> {
        self.destination.read()
    }

    /// True if it has a connection that goes on.
    pub(in crate::server) fn is_connected(&self) -> bool {
        matches!(self.step, StepPart::Send(_))
    }

    /// Checks that this program can go on with it.
    ///
    /// # Errors
    /// Why it cannot.
    pub(in crate::server) fn check(&self) -> Result<(), HandOverError> {
        match &self.step {
            StepPart::Send(sending) => sending.connection.check(),
            StepPart::Connect | StepPart::Wait(_) => Ok(()),
        }
    }

    /// What the forward does next, which is one of `stream`. `is_new_log`: its log begins
    /// anew, and the forward goes on at the next keyframe.
    ///
    /// # Errors
    /// The connection is of another form, or its descriptor is missing.
    pub(super) fn step(
        &self,
        stream: &Arc<Stream>,
        is_new_log: bool,
        inherited: &mut Inherited,
    ) -> Result<Step, HandOverError> {
        Ok(match &self.step {
            StepPart::Connect => Step::Connect,
            StepPart::Wait(until) => Step::Wait(*until),
            StepPart::Send(part) => Step::Send(Box::new(Sending {
                connection: OriginConnection::take_over(&part.connection, inherited)?,
                reader: match is_new_log {
                    true => MessageReader::new(stream)?,
                    false => MessageReader::take_over(stream, &part.reader)?,
                },
                since: part.since,
            })),
        })
    }
}

impl Target {
    /// The forward for the program that the process becomes, which begins with `step`.
    pub(super) fn part(&self, step: StepPart) -> ForwardPart {
        ForwardPart {
            stream: self.stream().id(),
            destination: DestinationPart::from(&self.forward.destination),
            authorities: self.authorities.clone(),
            progress: self.forward.progress(),
            backoff: self.backoff.clone(),
            step,
        }
    }

    /// Writes down a forward that sends, and stands still until the server goes on.
    pub(super) async fn park(&self, sending: &Sending) {
        let write = |parts: &mut TaskParts| {
            let connection = sending.connection.part(&mut parts.handed_over)?;
            let step = match connection {
                None => StepPart::Connect,
                Some(connection) => StepPart::Send(Box::new(SendingPart {
                    connection,
                    reader: sending.reader.part(),
                    since: sending.since,
                })),
            };
            parts.forwards.push(self.part(step));
            Ok(())
        };
        self.participant.park(write).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hand_over::Blob;

    #[test]
    fn a_destination_is_read_as_it_was_with_what_may_be_secret() {
        for text in [
            "10.0.0.1",
            "host:19350",
            "[::1]:1935",
            "rtmp://host/app",
            "rtmps://host/app/stream?token=secret",
            "rtmp://host/app?vhost=v/stream-with-a-secret",
        ] {
            let destination = Destination::parse(text).unwrap();
            let part = Blob::of(&DestinationPart::from(&destination)).unwrap();
            let read = part.read::<DestinationPart>().unwrap().read();
            assert_eq!(read, Some(destination), "{text}");
        }
    }

    #[test]
    fn a_forward_that_waits_tries_again_at_its_time_with_its_backoff() {
        let until = Instant::now() + Duration::from_secs(20);
        let mut backoff = Backoff::new(7);
        backoff.after(Duration::ZERO);
        let mut progress = Progress::default();
        progress.attempts = 5;
        let part = ForwardPart {
            stream: 1,
            destination: DestinationPart::from(&Destination::parse("host").unwrap()),
            authorities: None,
            progress,
            backoff: backoff.clone(),
            step: StepPart::Wait(until),
        };
        let read: ForwardPart = Blob::of(&part).unwrap().read().unwrap();
        read.check().unwrap();
        assert!(!read.is_connected());
        assert_eq!(read.progress.attempts, 5);
        let StepPart::Wait(time) = read.step else {
            panic!("{:?}", read.step);
        };
        let off = time.max(until) - time.min(until);
        assert!(off < Duration::from_secs(1), "{off:?}");
        let mut goes_on = read.backoff;
        let pauses = [&mut backoff, &mut goes_on].map(|it| it.after(Duration::ZERO));
        assert_eq!(pauses[0], pauses[1]);
    }
}
