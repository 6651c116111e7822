//! `hls { … }` of a vhost: HLS and low-latency HLS.

use std::path::PathBuf;
use std::time::Duration;

use conf_kit::{Diagnostic, Diagnostics, Directive};
use serde::{Deserialize, Serialize, Serializer};

use super::model::Vhost;
use super::setting::{Setting, apply, settings};
use super::units::{milliseconds, seconds};
use super::value::switch;

/// Directory of the files where `hls_path` and `dir` are not given, as in SRS.
pub(super) const DEFAULT_DIRECTORY: &str = "./objs/nginx/html";

/// `hls { enabled on; … }`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hls {
    /// True if the vhost's streams are served as HLS.
    pub enabled: bool,
    /// Length that a segment has at least, but for those that a publication's end cuts.
    #[serde(serialize_with = "seconds")]
    pub fragment: Duration,
    /// Length of the stream that a playlist lists.
    #[serde(serialize_with = "seconds")]
    pub window: Duration,
    /// Segments of a stream whose keyframes stay away end `aof_ratio` times `fragment` after
    /// their beginning.
    pub aof_ratio: f64,
    /// True if segments begin with a keyframe.
    pub wait_keyframe: bool,
    /// True for fragmented MP4, false for MPEG-TS.
    pub use_fmp4: bool,
    /// True if segments are published in parts (LL-HLS).
    pub low_latency: bool,
    /// Length of a part.
    #[serde(serialize_with = "milliseconds")]
    pub part: Duration,
    /// True if each viewer has a session, by the parameter `hls_ctx`.
    pub ctx: bool,
    /// True if the session is named in the URIs of segments, too.
    pub ts_ctx: bool,
    /// `EXT-X-TARGETDURATION` is this factor times `fragment` at least.
    pub td_ratio: f64,
    /// The keys of segments; `None`: they are not encrypted.
    pub keys: Option<HlsKeys>,
    /// Bytes that are read of the answer to `on_hls_notify`.
    pub nb_notify: u32,
    /// The files of a stream that has ended are removed after this time; zero: never.
    #[serde(serialize_with = "seconds")]
    pub dispose: Duration,
    /// Paths of the playlists over HTTP.
    pub location: PlaylistPath,
    /// The files that are written; `None`: none are.
    pub files: Option<HlsFiles>,
}

impl Default for Hls {
    fn default() -> Self {
        Block::default().finish()
    }
}

/// `hls_keys on; …`: segments are encrypted by AES-128.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HlsKeys {
    /// `hls_fragments_per_key`: number of segments that have one key.
    pub fragments_per_key: u32,
    /// `hls_key_file`: names of the files.
    pub file: String,
    /// `hls_key_file_path`: the directory of the files; `None`: `hls_path`.
    pub path: Option<PathBuf>,
    /// `hls_key_url`: the server that gives out keys; `None`: this one.
    pub url: Option<String>,
}

/// The files that HLS is written to, in a directory that another server serves, say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HlsFiles {
    /// `hls_path`: the directory.
    pub path: PathBuf,
    /// `hls_m3u8_file`.
    pub m3u8_file: String,
    /// `hls_ts_file`.
    pub ts_file: String,
    /// `hls_fmp4_file`.
    pub fmp4_file: String,
    /// `hls_init_file`.
    pub init_file: String,
    /// `hls_entry_prefix`: what stands before a segment's name in the playlist.
    pub entry_prefix: String,
    /// True if files are removed that no playlist names any more.
    pub cleanup: bool,
}

/// Paths of playlists: `[vhost]/DIRECTORIES/[app]/[stream].m3u8`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaylistPath {
    /// The directories, with a slash before each.
    directories: String,
}

const STREAMS: &str = "/[app]/[stream].m3u8";

impl PlaylistPath {
    /// Reads `hls_m3u8_file`; `None` if it is of another form.
    fn parse(text: &str) -> Option<Self> {
        let path = format!("/{}", text.trim_start_matches('/'));
        let path = path.strip_prefix("/[vhost]").unwrap_or(&path);
        let directories = path.strip_suffix(STREAMS)?;
        (!directories.contains('[')).then(|| Self {
            directories: directories.to_owned(),
        })
    }

    /// The application at the path of a playlist or segment, and the file's name.
    #[must_use]
    pub fn split<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        let path = path.strip_prefix(self.directories.as_str())?;
        let (app, name) = path.strip_prefix('/')?.rsplit_once('/')?;
        (!app.is_empty() && !name.is_empty()).then_some((app, name))
    }
}

impl Serialize for PlaylistPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{STREAMS}", self.directories))
    }
}

impl PlaylistPath {
    /// The directory of the playlists of `app`, with a slash before it.
    #[must_use]
    pub fn directory(&self, app: &str) -> String {
        format!("{}/{app}", self.directories)
    }
}

impl Hls {
    /// Places the playlists below `directory`, which `http_server` serves in SRS: what
    /// `hls_path` has below it is part of their path.
    pub(super) fn locate_below(&mut self, directory: &str) {
        let Some(files) = &self.files else { return };
        let plain = |path: &str| path.trim_start_matches("./").trim_matches('/').to_owned();
        let path = plain(&files.path.to_string_lossy());
        let Some(below) = path.strip_prefix(&plain(directory)) else {
            return;
        };
        if below.starts_with('/') {
            self.location.directories.insert_str(0, below);
        }
    }
}

