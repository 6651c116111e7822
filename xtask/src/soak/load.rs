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
const END: Duration = Duration::from_secs(120);

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
    /// True if each piece is a request of its own: an upgrade of the server ends the
    /// connections, and the segments that come are others.
    pub(super) fn is_hls(self) -> bool {
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
    protocol: Protocol,
    expected: Expected,
}

/// What a report must say, beside that times rise and no picture is corrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// No connection ends, and each picture comes once.
    Whole,
    /// No connection ends.
    Stays,
    /// Nothing more: an edge is killed meanwhile, perhaps just before the players leave; or
    /// it is upgraded, and players of HLS ask again.
    Reconnects,
}

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
        Self::start(host, command, protocol, url, expected)
    }

    /// A publisher and players that leave after some seconds. `reconnect`: the players'
    /// connections may end, and they connect again.
    pub(super) fn party(
        host: &Host,
        protocol: Protocol,
        (publish, play): (&str, &str),
        (players, seconds): (u32, u32),
        reconnect: bool,
    ) -> anyhow::Result<Self> {
        let mut command = rtmp_load()?;
        command.args(["-n", &players.to_string(), "-t", &seconds.to_string()]);
        command.args(["--publish", "generated", "--bitrate", BITRATE]);
        command.args(["--gop-seconds", "1", "--publish-url", publish]);
        if protocol.is_hls() {
            command.args(["--lead", "5"]);
        }
        if reconnect || protocol.is_hls() {
            command.arg("--reconnect");
        }
        let expected = match reconnect {
            true => Expected::Reconnects,
            false => Expected::Whole,
        };
        Self::start(host, command, protocol, play, expected)
    }

    fn start(
        host: &Host,
        mut command: Command,
        protocol: Protocol,
        url: &str,
        expected: Expected,
    ) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let report = host.directory().join(format!("load-{number}.json"));
        command.args(["--json", "--quiet", "--verify", url]);
        let output = File::create(&report)?;
        let process = host.spawn_with_output(&format!("load-{number}"), command, Some(output))?;
        Ok(Self {
            process,
            what: url.to_owned(),
            report,
            protocol,
            expected,
        })
    }

    /// The fault that one which is to stay has ended; `None` if it has not.
    pub(super) fn has_ended(&self) -> Option<String> {
        let status = self.process.exit_status()?;
        Some(format!("{}: its players have ended ({status})", self.what))
    }

    /// Ends players that stay; returns what did not hold. `upgraded`: as [`Load::wait`].
    pub(super) fn end(self, upgraded: bool) -> anyhow::Result<Vec<String>> {
        self.process.signal(Signal::SIGINT)?;
        self.wait(upgraded)
    }

    /// Waits for the end; returns what did not hold. `upgraded`: an edge that may have served
    /// them was upgraded meanwhile.
    pub(super) fn wait(self, upgraded: bool) -> anyhow::Result<Vec<String>> {
        wait_for_within(END, format_args!("the players of {}", self.what), || {
            anyhow::Ok(self.process.exit_status())
        })?;
        let text = fs::read_to_string(&self.report)?;
        let report: Value = serde_json::from_str(&text)
            .with_context(|| format!("{}: {}", self.what, self.process.log()))?;
        // There may be thousands of them in hours.
        fs::remove_file(&self.report)?;
        let expected = match upgraded && self.protocol.is_hls() {
            true => Expected::Reconnects,
            false => self.expected,
        };
        let faults = expected.faults(&report);
        Ok(faults
            .map(|fault| format!("{}: {fault}", self.what))
            .collect())
    }
}

impl Expected {
    /// What a report says that must not be.
    fn faults(self, report: &Value) -> impl Iterator<Item = String> {
        let number = |path: &str| report.pointer(path).and_then(Value::as_u64);
        let mut faults = Vec::new();
        let mut expect = |path: &str, wanted: Option<u64>| {
            let found = number(path);
            if found != wanted {
                faults.push(format!("{path} is {found:?} instead of {wanted:?}"));
            }
        };
        expect("/timestamps/reordered", Some(0));
        expect("/frames/corrupt", Some(0));
        if self == Self::Whole {
            expect("/frames/lost", Some(0));
            expect("/frames/repeated", Some(0));
        }
        if self != Self::Reconnects {
            expect("/players/playing", number("/players/asked"));
            expect(&format!("/hls/oddities/{FELL_OUT}"), None);
            let ended = &report["connections"]["ended"];
            if ended.as_object().is_none_or(|ended| !ended.is_empty()) {
                faults.push(format!("connections have ended: {ended}"));
            }
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
        let says_nothing = count(Expected::Reconnects, json!({}));
        assert!(says_nothing > 0);
    }
}
