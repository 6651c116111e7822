//! `dvr { … }` of a vhost: recordings of its streams in FLV or fragmented MP4 files.

use std::time::Duration;

use conf_kit::{Diagnostic, Diagnostics, Directive, Location, did_you_mean};
use rtmp_proto::session::StreamKey;
use serde::Serialize;

use super::dvr_naming::Naming;
use super::model::Vhost;
use super::setting::{Setting, apply, settings};
use super::units::{optional_seconds, seconds};
use super::value::switch;

/// Names of files where `dvr_path` is a directory, as in SRS.
const FILE_IN_DIRECTORY: &str = "/[stream].[timestamp].flv";

/// What the names of files in fragmented MP4 end in.
const MP4: &str = ".mp4";

/// The variables of `dvr_path`.
const VARIABLES: [&str; 11] = [
    "vhost",
    "app",
    "stream",
    "2006",
    "01",
    "02",
    "15",
    "04",
    "05",
    "999",
    "timestamp",
];

/// `dvr { enabled on; … }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dvr {
    /// True if the vhost's streams are recorded.
    pub enabled: bool,
    /// When a file ends.
    pub plan: DvrPlan,
    /// `dvr_path`: the name of each file, which ends in `.flv` or `.mp4`.
    pub path: String,
    /// Of the plan `segment`: the length of a file; zero: no limit.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// Of the plan `segment`: true if a file of pictures begins with a keyframe.
    pub wait_keyframe: bool,
    /// `dvr_apply`: the streams that are recorded, as `APP/STREAM`; `None`: all.
    pub streams: Option<Vec<String>>,
    /// `time_jitter`: true if each file's time begins with 0, false if it has the
    /// stream's.
    pub starts_at_zero: bool,
    /// `dvr_keep`: finished files that are older are removed; `None`: none is.
    #[serde(serialize_with = "optional_seconds")]
    pub keep: Option<Duration>,
    /// `dvr_keep_bytes`: the oldest finished files are removed that go beyond this; `None`:
    /// none is.
    pub keep_bytes: Option<u64>,
}

/// The format of recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DvrFormat {
    /// FLV.
    Flv,
    /// Fragmented MP4.
    Mp4,
}

impl DvrFormat {
    /// The format of the files that `path` names.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path.ends_with(MP4) {
            true => Self::Mp4,
            false => Self::Flv,
        }
    }
}

/// When a file of a recording ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DvrPlan {
    /// With the publication.
    Session,
    /// With the publication, or at `dvr_duration`.
    Segment,
}

impl Default for Dvr {
    fn default() -> Self {
        Self {
            enabled: false,
            plan: DvrPlan::Session,
            path: "./objs/nginx/html/[app]/[stream].[timestamp].flv".to_owned(),
            duration: Duration::from_secs(30),
            wait_keyframe: true,
            streams: None,
            starts_at_zero: true,
            keep: None,
            keep_bytes: None,
        }
    }
}

impl Dvr {
    /// True if the stream `key` is recorded, as far as the configuration says.
    #[must_use]
    pub fn applies_to(&self, key: &StreamKey) -> bool {
        let is_key = |name: &String| {
            let parts = name.split_once('/');
            parts == Some((key.app.as_str(), key.stream.as_str()))
        };
        let streams = self.streams.as_ref();
        self.enabled && streams.is_none_or(|streams| streams.iter().any(is_key))
    }

    /// The format of its files.
    #[must_use]
    pub fn format(&self) -> DvrFormat {
        DvrFormat::of(&self.path)
    }

    /// The length at which a file ends, if it ends before the publication.
    #[must_use]
    pub fn segment(&self) -> Option<Duration> {
        match self.plan {
            DvrPlan::Session => None,
            DvrPlan::Segment => Some(self.duration).filter(|it| !it.is_zero()),
        }
    }
}

