//! Drawing: a table that is rewritten in place on a terminal; elsewhere a line
//! now and then, without control codes.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle};

use crate::latency::in_seconds;

use super::scene::{EdgeRow, Event, PageRow, Picture, ViewerRow};

/// How often a line is written where nothing can be rewritten.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How many of the latest events the table shows.
const EVENTS_SHOWN: usize = 6;

/// Lines that the picture needs beside the rows of viewers and edges: the head,
/// both tables' own lines, the events and their title.
const OTHER_LINES: usize = 14 + EVENTS_SHOWN;

/// Lines that the table of a browser's pages needs beside its rows.
const PAGES_LINES: usize = 5;

/// Lines above, below the head, and below; none between rows.
pub(crate) const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// Where the demo is shown.
pub(crate) struct Screen {
    out: Box<dyn Write>,
    terminal: bool,
    colour: bool,
    /// Lines of the last drawing, which the next one replaces.
    drawn_lines: usize,
    /// When the last line was written, and how many events had been by then.
    last_line: Option<Duration>,
    events_told: usize,
}

impl Screen {
    /// On standard output, or on standard error if that is kept for data.
    pub(crate) fn new(output_is_data: bool) -> Self {
        let (out, terminal): (Box<dyn Write>, bool) = if output_is_data {
            (Box::new(io::stderr()), io::stderr().is_terminal())
        } else {
            (Box::new(io::stdout()), io::stdout().is_terminal())
        };
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            out,
            terminal,
            colour: terminal && !plain,
            drawn_lines: 0,
            last_line: None,
            events_told: 0,
        }
    }

    /// Writes a line or several that stay.
    pub(crate) fn say(&mut self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// Shows a moment.
    pub(crate) fn draw(&mut self, picture: &Picture<'_>) {
        if self.terminal {
            self.redraw(picture);
        } else {
            self.log(picture);
        }
    }

    /// Leaves the last drawing where it is.
    pub(crate) fn finish(&mut self) {
        self.drawn_lines = 0;
    }

    fn redraw(&mut self, picture: &Picture<'_>) {
        let size = terminal_size::terminal_size();
        let (width, height) = size.map_or((100, 40), |(width, height)| (width.0, height.0));
        let pages_lines = match picture.pages.len() {
            0 => 0,
            pages => PAGES_LINES + pages,
        };
        let rows = usize::from(height)
            .saturating_sub(OTHER_LINES + picture.edges.len() + pages_lines)
            .max(3);
        let text = self.render(picture, width, rows);
        // Up to where the last drawing began, and clear from there.
        let back = match self.drawn_lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}F\x1b[J"),
        };
        self.drawn_lines = text.lines().count();
        self.write(&(back + &text));
    }

    fn render(&self, picture: &Picture<'_>, width: u16, viewer_rows: usize) -> String {
        let mut text = format!(
            "\n {} of {} s · XDP {}\n\n",
            picture.elapsed.as_secs(),
            picture.length.as_secs(),
            picture.xdp
        );
        let mut edges = table(
            [
                "edge",
                "address",
                "state",
                "viewers",
                "connections",
                "kbit/s out",
            ],
            &[3, 4, 5],
            width,
        );
        for row in &picture.edges {
            edges.add_row(self.edge_cells(row));
        }
        let mut viewers = table(
            [
                "viewer",
                "address",
                "served by",
                "pictures",
                "sound",
                "pictures/s",
                "state",
            ],
            &[3, 4, 5],
            width,
        );
        for row in picture.viewers.iter().take(viewer_rows) {
            viewers.add_row(self.viewer_cells(row));
        }
        text += &format!("{edges}\n\n{viewers}\n");
        if let Some(more) = picture.viewers.len().checked_sub(viewer_rows + 1) {
            text += &format!("   ... and {} more\n", more + 1);
        }
        if !picture.pages.is_empty() {
            text += &format!("\n{}\n", self.pages(&picture.pages, width));
        }
        text.push('\n');
        let first = picture.events.len().saturating_sub(EVENTS_SHOWN);
        for event in &picture.events[first..] {
            text += &format!(" {}\n", describe(event));
        }
        text
    }

    fn pages(&self, rows: &[PageRow], width: u16) -> Table {
        let titles = [
            "browser",
            "currentTime",
            "pictures",
            "dropped",
            "behind publisher",
            "page says",
        ];
        let mut pages = table(titles, &[1, 2, 3, 4], width);
        for row in rows {
            pages.add_row(vec![
                Cell::new(row.what),
                Cell::new(format!("{:.1} s", row.current_time_s)),
                Cell::new(row.frames),
                Cell::new(row.dropped),
                Cell::new(in_seconds(row.latency_ms)),
                self.state(&row.status, row.watching),
            ]);
        }
        pages
    }

    fn edge_cells(&self, row: &EdgeRow) -> Vec<Cell> {
        vec![
            Cell::new(&row.name),
            Cell::new(&row.address),
            self.state(&row.state, row.in_rotation),
            Cell::new(row.viewers),
            Cell::new(row.connections),
            Cell::new(format!("{:.0}", row.kilobits_per_second)),
        ]
    }

    fn viewer_cells(&self, row: &ViewerRow) -> Vec<Cell> {
        vec![
            Cell::new(&row.name),
            Cell::new(&row.address),
            Cell::new(row.edge.as_deref().unwrap_or("-")),
            Cell::new(row.video),
            Cell::new(row.audio),
            Cell::new(format!("{:.0}", row.pictures_per_second)),
            self.state(&row.state, row.watching),
        ]
    }

    fn state(&self, text: &str, good: bool) -> Cell {
        let cell = Cell::new(text);
        match (self.colour, good) {
            (false, _) => cell,
            (true, true) => cell.fg(Color::Green),
            (true, false) => cell.fg(Color::Red),
        }
    }

    fn log(&mut self, picture: &Picture<'_>) {
        let untold: Vec<String> = picture.events[self.events_told..]
            .iter()
            .map(describe)
            .collect();
        self.events_told = picture.events.len();
        for line in untold {
            self.say(&line);
        }
        if self
            .last_line
            .is_some_and(|last| picture.elapsed < last + LINE_EVERY)
        {
            return;
        }
        self.last_line = Some(picture.elapsed);
        let watching = picture
            .viewers
            .iter()
            .filter(|viewer| viewer.watching)
            .count();
        let edges: Vec<String> = picture
            .edges
            .iter()
            .map(|edge| format!("{} ({}): {}", edge.name, edge.state, edge.viewers))
            .collect();
        self.say(&format!(
            "{:>4} s  {watching} of {} watching; {}",
            picture.elapsed.as_secs(),
            picture.viewers.len(),
            edges.join("; "),
        ));
        for page in &picture.pages {
            self.say(&format!(
                "        {}: at {:.1} s, {} behind the publisher, {} of {} pictures dropped; {}",
                page.what,
                page.current_time_s,
                in_seconds(page.latency_ms),
                page.dropped,
                page.frames,
                page.status,
            ));
        }
    }

    fn write(&mut self, text: &str) {
        // A reader that has gone away is no reason to end the demo early: its
        // exit status still tells how it went.
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }
}

fn describe(event: &Event) -> String {
    format!("{:>4} s  {}", event.at.as_secs(), event.text)
}

fn table<const N: usize>(titles: [&str; N], numbers: &[usize], width: u16) -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(titles);
    for &column in numbers {
        let column = table
            .column_mut(column)
            .expect("one of the titles' columns");
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
