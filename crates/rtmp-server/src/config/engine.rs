//! `engine NAME { … }`: the ffmpeg of a `transcode` or an `ingest`, as SRS has it
//! (`srs_app_ffmpeg.cpp`).

use conf_kit::{Diagnostic, Diagnostics, Directive};
use serde::{Serialize, Serializer};

use super::setting::{Setting, apply, settings};
use super::value::switch;
use crate::redact::redacted_output;

/// The codec that leaves pictures or sound as they are.
const COPY: &str = "copy";
/// The codecs that leave them out.
const NO_VIDEO: &str = "vn";
const NO_AUDIO: &str = "an";

/// One engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Engine {
    /// Its name, `[engine]` in `output`; may be empty.
    pub name: String,
    /// True if it has an effect: in `ingest`, if it is more than a copy.
    pub enabled: bool,
    /// Options before the input, which may have secrets.
    #[serde(skip)]
    pub perfile: Vec<String>,
    /// Format of the input; `off`: ffmpeg tells by itself.
    pub iformat: String,
    /// Options of filters.
    pub vfilter: Vec<String>,
    /// Encoder of pictures, `copy` or `vn`.
    pub vcodec: String,
    /// In kbit/s; 0: the encoder's own.
    pub vbitrate: u32,
    /// Pictures in a second; 0: as they come.
    pub vfps: f64,
    /// Width in pixels, even; 0: as it comes.
    pub vwidth: u32,
    /// Height in pixels, even; 0: as it comes.
    pub vheight: u32,
    /// Threads of the encoder.
    pub vthreads: u32,
    /// Profile of the encoder.
    pub vprofile: String,
    /// Preset of the encoder.
    pub vpreset: String,
    /// More options of the encoder.
    pub vparams: Vec<String>,
    /// Encoder of sound, `copy` or `an`.
    pub acodec: String,
    /// In kbit/s; 0: the encoder's own.
    pub abitrate: u32,
    /// In Hz; 0: as it comes.
    pub asample_rate: u32,
    /// Channels; 0: as they come.
    pub achannels: u32,
    /// More options of the encoder of sound.
    pub aparams: Vec<String>,
    /// Format of the output; `off`: ffmpeg tells by itself.
    pub oformat: String,
    /// Its URL, with variables.
    #[serde(serialize_with = "serialize_output")]
    pub output: String,
}

/// Writes a URL that is published at without secrets.
fn serialize_output<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    redacted_output(url).serialize(serializer)
}