/// Warns of vhosts whose recordings have names in common and are kept for different times: the
/// longer one holds for those.
pub(super) fn warn_of_overlaps(
    vhosts: &[Vhost],
    locations: &[Location],
    diagnostics: &mut Diagnostics,
) {
    let mut known: Vec<(&Vhost, Naming)> = Vec::new();
    for (vhost, location) in vhosts.iter().zip(locations) {
        let is_own = vhost.enabled && vhost.upstream.is_none() && vhost.dvr != Dvr::default();
        let naming = is_own.then(|| Naming::of(&vhost.dvr.path, &vhost.name));
        let Some(naming) = naming.flatten() else {
            continue;
        };
        let keeps = |vhost: &Vhost| (vhost.dvr.keep, vhost.dvr.keep_bytes);
        let overlapping = known
            .iter()
            .find(|(other, names)| keeps(other) != keeps(vhost) && names.overlaps(&naming));
        if let Some((other, _)) = overlapping {
            let message = format!(
                "the vhosts `{}` and `{}` may give recordings the same names (`{}`, `{}`), and \
                 keep them differently: such a file stays as long as the one that keeps it \
                 longer says; put `[vhost]` or directories of their own into `dvr_path`",
                other.name, vhost.name, other.dvr.path, vhost.dvr.path
            );
            diagnostics.warn(location, message);
        }
        known.push((vhost, naming));
    }
}

/// Reads `dvr { … }`.
pub(super) fn dvr(vhost: &mut Vhost, children: &[Directive], diagnostics: &mut Diagnostics) {
    let mut dvr = Dvr::default();
    apply(&mut dvr, children, DVR, "in `dvr`", &[], diagnostics);
    vhost.dvr = dvr;
}

settings! { Dvr {
    ENABLED: "enabled", |dvr, it| dvr.enabled = switch(it)?;
    PLAN: "dvr_plan", |dvr, it| dvr.plan = plan(it)?;
    PATH: "dvr_path", |dvr, it| dvr.path = path(it)?;
    DURATION: "dvr_duration", |dvr, it| dvr.duration = it.seconds_within(0..=604_800)?;
    WAIT_KEYFRAME: "dvr_wait_keyframe", |dvr, it| dvr.wait_keyframe = switch(it)?;
    TIME_JITTER: "time_jitter", |dvr, it| dvr.starts_at_zero = jitter(it)?;
    KEEP: "dvr_keep", |dvr, it| dvr.keep = age(it)?;
    KEEP_BYTES: "dvr_keep_bytes", |dvr, it| dvr.keep_bytes = size(it)?;
}}

const DVR: &[Setting<Dvr>] = &[
    ENABLED,
    PLAN,
    PATH,
    DURATION,
    WAIT_KEYFRAME,
    TIME_JITTER,
    KEEP,
    KEEP_BYTES,
    Setting::list("dvr_apply", streams),
];

fn plan(directive: &Directive) -> Result<DvrPlan, Diagnostic> {
    const PLANS: [(&str, DvrPlan); 2] =
        [("session", DvrPlan::Session), ("segment", DvrPlan::Segment)];
    directive.choice(&PLANS, "`session` or `segment`")
}

fn jitter(directive: &Directive) -> Result<bool, Diagnostic> {
    const JITTER: [(&str, bool); 3] = [("full", true), ("zero", true), ("off", false)];
    directive.choice(&JITTER, "`full`, `zero` or `off`")
}

/// `7d`, `12h`, …; `off`: none.
fn age(directive: &Directive) -> Result<Option<Duration>, Diagnostic> {
    const UNITS: [(&str, u64); 5] = [
        ("s", 1),
        ("m", 60),
        ("h", 3_600),
        ("d", 86_400),
        ("w", 604_800),
    ];
    let expected = "an age such as `30d`, `12h` or `90m`, or `off`";
    Ok(quantity(directive, &UNITS, expected)?.map(Duration::from_secs))
}

/// `100G`, `500M`, …; `off`: none.
fn size(directive: &Directive) -> Result<Option<u64>, Diagnostic> {
    const UNITS: [(&str, u64); 5] = [
        ("", 1),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
    ];
    let expected = "a size such as `100G`, `500M` or `2T`, or `off`";
    quantity(directive, &UNITS, expected)
}

/// A number, not 0, of one of `units`; `None` for `off`.
fn quantity(
    directive: &Directive,
    units: &[(&str, u64)],
    expected: &str,
) -> Result<Option<u64>, Diagnostic> {
    let word = directive.argument(expected)?;
    if word == "off" {
        return Ok(None);
    }
    let digits = word.find(|it: char| !it.is_ascii_digit());
    let (number, unit) = word.split_at(digits.unwrap_or(word.len()));
    let factor = units
        .iter()
        .find(|(name, _)| unit.eq_ignore_ascii_case(name));
    let number = number.parse().ok().filter(|&number: &u64| number > 0);
    let read = factor.and_then(|(_, factor)| number?.checked_mul(*factor));
    read.map(Some).ok_or_else(|| directive.expects(expected))
}

