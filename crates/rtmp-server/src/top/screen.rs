//! The screen of `top`, and the keys that change it. No I/O.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crossterm::event::KeyCode;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Text};
use ratatui::widgets::Table;
use serde::Serialize;
use serde_json::Value;
use terminal_kit::{Column, Content, Screen, Scroll, sparkline, table};

use crate::config::DEFAULT_VHOST;

/// Number of samples whose rates are shown.
const MAX_HISTORY: usize = 120;
/// Width of the sparklines above the table.
const TOTAL_SPARKLINE: usize = 30;
/// Lines above the table.
const TOP_HEIGHT: u16 = 3;

const STREAM_COLUMNS: [Column; 7] = [
    Column::words("Stream"),
    Column::number("Players", 7, 0),
    Column::number("Out Mb/s", 8, 0),
    Column::number("In Mb/s", 7, 60),
    Column {
        from: 80,
        ..Column::words("Video").of_width(15)
    },
    Column::number("Skips", 6, 90),
    Column::rest("", 56),
];

const VIEWER_COLUMNS: [Column; 8] = [
    Column::words("Viewer"),
    Column::number("Lag s", 6, 0),
    Column::words("Held by").of_width(7),
    Column::number("Mb/s", 6, 50),
    Column::number("RTT ms", 7, 60),
    Column::number("Resent", 6, 70),
    Column::number("Skips", 5, 80),
    Column::rest("Stream", 50),
];

/// The state of a server, as the HTTP API says it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) summaries: Value,
    pub(super) streams: Value,
    pub(super) slowest: Value,
}

impl Sample {
    fn number(&self, path: &str) -> f64 {
        number(&self.summaries, path)
    }

    fn streams(&self) -> impl Iterator<Item = &Value> {
        self.streams.as_array().into_iter().flatten()
    }

    /// Bytes that clients were sent, and that came of them.
    fn bytes(&self) -> [f64; 2] {
        ["/system/srs_send_bytes", "/system/srs_recv_bytes"].map(|path| self.number(path))
    }
}

/// The number at `path` of `value`; 0 if there is none.
fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

/// News of the server.
#[derive(Debug)]
pub(super) enum Update {
    Sample(Box<Sample>),
    /// There is none, for this reason.
    Unreachable(String),
}

/// What the table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// The streams, those with the most players first.
    Streams,
    /// The viewers that are furthest behind.
    Viewers,
}

/// Rates in Mbit/s, the oldest first.
#[derive(Debug, Clone, Default)]
struct Rates(VecDeque<f64>);

impl Rates {
    /// Adds the rate of `bytes` in `seconds`.
    fn add(&mut self, bytes: f64, seconds: f64) {
        if self.0.len() == MAX_HISTORY {
            self.0.pop_front();
        }
        // Counters that are less than before are those of a server that was started anew.
        self.0.push_back((bytes * 8e-6 / seconds).max(0.0));
    }

    fn values(&self) -> Vec<f64> {
        self.0.iter().copied().collect()
    }

    fn sparkline(&self) -> String {
        sparkline(&self.values(), TOTAL_SPARKLINE)
    }

    fn last(&self) -> String {
        self.0
            .back()
            .map_or("-".to_owned(), |rate| format!("{rate:.2}"))
    }
}

/// The screen's content.
#[derive(Debug)]
pub(super) struct TopScreen {
    sample: Sample,
    /// Of all clients: sent, received.
    totals: [Rates; 2],
    /// What the players of each stream are sent, by its id.
    sent: HashMap<String, Rates>,
    trouble: Option<String>,
    view: View,
    scroll: Scroll,
}

impl Screen for TopScreen {
    type Update = Update;

    fn take(&mut self, update: Update) {
        match update {
            Update::Sample(sample) => self.add(*sample),
            Update::Unreachable(reason) => self.trouble = Some(reason),
        }
    }

