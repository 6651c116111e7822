//! One run: a contender on its core, `rtmp-load` on the other.

use anyhow::Context;
use serde_json::{Value, json};

use super::contender::{Contender, Running, Surroundings};
use crate::bench::process::pinned;
use crate::bench::setup;

/// How our servers name the threads that send to players.
const SENDING_THREADS: &str = "fanout-";

/// The load of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    /// Players.
    pub(crate) players: u32,
    /// Streams; the players are spread over them.
    pub(crate) streams: u32,
    /// Players started per second.
    pub(crate) start_rate: u32,
    /// Seconds measured.
    pub(crate) seconds: u32,
    /// Players of which one is looked at to the end, the others only counted.
    pub(crate) inspect_one_in: u32,
    /// Seconds from the last player's start to the measured window.
    pub(crate) settle: u32,
    /// How players read from their sockets.
    pub(crate) receiver: Receiver,
}

/// How players read from their sockets (`rtmp-load --receiver`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// Up to 256 kB a read, from sockets that stay registered with epoll.
    Epoll,
    /// As SRS's sb_rtmp_load: 4 kB a read, each wait registered anew.
    Coroutines,
}

impl Receiver {
    /// As the load generator takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Coroutines => "coroutines",
        }
    }
}

/// What the load generator is given beside the load.
#[derive(Debug, Clone)]
pub(crate) struct Generator {
    /// Its cores, as taskset(1) takes them.
    pub(crate) cores: String,
    /// Whether it goes before all else on the machine.
    pub(crate) realtime: bool,
    /// Its threads.
    pub(crate) threads: u32,
    /// Bits of video per second.
    pub(crate) video_bits_per_second: u64,
    /// Bits of audio per second.
    pub(crate) audio_bits_per_second: u64,
}

/// What one run has shown. Times in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// CPU time of the server per megabyte (10⁶ bytes) received by players.
    pub(crate) cpu_ms_per_mb: f64,
    /// The load generator's own, publisher included.
    pub(crate) load_cpu_ms_per_mb: f64,
    /// Share of its core that the load generator used.
    pub(crate) load_busy: f64,
    /// Received by all players together.
    pub(crate) mbit_per_s: f64,
    /// Share of the frames that arrived, over all players.
    pub(crate) delivered: Option<f64>,
    /// The same of the player that got least.
    pub(crate) lowest_delivered: Option<f64>,
    /// Resident memory that each player added to the server, in bytes.
    pub(crate) bytes_per_player: f64,
    /// Joining: median and 99 % of *connect* to the first keyframe.
    pub keyframe_p50: Option<f64>,
    /// See `keyframe_p50`.
    pub keyframe_p99: Option<f64>,
    /// Publisher to player: median.
    pub latency_p50: Option<f64>,
    /// Publisher to player: 99 %.
    pub latency_p99: Option<f64>,
    /// The busiest sending thread's CPU time over the mean of all that send;
    /// `None` where fewer than two are known to have sent.
    pub(crate) busiest_over_mean: Option<f64>,
    /// The whole report of the load generator.
    pub(crate) report: Value,
}

/// Runs a load against a contender.
///
/// # Errors
/// If either does not start or the load generator has nothing to report.
pub(crate) fn measure(
    contender: Contender,
    load: &Load,
    around: &Surroundings,
    generator: &Generator,
) -> anyhow::Result<Figures> {
    let running = Running::start(contender, around)?;
    let numbered = |url: &str| match load.streams {
        1 => url.to_owned(),
        _ => format!("{url}{{}}"),
    };
    let mut command = pinned(&generator.cores, generator.realtime);
    command
        .arg(around.binaries.join("rtmp-load"))
        .args(["--json", "--quiet"]);
    command.args(["--settle", &load.settle.to_string()]);
    command.args(["--receiver", load.receiver.name()]);
    command.args(["--players", &load.players.to_string()]);
    command.args(["--streams", &load.streams.to_string()]);
    command.args(["--start-rate", &load.start_rate.to_string()]);
    command.args(["--seconds", &load.seconds.to_string()]);
    command.args(["--inspect-one-in", &load.inspect_one_in.to_string()]);
    command.args(["--threads", &generator.threads.to_string()]);
    command.args(["--watch-pid", &running.server_pid.to_string()]);
    if let Some(publish_url) = &running.publish_url {
        command.args([
            "--publish",
            "generated",
            "--publish-url",
            &numbered(publish_url),
        ]);
        command.args(["--bitrate", &generator.video_bits_per_second.to_string()]);
        command.args([
            "--audio-bitrate",
            &generator.audio_bits_per_second.to_string(),
        ]);
    }
    command.arg(numbered(&running.play_url));
    let report = setup::load(command, contender)?;
    Figures::of(report).with_context(|| format!("{contender}: a figure is missing in the report"))
}

