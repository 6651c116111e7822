//! `cargo xtask bench browser`: how far Chromium is behind the publisher, at the end of
//! origin, edge and VIP in network namespaces. It needs root.
//!
//! The encoder writes the wall clock into each picture before it encodes it; a script in the
//! page reads it from the picture that the browser is about to show, and takes it from the
//! time of the display. Both clocks are this machine's.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{Table, presets};
use testbed::{Browser, Cluster, Page, Source};

use crate::latency::{in_seconds, percentile};

/// What a page plays by, and the greatest latency that is wanted of 95 % of its pictures.
const PROTOCOLS: [(&str, Duration); 3] = [
    ("flv", Duration::from_secs(1)),
    ("ws-flv", Duration::from_secs(1)),
    ("hls", Duration::from_millis(2500)),
];

/// A player has caught up with the newest pictures after so long.
const SETTLE: Duration = Duration::from_secs(10);
/// How often the pages are asked, which keep the latencies of some minutes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long each protocol is measured, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
}

/// Measures and prints.
///
/// # Errors
/// If that was not possible.
pub(crate) fn run(options: &Options) -> Result<()> {
    Browser::ensure_installed()?;
    let cluster = Cluster::builder().clients(1).browsers().start()?;
    cluster.push(&Source::Stamped)?;
    let browser = cluster.client(0).browser()?;
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "by",
        "pictures",
        "dropped",
        "behind: p50",
        "p95",
        "most",
        "p95 wanted",
    ]);
    for (by, wanted) in PROTOCOLS {
        let page = browser.open(&cluster.page_url("livestream", by))?;
        let played = play(&page, Duration::from_secs(options.seconds.into()))?;
        page.close()?;
        table.add_row([
            by.to_owned(),
            played.frames.to_string(),
            played.dropped.to_string(),
            in_seconds(percentile(&played.latencies_ms, 50)),
            in_seconds(percentile(&played.latencies_ms, 95)),
            in_seconds(percentile(&played.latencies_ms, 100)),
            format!("{:.1} s", wanted.as_secs_f32()),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// What was played within a time.
struct Played {
    frames: u64,
    dropped: u64,
    latencies_ms: Vec<u64>,
}

fn play(page: &Page<'_>, time: Duration) -> Result<Played> {
    page.wait_for_more(&Source::Stamped, 1)?;
    thread::sleep(SETTLE);
    let before = page.playback()?;
    let mut latencies_ms = Vec::new();
    for _ in 0..time.div_duration_f32(INTERVAL).ceil() as u32 {
        thread::sleep(INTERVAL);
        latencies_ms.extend(page.playback()?.latencies_ms);
    }
    let after = page.playback()?;
    ensure!(
        after.connections == before.connections,
        "the page has connected again: {after:?}"
    );
    Ok(Played {
        frames: after.frames - before.frames,
        dropped: after.dropped - before.dropped,
        latencies_ms,
    })
}