impl Engine {
    /// An engine of this name before the file has spoken.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            enabled: false,
            perfile: Vec::new(),
            iformat: "flv".to_owned(),
            vfilter: Vec::new(),
            vcodec: String::new(),
            vbitrate: 0,
            vfps: 0.0,
            vwidth: 0,
            vheight: 0,
            vthreads: 1,
            vprofile: String::new(),
            vpreset: String::new(),
            vparams: Vec::new(),
            acodec: String::new(),
            abitrate: 0,
            asample_rate: 0,
            achannels: 0,
            aparams: Vec::new(),
            oformat: "flv".to_owned(),
            output: String::new(),
        }
    }

    /// True if it decodes and encodes, or leaves something out: SRS copies where one of the
    /// codecs is missing.
    pub(super) fn transcodes(&self) -> bool {
        self.enabled && !self.vcodec.is_empty() && !self.acodec.is_empty()
    }

    /// The same for an `ingest` that only copies: whatever else the engine says has no
    /// effect, as in SRS.
    pub(crate) fn copying(output: &str) -> Self {
        Self {
            enabled: true,
            iformat: "off".to_owned(),
            vcodec: COPY.to_owned(),
            acodec: COPY.to_owned(),
            output: output.to_owned(),
            ..Self::new("")
        }
    }

    /// ffmpeg's arguments, in SRS's order: `before` the options of the engine's own, then
    /// `input`, what becomes of it, and `output`.
    #[must_use]
    pub fn arguments(&self, before: &[&str], input: &str, output: &str) -> Vec<String> {
        let mut arguments = Arguments::default();
        arguments.words(before);
        arguments.0.extend(self.perfile.iter().cloned());
        // Of another input SRS does not say the format: `-f flv` would be wrong there.
        if input.starts_with("rtmp://") {
            arguments.format(&self.iformat);
        }
        arguments.words(&["-i", input]);
        arguments.0.extend(self.vfilter.iter().cloned());
        self.pictures(&mut arguments);
        self.sound(&mut arguments);
        arguments.format(&self.oformat);
        arguments.words(&["-y", output]);
        arguments.0
    }

    fn pictures(&self, arguments: &mut Arguments) {
        if self.vcodec == NO_VIDEO {
            arguments.words(&["-vn"]);
            return;
        }
        arguments.words(&["-vcodec", &self.vcodec]);
        if self.vcodec == COPY {
            return;
        }
        arguments.number("-b:v", u64::from(self.vbitrate) * 1_000);
        if self.vfps > 0.0 {
            arguments.words(&["-r", &format!("{:.2}", self.vfps)]);
        }
        // Encoders take even sizes only.
        let (width, height) = (self.vwidth & !1, self.vheight & !1);
        if width > 0 && height > 0 {
            arguments.words(&["-s", &format!("{width}x{height}")]);
            arguments.words(&["-aspect", &format!("{width}:{height}")]);
        }
        arguments.number("-threads", self.vthreads.into());
        arguments.text("-profile:v", &self.vprofile);
        arguments.text("-preset", &self.vpreset);
        arguments.0.extend(self.vparams.iter().cloned());
    }

    fn sound(&self, arguments: &mut Arguments) {
        if self.acodec == NO_AUDIO {
            arguments.words(&["-an"]);
            return;
        }
        arguments.words(&["-acodec", &self.acodec]);
        if self.acodec == COPY {
            // The only option that makes sense of a copy.
            const FILTER: [&str; 2] = ["-bsf:a", "aac_adtstoasc"];
            if self.aparams.windows(2).any(|pair| pair == FILTER) {
                arguments.words(&FILTER);
            }
            return;
        }
        arguments.number("-b:a", u64::from(self.abitrate) * 1_000);
        arguments.number("-ar", self.asample_rate.into());
        arguments.number("-ac", self.achannels.into());
        arguments.0.extend(self.aparams.iter().cloned());
    }

    /// Checks what SRS checks when the engine is started.
    fn check(&self, directive: &Directive, diagnostics: &mut Diagnostics) {
        let mut refuse = |message: &str| {
            diagnostics.push(directive.error(format!("`engine {}`: {message}", self.name)));
        };
        if self.vcodec == NO_VIDEO && self.acodec == NO_AUDIO {
            refuse("`vcodec vn` and `acodec an` leave nothing");
        }
        let encodes = ![COPY, NO_VIDEO, "png"].contains(&&*self.vcodec);
        if encodes && (self.vprofile.is_empty() || self.vpreset.is_empty()) {
            refuse(
                "an encoder needs `vprofile` and `vpreset`, such as `vprofile main; vpreset \
                 veryfast;`",
            );
        }
    }
}

/// A list of arguments that grows.
#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(ToString::to_string));
    }

    fn format(&mut self, format: &str) {
        if format != "off" {
            self.text("-f", format);
        }
    }

    fn number(&mut self, option: &str, value: u64) {
        if value > 0 {
            self.words(&[option, &value.to_string()]);
        }
    }

    fn text(&mut self, option: &str, value: &str) {
        if !value.is_empty() {
            self.words(&[option, value]);
        }
    }
}

/// The purpose of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EngineOf {
    Ingest,
    Transcode,
}

/// Reads `engine [NAME] { … }`.
pub(super) fn engine(
    directive: &Directive,
    purpose: EngineOf,
    diagnostics: &mut Diagnostics,
) -> Option<Engine> {
    let (name, children) = diagnostics.take(named_block(directive))?;
    let mut engine = Engine::new(name);
    apply(
        &mut engine,
        children,
        ENGINE,
        "in `engine`",
        &[],
        diagnostics,
    );
    if engine.transcodes() {
        engine.check(directive, diagnostics);
    }
    if purpose == EngineOf::Transcode && engine.enabled {
        let lacks = |value: &str| value.is_empty();
        let lacking = [
            ("vcodec", lacks(&engine.vcodec)),
            ("acodec", lacks(&engine.acodec)),
            ("output", lacks(&engine.output)),
        ];
        for (word, _) in lacking.iter().filter(|(_, lacks)| *lacks) {
            let message = format!("`engine {name}` has no `{word}`");
            diagnostics.push(directive.error(message));
        }
    }
    Some(engine)
}

