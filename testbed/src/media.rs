//! Real video through real clients: ffmpeg as encoder and as viewer.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use netbed::Host;
use netbed::Process;
use netbed::wait_for;

/// What an encoder sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// H.264 and AAC made on the spot: a test picture of 320×180 at 25 fps with
    /// a keyframe each second, and a tone. About 400 kbit/s.
    #[default]
    Generated,
    /// As [`Source::Generated`], without the tone.
    Silent,
    /// The tone of [`Source::Generated`] alone.
    SoundOnly,
    /// As [`Source::Generated`], and the upper ninth of each picture holds the time at
    /// which it was taken: the milliseconds of the wall clock modulo 2³², as 32 fields of
    /// black and white, the lowest bit on the left, and their inverse in a second row.
    Stamped,
    /// A file, repeated for ever, as it is.
    File(PathBuf),
}

impl Source {
    /// Whether it has pictures.
    #[must_use]
    pub fn has_pictures(&self) -> bool {
        *self != Self::SoundOnly
    }

    /// Whether it has sound.
    #[must_use]
    pub fn has_sound(&self) -> bool {
        *self != Self::Silent
    }
}

/// Frames per second of [`Source::Generated`].
pub const GENERATED_FPS: u32 = 25;

/// ffmpeg's filters that put the stamp of [`Source::Stamped`] into each picture.
const STAMP_FILTER: &str = "settb=1/1000,setpts=RTCTIME/1000,split[picture][copy];\
    [copy]crop=32:2:0:0,format=gray,\
    geq=lum='255*mod(floor(floor(T*1000+0.5)/pow(2,X))+Y,2)',\
    scale=320:20:flags=neighbor,format=yuv420p[stamp];\
    [picture][stamp]overlay=0:0,setpts=N*1000/25";

/// Starts an encoder that pushes `source` to `url` in real time.
pub(crate) fn push(host: &Host, source: &Source, url: &str) -> Result<Process> {
    start(host, source, &["-f", "flv", url])
}

/// Starts an encoder that pushes the same messages to all of `urls`; one that fails is left
/// out from then on.
pub(crate) fn push_to_all(host: &Host, source: &Source, urls: &[String]) -> Result<Process> {
    let outputs = urls.iter().map(|url| format!("[f=flv:onfail=ignore]{url}"));
    let outputs = outputs.collect::<Vec<_>>().join("|");
    // The headers are the muxers', which tee asks the encoders for by this flag.
    let tee = ["-flags", "+global_header", "-map", "0", "-map", "1"];
    start(host, source, &[&tee[..], &["-f", "tee", &outputs]].concat())
}

fn start(host: &Host, source: &Source, output: &[&str]) -> Result<Process> {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-loglevel", "warning"]);
    match source {
        Source::Generated => generate(&mut command, Some("null"), true),
        Source::Silent => generate(&mut command, Some("null"), false),
        Source::SoundOnly => generate(&mut command, None, true),
        Source::Stamped => generate(&mut command, Some(STAMP_FILTER), true),
        Source::File(path) => {
            let path = fs::canonicalize(path)
                .with_context(|| format!("cannot open the input {}", path.display()))?;
            command
                .args(["-re", "-stream_loop", "-1", "-i"])
                .arg(path)
                .args(["-c", "copy"]);
        }
    }
    command.args(output);
    host.spawn("encoder", command)
        .context("ffmpeg comes with Debian's package ffmpeg")
}

/// Generates pictures that pass `picture_filter`, and a tone.
fn generate(command: &mut Command, picture_filter: Option<&str>, sound: bool) {
    if picture_filter.is_some() {
        let picture = format!("testsrc2=size=320x180:rate={GENERATED_FPS}");
        command.args(["-re", "-f", "lavfi", "-i", &picture]);
    }
    if sound {
        let tone = "sine=frequency=440:sample_rate=44100";
        command.args(["-re", "-f", "lavfi", "-i", tone]);
    }
    if let Some(filter) = picture_filter {
        let group = GENERATED_FPS.to_string();
        command
            .args(["-vf", filter, "-fps_mode", "passthrough"])
            .args(["-c:v", "libx264", "-preset", "ultrafast"])
            .args(["-tune", "zerolatency", "-pix_fmt", "yuv420p"])
            .args(["-g", &group, "-b:v", "300k", "-threads", "1"]);
    }
    if sound {
        command.args(["-c:a", "aac", "-b:a", "64k", "-ac", "2"]);
    }
}

