//! Health checks of real servers.
//!
//! There is a file for each kind of check, which implements [`HealthCheck`]. [`machine`]
//! decides what follows from the outcomes, without sockets or clock. [`driver`] runs
//! the checks in time and reports what has changed.

pub mod dns;
pub mod driver;
pub mod file;
pub mod flv;
mod health_check;
pub mod http;
pub mod load;
pub mod machine;
pub mod misc;
pub mod ping;
pub mod rtmp;
pub mod smtp;
pub mod tcp;
mod tls;
pub mod udp;

use std::fmt;
use std::time::Duration;

use service_kit::OneLine;

pub use health_check::HealthCheck;
use machine::{ProbeOutcome, Share, Timing};

/// One check: equal ones are made once, however many services ask for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckSpec {
    /// The kind of check, and its target.
    pub probe: Probe,
    /// Its times.
    pub timing: Timing,
}

/// A kind of check and its target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Probe {
    /// A TCP connection can be made.
    Tcp(tcp::TcpProbe),
    /// Pages come over HTTP.
    Http(http::HttpProbe),
    /// A program succeeds.
    Misc(misc::MiscProbe),
    /// The number in a file says that all is well.
    File(file::FileProbe),
    /// A UDP port does not refuse.
    Udp(udp::UdpProbe),
    /// A DNS server answers a query.
    Dns(dns::DnsProbe),
    /// An SMTP server takes part in a dialogue.
    Smtp(smtp::SmtpProbe),
    /// The host answers a ping.
    Ping(ping::PingProbe),
    /// The server speaks RTMP.
    Rtmp(rtmp::RtmpProbe),
    /// A stream plays over HTTP-FLV.
    Flv(flv::FlvProbe),
    /// The server says what it sends and may send.
    Load(load::LoadProbe),
}

/// A message of a running check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckReport {
    /// It has found something new.
    Found(CheckEvent),
    /// It cannot be made, for this reason of ours, and what it found before
    /// stands; `None`: it can be made again.
    NotChecked(CheckSpec, Option<String>),
}

/// A change that a check has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckEvent {
    /// The check.
    pub spec: CheckSpec,
    /// Its result.
    pub result: CheckResult,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// It succeeds, and asks for another share of new connections if for one.
    Up(Option<Share>),
    /// It fails, for this reason.
    Down(String),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}

impl Probe {
    /// Checks once. The reason of an outcome is one line of limited length, whatever
    /// the server has answered.
    pub async fn run(&self) -> ProbeOutcome {
        match self.kind().check().await {
            ProbeOutcome::Failure(reason) => ProbeOutcome::Failure(quote(&reason)),
            ProbeOutcome::Local(reason) => ProbeOutcome::Local(quote(&reason)),
            outcome @ (ProbeOutcome::Success | ProbeOutcome::Weighted(_)) => outcome,
        }
    }

    /// True if a success shows that something is in reach: a `FILE_CHECK` reads a file of
    /// this machine. A `MISC_CHECK` counts, since its program may ask the server.
    pub fn reaches_server(&self) -> bool {
        !matches!(self, Self::File(_))
    }

    fn kind(&self) -> &(dyn HealthCheck + Sync) {
        match self {
            Self::Tcp(probe) => probe,
            Self::Http(probe) => probe,
            Self::Misc(probe) => probe,
            Self::File(probe) => probe,
            Self::Udp(probe) => probe,
            Self::Dns(probe) => probe,
            Self::Smtp(probe) => probe,
            Self::Ping(probe) => probe,
            Self::Rtmp(probe) => probe,
            Self::Flv(probe) => probe,
            Self::Load(probe) => probe,
        }
    }
}

impl CheckSpec {
    /// The longest time that it takes to find that a server is gone, or is back: a
    /// check may just have succeeded, or be waiting for an answer.
    pub fn detection(&self) -> Duration {
        let Timing {
            delay_loop,
            delay_before_retry,
            retry,
            ..
        } = self.timing;
        let failure = self.probe.kind().max_duration() + delay_before_retry;
        // The delay a second time for what comes late on a busy machine.
        delay_loop * 2 + failure.saturating_mul(retry.saturating_add(1))
    }
}

/// A reason as it is logged, listed and saved. A server chooses some of its words.
fn quote(reason: &str) -> String {
    const MAX_CHARACTERS: usize = 300;
    match reason.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", OneLine(&reason[..end])),
        None => OneLine(reason).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn what_a_server_answers_is_quoted_on_one_line_and_not_at_any_length() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a listener");
        let connection = tcp::Connection {
            to: listener.local_addr().expect("its address"),
            from: None,
            timeout: Duration::from_secs(5),
        };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = format!("554 \x1b[2Jno\r[ERROR] lost {}\r\n", "!".repeat(10_000));
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let probe = Probe::Smtp(smtp::SmtpProbe {
            connection,
            helo_name: "director".to_owned(),
        });
        let ProbeOutcome::Failure(reason) = probe.run().await else {
            panic!("554 is no greeting");
        };
        let expected = r"the greeting is `554 \u{1b}[2Jno\r[ERROR] lost !!!";
        assert!(reason.starts_with(expected), "{reason}");
        assert!(reason.ends_with("!!!…"), "{reason}");
        assert!(reason.len() < 400, "{reason}");
    }
}
