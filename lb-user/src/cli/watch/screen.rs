//! The screen of `lb-user watch`, and the keys that change it. No I/O.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use crate::cli::list::scaled;
use crate::control::event_log::LATEST_KEPT;
use crate::control::protocol::{Event, ListedServer, ListedService, Listing, Rates, ServerState};
use lb_model::Protocol;

/// Lines that events get, their heading included, where there is room.
const EVENTS_HEIGHT: u16 = 9;

const HEADINGS: [&str; 9] = [
    "Service / server",
    "State",
    "Weight",
    "Active",
    "Inact",
    "Conn/s",
    "Pkt/s",
    "Mbit/s",
    "",
];

/// Columns of `HEADINGS` that hold numbers.
const NUMBERS: std::ops::Range<usize> = 2..8;

/// Widths of the columns between the first, which is as wide as it needs to be,
/// and the last, which gets the rest.
const WIDTHS: [u16; 7] = [9, 6, 7, 7, 6, 6, 8];

/// A message of the agent's.
#[derive(Debug)]
pub(super) enum Update {
    /// The listing of now.
    Listing(Listing),
    /// There is none, for this reason.
    Unreachable(String),
    /// Something has happened.
    Event(Event),
}

/// The screen's content.
#[derive(Debug)]
pub(super) struct Screen {
    listing: Listing,
    trouble: Option<String>,
    /// The latest one first.
    events: VecDeque<Event>,
    /// Services and servers above the first one shown.
    skipped: usize,
    /// Number of those that were shown last.
    page: usize,
}

impl Screen {
    /// A screen without events yet.
    pub(super) fn new(listing: Listing) -> Self {
        Self {
            listing,
            trouble: None,
            events: VecDeque::new(),
            skipped: 0,
            page: 0,
        }
    }

    /// Takes note of what the agent says.
    pub(super) fn take(&mut self, update: Update) {
        match update {
            Update::Listing(listing) => {
                self.listing = listing;
                self.trouble = None;
            }
            Update::Unreachable(reason) => self.trouble = Some(reason),
            Update::Event(event) => {
                self.events.truncate(LATEST_KEPT - 1);
                self.events.push_front(event);
            }
        }
    }

    /// Does what a key says; breaks off if that is to quit.
    pub(super) fn handle(&mut self, input: &Input) -> ControlFlow<()> {
        let Input::Key(KeyEvent {
            code,
            modifiers,
            kind: KeyEventKind::Press | KeyEventKind::Repeat,
            ..
        }) = input
        else {
            return ControlFlow::Continue(());
        };
        match code {
            KeyCode::Char('q') => return ControlFlow::Break(()),
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => {
                return ControlFlow::Break(());
            }
            KeyCode::Up => self.skipped = self.skipped.saturating_sub(1),
            KeyCode::Down => self.skipped += 1,
            KeyCode::PageUp => self.skipped = self.skipped.saturating_sub(self.page),
            KeyCode::PageDown => self.skipped += self.page,
            KeyCode::Home => self.skipped = 0,
            KeyCode::End => self.skipped = self.rows_count(),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// Draws everything.
    pub(super) fn draw(&mut self, frame: &mut Frame) {
        let height = frame.area().height;
        let [top, table, events, bottom] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(EVENTS_HEIGHT.min(height / 3)),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        // One line is the heading.
        self.page = usize::from(table.height.saturating_sub(1));
        self.skipped = self
            .skipped
            .min(self.rows_count().saturating_sub(self.page));
        frame.render_widget(self.top(), top);
        frame.render_widget(self.table(), table);
        self.draw_events(frame, events);
        frame.render_widget(self.bottom(), bottom);
    }

    fn rows_count(&self) -> usize {
        let services = self.listing.services.iter();
        services.map(|service| 1 + service.servers.len()).sum()
    }

    /// The interfaces with XDP and the virtual routers; or why nothing is known.
    fn top(&self) -> Line<'_> {
        if let Some(reason) = &self.trouble {
            return Line::from(format!("What is shown is old: {reason}")).fg(Color::Red);
        }
        let interfaces = self.listing.interfaces.iter().map(|interface| {
            let mode = match &interface.lost {
                Some(_) => "not attached",
                None => &interface.xdp_mode,
            };
            format!("{}: XDP {mode}", interface.name)
        });
        let addresses = self.listing.virtual_addresses.iter().map(|address| {
            format!(
                "{}: {} is {}",
                address.address, address.instance, address.state
            )
        });
        let all: Vec<String> = interfaces.chain(addresses).collect();
        Line::from(all.join("   "))
    }

    fn table(&self) -> Table<'_> {
        let services = self.listing.services.iter();
        let (mut rows, mut width) = (Vec::new(), HEADINGS[0].len());
        for service in services {
            let of_service = std::iter::once(service_cells(service));
            for (cells, style) in of_service.chain(service.servers.iter().map(server_cells)) {
                width = width.max(cells[0].chars().count());
                rows.push((cells, style));
            }
        }
        let rows = rows
            .into_iter()
            .skip(self.skipped)
            .take(self.page)
            .map(|(cells, style)| {
                let cells = cells.into_iter().enumerate();
                Row::new(cells.map(|(column, text)| {
                    let cell = aligned(column, text);
                    if column == 1 { cell.style(style) } else { cell }
                }))
            });
        let width = u16::try_from(width).unwrap_or(u16::MAX);
        let widths = std::iter::once(width).chain(WIDTHS);
        let widths = widths.map(Constraint::Length).chain([Constraint::Fill(1)]);
        let headings = HEADINGS.iter().enumerate();
        Table::new(rows, widths).header(
            Row::new(headings.map(|(column, text)| aligned(column, (*text).to_owned()))).bold(),
        )
    }