/// Starts a viewer that decodes `url` and notes each decoded frame.
pub(crate) fn pull(host: &Host, name: &str, url: &str) -> Result<Viewer> {
    let output_path = host.directory().join(format!("{name}.frames"));
    let output = File::create(&output_path)
        .with_context(|| format!("cannot write {}", output_path.display()))?;
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-nostdin", "-loglevel", "warning"])
        // A viewer whose server vanishes silently would wait for ever.
        .args(["-rw_timeout", "20000000"])
        // The stream's own timestamps, each decoded frame exactly once.
        .args(["-threads", "1", "-copyts", "-i", url])
        .args(["-map", "0:v?", "-map", "0:a?", "-fps_mode", "passthrough"])
        .args([
            "-enc_time_base",
            "-1",
            "-flush_packets",
            "1",
            "-f",
            "framecrc",
            "-",
        ]);
    let process = host
        .spawn_with_output(name, command, Some(output))
        .context("ffmpeg comes with Debian's package ffmpeg")?;
    Ok(Viewer {
        process,
        output_path,
    })
}

/// A viewer: one ffmpeg that pulls and decodes a stream.
#[derive(Clone, Debug)]
pub struct Viewer {
    process: Process,
    output_path: PathBuf,
}

impl Viewer {
    /// The ffmpeg behind it.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Every frame that it has decoded so far.
    ///
    /// # Errors
    /// When ffmpeg's list cannot be read.
    pub fn frames(&self) -> Result<Frames> {
        Frames::read(&self.output_path)
    }

    /// Waits until it has decoded `count` more frames of video, and some audio.
    ///
    /// # Errors
    /// When it ends before, or does not in [`netbed::TIME_LIMIT`]; the message holds
    /// what ffmpeg said.
    pub fn wait_for_more(&self, count: usize) -> Result<Frames> {
        let before = self.frames()?;
        let what = format!("{count} more frames at {}", self.process);
        wait_for(what, || {
            // Looked at first: after its end nothing is added to the list.
            let running = self.process.is_running();
            let now = self.frames()?;
            let enough = now.video.len() >= before.video.len() + count
                && now.audio.len() > before.audio.len();
            ensure!(enough || running, "the viewer has ended");
            Ok(enough.then_some(now))
        })
        .with_context(|| self.process.log_tail())
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn stop(&self) -> Result<()> {
        self.process.kill()
    }
}

/// Presentation timestamps of decoded frames, in milliseconds of the stream's
/// own timeline, in the order in which the decoder gave them out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Pictures.
    pub video: Vec<i64>,
    /// Blocks of audio samples (1024 for AAC).
    pub audio: Vec<i64>,
}

