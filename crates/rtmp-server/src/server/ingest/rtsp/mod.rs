//! Cameras and other RTSP servers, by `retina`.
//!
//! Media comes in the RTSP connection or in datagrams, as the configuration says. It goes
//! into the stream as [`rtsp_media`] makes messages of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use percent_encoding::percent_decode_str;
use retina::client::{
    Credentials, Demuxed, Described, InitialTimestampPolicy, PlayOptions, Session, SessionOptions,
    SetupOptions, Transport, UdpTransportOptions,
};
use retina::codec::{CodecItem, FrameFormat};
use retina::rtcp::ReceivedCompoundPacket;
use rtmp_proto::session::StreamKey;
use rtsp_media::Tracks;
use service_kit::OneLine;
use tokio::time::timeout;
use url::Url;

use super::error::IngestError;
use super::publisher::Publisher;
use super::report::IngestReport;
use crate::config::{IngestInput, RtpTransport};
use crate::redact::redacted;
use crate::server::Server;
use crate::stream::MediaMessage;

/// Asks for the stream, and publishes it.
pub(super) async fn publish(
    server: &Arc<Server>,
    report: &Arc<IngestReport>,
    key: &StreamKey,
) -> Result<Infallible, IngestError> {
    let input = &report.job.input;
    let mut session = describe(input).await?;
    let tracks = choose(&session, input, &report.name())?;
    for (number, _) in tracks.taken() {
        let options = SetupOptions::default()
            .frame_format(FrameFormat::MP4)
            .transport(transport(input.transport));
        step(input, session.setup(number, options)).await?;
    }
    // `retina` would take each picture that is shown before the one before it for a jump:
    // `Tracks` looks for jumps.
    let options = PlayOptions::default().initial_timestamp(InitialTimestampPolicy::Permissive);
    let playing = step(input, session.play(options)).await?;
    let media = playing.demuxed().map_err(|error| failed(&error))?;
    let mut reading = Reading {
        media,
        tracks,
        heard: Instant::now(),
        limit: input.timeout,
    };
    let mut publisher: Option<Publisher> = None;
    loop {
        let next = reading.next(report);
        let messages = match &mut publisher {
            Some(publisher) => tokio::select! {
                messages = next => messages?,
                error = publisher.follow() => return Err(error),
            },
            None => next.await?,
        };
        if messages.is_empty() {
            continue;
        }
        // Not before there is something to play: a silent camera takes no stream.
        let publisher = match &mut publisher {
            Some(publisher) => publisher,
            none => none.insert(Publisher::begin(server, report, key).await?),
        };
        publisher.append(&messages)?;
    }
}

/// Asks for the description of the stream.
async fn describe(input: &IngestInput) -> Result<Session<Described>, IngestError> {
    let mut url = Url::parse(&input.url).map_err(|error| IngestError::Rtsp(error.to_string()))?;
    let credentials = take_credentials(&mut url);
    let options = SessionOptions::default()
        .creds(credentials)
        .user_agent(format!("Millrace/{}", env!("CARGO_PKG_VERSION")));
    step(input, Session::describe(url, options)).await
}

/// The user and the password of a URL, which loses them.
fn take_credentials(url: &mut Url) -> Option<Credentials> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8_lossy();
        decoded.into_owned()
    };
    let (username, password) = (decode(url.username()), url.password().map(decode));
    // Errors cannot be: a URL of RTSP has a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    (!username.is_empty() || password.is_some()).then(|| Credentials {
        username,
        password: password.unwrap_or_default(),
    })
}

fn transport(transport: RtpTransport) -> Transport {
    match transport {
        RtpTransport::Tcp => Transport::default(),
        RtpTransport::Udp => Transport::Udp(UdpTransportOptions::default()),
    }
}

/// One step of the beginning, which may take as long as a source may be silent.
async fn step<T>(
    input: &IngestInput,
    answer: impl Future<Output = Result<T, retina::Error>>,
) -> Result<T, IngestError> {
    let answered = timeout(input.timeout, answer).await;
    let answered = answered.map_err(|_| IngestError::Slow(input.timeout))?;
    answered.map_err(|error| failed(&error))
}

