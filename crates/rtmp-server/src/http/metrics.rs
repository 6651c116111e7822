//! `/metrics`: SRS's six names, for its Grafana board, and our own.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::header;
use axum::response::{IntoResponse, Response};
use service_kit::metrics::{CONTENT_TYPE, Exposition, Kind, Labels};

use super::Api;
use super::load::Load;
use super::snapshot::Totals;
use super::summaries::role;
use super::system::ProcessFigures;
use crate::server::{ForwardState, IngestState, LoadReport, RecordingState, Total};
use crate::stream::Stream;

/// Maximum number of streams that have series of their own: those with the most players.
const MAX_STREAMS: usize = 1_000;
/// Maximum length of the labels of all of them, in bytes: a publisher chooses its
/// stream's name, and an answer is to stay below a megabyte.
const MAX_LABEL_BYTES: usize = 64 * 1024;

/// Answers with all metrics.
pub(super) fn answer(api: &Api, load: LoadReport) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], render(api, load)).into_response()
}

fn render(api: &Api, load: LoadReport) -> String {
    let totals = Totals::take(&api.server);
    let mut metrics = Exposition::default();
    write_srs(&mut metrics, api, &totals);
    write_server(&mut metrics, api, &totals);
    write_load(&mut metrics, api, load);
    write_players(&mut metrics, api);
    write_hooks(&mut metrics, api);
    write_dvr(&mut metrics, api);
    write_forwards(&mut metrics, api);
    write_ingests(&mut metrics, api);
    write_streams(&mut metrics, &totals);
    metrics.into_text()
}

/// The names of SRS's exporter (`SrsGoApiMetrics`), which have no labels.
fn write_srs(metrics: &mut Exposition, api: &Api, totals: &Totals) {
    let clients = api.server.clients().totals();
    let mut family = |name: &str, kind, help: &str, value: u64| {
        metrics.family(name, kind, help).value(value);
    };
    let streams = totals.streams.len() as u64;
    family("srs_streams", Kind::Gauge, "Streams", streams);
    let present = api.server.clients().connections() as u64;
    family("srs_clients", Kind::Gauge, "Connections", present);
    let help = "Connections so far";
    family("srs_clients_total", Kind::Counter, help, clients.came);
    let help = "Connections that neither side has ended in an orderly way";
    family(
        "srs_clients_errs_total",
        Kind::Counter,
        help,
        clients.failed,
    );
    let help = "Bytes sent to clients";
    family("srs_send_bytes_total", Kind::Counter, help, clients.sent);
    let help = "Bytes received from clients";
    family(
        "srs_receive_bytes_total",
        Kind::Counter,
        help,
        clients.received,
    );
}

