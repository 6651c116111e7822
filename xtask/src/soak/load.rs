//! Players and publishers: processes of `rtmp-load`, and what their reports must say.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use netbed::{Host, Process, wait_for_within};
use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::HTTP_PORT;

/// Bits per second of each stream: the machine is to carry everything at once.
pub(super) const BITRATE: &str = "400k";
/// The longest that a party may take beyond its time.
const END: Duration = Duration::from_secs(180);
/// Seconds without anything after which a player gives up. None does because the machine is
/// slow, or stands still for a while.
pub(super) const TIMEOUT: &str = "120";

/// How a player plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Rtmp,
    Flv,
    WebSocket,
    Hls,
    LowLatencyHls,
}

impl Protocol {
    /// True if each piece is a request of its own, which may be refused for a moment.
    fn is_hls(self) -> bool {
        matches!(self, Self::Hls | Self::LowLatencyHls)
    }

    pub(super) const ALL: [Self; 5] = [
        Self::Rtmp,
        Self::Flv,
        Self::WebSocket,
        Self::Hls,
        Self::LowLatencyHls,
    ];

    /// The address of a stream at `host`.
    pub(super) fn url(self, host: Ipv4Addr, stream: &str) -> String {
        match self {
            Self::Rtmp => format!("rtmp://{host}/live/{stream}"),
            Self::Flv => format!("http://{host}:{HTTP_PORT}/live/{stream}.flv"),
            Self::WebSocket => format!("ws://{host}:{HTTP_PORT}/live/{stream}.flv"),
            Self::Hls => format!(
                "http://{host}:{HTTP_PORT}/live/{stream}.m3u8?vhost={}",
                testbed::HLS_TS_VHOST
            ),
            Self::LowLatencyHls => format!("http://{host}:{HTTP_PORT}/live/{stream}.m3u8"),
        }
    }
}

/// A process of `rtmp-load`.
pub(super) struct Load {
    process: Process,
    what: String,
    report: PathBuf,
    /// The publisher of what they play, if it is a party's.
    publisher: Option<Process>,
    expected: Expected,
}

/// What has become of players.
pub(super) struct Outcome {
    /// What did not hold.
    pub(super) faults: Vec<String>,
    /// Those that had a picture.
    pub(super) playing: u64,
}

/// What a report must say, beside that times rise and no picture is corrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// No connection ends, and each picture comes once.
    Whole,
    /// No connection ends.
    Stays,
    /// No connection ends, and each picture that is due comes once: they leave soon, perhaps
    /// before they have begun to play.
    Guests,
    /// Nothing more: an edge is killed meanwhile, perhaps just before the players leave.
    Reconnects,
}

/// The answer where a segment is not there in three target durations, as on a machine that
/// stands still: players ask again.
const COMES_LATER: &str = "refused: 503";

/// What `rtmp-load` calls it where segments that a player was to load are listed no more.
const FELL_OUT: &str = "a player fell out of the playlist's window";

impl Load {
    /// Players that stay until [`Load::end`]. `whole`: they get each picture once.
    pub(super) fn watch(
        host: &Host,
        protocol: Protocol,
        url: &str,
        players: u32,
        whole: bool,
    ) -> anyhow::Result<Self> {
        let mut command = rtmp_load()?;
        command.args(["-n", &players.to_string(), "-t", "0"]);
        if protocol.is_hls() {
            command.arg("--reconnect");
        }
        let expected = match whole {
            true => Expected::Whole,
            false => Expected::Stays,
        };
        Self::start(host, command, url, expected)
    }

    /// Players of what `publisher` sends that leave after some seconds, and it with them.
    /// `reconnect`: the players' connections may end, and they connect again.
    pub(super) fn party(
        host: &Host,
        publisher: Process,
        (protocol, url): (Protocol, &str),
        (players, seconds): (u32, u32),
        reconnect: bool,
    ) -> anyhow::Result<Self> {
        let mut command = rtmp_load()?;
        command.args(["-n", &players.to_string(), "-t", &seconds.to_string()]);
        if reconnect || protocol.is_hls() {
            command.arg("--reconnect");
        }
        let expected = match reconnect {
            true => Expected::Reconnects,
            false => Expected::Guests,
        };
        let load = Self::start(host, command, url, expected)?;
        Ok(Self {
            publisher: Some(publisher),
            ..load
        })
    }