/// The first line of what the client says: the others name ports and packets.
fn failed(error: &retina::Error) -> IngestError {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    IngestError::Rtsp(OneLine(redacted(line)).to_string())
}

/// Takes the first track of pictures, and the first of sound, that players can take.
///
/// # Errors
/// There is none.
fn choose(
    session: &Session<Described>,
    input: &IngestInput,
    name: &str,
) -> Result<Tracks, IngestError> {
    let streams = session.streams();
    let mut tracks = Tracks::default();
    for (number, stream) in streams.iter().enumerate() {
        let (media, encoding) = (stream.media(), stream.encoding_name());
        let is_taken = tracks.add(number, media, encoding, input.g711);
        // Of cameras that have it, nobody expects that `application` be passed on.
        if !is_taken && media != "application" {
            log::info!("{name}: {media} in {encoding} is left out");
        }
    }
    if tracks.taken().next().is_none() {
        let found = streams
            .iter()
            .map(|it| format!("{} in {}", it.media(), it.encoding_name()));
        let found = found.collect::<Vec<_>>().join(", ");
        return Err(IngestError::NothingToTake(OneLine(found).to_string()));
    }
    Ok(tracks)
}

/// Media that is read, and the messages that it becomes.
struct Reading {
    media: Demuxed,
    tracks: Tracks,
    /// Time when media came last.
    heard: Instant,
    limit: Duration,
}

impl Reading {
    /// The messages of the next frame; there may be none. It may be dropped unfinished and
    /// called again.
    async fn next(&mut self, report: &IngestReport) -> Result<Vec<MediaMessage>, IngestError> {
        let silent = IngestError::Silent(self.limit);
        // RTCP is no sign of life: a camera whose encoder hangs sends it on.
        let deadline = self.heard + self.limit;
        let item = tokio::time::timeout_at(deadline.into(), self.media.next());
        let item = item.await.map_err(|_| silent)?.ok_or(IngestError::Ended)?;
        let item = item.map_err(|error| failed(&error))?;
        let messages = match &item {
            CodecItem::VideoFrame(frame) => {
                self.heard = Instant::now();
                report.count_lost(frame.loss().into());
                let parameters = self.media.streams()[frame.stream_id()].parameters();
                self.tracks.picture(frame, parameters)?
            }
            CodecItem::AudioFrame(frame) => {
                self.heard = Instant::now();
                report.count_lost(frame.loss().into());
                let parameters = self.media.streams()[frame.stream_id()].parameters();
                self.tracks.sound(frame, parameters)?
            }
            CodecItem::Rtcp(packet) => {
                self.align(packet, report);
                Vec::new()
            }
            _ => Vec::new(),
        };
        Ok(messages.into_iter().map(MediaMessage::from).collect())
    }

    /// Takes a sender's report into account.
    fn align(&mut self, packet: &ReceivedCompoundPacket, report: &IngestReport) {
        if let Some(change) = self.tracks.report(packet) {
            let (name, track) = (report.name(), if change > 0 { "sound" } else { "video" });
            let ms = change.abs();
            log::info!("{name}: {track} is {ms} ms later, as the sender's reports say");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_a_password_leave_the_url() {
        for (text, rest, expected) in [
            ("rtsp://h/a", "rtsp://h/a", None),
            (
                "rtsp://u:p%2Fq%40@h:554/a?b=c",
                "rtsp://h:554/a?b=c",
                Some(("u", "p/q@")),
            ),
            ("rtsp://u@h/a", "rtsp://h/a", Some(("u", ""))),
            ("rtsp://u:100%@h/a", "rtsp://h/a", Some(("u", "100%"))),
        ] {
            let mut url = Url::parse(text).unwrap();
            let credentials = take_credentials(&mut url);
            let expected = expected.map(|(username, password)| Credentials {
                username: username.to_owned(),
                password: password.to_owned(),
            });
            assert_eq!((url.as_str(), credentials), (rest, expected), "{text}");
        }
    }
}
