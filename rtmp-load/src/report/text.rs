//! The report for people.

use std::fmt::{self, Display, Formatter};

use super::Report;
use crate::stats::Percentiles;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let players = &self.players;
        write!(f, "{} players of {}", players.asked, self.url)?;
        if let Some(url) = self.publish_url.as_ref().filter(|url| **url != self.url) {
            write!(f, ", published to {url}")?;
        }
        writeln!(f, "; measured for {:.1} s\n", self.measured_s)?;
        line(
            f,
            "players",
            format!(
                "{} healthy, {} starved, {} failed; {} playing at the end",
                players.healthy, players.starved, players.failed, players.playing
            ),
        )?;
        let received = &self.received;
        line(
            f,
            "received",
            format!(
                "{:.1} Mbit/s; per player {:.3} lowest, {:.3} median, {:.3} highest",
                received.mbit_per_s,
                received.lowest_mbit_per_s,
                received.median_mbit_per_s,
                received.highest_mbit_per_s
            ),
        )?;
        if let Some(frames) = &self.frames {
            line(
                f,
                "frames",
                format!(
                    "{:.4} % delivered, {:.4} % to the worst player; {} lost, {} repeated, {} corrupt",
                    frames.delivered * 100.0,
                    frames.lowest_delivered * 100.0,
                    frames.lost,
                    frames.repeated,
                    frames.corrupt
                ),
            )?;
        }
        let timestamps = &self.timestamps;
        line(
            f,
            "timestamps",
            format!(
                "{} out of order, {} gaps of {:.1} s together, at {} players",
                timestamps.reordered, timestamps.gaps, timestamps.gaps_s, timestamps.players
            ),
        )?;
        let stalls = &self.stalls;
        line(
            f,
            "stalls",
            format!(
                "{} longer than {} ms at {} players, {:.1} s together",
                stalls.count, stalls.longer_than_ms, stalls.players, stalls.total_s
            ),
        )?;
        self.write_durations(f)?;
        self.write_ends(f)?;
        self.write_costs(f)
    }
}

impl Report {
    fn write_durations(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rows = [
            ("connect", &self.connect_ms),
            ("first byte", &self.first_byte_ms),
            ("first keyframe", &self.first_keyframe_ms),
            ("latency", &self.latency_ms),
            ("stall", &self.stalls.ms),
            ("outage", &self.connections.outage_ms),
        ];
        writeln!(
            f,
            "\n{:<16}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "milliseconds", "count", "least", "p50", "p90", "p99", "p99.9", "most"
        )?;
        for (name, percentiles) in rows {
            if let Some(Percentiles {
                count,
                min,
                p50,
                p90,
                p99,
                p999,
                max,
                ..
            }) = percentiles
            {
                writeln!(
                    f,
                    "{name:<16}{count:>9}{min:>10.2}{p50:>10.2}{p90:>10.2}{p99:>10.2}{p999:>10.2}\
                     {max:>10.2}"
                )?;
            }
        }
        writeln!(f)
    }

    fn write_ends(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (cause, count) in &self.connections.ended {
            line(f, "ended", format!("{count} × {cause}"))?;
        }
        if self.connections.unresolved_outages > 0 {
            line(
                f,
                "outages",
                format!("{} not over", self.connections.unresolved_outages),
            )?;
        }
        if let Some(publishers) = &self.publishers {
            line(
                f,
                "publishers",
                format!(
                    "{} of {} publishing at the end; {:.1} MB sent, at most {:.1} ms late",
                    publishers.publishing,
                    publishers.count,
                    publishers.bytes as f64 / 1e6,
                    publishers.latest_ms
                ),
            )?;
            for (cause, count) in &publishers.ended {
                line(f, "ended", format!("{count} × {cause} (publisher)"))?;
            }
        }
        Ok(())
    }

    fn write_costs(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let own = &self.own;
        line(
            f,
            "own cost",
            format!(
                "{} CPU ms/MB; busiest of {} threads {:.0} % of a core, longest turn {:.1} ms",
                figure(own.cpu_ms_per_mb),
                own.threads,
                own.busiest_thread * 100.0,
                own.longest_turn_ms
            ),
        )?;
        for watched in &self.watched {
            let threads: Vec<String> = watched
                .threads_cpu_s
                .iter()
                .map(|cpu| format!("{cpu:.2}"))
                .collect();
            line(
                f,
                &watched.name,
                format!(
                    "{} CPU ms/MB ({} s by thread), {} kB resident, {} B more per player (pid {})",
                    figure(watched.cpu_ms_per_mb),
                    if threads.is_empty() {
                        "0".to_owned()
                    } else {
                        threads.join(" + ")
                    },
                    watched.resident_kb,
                    watched
                        .resident_bytes_per_player
                        .map_or("-".to_owned(), |bytes| format!("{bytes:.0}")),
                    watched.pid
                ),
            )?;
        }
        if own.busiest_thread > BUSY {
            line(
                f,
                "caution",
                "this program was short of CPU: latencies include its own queue; \
                                take more --threads or --inspect-one-in"
                    .to_owned(),
            )?;
        }
        Ok(())
    }
}

/// Share of a core above which a thread's own queue shows in what it measures.
const BUSY: f64 = 0.9;

fn line(f: &mut Formatter<'_>, name: &str, text: String) -> fmt::Result {
    writeln!(f, "{name:<16}{text}")
}

fn figure(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.3}"))
}
