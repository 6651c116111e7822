//! The cost of checks of many servers, and their delay:
//! `cargo xtask bench checks`.
//!
//! The checkers run as in the agent, in a runtime of one thread that is kept on
//! one core. The servers listen on loopback, each on a port of its own, in a
//! thread on the other cores. Each notes when a check connects: two connections
//! should be `delay_loop` apart, which runs from the end of the one check to the
//! beginning of the next, so what is beyond it is the length of a check and
//! whatever came late.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use lb_user::checker::driver::RunningCheck;
use lb_user::checker::http::{HttpProbe, Page};
use lb_user::checker::machine::Timing;
use lb_user::checker::rtmp::RtmpProbe;
use lb_user::checker::tcp::{Connection, TcpProbe};
use lb_user::checker::{CheckSpec, Probe};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::unistd::Pid;
use rtmp_proto::session::{ConnectSettings, ServerEvent, ServerSession};
use rtmp_proto::wire::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The kinds of check that are measured.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tcp,
    Http,
    Rtmp,
}

/// The measurements: name, check, `delay_loop`.
const RUNS: [(&str, Kind, Duration); 4] = [
    ("TCP_CHECK", Kind::Tcp, Duration::from_secs(1)),
    ("HTTP_GET", Kind::Http, Duration::from_secs(1)),
    ("RTMP_CHECK", Kind::Rtmp, Duration::from_secs(1)),
    ("TCP_CHECK", Kind::Tcp, Duration::from_millis(200)),
];

/// A connection of a check: of which server's, and when.
type Arrival = (usize, Instant);

fn main() -> Result<(), Box<dyn Error>> {
    let number = |name: &str, default| {
        let mut words = std::env::args().skip_while(|word| word != name).skip(1);
        words.next().map_or(Ok(default), |word| word.parse::<u64>())
    };
    let servers = usize::try_from(number("--servers", 500)?)?;
    let length = Duration::from_secs(number("--seconds", 12)?);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    println!(
        "{servers} servers, {} s each; times in ms",
        length.as_secs()
    );
    println!(
        "{:<11} {:>10} {:>9} {:>7} {:>7} {:>7} {:>7} {:>9}",
        "check", "delay_loop", "checks/s", "CPU %", "p50", "p99", "max", "µs/check"
    );
    for (name, kind, delay_loop) in RUNS {
        let measured = measure(kind, servers, delay_loop, length)?;
        let rate = measured.checks as f64 / length.as_secs_f64();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{name:<11} {:>10} {rate:>9.0} {:>7.1} {:>7.2} {:>7.2} {:>7.2} {:>9.0}",
            milliseconds(delay_loop),
            measured.cpu.as_secs_f64() / length.as_secs_f64() * 100.0,
            milliseconds(measured.beyond(0.5)),
            milliseconds(measured.beyond(0.99)),
            milliseconds(measured.beyond(1.0)),
            measured.cpu.as_secs_f64() * 1e6 / measured.checks as f64,
        );
    }
    Ok(())
}

/// The result of one run.
struct Measured {
    checks: usize,
    /// CPU time of the thread that checks.
    cpu: Duration,
    /// Time by which each pause was longer than `delay_loop`, in order.
    beyond: Vec<Duration>,
}

impl Measured {
    fn beyond(&self, part: f64) -> Duration {
        let last = self.beyond.len() - 1;
        self.beyond[(last as f64 * part) as usize]
    }
}

fn measure(
    kind: Kind,
    servers: usize,
    delay_loop: Duration,
    length: Duration,
) -> Result<Measured, Box<dyn Error>> {
    let (arrivals, arrived) = channel();
    let (listening, addresses) = channel();
    // Ends with the process: nobody connects any more.
    std::thread::spawn(move || serve(kind, servers, &listening, &arrivals));
    let addresses: Vec<SocketAddr> = addresses.recv()?;
    let checking = std::thread::spawn(move || check(kind, &addresses, delay_loop, length));
    let cpu = checking.join().expect("the checkers do not panic");
    Ok(evaluate(&arrived, servers, delay_loop, cpu))
}

