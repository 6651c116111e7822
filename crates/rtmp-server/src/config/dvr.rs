//! `dvr { … }` of a vhost: recordings of its streams in FLV files.

use std::time::Duration;

use conf_kit::{Diagnostic, Diagnostics, Directive, did_you_mean};
use rtmp_proto::session::StreamKey;
use serde::Serialize;

use super::model::Vhost;
use super::setting::{Setting, apply, settings};
use super::units::seconds;
use super::value::switch;

/// Names of files where `dvr_path` is a directory, as in SRS.
const FILE_IN_DIRECTORY: &str = "/[stream].[timestamp].flv";

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
    /// `dvr_path`: the name of each file, which ends in `.flv`.
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

    /// The length at which a file ends, if it ends before the publication.
    #[must_use]
    pub fn segment(&self) -> Option<Duration> {
        match self.plan {
            DvrPlan::Session => None,
            DvrPlan::Segment => Some(self.duration).filter(|it| !it.is_zero()),
        }
    }
}

/// Reads `dvr { … }`.
pub(super) fn dvr(vhost: &mut Vhost, children: &[Directive], diagnostics: &mut Diagnostics) {
    let mut dvr = Dvr::default();
    apply(&mut dvr, children, DVR, "in `dvr`", &[], diagnostics);
    if let Some(stem) = dvr.path.strip_suffix(".mp4") {
        let message = format!(
            "recordings are FLV files: write `dvr_path {stem}.flv`; `ffmpeg -i FILE.flv -c copy \
             FILE.mp4` makes MP4 of one"
        );
        let directive = children.iter().rfind(|it| it.keyword == "dvr_path");
        let location = directive.map(|it| it.location.clone()).unwrap_or_default();
        match dvr.enabled {
            true => diagnostics.error(&location, message),
            // Files that have it off are read as they are; an order may have a stream recorded.
            false => diagnostics.warn(&location, message),
        }
        dvr.path = format!("{stem}.flv");
    }
    vhost.dvr = dvr;
}

settings! { Dvr {
    ENABLED: "enabled", |dvr, it| dvr.enabled = switch(it)?;
    PLAN: "dvr_plan", |dvr, it| dvr.plan = plan(it)?;
    PATH: "dvr_path", |dvr, it| dvr.path = path(it)?;
    DURATION: "dvr_duration", |dvr, it| dvr.duration = it.seconds_within(0..=604_800)?;
    WAIT_KEYFRAME: "dvr_wait_keyframe", |dvr, it| dvr.wait_keyframe = switch(it)?;
    TIME_JITTER: "time_jitter", |dvr, it| dvr.starts_at_zero = jitter(it)?;
}}

const DVR: &[Setting<Dvr>] = &[
    ENABLED,
    PLAN,
    PATH,
    DURATION,
    WAIT_KEYFRAME,
    TIME_JITTER,
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
    if !path.ends_with(".flv") && !path.ends_with(".mp4") {
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
    use crate::config::{Loaded, Role, build, conf};

    fn load(block: &str) -> Result<Dvr, String> {
        let text = format!("vhost v {{ dvr {{ {block} }} }}");
        let Loaded { config, warnings } =
            build(&conf::parse("x.conf", &text).unwrap(), Role::Origin)
                .map_err(|error| error.to_string())?;
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
        let loaded = build(&conf::parse("x.conf", text).unwrap(), Role::Edge).unwrap();
        let [warning] = &loaded.warnings[..] else {
            panic!("one warning: {:?}", loaded.warnings)
        };
        assert!(
            warning.to_string().contains("`dvr` has no effect"),
            "{warning}"
        );
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
            ("/data/[stream].mp4", "write `dvr_path /data/[stream].flv`"),
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
        let off = "vhost v { dvr { enabled off; dvr_path /data/[stream].mp4; } }";
        let loaded = build(&conf::parse("x.conf", off).unwrap(), Role::Origin).unwrap();
        assert_eq!(loaded.warnings.len(), 1);
        assert_eq!(loaded.config.vhosts["v"].dvr.path, "/data/[stream].flv");
        let error = load("dvr_plan append;").unwrap_err();
        assert!(error.contains("`session` or `segment`"), "{error}");
    }
}