fn streams(dvr: &mut Dvr, directive: &Directive) -> Result<(), Diagnostic> {
    let expected = "`all`, `none`, or streams such as `live/livestream`";
    let words = directive.words(expected)?;
    match words {
        [word] if word == "all" => {
            dvr.streams = None;
            return Ok(());
        }
        [word] if word == "none" => {
            dvr.streams = Some(Vec::new());
            return Ok(());
        }
        _ => {}
    }
    let is_stream = |word: &String| {
        let parts = word.split_once('/');
        parts.is_some_and(|(app, stream)| !app.is_empty() && !stream.is_empty())
    };
    if !words.iter().all(is_stream) {
        return Err(directive.expects(expected));
    }
    dvr.streams = Some(words.to_vec());
    Ok(())
}

/// `dvr_path`, with the name of a file where it is a directory.
fn path(directive: &Directive) -> Result<String, Diagnostic> {
    let expected = "the name of files, such as `/data/[app]/[stream].[timestamp].flv`";
    let mut path = directive.argument(expected)?.to_owned();
    if path.is_empty() || path.contains('\0') {
        return Err(directive.expects(expected));
    }
    if !path.ends_with(".flv") && !path.ends_with(MP4) {
        path.truncate(path.trim_end_matches('/').len());
        path.push_str(FILE_IN_DIRECTORY);
    }
    check_variables(directive, &path)?;
    let variables = path.find('[').unwrap_or(path.len());
    if path[variables..].split('/').any(|part| part == "..") {
        let message = "`..` stands behind a variable: files stay below the directory before it";
        return Err(directive.error(message));
    }
    Ok(path)
}

