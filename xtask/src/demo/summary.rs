//! How it went, for people and for programs.

use std::fmt::{self, Display};
use std::time::Duration;

use anyhow::Result;
use comfy_table::{CellAlignment, Table};

use serde::Serialize;

use super::browser::PageViewer;
use super::scene::Scene;
use super::screen::STYLE;
use crate::latency::{in_seconds, percentile};

/// The outcome of a demo.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    passed: bool,
    /// Why it did not pass: one sentence per failing.
    failures: Vec<String>,
    seconds: u64,
    viewers: Vec<ViewerSummary>,
    /// The browser's pages, if one was shown.
    pages: Vec<PageSummary>,
    events: Vec<EventSummary>,
    /// Bytes that the director's interface received, and the viewers' ones.
    director_rx_bytes: u64,
    viewers_rx_bytes: u64,
}

/// A viewer without a new picture for so long is not watching any more. Far
/// above what a busy machine does to a viewer who is served.
const STALL: Duration = Duration::from_secs(6);

/// The longest that the page to copy waits before it connects again.
const PAGE_RETRY: Duration = Duration::from_secs(12);

/// What a viewer is judged by.
#[derive(Clone, Copy, Debug)]
struct Fare<'s> {
    video: usize,
    audio: usize,
    /// How long before the end the last picture came.
    at_end: Option<Duration>,
    longest_pause: Duration,
    /// The longest pause that is explained: by the loss of its edge, if it lost it.
    longest_allowed: Duration,
    disorder: Option<&'s str>,
}

impl Fare<'_> {
    /// What was not as it should be, each to be read after the viewer's name.
    fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if self.video == 0 || self.audio == 0 {
            failures.push("decoded no video or no audio".to_owned());
            return failures;
        }
        match self.at_end {
            Some(pause) if pause < STALL => {}
            Some(pause) => failures.push(format!(
                "received no picture in the last {:.0} s",
                pause.as_secs_f64()
            )),
            None => failures.push("received no picture".to_owned()),
        }
        if self.longest_pause > self.longest_allowed {
            failures.push(format!(
                "was without pictures for {:.0} s, and at most {:.0} s are explained",
                self.longest_pause.as_secs_f64(),
                self.longest_allowed.as_secs_f64()
            ));
        }
        if let Some(disorder) = self.disorder {
            failures.push(format!("received timestamps that do not rise: {disorder}"));
        }
        failures
    }
}

/// How one viewer fared.
#[derive(Debug, Serialize)]
struct ViewerSummary {
    name: String,
    address: String,
    /// Every edge that served it, in order.
    edges: Vec<String>,
    video_frames: usize,
    audio_frames: usize,
    connections_with_video: usize,
    retries: usize,
    longest_pause_s: f64,
    timestamps_rise: bool,
}

/// How one page of the browser fared.
#[derive(Debug, Serialize)]
struct PageSummary {
    /// Protocol and library.
    name: &'static str,
    /// Of its last connection.
    current_time_s: f64,
    frames: u64,
    dropped_frames: u64,
    /// From the publisher's stamp in the picture to the display, if it had stamps.
    latency_p50_ms: Option<u64>,
    latency_p95_ms: Option<u64>,
    connections: u64,
    longest_pause_s: f64,
}

impl PageSummary {
    fn of(page: &PageViewer<'_>) -> Self {
        let playback = page.playback();
        Self {
            name: page.what(),
            current_time_s: tenths(playback.current_time),
            frames: playback.frames,
            dropped_frames: playback.dropped,
            latency_p50_ms: percentile(page.latencies_ms(), 50),
            latency_p95_ms: percentile(page.latencies_ms(), 95),
            connections: playback.connections,
            longest_pause_s: tenths(page.longest_pause().as_secs_f64()),
        }
    }
}

/// What was not as it should be with a page.
fn page_failures(page: &PageViewer<'_>, longest_allowed: Duration) -> Vec<String> {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let fare = Fare {
        video: count(page.playback().frames),
        audio: count(page.playback().sound_bytes),
        at_end: Some(page.since_last_picture()),
        longest_pause: page.longest_pause(),
        longest_allowed,
        disorder: None,
    };
    fare.failures()
        .into_iter()
        .map(|failure| format!("the browser's page ({}) {failure}", page.what()))
        .collect()
}

/// Something that happened.
#[derive(Debug, Serialize)]
struct EventSummary {
    at_s: f64,
    event: String,
}

