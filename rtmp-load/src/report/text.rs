//! The report for people.

use std::fmt::{self, Arguments, Display, Formatter};

use super::Report;
use crate::stats::Percentiles;

/// Share of a core above which a thread's own queue shows in what it measures.
const BUSY: f64 = 0.9;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} players of {}", self.players.asked, self.url)?;
        if let Some(url) = self.publish_url.as_ref().filter(|url| **url != self.url) {
            write!(f, ", published to {url}")?;
        }
        if self.measured_s > 0.0 {
            writeln!(f, "; measured for {:.1} s\n", self.measured_s)?;
        } else {
            writeln!(f, "; over before the measured time began\n")?;
        }
        if self.players.asked > 0 {
            self.write_players(f)?;
            self.write_durations(f)?;
        }
        self.write_ends(f)?;
        self.write_costs(f)
    }
}

impl Report {
    fn write_players(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let one = &self.players;
        let text = format_args!(
            "{} healthy, {} starved, {} failed; {} playing at the end",
            one.healthy, one.starved, one.failed, one.playing
        );
        line(f, "players", text)?;
        let one = &self.received;
        let text = format_args!(
            "{:.1} Mbit/s; per player {:.3} lowest, {:.3} median, {:.3} highest",
            one.mbit_per_s, one.lowest_mbit_per_s, one.median_mbit_per_s, one.highest_mbit_per_s
        );
        line(f, "received", text)?;
        if let Some(one) = &self.frames {
            let (all, worst) = (one.delivered * 100.0, one.lowest_delivered * 100.0);
            let text = format_args!(
                "{all:.4} % delivered, {worst:.4} % to the worst player; {} lost, {} repeated, {} \
                 corrupt",
                one.lost, one.repeated, one.corrupt
            );
            line(f, "frames", text)?;
        }
        let one = &self.timestamps;
        let text = format_args!(
            "{} out of order, {} gaps of {:.1} s together, at {} players",
            one.reordered, one.gaps, one.gaps_s, one.players
        );
        line(f, "timestamps", text)?;
        if let Some(one) = &self.hls {
            let text = format_args!(
                "{:.1} requests a second; {} players with low latency",
                one.answers_per_s, one.low_latency
            );
            line(f, "hls", text)?;
            for (oddity, count) in &one.oddities {
                line(f, "against rules", format_args!("{count} × {oddity}"))?;
            }
        }
        let one = &self.stalls;
        let text = format_args!(
            "{} longer than {} ms at {} players, {:.1} s together",
            one.count, one.longer_than_ms, one.players, one.total_s
        );
        line(f, "stalls", text)
    }

    fn write_durations(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let behind = self.hls.as_ref().map_or(&None, |hls| &hls.behind_ms);
        let rows = [
            ("connect", &self.connect_ms),
            ("first byte", &self.first_byte_ms),
            ("first keyframe", &self.first_keyframe_ms),
            ("latency", &self.latency_ms),
            ("no new picture", &self.picture_gap_ms),
            ("shown after", behind),
            ("stall", &self.stalls.ms),
            ("outage", &self.connections.outage_ms),
        ];
        let heads = ["count", "least", "p50", "p90", "p99", "p99.9", "most"];
        write!(f, "\n{:<16}", "milliseconds")?;
        for head in heads {
            write!(f, "{head:>10}")?;
        }
        writeln!(f)?;
        for (name, percentiles) in rows {
            let Some(percentiles) = percentiles else {
                continue;
            };
            let Percentiles {
                count,
                min,
                p50,
                p90,
                p99,
                p999,
                max,
                ..
            } = percentiles;
            write!(f, "{name:<16}{count:>10}")?;
            for value in [min, p50, p90, p99, p999, max] {
                write!(f, "{value:>10.2}")?;
            }
            writeln!(f)?;
        }
        writeln!(f)
    }

    fn write_ends(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (cause, count) in &self.connections.ended {
            line(f, "ended", format_args!("{count} × {cause}"))?;
        }
        if self.connections.unresolved_outages > 0 {
            let count = self.connections.unresolved_outages;
            line(f, "outages", format_args!("{count} not over"))?;
        }
        let Some(one) = &self.publishers else {
            return Ok(());
        };
        let text = format_args!(
            "{} of {} publishing at the end; {:.1} MB sent, at most {:.1} ms late",
            one.publishing,
            one.count,
            one.bytes as f64 / 1e6,
            one.latest_ms
        );
        line(f, "publishers", text)?;
        for (cause, count) in &one.ended {
            line(f, "ended", format_args!("{count} × {cause} (publisher)"))?;
        }
        Ok(())
    }

    fn write_costs(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let own = &self.own;
        let text = format_args!(
            "{} CPU ms/MB; busiest of {} threads {:.0} % of a core, longest turn {:.1} ms",
            figure(own.cpu_ms_per_mb, 3),
            own.threads,
            own.busiest_thread * 100.0,
            own.longest_turn_ms
        );
        line(f, "own cost", text)?;
        for one in &self.watched {
            let threads: Vec<String> = one
                .threads
                .iter()
                .map(|thread| format!("{} {:.2}", thread.name, thread.cpu_s))
                .collect();
            let text = format_args!(
                "{} CPU ms/MB (s by thread: {}), {} kB resident, {} B more per player (pid {})",
                figure(one.cpu_ms_per_mb, 3),
                threads.join(", "),
                one.resident_kb,
                figure(one.resident_bytes_per_player, 0),
                one.pid
            );
            line(f, &one.name, text)?;
        }
        if own.busiest_thread > BUSY {
            let text = format_args!(
                "this program was short of CPU: latencies include its own queue; take more \
                 --threads or --inspect-one-in"
            );
            line(f, "caution", text)?;
        }
        Ok(())
    }
}

fn line(f: &mut Formatter<'_>, name: &str, text: Arguments<'_>) -> fmt::Result {
    writeln!(f, "{name:<16}{text}")
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}