impl Frames {
    fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Reads ffmpeg's `framecrc` format, perhaps cut within the last line.
    fn parse(text: &str) -> Result<Self> {
        let mut kinds = Vec::new();
        let mut frames = Self::default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            if let Some(media_type) = line.strip_prefix("#media_type ") {
                let (_, kind) = media_type
                    .split_once(": ")
                    .context("a media type without kind")?;
                kinds.push(kind);
            } else if let Some(base) = line.strip_prefix("#tb ") {
                ensure!(
                    base.ends_with(": 1/1000"),
                    "RTMP's unit is milliseconds, not {base}"
                );
            } else if !line.starts_with('#') {
                let mut fields = line.split(',').map(str::trim);
                let stream: usize = fields.next().context("an empty line")?.parse()?;
                let pts = fields
                    .nth(1)
                    .with_context(|| format!("a line cut short: {line}"))?;
                let pts = pts
                    .parse()
                    .with_context(|| format!("no timestamp: {line}"))?;
                match kinds.get(stream) {
                    Some(&"video") => frames.video.push(pts),
                    Some(&"audio") => frames.audio.push(pts),
                    kind => bail!("frames of stream {stream}, which is {kind:?}"),
                }
            }
        }
        Ok(frames)
    }

    /// That there is video and audio, and each timestamp is after the last.
    ///
    /// # Errors
    /// Naming the first two frames for which it is not so.
    pub fn ensure_rising(&self) -> Result<()> {
        for (kind, timestamps) in [("video", &self.video), ("audio", &self.audio)] {
            ensure!(
                !timestamps.is_empty(),
                "not one frame of {kind} was decoded"
            );
            if let Some(at) = timestamps.windows(2).position(|pair| pair[1] <= pair[0]) {
                bail!(
                    "{kind} frame {} of {} has timestamp {} ms after {} ms",
                    at + 1,
                    timestamps.len(),
                    timestamps[at + 1],
                    timestamps[at],
                );
            }
        }
        Ok(())
    }
}

impl Frames {
    /// That no picture of [`Source::Generated`] is missing between the first and
    /// the last: none comes later than a frame and a half after the one before.
    ///
    /// # Errors
    /// Naming the first two frames with a gap between them.
    pub fn ensure_without_gap(&self) -> Result<()> {
        let longest_ms = i64::from(1500 / GENERATED_FPS);
        let gap = |pair: &[i64]| pair[1] - pair[0] > longest_ms;
        if let Some(at) = self.video.windows(2).position(gap) {
            bail!(
                "video frame {} of {} has timestamp {} ms, the one before {} ms",
                at + 1,
                self.video.len(),
                self.video[at + 1],
                self.video[at],
            );
        }
        self.ensure_rising()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "#software: Lavf59.27.100\n\
        #tb 0: 1/1000\n#media_type 0: video\n#codec_id 0: rawvideo\n\
        #tb 1: 1/1000\n#media_type 1: audio\n\
        1,          0,          0,       23,     4096, 0x7ec1c2a3\n\
        0,         23,         23,       40,    86400, 0x01119ce1\n\
        0,         63,         63,       40,    86400, 0xc12fa79a\n";

    #[test]
    fn frames_are_told_apart_by_their_stream() {
        let frames = Frames::parse(LIST).unwrap();
        assert_eq!(
            frames,
            Frames {
                video: vec![23, 63],
                audio: vec![0]
            }
        );
    }

    #[test]
    fn a_last_line_that_is_still_being_written_is_left_for_later() {
        let frames = Frames::parse(&format!("{LIST}0,        103,   ")).unwrap();
        assert_eq!(frames.video, [23, 63]);
    }

    #[test]
    fn a_list_that_has_just_been_begun_holds_no_frames() {
        assert_eq!(Frames::parse("").unwrap(), Frames::default());
    }

    #[test]
    fn a_timestamp_that_repeats_is_found() {
        let frames = Frames {
            video: vec![0, 40, 40, 80],
            audio: vec![0],
        };
        let error = frames.ensure_rising().unwrap_err();
        assert_eq!(
            error.to_string(),
            "video frame 2 of 4 has timestamp 40 ms after 40 ms"
        );
    }

    #[test]
    fn a_picture_that_is_missing_is_found() {
        let frames = Frames {
            video: vec![0, 40, 79, 160],
            audio: vec![0],
        };
        let error = frames.ensure_without_gap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "video frame 3 of 4 has timestamp 160 ms, the one before 79 ms"
        );
    }

    #[test]
    fn video_without_audio_is_not_enough() {
        let frames = Frames {
            video: vec![0, 40],
            audio: vec![],
        };
        let error = frames.ensure_rising().unwrap_err();
        assert_eq!(error.to_string(), "not one frame of audio was decoded");
    }
}