/// The process, its connections, its memory, its pulls.
fn write_server(metrics: &mut Exposition, api: &Api, totals: &Totals) {
    let server = &api.server;
    let build: [(&str, &dyn std::fmt::Display); 2] = [
        ("role", &role(server.role())),
        ("version", &env!("CARGO_PKG_VERSION")),
    ];
    let help = "The version and the kind of server";
    metrics
        .family("millrace_build_info", Kind::Gauge, help)
        .sample(&Labels::new(&build), 1);
    let process = ProcessFigures::read();
    let help = "Time of processors that the process has taken";
    metrics
        .family("process_cpu_seconds_total", Kind::Counter, help)
        .value(process.cpu_seconds);
    let help = "Memory of the process";
    metrics
        .family("process_resident_memory_bytes", Kind::Gauge, help)
        .value(process.resident_bytes);
    metrics
        .family("process_open_fds", Kind::Gauge, "Open descriptors")
        .value(process.open_descriptors);
    let help = "Time since the start";
    metrics
        .family("millrace_uptime_seconds", Kind::Gauge, help)
        .value(server.uptime().as_secs());

    let mut connections = BTreeMap::<_, u64>::new();
    for client in &totals.clients {
        let kind = (client.protocol().name(), client.activity().name());
        *connections.entry(kind).or_default() += 1;
    }
    let help = "Connections by protocol and by what they do: idle, publish, standby, wait or play";
    let mut family = metrics.family("millrace_connections", Kind::Gauge, help);
    for ((protocol, activity), count) in connections {
        let labels = Labels::new(&[("protocol", &protocol), ("activity", &activity)]);
        family.sample(&labels, count);
    }
    let help = "Connections that `max_connections` allows";
    metrics
        .family("millrace_connections_limit", Kind::Gauge, help)
        .value(server.config().max_connections);
    let help = "Clients that were refused, by reason";
    let mut family = metrics.family("millrace_refusals_total", Kind::Counter, help);
    for (refusal, count) in server.refusals().counts() {
        family.sample(&Labels::new(&[("reason", &refusal.name())]), count);
    }
    for (name, help, pool) in [
        ("log", "the logs of all streams take", server.log_memory()),
        (
            "message",
            "incomplete messages of connections take",
            server.message_memory(),
        ),
    ] {
        metrics
            .family(
                &format!("millrace_{name}_memory_bytes"),
                Kind::Gauge,
                &format!("Memory that {help}"),
            )
            .value(pool.used());
        metrics
            .family(
                &format!("millrace_{name}_memory_limit_bytes"),
                Kind::Gauge,
                &format!("Limit of the memory that {help}"),
            )
            .value(pool.limit());
    }
    let help = "Switches from one publisher to another that waited, by reason";
    let mut family = metrics.family("millrace_publisher_switches_total", Kind::Counter, help);
    for (reason, count) in server.switches().counts() {
        family.sample(&Labels::new(&[("reason", &reason.name())]), count);
    }
    let help = "Pulls from origins, by origin and state";
    let mut family = metrics.family("millrace_pulls", Kind::Gauge, help);
    for ((origin, state), count) in server.pulls().counts() {
        let labels = Labels::new(&[("origin", &origin), ("state", &state)]);
        family.sample(&labels, count);
    }
    let help = "Streams whose pulls bring the same messages (origin_redundancy)";
    metrics
        .family("millrace_aligned_streams", Kind::Gauge, help)
        .value(server.pulls().aligned());
    let help = "Pictures that an origin was the first to bring, of streams that are pulled \
                from several at once";
    let mut family = metrics.family("millrace_pull_pictures_first_total", Kind::Counter, help);
    for (origin, count) in server.pulls().pictures_first() {
        family.sample(&Labels::new(&[("origin", &origin)]), count);
    }
}

/// What is sent, and what may be.
fn write_load(metrics: &mut Exposition, api: &Api, load: LoadReport) {
    let rates = [
        (
            "sent",
            "Bytes sent per second, with the headers of frames, averaged over some seconds",
            Some(load.average),
        ),
        (
            "reserved",
            "Bytes per second that viewers will take who were let in a moment ago",
            Some(load.reserved),
        ),
        (
            "capacity",
            "Bytes per second that can be sent",
            load.capacity,
        ),
        (
            "limit",
            "Bytes per second beyond which viewers are refused, if they are",
            load.limit,
        ),
    ];
    for (name, help, rate) in rates {
        let name = format!("millrace_load_{name}_bytes_per_second");
        let mut family = metrics.family(&name, Kind::Gauge, help);
        if let Some(rate) = rate {
            family.value(rate / 8);
        }
    }
    let help = "Whether new viewers are let in";
    metrics
        .family("millrace_load_accepting", Kind::Gauge, help)
        .value(u8::from(Load::new(api, load).accepting));
}