/// Of the threads that send; `None` where there is nothing to compare.
fn busiest_over_mean(threads: &Value) -> Option<f64> {
    let serving: Vec<f64> = threads
        .as_array()?
        .iter()
        .filter(|thread| {
            thread["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(SENDING_THREADS))
        })
        .filter_map(|thread| thread["cpu_s"].as_f64())
        .collect();
    let busiest = serving.iter().copied().fold(0.0, f64::max);
    let mean = serving.iter().sum::<f64>() / serving.len() as f64;
    (serving.len() > 1 && mean > 0.0).then(|| busiest / mean)
}

impl Figures {
    /// The figures of a report; `None` if one is missing that has to be there.
    pub(crate) fn of(report: Value) -> Option<Figures> {
        let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
        Some(Figures {
            cpu_ms_per_mb: number("/watched/0/cpu_ms_per_mb")?,
            load_cpu_ms_per_mb: number("/own/cpu_ms_per_mb")?,
            load_busy: number("/own/busiest_thread")?,
            mbit_per_s: number("/received/mbit_per_s")?,
            delivered: number("/frames/delivered"),
            lowest_delivered: number("/frames/lowest_delivered"),
            bytes_per_player: number("/watched/0/resident_bytes_per_player")?,
            keyframe_p50: number("/first_keyframe_ms/p50"),
            keyframe_p99: number("/first_keyframe_ms/p99"),
            latency_p50: number("/latency_ms/p50"),
            latency_p99: number("/latency_ms/p99"),
            busiest_over_mean: report
                .pointer("/watched/0/threads")
                .and_then(busiest_over_mean),
            report,
        })
    }

    /// The figures of the middle one of several runs by what it cost.
    pub(crate) fn median(mut runs: Vec<Figures>) -> Option<Figures> {
        runs.sort_by(|one, other| one.cpu_ms_per_mb.total_cmp(&other.cpu_ms_per_mb));
        let middle = runs.len() / 2;
        (!runs.is_empty()).then(|| runs.swap_remove(middle))
    }

    /// For the JSON file.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "cpu_ms_per_mb": self.cpu_ms_per_mb,
            "load_cpu_ms_per_mb": self.load_cpu_ms_per_mb,
            "load_busy": self.load_busy,
            "mbit_per_s": self.mbit_per_s,
            "delivered": self.delivered,
            "lowest_delivered": self.lowest_delivered,
            "bytes_per_player": self.bytes_per_player,
            "busiest_over_mean": self.busiest_over_mean,
            "report": self.report,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report with this cost and nothing remarkable.
    pub(crate) fn report_of(cpu_ms_per_mb: f64) -> Value {
        json!({
            "received": { "mbit_per_s": 2000.0 },
            "frames": { "delivered": 1.0, "lowest_delivered": 0.995 },
            "own": { "cpu_ms_per_mb": 0.2, "busiest_thread": 0.1 },
            "watched": [{
                "cpu_ms_per_mb": cpu_ms_per_mb,
                "resident_bytes_per_player": 1500.0,
                "threads": [
                    { "name": "fanout-1", "cpu_s": 1.1 },
                    { "name": "fanout-0", "cpu_s": 0.9 },
                    { "name": "async", "cpu_s": 0.5 },
                ],
            }],
        })
    }

    #[test]
    fn figures_that_a_run_may_lack_are_none() {
        let figures = Figures::of(report_of(0.3)).unwrap();
        assert_eq!(figures.cpu_ms_per_mb, 0.3);
        assert_eq!(figures.latency_p99, None);
    }

    #[test]
    fn a_report_without_the_servers_cost_is_no_measurement() {
        let mut report = report_of(0.3);
        report["watched"] = json!([]);
        assert!(Figures::of(report).is_none());
    }

    #[test]
    fn only_threads_that_send_count_in_the_mean() {
        let figures = Figures::of(report_of(0.3)).unwrap();
        let balance = figures.busiest_over_mean.unwrap();
        assert!((balance - 1.1).abs() < 1e-9, "{balance}");
    }

    #[test]
    fn threads_that_were_not_measured_have_no_balance() {
        let sending = |cpu_s: f64| json!({ "name": "fanout-0", "cpu_s": cpu_s });
        for threads in [
            json!(null),
            json!([]),
            json!([{ "name": "nginx", "cpu_s": 1.0 }]),
            json!([sending(1.0)]),
            json!([sending(0.0), sending(0.0)]),
        ] {
            let mut report = report_of(0.3);
            report["watched"][0]["threads"] = threads.clone();
            let figures = Figures::of(report).unwrap();
            assert_eq!(figures.busiest_over_mean, None, "{threads}");
        }
    }

    #[test]
    fn the_run_in_the_middle_counts() {
        let runs = [0.5, 0.1, 0.3].map(|cost| Figures::of(report_of(cost)).unwrap());
        assert_eq!(Figures::median(runs.to_vec()).unwrap().cpu_ms_per_mb, 0.3);
        assert!(Figures::median(Vec::new()).is_none());
    }
}
