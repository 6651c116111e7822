//! The figures for people.

use comfy_table::{Table, presets};

use super::super::goal::{align, show};
use super::{
    Row, Section,
    contender::{Chunks, Contender},
    ingest::Ingest,
};

/// With fewer players, memory per player would be the server's start, divided by them.
pub(super) const ENOUGH_PLAYERS: u32 = 1000;

/// All rows.
pub(crate) fn of(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "section",
        "server",
        "players",
        "CPU ms/MB",
        "× floor",
        "× nginx",
        "Mbit/s",
        "delivered %",
        "worst %",
        "B/player",
        "keyframe ms p50",
        "p99",
        "latency ms p50",
        "p99",
        "load CPU ms/MB",
        "load busy %",
    ]);
    for row in rows {
        let figures = &row.figures;
        let against = |other: &dyn Fn(&Row) -> bool| {
            let same = rows.iter().find(|one| {
                one.section == row.section
                    && one.load.players == row.load.players
                    && one.load.receiver == row.load.receiver
                    && other(one)
            });
            same.map(|other| figures.cpu_ms_per_mb / other.figures.cpu_ms_per_mb)
        };
        let floor = match row.contender {
            Contender::Origin(batching)
            | Contender::Before(batching)
            | Contender::Edges(batching, _) => {
                against(&|one| one.contender == Contender::Floor(batching))
            }
            _ => None,
        };
        let nginx = against(&|one| one.contender == Contender::Nginx(Chunks::Default));
        let bytes_per_player =
            (row.load.players >= ENOUGH_PLAYERS).then_some(figures.bytes_per_player);
        let percent = |share: Option<f64>| show(share.map(|share| share * 100.0), 3);
        let players = match row.load.streams {
            1 => row.load.players.to_string(),
            streams => format!("{} of {streams} streams", row.load.players),
        };
        let section = match row.section {
            Section::Receivers => format!("receivers: {}", row.load.receiver.name()),
            Section::Burst => format!(
                "burst: {} a second, {} s later",
                row.load.start_rate, row.load.settle
            ),
            section => format!("{section:?}").to_lowercase(),
        };
        table.add_row([
            section,
            row.contender.to_string(),
            players,
            show(Some(figures.cpu_ms_per_mb), 3),
            show(floor, 2),
            show(nginx, 2),
            show(Some(figures.mbit_per_s), 0),
            percent(figures.delivered),
            percent(figures.lowest_delivered),
            show(bytes_per_player, 0),
            show(figures.keyframe_p50, 1),
            show(figures.keyframe_p99, 1),
            show(figures.latency_p50, 1),
            show(figures.latency_p99, 1),
            show(Some(figures.load_cpu_ms_per_mb), 3),
            show(Some(figures.load_busy * 100.0), 0),
        ]);
    }
    align(&mut table, 2);
    table
}

/// How fast a publisher's bytes are read.
pub(crate) fn of_ingest(rows: &[Ingest]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "publisher's chunks, bytes",
        "copying MB/s",
        "chunk reader MB/s",
        "× copying",
        "session MB/s",
        "× copying",
    ]);
    for row in rows {
        let against_copying = |speed: f64| show(Some(speed / row.copying_mb_per_s), 2);
        table.add_row([
            row.chunk_size.to_string(),
            show(Some(row.copying_mb_per_s), 0),
            show(Some(row.chunk_reader_mb_per_s), 0),
            against_copying(row.chunk_reader_mb_per_s),
            show(Some(row.session_mb_per_s), 0),
            against_copying(row.session_mb_per_s),
        ]);
    }
    align(&mut table, 0);
    table
}