impl Summary {
    /// Judges a demo that has been played to its end.
    pub(crate) fn of(scene: &Scene<'_>) -> Result<Self> {
        let cluster = scene.cluster();
        let mut failures = Vec::new();
        let mut viewers = Vec::new();
        let mut viewers_rx_bytes = 0;
        for viewer in scene.viewers() {
            let name = viewer.client().host().name().to_owned();
            let total = viewer.total();
            let fare = Fare {
                video: total.video,
                audio: total.audio,
                at_end: viewer.since_last_picture(),
                longest_pause: viewer.longest_pause(),
                longest_allowed: if viewer.edges().len() > 1 {
                    scene.recovery_limit()
                } else {
                    STALL
                },
                disorder: viewer.disorder(),
            };
            failures.extend(
                fare.failures()
                    .into_iter()
                    .map(|failure| format!("{name} {failure}")),
            );
            viewers_rx_bytes += viewer.client().host().counters()?.rx_bytes;
            let edge_name = |edge: &usize| cluster.edge(*edge).host().name().to_owned();
            viewers.push(ViewerSummary {
                name,
                address: viewer.client().address().to_string(),
                edges: viewer.edges().iter().map(edge_name).collect(),
                video_frames: total.video,
                audio_frames: total.audio,
                connections_with_video: viewer.sessions(),
                retries: viewer.retries(),
                longest_pause_s: tenths(viewer.longest_pause().as_secs_f64()),
                timestamps_rise: viewer.disorder().is_none(),
            });
        }
        let pages: Vec<_> = scene.browser().iter().flat_map(|b| b.pages()).collect();
        for page in &pages {
            failures.extend(page_failures(page, scene.recovery_limit() + PAGE_RETRY));
        }
        match scene.returned_edge() {
            None => failures.push("the killed edge did not return in time".to_owned()),
            Some(edge)
                if !scene
                    .viewers()
                    .iter()
                    .any(|viewer| viewer.edge() == Some(edge)) =>
            {
                failures.push("nobody is served by the edge that returned".to_owned());
            }
            Some(_) => {}
        }
        let events = scene.events().iter().map(|event| EventSummary {
            at_s: tenths(event.at.as_secs_f64()),
            event: event.text.clone(),
        });
        Ok(Self {
            passed: failures.is_empty(),
            failures,
            seconds: scene.elapsed().as_secs(),
            viewers,
            pages: pages.into_iter().map(PageSummary::of).collect(),
            events: events.collect(),
            director_rx_bytes: cluster.director().host().counters()?.rx_bytes,
            viewers_rx_bytes,
        })
    }

    /// Whether everything was as it should be.
    pub(crate) fn passed(&self) -> bool {
        self.passed
    }
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(STYLE).set_header([
            "viewer",
            "served by",
            "pictures",
            "sound",
            "longest pause",
            "timestamps",
        ]);
        for viewer in &self.viewers {
            table.add_row([
                viewer.name.clone(),
                viewer.edges.join(", then "),
                viewer.video_frames.to_string(),
                viewer.audio_frames.to_string(),
                format!("{:.0} s", viewer.longest_pause_s),
                if viewer.timestamps_rise {
                    "rising"
                } else {
                    "NOT RISING"
                }
                .to_owned(),
            ]);
        }
        for column in 2..5 {
            let column = table.column_mut(column).expect("one of the columns above");
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "\n{table}\n")?;
        if !self.pages.is_empty() {
            writeln!(f, "{}\n", pages_table(&self.pages))?;
        }
        writeln!(
            f,
            "{} kB reached the viewers, {} kB came by the director.",
            self.viewers_rx_bytes / 1000,
            self.director_rx_bytes / 1000,
        )?;
        for failure in &self.failures {
            writeln!(f, "  {failure}")?;
        }
        f.write_str(if self.passed {
            "The demo passed: every viewer received video with rising timestamps."
        } else {
            "The demo FAILED."
        })
    }
}

fn pages_table(pages: &[PageSummary]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header([
        "browser",
        "currentTime",
        "pictures",
        "dropped",
        "behind publisher: half, 95 %",
        "connections",
        "longest pause",
    ]);
    for page in pages {
        table.add_row([
            page.name.to_owned(),
            format!("{:.1} s", page.current_time_s),
            page.frames.to_string(),
            page.dropped_frames.to_string(),
            format!(
                "{}, {}",
                in_seconds(page.latency_p50_ms),
                in_seconds(page.latency_p95_ms)
            ),
            page.connections.to_string(),
            format!("{:.0} s", page.longest_pause_s),
        ]);
    }
    for column in 1..7 {
        let column = table.column_mut(column).expect("one of the columns above");
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: Fare<'static> = Fare {
        video: 500,
        audio: 900,
        at_end: Some(Duration::from_millis(900)),
        longest_pause: Duration::from_secs(1),
        longest_allowed: STALL,
        disorder: None,
    };

    #[test]
    fn a_viewer_who_was_served_throughout_has_no_failure() {
        assert_eq!(SERVED.failures(), Vec::<String>::new());
    }

    #[test]
    fn a_viewer_who_is_frozen_at_the_end_fails_however_much_came_before() {
        let frozen = Fare {
            at_end: Some(Duration::from_secs(15)),
            ..SERVED
        };
        assert_eq!(frozen.failures(), ["received no picture in the last 15 s"]);
    }

    #[test]
    fn a_pause_is_only_as_long_as_the_loss_of_an_edge_explains() {
        let paused = Fare {
            longest_pause: Duration::from_secs(14),
            ..SERVED
        };
        assert_eq!(
            paused.failures(),
            ["was without pictures for 14 s, and at most 6 s are explained"]
        );
        let lost_its_edge = Fare {
            longest_allowed: Duration::from_secs(36),
            ..paused
        };
        assert_eq!(lost_its_edge.failures(), Vec::<String>::new());
    }

    #[test]
    fn a_viewer_without_sound_fails() {
        let silent = Fare { audio: 0, ..SERVED };
        assert_eq!(silent.failures(), ["decoded no video or no audio"]);
    }
}