    fn handle(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('s') => self.show(View::Streams),
            KeyCode::Char('v') => self.show(View::Viewers),
            code => self.scroll.handle(code),
        }
    }

    fn draw(&mut self, frame: &mut Frame) {
        let [top, table, bottom] = Layout::vertical([
            Constraint::Length(TOP_HEIGHT),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        // One line is the heading.
        let page = usize::from(table.height.saturating_sub(1));
        self.scroll.fit(self.rows_count(), page);
        frame.render_widget(Text::from_iter(self.top()), top);
        frame.render_widget(self.table(table.width), table);
        frame.render_widget(self.bottom(), bottom);
    }

    fn height(&self) -> usize {
        // The headings and the last line.
        usize::from(TOP_HEIGHT) + 2 + self.rows_count()
    }
}

impl TopScreen {
    pub(super) fn new(sample: Sample) -> Self {
        Self {
            sample,
            totals: Default::default(),
            sent: HashMap::new(),
            trouble: None,
            view: View::Streams,
            scroll: Scroll::default(),
        }
    }

    /// The newest sample.
    pub(super) fn sample(&self) -> &Sample {
        &self.sample
    }

    /// Shows a newer sample.
    pub(super) fn add(&mut self, sample: Sample) {
        let passed_ms = sample.number("/now_ms") - self.sample.number("/now_ms");
        if passed_ms > 0.0 {
            self.add_rates(&sample, passed_ms / 1_000.0);
        }
        self.sample = sample;
        self.trouble = None;
    }

    fn add_rates(&mut self, sample: &Sample, seconds: f64) {
        let bytes = sample.bytes().into_iter().zip(self.sample.bytes());
        for (rates, (now, before)) in self.totals.iter_mut().zip(bytes) {
            rates.add(now - before, seconds);
        }
        let known = self.sample.streams();
        let before: HashMap<&str, f64> = known
            .map(|stream| (text(stream, "/id"), number(stream, "/send_bytes")))
            .collect();
        let mut former = std::mem::take(&mut self.sent);
        for stream in sample.streams() {
            let id = text(stream, "/id");
            let mut rates = former.remove(id).unwrap_or_default();
            if let Some(before) = before.get(id) {
                rates.add(number(stream, "/send_bytes") - before, seconds);
            }
            self.sent.insert(id.to_owned(), rates);
        }
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.scroll = Scroll::default();
    }

    fn rows_count(&self) -> usize {
        let shown = match self.view {
            View::Streams => &self.sample.streams,
            View::Viewers => &self.sample.slowest,
        };
        shown.as_array().map_or(0, Vec::len)
    }

    /// The server and its totals; or why nothing is known.
    fn top(&self) -> Vec<Line<'_>> {
        let sample = &self.sample;
        let whole = |path| format!("{:.0}", sample.number(path));
        let first = match &self.trouble {
            Some(reason) => Line::from(format!("What is shown is old: {reason}")).fg(Color::Red),
            None => Line::from(format!(
                "{} players   {} of {} streams live   {} connections   {} up {}",
                whole("/players"),
                whole("/published"),
                whole("/streams"),
                whole("/connections"),
                text(&sample.summaries, "/role"),
                days_and_hours(sample.number("/uptime_s")),
            )),
        };
        let [sent, received] = &self.totals;
        let rates = format!(
            "out {} Mbit/s {}   in {} Mbit/s {}",
            sent.last(),
            sent.sparkline(),
            received.last(),
            received.sparkline(),
        );
        let mb = |path| sample.number(path) / f64::from(1 << 20);
        let resources = format!(
            "processor {:.0} %   memory {:.0} MB   logs {:.0} of {:.0} MB",
            sample.number("/self/cpu_percent") * 100.0,
            sample.number("/self/mem_kbyte") / 1024.0,
            mb("/log_bytes"),
            mb("/log_limit"),
        );
        vec![first, Line::from(rates), Line::from(resources)]
    }

    fn table(&self, width: u16) -> Table<'static> {
        match self.view {
            View::Streams => {
                let rows = self.stream_rows();
                table(&STREAM_COLUMNS, &rows, self.scroll.shown(&rows), width)
            }
            View::Viewers => {
                let viewers = self.sample.slowest.as_array().into_iter().flatten();
                let rows: Vec<_> = viewers.map(viewer_cells).collect();
                table(&VIEWER_COLUMNS, &rows, self.scroll.shown(&rows), width)
            }
        }
    }

    fn stream_rows(&self) -> Vec<[(Content, Style); STREAM_COLUMNS.len()]> {
        let mut streams: Vec<&Value> = self.sample.streams().collect();
        streams.sort_by_key(|stream| {
            let players = stream["clients"].as_u64();
            (Reverse(players), name(stream))
        });
        let no_rates = Rates::default();
        let row = |stream: &&Value| {
            let sent = self.sent.get(text(stream, "/id")).unwrap_or(&no_rates);
            let live = stream["publish"]["active"] == true;
            let style = if live {
                Style::new()
            } else {
                Style::new().dim()
            };
            let mbps = |path| format!("{:.2}", number(stream, path) / 1_000.0);
            let cells: [Content; STREAM_COLUMNS.len()] = [
                name(stream).into(),
                format!("{:.0}", number(stream, "/clients")).into(),
                mbps("/kbps/send_30s").into(),
                mbps("/kbps/recv_30s").into(),
                video(stream).into(),
                format!("{:.0}", number(stream, "/skips")).into(),
                Content::History(sent.values()),
            ];
            cells.map(|content| (content, style))
        };
        streams.iter().map(row).collect()
    }

    fn bottom(&self) -> Line<'_> {
        let other = match self.view {
            View::Streams => "v: slowest viewers",
            View::Viewers => "s: streams",
        };
        self.scroll.keys(&["q: quit", other])
    }
}