/// The name and the directives of `WORD [NAME] { … }`.
pub(super) fn named_block(directive: &Directive) -> Result<(&str, &[Directive]), Diagnostic> {
    let children = directive.children.as_deref();
    match (directive.arguments.as_slice(), children) {
        ([], Some(children)) => Ok(("", children)),
        ([name], Some(children)) => Ok((name, children)),
        _ => {
            let word = &directive.keyword;
            let form = format!("`{word}` takes a block: `{word} NAME {{ … }}`");
            Err(directive.error(form))
        }
    }
}

settings! { Engine {
    ENABLED: "enabled", |engine, it| engine.enabled = switch(it)?;
    IFORMAT: "iformat", |engine, it| engine.iformat = word(it)?;
    VCODEC: "vcodec", |engine, it| engine.vcodec = word(it)?;
    VBITRATE: "vbitrate", |engine, it| engine.vbitrate = it.number(0..=1_000_000)?;
    VFPS: "vfps", |engine, it| engine.vfps = fps(it)?;
    VWIDTH: "vwidth", |engine, it| engine.vwidth = it.number(0..=16_384)?;
    VHEIGHT: "vheight", |engine, it| engine.vheight = it.number(0..=16_384)?;
    VTHREADS: "vthreads", |engine, it| engine.vthreads = it.number(0..=1_024)?;
    VPROFILE: "vprofile", |engine, it| engine.vprofile = word(it)?;
    VPRESET: "vpreset", |engine, it| engine.vpreset = word(it)?;
    ACODEC: "acodec", |engine, it| engine.acodec = word(it)?;
    ABITRATE: "abitrate", |engine, it| engine.abitrate = it.number(0..=1_000_000)?;
    ASAMPLE_RATE: "asample_rate", |engine, it| engine.asample_rate = it.number(0..=1_000_000)?;
    ACHANNELS: "achannels", |engine, it| engine.achannels = it.number(0..=2)?;
    OFORMAT: "oformat", |engine, it| engine.oformat = word(it)?;
    OUTPUT: "output", |engine, it| engine.output = word(it)?;
}}

const ENGINE: &[Setting<Engine>] = &[
    ENABLED,
    IFORMAT,
    VCODEC,
    VBITRATE,
    VFPS,
    VWIDTH,
    VHEIGHT,
    VTHREADS,
    VPROFILE,
    VPRESET,
    ACODEC,
    ABITRATE,
    ASAMPLE_RATE,
    ACHANNELS,
    OFORMAT,
    OUTPUT,
    Setting::block("perfile", |engine, children, _| {
        engine.perfile = options(children);
    }),
    Setting::block("vfilter", |engine, children, _| {
        engine.vfilter = options(children);
    }),
    Setting::block("vparams", |engine, children, _| {
        engine.vparams = options(children);
    }),
    Setting::block("aparams", |engine, children, _| {
        engine.aparams = options(children);
    }),
];

fn word(directive: &Directive) -> Result<String, Diagnostic> {
    Ok(directive.argument("one word")?.to_owned())
}

fn fps(directive: &Directive) -> Result<f64, Diagnostic> {
    directive.parsed("a number of pictures in a second, from 0 to 1000", |fps| {
        (0.0..=1_000.0).contains(fps)
    })
}

/// Options of ffmpeg, `rtsp_transport tcp;` for `-rtsp_transport tcp`. Of several words
/// behind one SRS takes the first.
fn options(children: &[Directive]) -> Vec<String> {
    let option = |directive: &Directive| {
        let name = directive.keyword.trim_start_matches('-');
        let value = directive.arguments.first().filter(|it| !it.is_empty());
        [Some(format!("-{name}")), value.cloned()]
    };
    children.iter().flat_map(option).flatten().collect()
}