/// `hls { … }` while it is read.
#[derive(Debug)]
struct Block {
    enabled: bool,
    fragment: Option<Duration>,
    window: Option<Duration>,
    aof_ratio: f64,
    wait_keyframe: bool,
    use_fmp4: Option<bool>,
    low_latency: bool,
    part: Duration,
    ctx: bool,
    ts_ctx: bool,
    td_ratio: f64,
    has_keys: bool,
    keys: HlsKeys,
    nb_notify: u32,
    dispose: Duration,
    /// `hls_path`, if it is given.
    path: Option<PathBuf>,
    location: PlaylistPath,
    m3u8_file: String,
    ts_file: String,
    fmp4_file: String,
    init_file: String,
    entry_prefix: String,
    cleanup: bool,
    /// The reason for which the vhost is not served as HLS.
    not_served: Option<Diagnostic>,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            enabled: false,
            fragment: None,
            window: None,
            aof_ratio: 2.1,
            wait_keyframe: true,
            use_fmp4: None,
            low_latency: false,
            part: Duration::from_millis(300),
            ctx: true,
            ts_ctx: true,
            td_ratio: 1.0,
            has_keys: false,
            keys: HlsKeys {
                fragments_per_key: 5,
                file: "[app]/[stream]-[seq].key".to_owned(),
                path: None,
                url: None,
            },
            nb_notify: 64,
            dispose: Duration::from_secs(120),
            path: None,
            location: PlaylistPath::default(),
            m3u8_file: "[app]/[stream].m3u8".to_owned(),
            ts_file: "[app]/[stream]-[seq].ts".to_owned(),
            fmp4_file: "[app]/[stream]-[seq].m4s".to_owned(),
            init_file: "[app]/[stream]-init.mp4".to_owned(),
            entry_prefix: String::new(),
            cleanup: true,
            not_served: None,
        }
    }
}

impl Block {
    fn finish(self) -> Hls {
        let seconds = Duration::from_secs;
        // A viewer by LL-HLS finds a new picture in the newest segment: long ones only make
        // the playlist long.
        let (fragment, window) = match self.low_latency {
            true => (seconds(2), seconds(20)),
            false => (seconds(10), seconds(60)),
        };
        Hls {
            enabled: self.enabled && self.not_served.is_none(),
            fragment: self.fragment.unwrap_or(fragment),
            window: self.window.unwrap_or(window),
            aof_ratio: self.aof_ratio,
            wait_keyframe: self.wait_keyframe,
            use_fmp4: self.use_fmp4.unwrap_or(self.low_latency),
            low_latency: self.low_latency,
            part: self.part,
            ctx: self.ctx,
            ts_ctx: self.ts_ctx,
            td_ratio: self.td_ratio,
            keys: self.has_keys.then_some(self.keys),
            nb_notify: self.nb_notify,
            dispose: self.dispose,
            location: self.location,
            files: self.path.map(|path| HlsFiles {
                path,
                m3u8_file: self.m3u8_file,
                ts_file: self.ts_file,
                fmp4_file: self.fmp4_file,
                init_file: self.init_file,
                entry_prefix: self.entry_prefix,
                cleanup: self.cleanup,
            }),
        }
    }
}

/// Reads `hls { … }`.
pub(super) fn hls(vhost: &mut Vhost, children: &[Directive], diagnostics: &mut Diagnostics) {
    let mut block = Block::default();
    apply(&mut block, children, HLS, "in `hls`", &[], diagnostics);
    if block.low_latency && block.use_fmp4 == Some(false) {
        let directive = children.iter().find(|it| it.keyword == "hls_low_latency");
        if let Some(directive) = directive {
            let message = "`hls_low_latency` needs fragmented MP4: leave `hls_use_fmp4` out";
            diagnostics.error(&directive.location, message);
        }
    }
    let keys = children.iter().find(|it| it.keyword == "hls_keys");
    if let Some(directive) = keys.filter(|_| block.has_keys && block.low_latency) {
        let message = "`hls_keys` encrypts whole segments: leave `hls_low_latency` out";
        diagnostics.error(&directive.location, message);
    }
    if let Some(warning) = block.not_served.clone() {
        diagnostics.push(warning);
    }
    vhost.hls = block.finish();
}