/// The players, by where they stand.
fn write_players(metrics: &mut Exposition, api: &Api) {
    let help = "Players of each fan-out worker";
    let mut family = metrics.family("millrace_worker_players", Kind::Gauge, help);
    for (worker, players) in api.server.players_per_worker().into_iter().enumerate() {
        family.sample(&Labels::new(&[("worker", &worker)]), players);
    }
    let help = "Time from which on a stream's news were to be sent until all its players of \
                a fan-out worker, or those of a part, were served, for each time";
    let mut family = metrics.family("millrace_fanout_flush_seconds", Kind::Histogram, help);
    for (worker, times) in api.server.flush_times().enumerate() {
        family.histogram(&Labels::new(&[("worker", &worker)]), times);
    }
    let help = "Time since the oldest message came that a player's socket has not taken \
                wholly, for each player every five seconds";
    metrics
        .family("millrace_player_lag_seconds", Kind::Histogram, help)
        .histogram(&Labels::default(), api.server.lag_times());
    let help = "Players that are sent nothing, by what they wait for";
    let mut family = metrics.family("millrace_players_halted", Kind::Gauge, help);
    for (reason, count) in [
        ("keyframe", &api.samples.waiting),
        ("pause", &api.samples.paused),
    ] {
        let labels = Labels::new(&[("reason", &reason)]);
        family.sample(&labels, count.load(Ordering::Relaxed));
    }
}

/// The web servers that are asked.
fn write_hooks(metrics: &mut Exposition, api: &Api) {
    let hooks = api.server.hooks();
    let help = "Time until a hook was answered";
    let mut family = metrics.family("millrace_hook_seconds", Kind::Histogram, help);
    for (event, stats) in hooks.stats() {
        family.histogram(&Labels::new(&[("event", &event)]), &stats.latency);
    }
    let help = "Hooks that were not answered with a permission, by result";
    let mut family = metrics.family("millrace_hook_failures_total", Kind::Counter, help);
    for (event, stats) in hooks.stats() {
        for (result, count) in [("refused", &stats.refused), ("failed", &stats.failed)] {
            let labels = Labels::new(&[("event", &event), ("result", &result)]);
            family.sample(&labels, count.load(Ordering::Relaxed));
        }
    }
}

/// The recordings.
fn write_dvr(metrics: &mut Exposition, api: &Api) {
    let dvr = api.server.dvr();
    let help = "Recordings by state: waiting (for a keyframe), recording, failing";
    let mut family = metrics.family("millrace_recordings", Kind::Gauge, help);
    let states = dvr.list().into_iter().map(|it| it.progress().state);
    let states: Vec<_> = states.collect();
    for state in RecordingState::ALL {
        let count = states.iter().filter(|it| **it == state).count();
        family.sample(&Labels::new(&[("state", &state.name())]), count);
    }
    write_totals(metrics, api.server.dvr_totals());
}

/// The forwards, by no server's name: a backend may give any number of them.
fn write_forwards(metrics: &mut Exposition, api: &Api) {
    let forwards = api.server.forwards();
    let present = forwards.list();
    let help = "Forwards to other servers by state: connecting, sending, waiting (to try again)";
    let mut family = metrics.family("millrace_forwards", Kind::Gauge, help);
    let states = present.iter().map(|it| it.progress().state);
    let states: Vec<_> = states.collect();
    for state in ForwardState::ALL {
        let count = states.iter().filter(|it| **it == state).count();
        family.sample(&Labels::new(&[("state", &state.name())]), count);
    }
    let now = Instant::now();
    let lag = present.iter().filter_map(|it| it.lag(now)).max();
    let help = "Time since the oldest message came that a server has not been sent, of the \
                slowest that is sent something";
    metrics
        .family("millrace_forward_max_lag_seconds", Kind::Gauge, help)
        .value(lag.unwrap_or(Duration::ZERO).as_secs_f64());
    write_totals(metrics, api.server.forward_totals());
}