    fn start(
        host: &Host,
        mut command: Command,
        url: &str,
        expected: Expected,
    ) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let report = host.directory().join(format!("load-{number}.json"));
        command.args(["--json", "--quiet", "--verify", "--timeout", TIMEOUT, url]);
        let output = File::create(&report)?;
        let process = host.spawn_with_output(&format!("load-{number}"), command, Some(output))?;
        Ok(Self {
            process,
            what: url.to_owned(),
            report,
            publisher: None,
            expected,
        })
    }

    /// The fault that one which is to stay has ended; `None` if it has not.
    pub(super) fn has_ended(&self) -> Option<String> {
        let status = self.process.exit_status()?;
        Some(format!("{}: its players have ended ({status})", self.what))
    }

    /// Ends players that stay.
    pub(super) fn end(self) -> anyhow::Result<Outcome> {
        self.process.signal(Signal::SIGINT)?;
        self.wait()
    }

    /// Waits for the end.
    pub(super) fn wait(self) -> anyhow::Result<Outcome> {
        wait_for_within(END, format_args!("the players of {}", self.what), || {
            anyhow::Ok(self.process.exit_status())
        })?;
        if let Some(publisher) = &self.publisher {
            publisher.kill()?;
        }
        let text = fs::read_to_string(&self.report)?;
        let report: Value = serde_json::from_str(&text)
            .with_context(|| format!("{}: {}", self.what, self.process.log()))?;
        // There may be thousands of them in hours.
        fs::remove_file(&self.report)?;
        let faults = self.expected.faults(&report);
        Ok(Outcome {
            faults: faults
                .map(|fault| format!("{}: {fault}", self.what))
                .collect(),
            playing: report
                .pointer("/players/playing")
                .and_then(Value::as_u64)
                .unwrap_or(0),
        })
    }
}

impl Expected {
    /// What a report says that must not be.
    fn faults(self, report: &Value) -> impl Iterator<Item = String> {
        let number = |path: &str| report.pointer(path).and_then(Value::as_u64);
        let mut faults = Vec::new();
        let mut forbid = |path: &str| match number(path) {
            // Of players that have had no picture there are no figures of pictures.
            None | Some(0) => {}
            Some(found) => faults.push(format!("{path} is {found}")),
        };
        forbid("/timestamps/reordered");
        forbid("/frames/corrupt");
        if matches!(self, Self::Whole | Self::Guests) {
            forbid("/frames/lost");
            forbid("/frames/repeated");
        }
        if self != Self::Reconnects {
            forbid(&format!("/hls/oddities/{FELL_OUT}"));
        }
        if matches!(self, Self::Whole | Self::Stays) {
            let [playing, asked] = ["/players/playing", "/players/asked"].map(number);
            if playing.is_none() || playing != asked {
                faults.push(format!("{playing:?} of {asked:?} players play"));
            }
        }
        if self != Self::Reconnects {
            let ended = report["connections"]["ended"].as_object();
            let causes = ended.into_iter().flatten();
            let unexcused = causes.filter(|(cause, _)| !cause.contains(COMES_LATER));
            faults.extend(unexcused.map(|(cause, count)| format!("{cause}: {count}")));
        }
        faults.into_iter()
    }
}

/// `rtmp-load`, without arguments yet.
pub(super) fn rtmp_load() -> anyhow::Result<Command> {
    Ok(Command::new(testbed::program("rtmp-load")?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(lost: u64, ended: Value) -> Value {
        json!({
            "players": { "asked": 3, "playing": 3 },
            "timestamps": { "reordered": 0 },
            "frames": { "lost": lost, "repeated": 0, "corrupt": 0 },
            "connections": { "ended": ended },
        })
    }

    #[test]
    fn a_report_is_judged_by_what_is_expected_of_its_players() {
        let count = |expected: Expected, report| expected.faults(&report).count();
        let closed = json!({ "closed": 1 });
        assert_eq!(count(Expected::Whole, report(0, json!({}))), 0);
        assert_eq!(count(Expected::Whole, report(2, json!({}))), 1);
        assert_eq!(count(Expected::Stays, report(2, json!({}))), 0);
        assert_eq!(count(Expected::Stays, report(0, closed.clone())), 1);
        let mut fell_out = report(0, json!({}));
        fell_out["hls"] = json!({ "oddities": { FELL_OUT: 1 } });
        assert_eq!(count(Expected::Stays, fell_out.clone()), 1);
        assert_eq!(count(Expected::Reconnects, fell_out), 0);
        assert_eq!(count(Expected::Reconnects, report(2, closed)), 0);
        let later = json!({ "the playlist refused: 503 Service Unavailable": 1 });
        assert_eq!(count(Expected::Stays, report(0, later)), 0);
        assert!(count(Expected::Stays, json!({})) > 0);
        let mut none_yet = report(0, json!({}));
        none_yet["players"]["playing"] = json!(0);
        assert_eq!(count(Expected::Stays, none_yet.clone()), 1);
        assert_eq!(count(Expected::Guests, none_yet), 0);
        assert_eq!(count(Expected::Guests, report(2, json!({}))), 1);
    }
}
