//! Cameras and other RTSP servers, by `retina`.
//!
//! Media comes in the RTSP connection or in datagrams, as the configuration says. It goes
//! into the stream as [`tracks`] makes messages of it.

mod alignment;
mod decode_order;
mod tracks;

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use percent_encoding::percent_decode_str;
use retina::client::{
    Credentials, Demuxed, Described, InitialTimestampPolicy, PlayOptions, Session, SessionOptions,
    SetupOptions, Transport, UdpTransportOptions,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef};
use retina::rtcp::ReceivedCompoundPacket;
use rtmp_proto::session::StreamKey;
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
use alignment::{Alignment, Track};
use tracks::{SoundCoding, SoundTrack, VideoCoding, VideoTrack, metadata};

/// A picture further than this ahead of the one before is none of the same stream: its
/// server has begun anew, and so do we.
const MAX_JUMP_SECONDS: NonZeroU32 = NonZeroU32::new(30).expect("it is not 0");

/// Asks for the stream, and publishes it.
pub(super) async fn publish(
    server: &Arc<Server>,
    report: &Arc<IngestReport>,
    key: &StreamKey,
) -> Result<Infallible, IngestError> {
    let input = &report.job.input;
    let mut session = describe(input).await?;
    let tracks = Tracks::choose(&session, input, &report.name())?;
    for (number, _) in tracks.taken() {
        let options = SetupOptions::default()
            .frame_format(FrameFormat::MP4)
            .transport(transport(input.transport));
        step(input, session.setup(number, options)).await?;
    }
    let options = PlayOptions::default()
        .initial_timestamp(InitialTimestampPolicy::Permissive)
        .enforce_timestamps_with_max_jump_secs(MAX_JUMP_SECONDS);
    let playing = step(input, session.play(options)).await?;
    let media = playing.demuxed().map_err(|error| failed(&error))?;
    let mut reading = Reading {
        media,
        tracks,
        alignment: Alignment::default(),
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

/// The tracks that are taken, with their numbers in the description.
struct Tracks {
    video: Option<(usize, VideoTrack)>,
    sound: Option<(usize, SoundTrack)>,
}

impl Tracks {
    /// The first of pictures, and the first of sound, that players can take.
    fn choose(
        session: &Session<Described>,
        input: &IngestInput,
        name: &str,
    ) -> Result<Self, IngestError> {
        let streams = session.streams();
        let mut tracks = Self {
            video: None,
            sound: None,
        };
        for (number, stream) in streams.iter().enumerate() {
            let (media, encoding) = (stream.media(), stream.encoding_name());
            let video = VideoCoding::named(encoding).filter(|_| media == "video");
            let sound = SoundCoding::named(encoding).filter(|_| media == "audio");
            let sound = sound.filter(|sound| input.g711 || !sound.is_g711());
            match (video, sound) {
                (Some(coding), _) if tracks.video.is_none() => {
                    tracks.video = Some((number, VideoTrack::new(coding)));
                }
                (_, Some(coding)) if tracks.sound.is_none() => {
                    tracks.sound = Some((number, SoundTrack::new(coding)));
                }
                // Of cameras that have it, nobody expects that it be passed on.
                _ if media == "application" => {}
                _ => log::info!("{name}: {media} in {encoding} is left out"),
            }
        }
        if tracks.video.is_none() && tracks.sound.is_none() {
            let found = streams
                .iter()
                .map(|it| format!("{} in {}", it.media(), it.encoding_name()));
            let found = found.collect::<Vec<_>>().join(", ");
            return Err(IngestError::NothingToTake(OneLine(found).to_string()));
        }
        Ok(tracks)
    }

    /// Their numbers in the description.
    fn taken(&self) -> impl Iterator<Item = (usize, Track)> {
        let video = self
            .video
            .as_ref()
            .map(|(number, _)| (*number, Track::Pictures));
        let sound = self
            .sound
            .as_ref()
            .map(|(number, _)| (*number, Track::Sound));
        video.into_iter().chain(sound)
    }
}

/// Media that is read, and the messages that it becomes.
struct Reading {
    media: Demuxed,
    tracks: Tracks,
    alignment: Alignment,
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
                self.picture(frame)
            }
            CodecItem::AudioFrame(frame) => {
                self.heard = Instant::now();
                report.count_lost(frame.loss().into());
                self.sound(frame)
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
        let is_its = |(number, _): &(usize, Track)| *number == packet.stream_id();
        let Some((_, track)) = self.tracks.taken().find(is_its) else {
            return;
        };
        if let Some(change) = self.alignment.report(track, packet) {
            let (name, track) = (report.name(), if change > 0 { "sound" } else { "video" });
            let ms = change.abs();
            log::info!("{name}: {track} is {ms} ms later, as the sender's reports say");
        }
    }

    fn picture(&mut self, frame: &retina::codec::VideoFrame) -> Vec<rtmp_proto::wire::Message> {
        let Some((number, track)) = &mut self.tracks.video else {
            return Vec::new();
        };
        let mut messages = Vec::new();
        let needs_header = frame.has_new_parameters() || !track.has_header();
        if needs_header
            && let Some(ParametersRef::Video(parameters)) =
                self.media.streams()[*number].parameters()
            && track.set_header(parameters.extra_data())
        {
            messages.push(metadata(track.coding(), parameters.pixel_dimensions()));
        }
        let shown_ms = milliseconds(frame.timestamp());
        let shown_ms = self.alignment.time(Track::Pictures, shown_ms);
        let is_keyframe = frame.is_random_access_point();
        messages.extend(track.picture(is_keyframe, shown_ms, frame.data()));
        messages
    }

    fn sound(&mut self, frame: &retina::codec::AudioFrame) -> Vec<rtmp_proto::wire::Message> {
        let Some((number, track)) = &mut self.tracks.sound else {
            return Vec::new();
        };
        if track.needs_header()
            && let Some(ParametersRef::Audio(parameters)) =
                self.media.streams()[*number].parameters()
        {
            track.set_header(parameters.extra_data());
        }
        let ms = milliseconds(frame.timestamp());
        track.frame(self.alignment.time(Track::Sound, ms), frame.data())
    }
}

/// Time since the beginning of the play, ms; negative for what is older.
fn milliseconds(timestamp: retina::Timestamp) -> i64 {
    let rate = i64::from(timestamp.clock_rate().get());
    // At 192 kHz it overflows after a million years.
    timestamp.elapsed().saturating_mul(1_000).div_euclid(rate)
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