/// `[vhost/]app/stream`; the default vhost is left out. A publisher chooses it: control
/// characters are shown as their code.
fn name(stream: &Value) -> String {
    let [vhost, app, name] = ["/vhost", "/app", "/name"].map(|path| text(stream, path));
    let whole = match vhost {
        "" | DEFAULT_VHOST => format!("{app}/{name}"),
        vhost => format!("{vhost}/{app}/{name}"),
    };
    service_kit::OneLine(&whole).to_string()
}

/// `H264 1280x720`.
fn video(stream: &Value) -> String {
    let codec = text(stream, "/video/codec");
    let [width, height] = ["/video/width", "/video/height"].map(|path| number(stream, path));
    match width > 0.0 {
        true => format!("{codec} {width:.0}x{height:.0}"),
        false => codec.to_owned(),
    }
}

fn viewer_cells(viewer: &Value) -> [(Content, Style); VIEWER_COLUMNS.len()] {
    let verdict = text(viewer, "/verdict");
    let color = match verdict {
        "server" => Color::Red,
        "" => Color::Green,
        _ => Color::Yellow,
    };
    let texts = [
        text(viewer, "/ip").to_owned(),
        format!("{:.1}", number(viewer, "/lag_ms") / 1_000.0),
        if verdict.is_empty() { "-" } else { verdict }.to_owned(),
        format!("{:.2}", number(viewer, "/kbps/send_30s") / 1_000.0),
        format!("{:.1}", number(viewer, "/tcp/rtt_ms")),
        format!("{:.0}", number(viewer, "/tcp/retransmits")),
        format!("{:.0}", number(viewer, "/skips")),
        name(viewer),
    ];
    let mut cells = texts.map(|text| (text.into(), Style::new()));
    cells[2].1 = Style::new().fg(color);
    cells
}

/// `3 d 04:05`, `04:05:06`.
fn days_and_hours(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).map_or(0, |it| it.as_secs());
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match days {
        0 => format!("{hours:02}:{minutes:02}:{:02}", seconds % 60),
        days => format!("{days} d {hours:02}:{minutes:02}"),
    }
}

#[cfg(test)]
mod tests;