settings! { Block {
    ENABLED: "enabled", |block, it| block.enabled = switch(it)?;
    FRAGMENT: "hls_fragment", |block, it| block.fragment = Some(length(it, 0.2)?);
    WINDOW: "hls_window", |block, it| block.window = Some(length(it, 1.0)?);
    AOF_RATIO: "hls_aof_ratio", |block, it| block.aof_ratio = ratio(it)?;
    WAIT_KEYFRAME: "hls_wait_keyframe", |block, it| block.wait_keyframe = switch(it)?;
    USE_FMP4: "hls_use_fmp4", |block, it| block.use_fmp4 = Some(switch(it)?);
    LOW_LATENCY: "hls_low_latency", |block, it| block.low_latency = switch(it)?;
    PART: "hls_part", |block, it| block.part = it.milliseconds(100..=5_000)?;
    CTX: "hls_ctx", |block, it| block.ctx = switch(it)?;
    TS_CTX: "hls_ts_ctx", |block, it| block.ts_ctx = switch(it)?;
    TD_RATIO: "hls_td_ratio", |block, it| block.td_ratio = ratio(it)?;
    KEYS: "hls_keys", |block, it| block.has_keys = switch(it)?;
    FRAGMENTS_PER_KEY: "hls_fragments_per_key",
        |block, it| block.keys.fragments_per_key = it.number(1..=u32::MAX)?;
    KEY_FILE: "hls_key_file", |block, it| block.keys.file = file_name(it)?;
    KEY_FILE_PATH: "hls_key_file_path",
        |block, it| block.keys.path = Some(it.argument("a directory")?.into());
    NB_NOTIFY: "hls_nb_notify", |block, it| block.nb_notify = it.number(0..=1 << 20)?;
    KEY_URL: "hls_key_url", |block, it| block.keys.url = Some(it.argument("a URL")?.to_owned());
    DISPOSE: "hls_dispose", |block, it| block.dispose = it.seconds_within(0..=86_400)?;
    PATH: "hls_path", |block, it| block.path = Some(it.argument("a directory")?.into());
    TS_FILE: "hls_ts_file", |block, it| block.ts_file = file_name(it)?;
    FMP4_FILE: "hls_fmp4_file", |block, it| block.fmp4_file = file_name(it)?;
    INIT_FILE: "hls_init_file", |block, it| block.init_file = file_name(it)?;
    ENTRY_PREFIX: "hls_entry_prefix",
        |block, it| block.entry_prefix = it.argument("a URL")?.to_owned();
    CLEANUP: "hls_cleanup", |block, it| block.cleanup = switch(it)?;
}}

const HLS: &[Setting<Block>] = &[
    ENABLED,
    FRAGMENT,
    WINDOW,
    AOF_RATIO,
    WAIT_KEYFRAME,
    USE_FMP4,
    LOW_LATENCY,
    PART,
    CTX,
    TS_CTX,
    DISPOSE,
    PATH,
    Setting::new("hls_m3u8_file", m3u8_file),
    TS_FILE,
    FMP4_FILE,
    INIT_FILE,
    ENTRY_PREFIX,
    CLEANUP,
    TD_RATIO,
    KEYS,
    FRAGMENTS_PER_KEY,
    KEY_FILE,
    KEY_FILE_PATH,
    KEY_URL,
    NB_NOTIFY,
    Setting::ignored(
        "hls_on_error",
        "files that cannot be written cost viewers nothing",
    ),
    Setting::ignored("hls_acodec", "segments have what the stream has"),
    Setting::ignored("hls_vcodec", "segments have what the stream has"),
    Setting::ignored("hls_ts_floor", "segments follow the stream's keyframes"),
    Setting::ignored("hls_dts_directly", "times are the publisher's"),
    Setting::ignored(
        "hls_storage",
        "segments are in memory, and in files with `hls_path`",
    ),
    Setting::ignored("hls_mount", "`hls_m3u8_file` says where playlists are"),
];

/// A time span in seconds of at least `least`, fractions allowed.
fn length(directive: &Directive, least: f64) -> Result<Duration, Diagnostic> {
    const MAX: f64 = 86_400.0;
    let expected = format!("a number of seconds from {least} to {MAX}");
    let seconds = directive.parsed(&expected, |seconds| (least..=MAX).contains(seconds))?;
    Ok(Duration::from_secs_f64(seconds))
}

fn ratio(directive: &Directive) -> Result<f64, Diagnostic> {
    directive.parsed("a number from 1 to 100", |ratio| {
        (1.0..=100.0).contains(ratio)
    })
}

/// The name of files below `hls_path`.
fn file_name(directive: &Directive) -> Result<String, Diagnostic> {
    let expected = "a name below `hls_path`, such as `[app]/[stream]-[seq].ts`";
    let name = directive.argument(expected)?;
    let climbs = name.split('/').any(|part| part == "..");
    (!name.is_empty() && !climbs)
        .then(|| {
            name.trim_start_matches("./")
                .trim_start_matches('/')
                .to_owned()
        })
        .ok_or_else(|| directive.expects(expected))
}

fn m3u8_file(block: &mut Block, directive: &Directive) -> Result<(), Diagnostic> {
    block.m3u8_file = file_name(directive)?;
    block.not_served = None;
    if let Some(location) = PlaylistPath::parse(&block.m3u8_file) {
        block.location = location;
        return Ok(());
    }
    // No error: SRS's files must load as they are.
    let message = "`hls` has no effect in this vhost: `hls_m3u8_file` is not \
                   `[app]/[stream].m3u8`, where directories may stand before `[app]`";
    block.not_served = Some(Diagnostic::warning(&directive.location, message));
    Ok(())
}

#[cfg(test)]
mod tests;
