//! Health checks: what is asked of a real server, and how often.
//!
//! [`machine`] decides, without sockets or clock; one module per kind of check
//! asks; the driver here lets each checker sleep, ask and decide, and tells the
//! agent what has changed.

pub mod dns;
pub mod file;
pub mod http;
pub mod machine;
pub mod misc;
pub mod ping;
pub mod rtmp;
pub mod smtp;
pub mod tcp;
mod tls;
pub mod udp;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use service_kit::OneLine;
use tokio::sync::mpsc;

use machine::{Action, Checker, Input, Outcome, Share, Timing};

use tokio_util::task::AbortOnDropHandle;

/// One check: equal ones are made once, however many services ask for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckSpec {
    /// What is asked.
    pub probe: Probe,
    /// When.
    pub timing: Timing,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Probe {
    /// Can a TCP connection be made?
    Tcp(tcp::Connection),
    /// Do pages come over HTTP?
    Http(http::HttpProbe),
    /// Does a program succeed?
    Misc(misc::MiscProbe),
    /// Does a file say that all is well?
    File(file::FileProbe),
    /// Does a UDP port not refuse?
    Udp(udp::UdpProbe),
    /// Does a DNS server answer a query?
    Dns(dns::DnsProbe),
    /// Does an SMTP server take part in a dialogue?
    Smtp(smtp::SmtpProbe),
    /// Does the host answer a ping?
    Ping(tcp::Connection),
    /// Does the server speak RTMP?
    Rtmp(rtmp::RtmpProbe),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(connection) => write!(f, "TCP_CHECK {}", connection.to),
            Self::Http(probe) => {
                let name = if probe.tls { "SSL_GET" } else { "HTTP_GET" };
                write!(f, "{name} {}", probe.connection.to)
            }
            Self::Misc(probe) => write!(f, "MISC_CHECK {}", probe.script.script.command.join(" ")),
            Self::File(probe) => write!(f, "FILE_CHECK {}", probe.file.path.display()),
            Self::Udp(probe) => write!(f, "UDP_CHECK {}", probe.connection.to),
            Self::Dns(probe) => write!(f, "DNS_CHECK {} {}", probe.connection.to, probe.name),
            Self::Smtp(probe) => write!(f, "SMTP_CHECK {}", probe.connection.to),
            Self::Ping(connection) => write!(f, "PING_CHECK {}", connection.to.ip()),
            Self::Rtmp(probe) => {
                write!(f, "RTMP_CHECK {} /{}", probe.connection.to, probe.app)?;
                match &probe.play {
                    Some((stream, _)) => write!(f, "/{stream}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Probe {
    /// Asks once. What the outcome says is one line, of some length at most,
    /// whatever the server has answered.
    pub async fn run(&self) -> Outcome {
        match self.ask().await {
            Outcome::Failure(reason) => Outcome::Failure(quote(&reason)),
            Outcome::Local(reason) => Outcome::Local(quote(&reason)),
            outcome @ (Outcome::Success | Outcome::Weighted(_)) => outcome,
        }
    }

    async fn ask(&self) -> Outcome {
        match self {
            Self::Tcp(connection) => tcp::check(connection).await,
            Self::Http(probe) => http::check(probe).await,
            Self::Misc(probe) => misc::check(probe).await,
            Self::File(probe) => file::check(probe).await,
            Self::Udp(probe) => udp::check(probe).await,
            Self::Dns(probe) => dns::check(probe).await,
            Self::Smtp(probe) => smtp::check(probe).await,
            Self::Ping(connection) => ping::check(connection).await,
            Self::Rtmp(probe) => rtmp::check(probe).await,
        }
    }

    /// The longest that asking takes.
    fn patience(&self) -> Duration {
        // Those that first connect have the same time again for what follows.
        const CONNECTED: u32 = 2;
        match self {
            Self::Tcp(connection) | Self::Ping(connection) => connection.timeout,
            Self::Udp(probe) => probe.connection.timeout,
            Self::Dns(probe) => probe.connection.timeout,
            Self::Smtp(probe) => probe.connection.timeout * CONNECTED,
            Self::Http(probe) => {
                let pages = u32::try_from(probe.pages.len()).unwrap_or(u32::MAX);
                let page = probe.connection.timeout * CONNECTED;
                page.saturating_mul(pages)
            }
            Self::Rtmp(probe) => {
                let play = probe.play.as_ref().map(|(_, limit)| *limit);
                probe.connection.timeout * CONNECTED + play.unwrap_or_default()
            }
            Self::Misc(probe) => probe.timeout,
            Self::File(_) => Duration::ZERO,
        }
    }
}

impl CheckSpec {
    /// The longest that it takes to find that a server is gone, or is back: a
    /// check may just have succeeded, or be waiting for an answer.
    pub fn detection(&self) -> Duration {
        let Timing {
            delay_loop,
            delay_before_retry,
            retry,
            ..
        } = self.timing;
        let failure = self.probe.patience() + delay_before_retry;
        // The delay a second time for what comes late on a busy machine.
        delay_loop * 2 + failure.saturating_mul(retry.saturating_add(1))
    }
}

/// A reason as it is logged, listed and saved. A server chooses some of its words.
fn quote(reason: &str) -> String {
    const MOST_CHARACTERS: usize = 300;
    match reason.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", OneLine(&reason[..end])),
        None => OneLine(reason).to_string(),
    }
}

/// What a running check tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckNews {
    /// It has found something new.
    Found(CheckEvent),
    /// It cannot be made, for this reason of ours, and what it found before
    /// stands; `None`: it can be made again.
    Trouble(CheckSpec, Option<String>),
}

/// A change that a check has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckEvent {
    /// The check.
    pub spec: CheckSpec,
    /// What it has found.
    pub result: CheckResult,
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// It succeeds, and asks for another share of new connections if for one.
    Up(Option<Share>),
    /// It fails, for this reason.
    Down(String),
}