    fn draw_events(&self, frame: &mut Frame, area: Rect) {
        let lines = self.events.iter().map(|event| {
            let at = jiff::Timestamp::from_millisecond(event.time_ms.cast_signed())
                .map_or_else(|_| "?".to_owned(), |at| at.strftime("%H:%M:%S").to_string());
            Line::from(format!("{at} {}", event.message))
        });
        let block = Block::new()
            .borders(Borders::TOP)
            .title("Events, the latest first (UTC)");
        frame.render_widget(Paragraph::new(Text::from_iter(lines)).block(block), area);
    }

    fn bottom(&self) -> Line<'_> {
        let (all, first) = (self.rows_count(), self.skipped + 1);
        let last = all.min(self.skipped + self.page);
        let mut text = "q: quit".to_owned();
        if all > self.page {
            text += &format!("   arrows, page up, page down: lines {first} to {last} of {all}");
        }
        Line::from(text).dim()
    }
}

fn aligned(column: usize, text: String) -> Cell<'static> {
    let alignment = if NUMBERS.contains(&column) {
        Alignment::Right
    } else {
        Alignment::Left
    };
    Cell::from(Text::from(text).alignment(alignment))
}

/// A line's cells, and how its state is drawn.
type Cells = ([String; HEADINGS.len()], Style);

fn service_cells(service: &ListedService) -> Cells {
    let protocol = match service.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    let sum = |count: fn(&ListedServer) -> u64| {
        let counts = service.servers.iter().map(count);
        counts.sum::<u64>().to_string()
    };
    let state = if service.quorum { "" } else { "no quorum" };
    let [connections, packets, bits] = rates(service.rates);
    let how = service.scheduling();
    let cells = [
        format!("{protocol} {}", service.address),
        state.to_owned(),
        String::new(),
        sum(|server| server.active_connections),
        sum(|server| server.inactive_connections),
        connections,
        packets,
        bits,
        how,
    ];
    (cells, Style::new().fg(Color::Red))
}

fn server_cells(server: &ListedServer) -> Cells {
    let color = match server.state {
        ServerState::Up => Color::Green,
        ServerState::Down | ServerState::NoMac | ServerState::Disabled => Color::Red,
        ServerState::Quiesced | ServerState::Full | ServerState::Standby => Color::Yellow,
    };
    let arrow = if server.sorry { "~>" } else { "->" };
    let [connections, packets, bits] = rates(server.rates);
    let cells = [
        format!(" {arrow} {}", server.address),
        server.state.to_string(),
        server.weight.to_string(),
        server.active_connections.to_string(),
        server.inactive_connections.to_string(),
        connections,
        packets,
        bits,
        server.reason.clone().unwrap_or_default(),
    ];
    (cells, Style::new().fg(color))
}

fn rates(rates: Option<Rates>) -> [String; 3] {
    match rates {
        Some(rates) => [
            scaled(rates.connections_per_s),
            scaled(rates.packets_per_s),
            format!("{:.2}", rates.bits_per_s / 1e6),
        ],
        None => ["-"; 3].map(str::to_owned),
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