/// Refuses what looks like a variable and is none.
fn check_variables(directive: &Directive, path: &str) -> Result<(), Diagnostic> {
    let names = path.split('[').skip(1).filter_map(|it| it.split_once(']'));
    for (name, _) in names {
        if !VARIABLES.contains(&name) {
            let hint = did_you_mean(name, VARIABLES);
            let message = format!("`dvr_path` has no variable `[{name}]`{hint}");
            return Err(directive.error(message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Loaded, Role};

    fn load(block: &str) -> Result<Dvr, String> {
        let text = format!("vhost v {{ dvr {{ {block} }} }}");
        let Loaded {
            config, warnings, ..
        } = config::load(&text, Role::Origin).map_err(|error| error.to_string())?;
        assert_eq!(warnings, []);
        Ok(config.vhosts["v"].dvr.clone())
    }

    fn key(app: &str, stream: &str) -> StreamKey {
        StreamKey {
            vhost: "v".to_owned(),
            app: app.to_owned(),
            stream: stream.to_owned(),
        }
    }

    #[test]
    fn the_block_is_read_as_srs_reads_it() {
        let dvr = load(
            "enabled on; dvr_apply all; dvr_plan session; \
             dvr_path ./objs/nginx/html/[app]/[stream].[timestamp].flv; dvr_duration 30; \
             dvr_wait_keyframe on; time_jitter full;",
        );
        let defaults = Dvr {
            enabled: true,
            ..Dvr::default()
        };
        assert_eq!(dvr.unwrap(), defaults);
        let dvr = load("enabled on; dvr_plan segment; dvr_duration 0.5; time_jitter off;");
        let dvr = dvr.unwrap();
        assert_eq!(dvr.segment(), Some(Duration::from_millis(500)));
        assert!(!dvr.starts_at_zero);
        assert_eq!(load("dvr_duration 5;").unwrap().segment(), None);
        assert!(!load("").unwrap().applies_to(&key("live", "s")));
    }

    #[test]
    fn an_edge_says_that_it_records_nothing() {
        let text = "vhost v { origin a; dvr { enabled on; } }";
        let loaded = config::load(text, Role::Edge).unwrap();
        let [warning] = &loaded.warnings[..] else {
            panic!("one warning: {:?}", loaded.warnings)
        };
        assert!(
            warning.to_string().contains("`dvr` has no effect"),
            "{warning}"
        );
    }

    #[test]
    fn vhosts_that_keep_the_same_files_differently_are_warned_of() {
        let warnings = |first: &str, second: &str| {
            let text = format!("vhost a {{ dvr {{ {first} }} }} vhost b {{ dvr {{ {second} }} }}");
            let loaded = config::load(&text, Role::Origin).unwrap();
            let warnings = loaded.warnings.iter();
            warnings.map(ToString::to_string).collect::<Vec<_>>()
        };
        for (first, second) in [
            ("enabled on; dvr_keep 1d;", "enabled on;"),
            (
                "dvr_path /d/[app]/[stream].flv; dvr_keep 1d;",
                "dvr_path /d/x/[app]/[stream].flv;",
            ),
            (
                "dvr_path /d/x/[app]/[stream].flv;",
                "dvr_path /d/[app]/[stream].flv; dvr_keep 1d;",
            ),
        ] {
            let warnings = warnings(first, second);
            assert_eq!(warnings.len(), 1, "{first} {second}");
            assert!(
                warnings[0].contains("keep them differently"),
                "{warnings:?}"
            );
        }
        for (first, second) in [
            ("enabled on; dvr_keep 1d;", "enabled on; dvr_keep 1d;"),
            // It records nothing, as far as is known.
            ("enabled on; dvr_keep 1d;", "enabled off;"),
            (
                "dvr_path /d/[vhost]/[stream].flv; dvr_keep 1d;",
                "dvr_path /d/[vhost]/[stream].flv;",
            ),
            (
                "dvr_path /d/[app]/[stream].flv; dvr_keep 1d;",
                "dvr_path /e/[app]/[stream].flv;",
            ),
        ] {
            assert_eq!(warnings(first, second), [""; 0], "{first} {second}");
        }
    }

    #[test]
    fn dvr_apply_names_the_streams() {
        let dvr = load("enabled on; dvr_apply live/a live/b/c;").unwrap();
        assert!(dvr.applies_to(&key("live", "a")));
        assert!(dvr.applies_to(&key("live", "b/c")));
        assert!(!dvr.applies_to(&key("live", "b")));
        let dvr = load("enabled on; dvr_apply none;").unwrap();
        assert!(!dvr.applies_to(&key("live", "a")));
        assert!(
            load("dvr_apply live;")
                .unwrap_err()
                .contains("live/livestream")
        );
    }

    #[test]
    fn a_directory_gets_srss_file_names() {
        for given in ["/data/[app]", "/data/[app]/"] {
            let dvr = load(&format!("dvr_path {given};")).unwrap();
            assert_eq!(dvr.path, "/data/[app]/[stream].[timestamp].flv");
        }
    }

    #[test]
    fn a_wrong_path_is_refused_and_the_way_out_named() {
        for (path, reason) in [
            ("/data/[steam].flv", "no variable `[steam]`"),
            (
                "/data/[app]/../[stream].flv",
                "`..` stands behind a variable",
            ),
            ("\"\"", "the name of files"),
        ] {
            let error = load(&format!("enabled on; dvr_path {path};")).unwrap_err();
            assert!(error.contains(reason), "{path}: {error}");
        }
        assert!(load("dvr_path ../data/[stream].flv;").is_ok());
        let error = load("dvr_plan append;").unwrap_err();
        assert!(error.contains("`session` or `segment`"), "{error}");
    }

    #[test]
    fn the_name_says_the_format() {
        let dvr = load("dvr_path /data/[stream].mp4;").unwrap();
        assert_eq!(dvr.format(), DvrFormat::Mp4);
        assert_eq!(Dvr::default().format(), DvrFormat::Flv);
    }

    #[test]
    fn files_are_kept_for_an_age_and_up_to_a_size() {
        let dvr = load("dvr_keep 7d; dvr_keep_bytes 100G;").unwrap();
        assert_eq!(dvr.keep, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(dvr.keep_bytes, Some(100 << 30));
        let dvr = load("dvr_keep off; dvr_keep_bytes 5;").unwrap();
        assert_eq!((dvr.keep, dvr.keep_bytes), (None, Some(5)));
        for wrong in [
            "dvr_keep 7;",
            "dvr_keep 0d;",
            "dvr_keep d;",
            "dvr_keep 99999999999999999d;",
            "dvr_keep_bytes 1X;",
            "dvr_keep_bytes -1;",
        ] {
            let error = load(wrong).unwrap_err();
            assert!(error.contains("or `off`"), "{wrong}: {error}");
        }
    }
}