/// A check that is being made again and again, until this is dropped.
#[derive(Debug)]
pub struct RunningCheck {
    task: AbortOnDropHandle<()>,
}

impl RunningCheck {
    /// Starts to check; changes are sent to `events`. `known` is what an
    /// earlier check of the same thing has found, if there was one.
    pub fn start(
        spec: CheckSpec,
        known: Option<&CheckResult>,
        events: mpsc::UnboundedSender<CheckNews>,
    ) -> Self {
        let now = now();
        let spread = fastrand::f64();
        let checker = match known {
            Some(CheckResult::Up(share)) => Checker::resume(spec.timing, now, spread, true, *share),
            Some(CheckResult::Down(_)) => Checker::resume(spec.timing, now, spread, false, None),
            None => Checker::new(spec.timing, now, spread),
        };
        let probe = Arc::new(spec.probe.clone());
        let ask = move || {
            let probe = Arc::clone(&probe);
            async move { probe.run().await }
        };
        Self {
            task: AbortOnDropHandle::new(tokio::spawn(drive(spec, checker, events, ask))),
        }
    }

    /// Ends it; returns when nothing of it is left.
    pub async fn end(self) {
        self.task.abort();
        // It was aborted, or had ended.
        let _ = self.task.await;
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Lets a checker sleep, ask by `ask`, and decide, until nobody wants its
/// `events`.
async fn drive<F: Future<Output = Outcome>>(
    spec: CheckSpec,
    mut checker: Checker,
    events: mpsc::UnboundedSender<CheckNews>,
    ask: impl Fn() -> F,
) {
    let mut trouble = None;
    let mut last_reason = None;
    loop {
        let mut action = match checker.deadline() {
            Some(due) => {
                tokio::time::sleep_until(Instant::into(due)).await;
                checker.handle(now(), Input::Tick)
            }
            None => Some(Action::Check),
        };
        if action == Some(Action::Check) {
            let outcome = ask().await;
            let met = match &outcome {
                Outcome::Local(reason) => Some(reason.clone()),
                _ => None,
            };
            if met != trouble {
                trouble.clone_from(&met);
                if events.send(CheckNews::Trouble(spec.clone(), met)).is_err() {
                    return;
                }
            }
            action = checker.handle(now(), Input::Finished(outcome));
        }
        let result = match action {
            Some(Action::Up(share)) => CheckResult::Up(share),
            Some(Action::Down(reason)) => CheckResult::Down(reason),
            // It is down for another reason than before.
            Some(Action::Failed(reason))
                if !checker.is_up() && last_reason.as_ref() != Some(&reason) =>
            {
                CheckResult::Down(reason)
            }
            Some(Action::Failed(reason) | Action::NotChecked(reason)) => {
                log::debug!("{}: {reason}", spec.probe);
                continue;
            }
            Some(Action::Check) | None => continue,
        };
        last_reason = match &result {
            CheckResult::Down(reason) => Some(reason.clone()),
            CheckResult::Up(_) => None,
        };
        let event = CheckEvent {
            spec: spec.clone(),
            result,
        };
        if events.send(CheckNews::Found(event)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A check that is made every second from the start on.
    fn every_second(retry: u32, alpha: bool) -> CheckSpec {
        let connection = tcp::Connection {
            to: ([127, 0, 0, 1], 1).into(),
            from: None,
            timeout: Duration::from_secs(1),
        };
        CheckSpec {
            probe: Probe::Tcp(connection),
            timing: Timing {
                delay_loop: Duration::from_secs(1),
                delay_before_retry: Duration::from_secs(1),
                retry,
                first_check: Duration::ZERO,
                warmup: Duration::ZERO,
                alpha,
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_of_our_own_is_told_once_and_so_is_its_end() {
        let spec = every_second(0, false);
        let (events, mut news) = mpsc::unbounded_channel();
        let asked = Mutex::new(0);
        let ask = move || {
            let mut asked = asked.lock().expect("no panic");
            *asked += 1;
            let outcome = match *asked {
                1..=3 => Outcome::Local("no ports left".to_owned()),
                4 => Outcome::Success,
                _ => Outcome::Failure("refused".to_owned()),
            };
            async { outcome }
        };
        let checker = Checker::new(spec.timing, now(), 0.0);
        let task = tokio::spawn(drive(spec.clone(), checker, events, ask));
        let told = [
            CheckNews::Trouble(spec.clone(), Some("no ports left".to_owned())),
            CheckNews::Trouble(spec.clone(), None),
        ];
        for expected in told {
            assert_eq!(news.recv().await, Some(expected));
        }
        let down = CheckResult::Down("refused".to_owned());
        let event = CheckEvent { spec, result: down };
        assert_eq!(news.recv().await, Some(CheckNews::Found(event)));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn why_a_server_is_down_is_told_as_it_changes_and_once_each() {
        // Down at first, so that a reason of ours stands until the first check.
        let spec = every_second(1, true);
        let (events, mut news) = mpsc::unbounded_channel();
        let outcomes = [
            Some("503"),
            Some("503"),
            Some("404"),
            None,
            Some("once"),
            Some("twice"),
        ];
        let outcomes = Mutex::new(outcomes.into_iter());
        let ask = move || {
            let next = outcomes.lock().expect("no panic").next();
            async move {
                match next {
                    Some(Some(reason)) => Outcome::Failure(reason.to_owned()),
                    Some(None) => Outcome::Success,
                    None => std::future::pending().await,
                }
            }
        };
        let checker = Checker::new(spec.timing, now(), 0.0);
        let task = tokio::spawn(drive(spec.clone(), checker, events, ask));
        let down = |reason: &str| CheckResult::Down(reason.to_owned());
        // A failure that does not take an up server out is no news.
        for result in [
            down("503"),
            down("404"),
            CheckResult::Up(None),
            down("twice"),
        ] {
            let spec = spec.clone();
            let found = CheckNews::Found(CheckEvent { spec, result });
            assert_eq!(news.recv().await, Some(found));
        }
        task.abort();
    }

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
        let Outcome::Failure(reason) = probe.run().await else {
            panic!("554 is no greeting");
        };
        let expected = r"the greeting is `554 \u{1b}[2Jno\r[ERROR] lost !!!";
        assert!(reason.starts_with(expected), "{reason}");
        assert!(reason.ends_with("!!!…"), "{reason}");
        assert!(reason.len() < 400, "{reason}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_found_to_be_gone_and_to_be_back_within_the_time_of_detection() {
        const TIMEOUT: Duration = Duration::from_secs(5);
        let timing = Timing {
            delay_loop: Duration::from_secs(1),
            delay_before_retry: Duration::from_secs(2),
            retry: 3,
            first_check: Duration::ZERO,
            warmup: Duration::ZERO,
            alpha: false,
        };
        let spec = CheckSpec {
            probe: Probe::Tcp(tcp::Connection {
                to: ([127, 0, 0, 1], 1).into(),
                from: None,
                timeout: TIMEOUT,
            }),
            timing,
        };
        let (events, mut news) = mpsc::unbounded_channel();
        let answers = Arc::new(Mutex::new(true));
        let server = Arc::clone(&answers);
        let ask = move || {
            // What is decided when it is asked: a SYN that is lost is lost.
            let answers = *server.lock().expect("no panic");
            async move {
                if answers {
                    return Outcome::Success;
                }
                tokio::time::sleep(TIMEOUT).await;
                Outcome::Failure("no answer".to_owned())
            }
        };
        let checker = Checker::new(spec.timing, now(), 0.0);
        let task = tokio::spawn(drive(spec.clone(), checker, events, ask));
        let down = CheckResult::Down("no answer".to_owned());
        for (answer, expected) in [(false, down), (true, CheckResult::Up(None))] {
            // In the middle of a delay, or of a check.
            tokio::time::sleep(Duration::from_millis(20_500)).await;
            *answers.lock().expect("no panic") = answer;
            let changed = now();
            let event = CheckEvent {
                spec: spec.clone(),
                result: expected,
            };
            assert_eq!(news.recv().await, Some(CheckNews::Found(event)));
            let took = now() - changed;
            assert!(took <= spec.detection(), "{took:?}");
        }
        task.abort();
    }

    /// Five hundred servers, five checks a second each: every check begins when
    /// the one before has ended and `delay_loop` has passed, to the millisecond
    /// that tokio's clock counts in, from the first to the last.
    #[tokio::test(start_paused = true)]
    async fn checks_of_five_hundred_servers_do_not_drift() {
        const SERVERS: u16 = 500;
        const DELAY: Duration = Duration::from_millis(200);
        const COST: Duration = Duration::from_millis(5);
        let timing = Timing {
            delay_loop: DELAY,
            delay_before_retry: DELAY,
            retry: 0,
            first_check: DELAY,
            warmup: DELAY,
            alpha: false,
        };
        let (events, _results) = mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        let mut all_starts = Vec::new();
        for server in 0..SERVERS {
            let connection = tcp::Connection {
                to: ([127, 0, 0, 1], 1 + server).into(),
                from: None,
                timeout: DELAY,
            };
            let spec = CheckSpec {
                probe: Probe::Tcp(connection),
                timing,
            };
            let checker = Checker::new(timing, now(), f64::from(server) / f64::from(SERVERS));
            let starts = Arc::new(Mutex::new(Vec::new()));
            all_starts.push(Arc::clone(&starts));
            let ask = move || {
                starts.lock().expect("no panic").push(now());
                async {
                    tokio::time::sleep(COST).await;
                    Outcome::Success
                }
            };
            tasks.push(tokio::spawn(drive(spec, checker, events.clone(), ask)));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        for (server, starts) in all_starts.iter().enumerate() {
            let starts = starts.lock().expect("no panic");
            assert!(
                starts.len() >= 280,
                "server {server}: {} checks",
                starts.len()
            );
            for pair in starts.windows(2) {
                let late = (pair[1] - pair[0]).saturating_sub(DELAY + COST);
                // Two sleeps, each rounded up to a millisecond.
                assert!(
                    late <= Duration::from_millis(2),
                    "server {server}: {late:?} late"
                );
            }
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
