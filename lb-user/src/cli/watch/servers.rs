//! The view of connections by server: each machine with its part of the services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ratatui::style::Style;
use terminal_kit::{Column, Content, bar};

use super::screen::{protocol_name, state_style};
use crate::control::protocol::{ListedServer, ListedService, Listing};

/// Width of the longest bar.
const BAR_WIDTH: usize = 16;

/// The columns, the bar of active connections last.
pub(super) const COLUMNS: [Column; 7] = [
    Column::words("Server / service"),
    Column::words("State").of_width(8),
    Column::number("Weight", 6, 60),
    Column::number("Active", 7, 0),
    Column::number("Inact", 7, 50),
    Column::number("Sticky", 6, 60),
    Column::rest("", 78),
];

/// A row's cells.
pub(super) type Cells = [(Content, Style); COLUMNS.len()];

/// Each machine, and below it the services that it is a server of.
pub(super) fn rows(listing: &Listing) -> Vec<Cells> {
    let mut machines: BTreeMap<IpAddr, Vec<(&ListedService, &ListedServer)>> = BTreeMap::new();
    for service in &listing.services {
        for server in &service.servers {
            let parts = machines.entry(server.address.ip()).or_default();
            parts.push((service, server));
        }
    }
    let active = |parts: &[(_, &ListedServer)]| -> u64 {
        parts
            .iter()
            .map(|(_, server)| server.active_connections)
            .sum()
    };
    let most = machines.values().map(|parts| active(parts)).max();
    let most = most.unwrap_or(0).max(1);
    let mut rows = Vec::new();
    for (address, parts) in &machines {
        let sum = |count: fn(&ListedServer) -> u64| -> u64 {
            parts.iter().map(|(_, server)| count(server)).sum()
        };
        let all = active(parts);
        rows.push(cells([
            address.to_string(),
            String::new(),
            String::new(),
            all.to_string(),
            sum(|server| server.inactive_connections).to_string(),
            sum(|server| server.persistent_clients).to_string(),
            bar(all as f64 / most as f64, BAR_WIDTH),
        ]));
        rows.extend(parts.iter().map(|(service, server)| {
            let mut row = cells([
                format!(" {} {}", protocol_name(service.protocol), service.address),
                server.state.to_string(),
                server.weight_in_force().to_string(),
                server.active_connections.to_string(),
                server.inactive_connections.to_string(),
                server.persistent_clients.to_string(),
                bar(server.active_connections as f64 / most as f64, BAR_WIDTH),
            ]);
            row[1].1 = state_style(server.state);
            row
        }));
    }
    rows
}

fn cells(texts: [String; COLUMNS.len()]) -> Cells {
    texts.map(|text| (text.into(), Style::new()))
}