fn evaluate(
    arrived: &Receiver<Arrival>,
    servers: usize,
    delay_loop: Duration,
    (cpu, since, until): (Duration, Instant, Instant),
) -> Measured {
    let mut last: Vec<Option<Instant>> = vec![None; servers];
    let (mut checks, mut beyond) = (0, Vec::new());
    for (server, at) in arrived.try_iter().filter(|(_, at)| *at <= until) {
        let before = last[server].replace(at);
        if at >= since {
            checks += 1;
            beyond.extend(before.map(|before| (at - before).saturating_sub(delay_loop)));
        }
    }
    assert!(!beyond.is_empty(), "no server was checked twice");
    beyond.sort_unstable();
    Measured {
        checks,
        cpu,
        beyond,
    }
}

/// Checks for `length`, after all have begun; the CPU time of that, and when it
/// was.
fn check(
    kind: Kind,
    addresses: &[SocketAddr],
    delay_loop: Duration,
    length: Duration,
) -> (Duration, Instant, Instant) {
    let mut core = CpuSet::new();
    core.set(0).expect("there is a core");
    sched_setaffinity(Pid::from_raw(0), &core).expect("it may be used");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (events, mut results) = tokio::sync::mpsc::unbounded_channel();
        let checks: Vec<RunningCheck> = addresses
            .iter()
            .map(|address| {
                let probe = probe(kind, *address);
                let timing = Timing {
                    delay_loop,
                    delay_before_retry: delay_loop,
                    retry: 0,
                    first_check: Duration::ZERO,
                    warmup: delay_loop,
                    alpha: false,
                };
                RunningCheck::start(CheckSpec { probe, timing }, None, events.clone())
            })
            .collect();
        // Until every server has been checked.
        tokio::time::sleep(2 * delay_loop).await;
        let (before, since) = (cpu_time(), Instant::now());
        tokio::time::sleep(length).await;
        let (after, until) = (cpu_time(), Instant::now());
        drop(checks);
        assert!(results.try_recv().is_err(), "every check succeeds");
        (after - before, since, until)
    })
}

/// CPU time that this thread has taken.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("it is known");
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64))
        .sum()
}

fn probe(kind: Kind, to: SocketAddr) -> Probe {
    let connection = Connection {
        to,
        from: None,
        timeout: Duration::from_secs(5),
    };
    match kind {
        Kind::Tcp => Probe::Tcp(TcpProbe(connection)),
        Kind::Http => Probe::Http(HttpProbe {
            connection,
            tls: false,
            server_name: false,
            pages: vec![Page {
                path: "/health".to_owned(),
                virtual_host: None,
                status_codes: vec![(200, 299)],
                digest: None,
                regex: None,
            }],
        }),
        Kind::Rtmp => Probe::Rtmp(RtmpProbe {
            connection,
            virtual_host: None,
            app: "live".to_owned(),
            play: None,
        }),
    }
}

/// Serves on as many ports as there are servers, for ever.
fn serve(
    kind: Kind,
    servers: usize,
    listening: &Sender<Vec<SocketAddr>>,
    arrivals: &Sender<Arrival>,
) {
    let mut cores = CpuSet::new();
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    // Where there is but one core, they share it.
    for core in 1.min(all - 1)..all {
        cores.set(core).expect("there is such a core");
    }
    sched_setaffinity(Pid::from_raw(0), &cores).expect("they may be used");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut addresses = Vec::new();
        for server in 0..servers {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            addresses.push(listener.local_addr().expect("its address"));
            let arrivals = arrivals.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    // The run may be over.
                    let _ = arrivals.send((server, Instant::now()));
                    tokio::spawn(answer(kind, stream));
                }
            });
        }
        listening.send(addresses).expect("it is waited for");
        std::future::pending::<()>().await;
    });
}

/// Answers one check; one that goes away is none of the server's business.
async fn answer(kind: Kind, mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let mut session = ServerSession::new(&Limits::default());
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let mut output = Vec::new();
        match kind {
            Kind::Tcp => {}
            Kind::Http => output.extend(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwell"),
            Kind::Rtmp => {
                let mut input = &buffer[..length];
                while let Ok(Some(event)) = session.read(&mut input, &mut output) {
                    if let ServerEvent::Connect(_) = event {
                        session.accept_connect(&ConnectSettings::default(), &mut output);
                    }
                }
            }
        }
        if stream.write_all(&output).await.is_err() || kind == Kind::Http {
            return;
        }
    }
}
