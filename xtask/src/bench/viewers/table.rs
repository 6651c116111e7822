//! The figures for people.

use comfy_table::{Table, presets};
use serde_json::Value;

use super::{
    super::{
        goal::{align, show},
        rtmp::contender::Batching,
    },
    Contender, GATHERED, Row, median_ratio,
};

/// All rows; figures are those of the middle round, ratios of the middle of all
/// rounds' ratios.
pub(super) fn of(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "viewers by",
        "CPU ms/MB",
        "× RTMP",
        "× plain",
        "× nginx",
        "Mbit/s",
        "delivered %",
        "B/player",
        "requests/s",
        "keyframe ms p50",
        "p99",
        "latency ms p50",
        "p99",
        "shown after ms p50",
        "load CPU ms/MB",
    ]);
    for row in rows {
        let Some(figures) = row.median() else {
            continue;
        };
        let against = |other: Contender| {
            let other = rows.iter().find(|row| row.contender == other)?;
            median_ratio(row, other, |figures| figures.cpu_ms_per_mb)
        };
        let batching = match row.contender {
            Contender::Rtmp(batching)
            | Contender::HttpFlv(batching)
            | Contender::HttpsFlv(batching)
            | Contender::WebSocketFlv(batching) => batching,
            Contender::NginxRtmp => Batching::AtOnce,
            _ => GATHERED,
        };
        let number = |path: &str| figures.report.pointer(path).and_then(Value::as_f64);
        table.add_row([
            row.contender.to_string(),
            show(Some(figures.cpu_ms_per_mb), 3),
            show(against(Contender::Rtmp(batching)), 2),
            match row.contender {
                Contender::HttpsFlv(_) => show(against(Contender::HttpFlv(batching)), 2),
                _ => String::new(),
            },
            show(
                against(match row.contender.is_hls() {
                    true => Contender::NginxFiles,
                    false => Contender::NginxRtmp,
                }),
                2,
            ),
            show(Some(figures.mbit_per_s), 0),
            show(figures.delivered.map(|share| share * 100.0), 3),
            show(Some(figures.bytes_per_player), 0),
            show(number("/hls/answers_per_s"), 0),
            show(figures.keyframe_p50, 1),
            show(figures.keyframe_p99, 1),
            show(figures.latency_p50, 1),
            show(figures.latency_p99, 1),
            show(number("/hls/behind_ms/p50"), 0),
            show(Some(figures.load_cpu_ms_per_mb), 3),
        ]);
    }
    align(&mut table, 1);
    table
}
