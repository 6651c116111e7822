//! The screen of `lb-user watch`, and the keys that change it. No I/O.

use std::collections::VecDeque;

use crossterm::event::KeyCode;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Paragraph, Table};
use terminal_kit::{Column, Content, Screen, Scroll, table};

use super::{History, servers};
use crate::cli::list::scaled;
use crate::control::event_log::LATEST_KEPT;
use crate::control::protocol::{Event, ListedServer, ListedService, Listing, Rates, ServerState};
use lb_model::Protocol;

/// Lines that events get, their heading included, where there is room.
const EVENTS_HEIGHT: u16 = 9;

/// The columns of the traffic, its history last.
const COLUMNS: [Column; 8] = [
    Column::words("Service / server"),
    Column::words("State").of_width(8),
    Column::number("Weight", 6, 90),
    Column::number("Active", 7, 50),
    Column::number("Conn/s", 6, 60),
    Column::number("Pkt/s", 6, 68),
    Column::number("Mbit/s", 8, 0),
    Column::rest("", 56),
];

/// News of the agent.
#[derive(Debug)]
pub(super) enum Update {
    /// The listing of now.
    Listing(Listing),
    /// There is none, for this reason.
    Unreachable(String),
    /// Something has happened.
    Event(Event),
    /// The rates of ten minutes.
    History(History),
}

/// What the table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Services with their servers, and what they are sent.
    Traffic,
    /// Servers with their services, and the connections.
    Servers,
}

/// The screen's content.
#[derive(Debug)]
pub(super) struct WatchScreen {
    listing: Listing,
    history: History,
    trouble: Option<String>,
    /// The latest one first.
    events: VecDeque<Event>,
    view: View,
    scroll: Scroll,
}

impl Screen for WatchScreen {
    type Update = Update;

    fn take(&mut self, update: Update) {
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
            Update::History(history) => self.history = history,
        }
    }

    fn handle(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('s') => self.show(View::Servers),
            KeyCode::Char('t') => self.show(View::Traffic),
            code => self.scroll.handle(code),
        }
    }

    fn draw(&mut self, frame: &mut Frame) {
        let area = frame.area();
        let [top, table, events, bottom] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(self.events_height(area.height)),
            Constraint::Length(1),
        ])
        .areas(area);
        // One line is the heading.
        let page = usize::from(table.height.saturating_sub(1));
        self.scroll.fit(self.rows_count(), page);
        frame.render_widget(self.top(), top);
        frame.render_widget(self.table(table.width), table);
        self.draw_events(frame, events);
        frame.render_widget(self.bottom(), bottom);
    }

    fn height(&self) -> usize {
        // The first line, the headings and the last line.
        3 + self.rows_count()
    }
}

impl WatchScreen {
    /// A screen without events yet.
    pub(super) fn new(listing: Listing, history: History) -> Self {
        Self {
            listing,
            history,
            trouble: None,
            events: VecDeque::new(),
            view: View::Traffic,
            scroll: Scroll::default(),
        }
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.scroll = Scroll::default();
    }

    /// Lines for events, of `height`; none where there are none.
    fn events_height(&self, height: u16) -> u16 {
        match self.events.is_empty() {
            true => 0,
            false => EVENTS_HEIGHT.min(height / 3),
        }
    }

    fn rows_count(&self) -> usize {
        match self.view {
            View::Traffic => {
                let services = self.listing.services.iter();
                services.map(|service| 1 + service.servers.len()).sum()
            }
            View::Servers => servers::rows(&self.listing).len(),
        }
    }

    fn table(&self, width: u16) -> Table<'static> {
        match self.view {
            View::Traffic => {
                let rows = self.traffic_rows();
                table(&COLUMNS, &rows, self.scroll.shown(&rows), width)
            }
            View::Servers => {
                let rows = servers::rows(&self.listing);
                table(&servers::COLUMNS, &rows, self.scroll.shown(&rows), width)
            }
        }
    }

    fn traffic_rows(&self) -> Vec<Cells> {
        let mut rows = Vec::new();
        for service in &self.listing.services {
            let history = |server: Option<&ListedServer>| {
                let server = server.map(|server| server.address);
                let known = self
                    .history
                    .get(&(service.protocol, service.address, server));
                Content::History(known.cloned().unwrap_or_default())
            };
            rows.push(service_cells(service, history(None)));
            let servers = service.servers.iter();
            rows.extend(servers.map(|server| server_cells(server, history(Some(server)))));
        }
        rows
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
        let other = match self.view {
            View::Traffic => "s: connections by server",
            View::Servers => "t: traffic",
        };
        self.scroll.keys(&["q: quit", other])
    }
}

/// A line's cells, each with how it is drawn.
type Cells = [(Content, Style); COLUMNS.len()];

fn cells(texts: [String; COLUMNS.len() - 1], state: Style, last: Content) -> Cells {
    let [name, condition, weight, active, connections, packets, bits] = texts.map(Content::Words);
    let plain = |content| (content, Style::new());
    [
        plain(name),
        (condition, state),
        plain(weight),
        plain(active),
        plain(connections),
        plain(packets),
        plain(bits),
        plain(last),
    ]
}

pub(super) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

/// How a server's state is drawn.
pub(super) fn state_style(state: ServerState) -> Style {
    Style::new().fg(match state {
        ServerState::Up => Color::Green,
        ServerState::Down | ServerState::NoMac | ServerState::Disabled => Color::Red,
        ServerState::Quiesced | ServerState::Full | ServerState::Standby => Color::Yellow,
    })
}

fn service_cells(service: &ListedService, history: Content) -> Cells {
    let active = service
        .servers
        .iter()
        .map(|server| server.active_connections);
    let state = if service.quorum { "" } else { "no quorum" };
    let [connections, packets, bits] = rates(service.rates);
    let texts = [
        format!("{} {}", protocol_name(service.protocol), service.address),
        state.to_owned(),
        String::new(),
        active.sum::<u64>().to_string(),
        connections,
        packets,
        bits,
    ];
    cells(texts, Style::new().fg(Color::Red), history)
}

/// The cells of a server; the reason why it is out is more than its history.
fn server_cells(server: &ListedServer, history: Content) -> Cells {
    let arrow = if server.sorry { "~>" } else { "->" };
    let [connections, packets, bits] = rates(server.rates);
    let texts = [
        format!(" {arrow} {}", server.address),
        server.state.to_string(),
        server.weight_in_force().to_string(),
        server.active_connections.to_string(),
        connections,
        packets,
        bits,
    ];
    let last = server.reason.clone().map_or(history, Content::Words);
    cells(texts, state_style(server.state), last)
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
mod tests;