/// The streams that the server fetches, and the programs that it runs.
fn write_ingests(metrics: &mut Exposition, api: &Api) {
    let ingests = api.server.ingests();
    let help = "Streams that the server fetches, by state: connecting, running, waiting (to try \
                again)";
    let mut family = metrics.family("millrace_ingests", Kind::Gauge, help);
    let states = ingests.list().into_iter().map(|it| it.progress().state);
    let states: Vec<_> = states.collect();
    for state in IngestState::ALL {
        let count = states.iter().filter(|it| **it == state).count();
        family.sample(&Labels::new(&[("state", &state.name())]), count);
    }
    let help = "Programs of `ingest`, `transcode` and `exec` that run";
    let programs = api.server.programs();
    metrics
        .family("millrace_programs", Kind::Gauge, help)
        .value(programs.running());
    write_totals(metrics, api.server.ingest_totals());
}

fn write_totals<'a>(metrics: &mut Exposition, totals: impl IntoIterator<Item = Total<'a>>) {
    for total in totals {
        let name = format!("millrace_{}_total", total.name);
        metrics
            .family(&name, Kind::Counter, total.help)
            .value(total.count());
    }
}

/// A family of metrics of streams: name, type, help, and the value of a stream.
type StreamFamily = (
    &'static str,
    Kind,
    &'static str,
    fn(&Totals, &Stream) -> u64,
);

const STREAM_FAMILIES: [StreamFamily; 9] = [
    (
        "published",
        Kind::Gauge,
        "Whether the stream has a publisher, or an origin that sends it",
        |_, stream| u64::from(stream.has_encoder() && !stream.shows_slate()),
    ),
    (
        "slate",
        Kind::Gauge,
        "Whether the slate is on air",
        |_, stream| u64::from(stream.shows_slate()),
    ),
    (
        "standbys",
        Kind::Gauge,
        "Publishers that wait while another one is on air",
        |_, stream| stream.standbys() as u64,
    ),
    (
        "players",
        Kind::Gauge,
        "Players, viewers by HLS among them",
        |totals, stream| totals.players_of(stream) as u64,
    ),
    (
        "received_bytes_total",
        Kind::Counter,
        "Bytes of media received",
        |_, stream| stream.totals().bytes_in.load(Ordering::Relaxed),
    ),
    (
        "sent_bytes_total",
        Kind::Counter,
        "Bytes sent to players",
        |totals, stream| totals.bytes_of(stream).sent,
    ),
    (
        "frames_total",
        Kind::Counter,
        "Pictures received",
        |_, stream| stream.pictures(),
    ),
    (
        "skips_total",
        Kind::Counter,
        "Players that were too slow and were moved to a keyframe",
        |_, stream| stream.totals().skips.load(Ordering::Relaxed),
    ),
    (
        "log_bytes",
        Kind::Gauge,
        "Memory of the stream's logs",
        |_, stream| stream.memory().unwrap_or(0),
    ),
];

/// The streams with the most players, and how many have been left out.
fn write_streams(metrics: &mut Exposition, totals: &Totals) {
    let mut streams: Vec<&Arc<Stream>> = totals.streams.iter().collect();
    streams.sort_by_key(|stream| Reverse(totals.players_of(stream)));
    let mut label_bytes = 0;
    let shown: Vec<(Labels, &Stream)> = streams
        .iter()
        .take(MAX_STREAMS)
        .map(|stream| (labels(stream), &***stream))
        .take_while(|(labels, _)| {
            label_bytes += labels.text_bytes();
            label_bytes <= MAX_LABEL_BYTES
        })
        .collect();
    let help = "Streams that have no series of their own: the limits are reached";
    metrics
        .family("millrace_streams_left_out", Kind::Gauge, help)
        .value(totals.streams.len() - shown.len());
    for (name, kind, help, value) in STREAM_FAMILIES {
        let mut family = metrics.family(&format!("millrace_stream_{name}"), kind, help);
        for (labels, stream) in &shown {
            family.sample(labels, value(totals, stream));
        }
    }
}

fn labels(stream: &Stream) -> Labels {
    let key = stream.key();
    Labels::new(&[
        ("vhost", &key.vhost),
        ("app", &key.app),
        ("stream", &key.stream),
    ])
}
