//! What a packet costs in XDP (BPF_PROG_TEST_RUN): `cargo xtask bench xdp`.
//!
//! Every round measures everything once, so that whatever else the machine does
//! falls on all alike; what is printed are medians over the rounds. A *hot*
//! figure is the mean of many runs in a row on one packet. A *single* figure is
//! one run on a packet drawn at random, less what a bare `XDP_PASS` shows when
//! measured so: that share is the measurement's own.

#[path = "../tests/bed/mod.rs"]
#[expect(
    dead_code,
    reason = "shared with the packet tests, which use all of it"
)]
mod bed;
mod walks;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use aya::maps::{HashMap, MapData};
use aya::programs::{ProgramError, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use bed::frames::{A, RTMP, S, VIP, patched, tcp, tcp_to, tcp6, udp};
use bed::{Bed, DIRECTOR, persistent, service, state};
use lb_common::{Flow, FlowKey, maps};
use lb_user::dataplane::state::{OrphanPolicy, Protocol};
use lb_user::dataplane::{DesiredState, TableSizes};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Connections that single figures are drawn from.
const DRAWN_FROM: u32 = 1 << 16;
/// Entries of the connection table.
const CONNECTIONS: u32 = 1 << 20;
/// Runs in a row of a hot figure.
const HOT_RUNS: u32 = 200_000;
/// Draws of a single figure per round.
const DRAWS: u32 = 2_000;

type Figures = BTreeMap<&'static str, f64>;
type Facts = BTreeMap<&'static str, serde_json::Value>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let rounds = arguments
        .iter()
        .position(|argument| argument == "--rounds")
        .and_then(|index| arguments.get(index + 1))
        .map_or(Ok(15), |rounds| rounds.parse())?;

    let Some(bed) = Bed::with_tables(deployment(), tables()) else {
        return Err("BPF_PROG_TEST_RUN needs root".into());
    };
    let Some(flooded) = Bed::with_tables(deployment(), flooded_tables()) else {
        return Err("BPF_PROG_TEST_RUN needs root".into());
    };
    let mut bench = Bench {
        bed,
        flooded,
        yardsticks: Yardsticks::load()?,
        clients: 0,
        attackers: 0,
        random: 1,
    };
    bench.prepare()?;
    let mut rounds_seen: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (name, figure) in bench.round()? {
            rounds_seen.entry(name).or_default().push(figure);
        }
    }
    let medians: Figures = rounds_seen
        .into_iter()
        .map(|(name, figures)| (name, median(figures)))
        .collect();
    let facts = bench.facts()?;
    drop(bench);
    let walks: Figures = walks::measure(&walked())?
        .into_iter()
        .map(|(name, figures)| (name, median(figures)))
        .collect();
    if json {
        print_json(&medians, &facts, &walks)
    } else {
        print_table(&medians, &facts, &walks)
    }
    Ok(())
}

/// Frames come from the director and go to it, so that a frame which has been
/// rewritten is still one to be rewritten.
fn deployment() -> DesiredState {
    let mut datagrams = service("172.16.1.200:1935", &["edge 1"]);
    datagrams.protocol = Protocol::Udp;
    datagrams.orphans = OrphanPolicy::Reschedule;
    let edges = ["edge 1", "edge 2"];
    let mut state = state([
        persistent(service("172.16.1.200:1935", &edges), 50, 32),
        persistent(service("[2001:db8::c8]:1935", &edges), 50, 128),
        datagrams,
    ]);
    for server in state
        .services
        .iter_mut()
        .flat_map(|service| &mut service.servers)
    {
        server.next_hop.as_mut().expect("a next hop").destination = DIRECTOR;
    }
    state
}

/// Without persistence, so that a connection is all that a walk meets.
fn walked() -> DesiredState {
    state([service("172.16.1.200:1935", &["edge 1", "edge 2"])])
}

fn tables() -> TableSizes {
    TableSizes {
        connections: CONNECTIONS,
        half_open: 1 << 17,
        templates: 1 << 18,
        ..TableSizes::default()
    }
}

/// Half-open connections that a flood fills the table with.
const FLOOD: u32 = 1 << 16;

fn flooded_tables() -> TableSizes {
    TableSizes {
        half_open: FLOOD,
        ..tables()
    }
}

struct Bench {
    bed: Bed,
    /// Another data plane, whose table of half-open connections is full.
    flooded: Bed,
    yardsticks: Yardsticks,
    /// Clients that have been given addresses so far.
    clients: u32,
    /// Addresses that have flooded so far.
    attackers: u32,
    random: u64,
}

impl Bench {
    /// Fills the tables of both sides with the same connections.
    fn prepare(&mut self) -> Result<(), Box<dyn Error>> {
        for client in 0..DRAWN_FROM {
            for flags in [S, A] {
                self.bed.dataplane.test_run(&frame(client, flags), 1)?;
            }
        }
        self.clients = DRAWN_FROM;
        while self.attackers < 2 * FLOOD {
            self.flood()?;
        }
        self.yardsticks.insert((0..DRAWN_FROM).map(address))?;
        for flags in [S, A] {
            self.bed
                .dataplane
                .test_run(&tcp6(bed::frames::DAVE, 5000, flags), 1)?;
        }
        for _ in 0..2 {
            self.bed
                .dataplane
                .test_run(&udp(bed::frames::ALICE, 5000), 1)?;
        }
        Ok(())
    }

    fn round(&mut self) -> Result<Figures, Box<dyn Error>> {
        let established = frame(0, A);
        let mut figures = Figures::new();
        for program in ["bare_pass", "swap", "one_look_up"] {
            figures.insert(
                program,
                self.yardsticks.run(program, &established, HOT_RUNS)?,
            );
        }
        let ours = [
            ("arp", patched(established.clone(), 12, &[8, 6])),
            ("not_a_service", tcp_to(address(0), 5000, VIP, RTMP + 1, A)),
            ("established", established),
            ("established_ipv6", tcp6(bed::frames::DAVE, 5000, ".")),
            ("established_udp", udp(bed::frames::ALICE, 5000)),
        ];
        for (name, frame) in ours {
            figures.insert(name, self.run(&frame, HOT_RUNS)?);
        }

        let mut pass = Vec::new();
        let mut single: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        for _ in 0..DRAWS {
            let drawn = frame(self.draw(), A);
            pass.push(self.yardsticks.run("bare_pass", &drawn, 1)?);
            let one_look_up = self.yardsticks.run("one_look_up", &drawn, 1)?;
            single
                .entry("single_one_look_up")
                .or_default()
                .push(one_look_up);
            let other = frame(self.draw(), A);
            single
                .entry("single_established")
                .or_default()
                .push(self.run(&other, 1)?);
            let syn = frame(self.clients, S);
            self.clients += 1;
            single
                .entry("single_syn")
                .or_default()
                .push(self.run(&syn, 1)?);
            let flood = self.flood()?;
            single.entry("single_syn_flood").or_default().push(flood);
        }
        let own_share = median(pass);
        figures.insert("single_bare_pass", own_share);
        for (name, runs) in single {
            figures.insert(name, median(runs) - own_share);
        }
        Ok(figures)
    }

    fn run(&self, frame: &[u8], repeat: u32) -> Result<f64, Box<dyn Error>> {
        Ok(nanoseconds(
            self.bed.dataplane.test_run(frame, repeat)?.duration,
        ))
    }

    /// One more SYN from a new address to the data plane under attack.
    fn flood(&mut self) -> Result<f64, Box<dyn Error>> {
        let syn = frame(self.attackers, S);
        self.attackers += 1;
        Ok(nanoseconds(
            self.flooded.dataplane.test_run(&syn, 1)?.duration,
        ))
    }

    /// A client whose connection is in the tables.
    fn draw(&mut self) -> u32 {
        self.random = lb_common::mix(self.random);
        (self.random >> 32) as u32 % DRAWN_FROM
    }

    /// What is not a time: what the verifier says of the program, and memory.
    fn facts(&self) -> Result<Facts, Box<dyn Error>> {
        let mut facts = verifier_statistics()?;
        let program = self.bed.program();
        facts.insert(
            "instructions",
            (program.size_translated().unwrap_or(0) / 8).into(),
        );
        facts.insert(
            "verified_instructions",
            program.verified_instruction_count().unwrap_or(0).into(),
        );
        for (name, map) in self.bed.maps() {
            if name == maps::FLOWS {
                facts.insert("connection_table_entries", CONNECTIONS.into());
                facts.insert("connection_table_bytes", memory_of(&map)?.into());
            }
        }
        Ok(facts)
    }
}

/// What the verifier reports of a program that it has accepted: bytes of stack
/// by function, states that it remembered. Loaders show its log only where
/// loading fails, so this lets it fail at the last step, for want of a free
/// descriptor.
fn verifier_statistics() -> Result<Facts, Box<dyn Error>> {
    let mut ebpf = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global(aya_log::LEVEL, &0_u8, true)
        .map_max_entries(maps::TRACE, 1)
        .load_file(workspace().join("target/bpf/lb-ebpf"))?;
    let program = ebpf.programs_mut().next().ok_or("no program")?.1;
    let program: &mut Xdp = program.try_into()?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard)?;
    let loaded = program.load();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    let Err(ProgramError::LoadError { verifier_log, .. }) = loaded else {
        return Err(format!("expected no room for the program: {loaded:?}").into());
    };
    let log = verifier_log.to_string();
    let word_after = |start: &str, name: &str| {
        let line = log.lines().rfind(|line| line.starts_with(start))?;
        line[line.find(name)? + name.len()..]
            .split_whitespace()
            .next()
    };
    [
        ("stack_bytes", word_after("stack depth", "stack depth")),
        ("verifier_states", word_after("processed", "total_states")),
        (
            "verifier_peak_states",
            word_after("processed", "peak_states"),
        ),
    ]
    .into_iter()
    .map(|(fact, word)| Ok((fact, word.ok_or_else(|| log.clone())?.into())))
    .collect()
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("in the workspace")
}

/// The programs of `yardsticks.rs`.
struct Yardsticks(Ebpf);

impl Yardsticks {
    fn load() -> Result<Self, Box<dyn Error>> {
        let object = workspace().join("target/bpf/yardsticks");
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(maps::FLOWS, CONNECTIONS)
            .load_file(&object)?;
        for (_, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load()?;
        }
        Ok(Self(ebpf))
    }

    fn insert(&mut self, clients: impl Iterator<Item = [u8; 4]>) -> Result<(), Box<dyn Error>> {
        let map = self
            .0
            .map_mut(maps::FLOWS)
            .ok_or("the yardsticks have a table")?;
        let mut table: HashMap<_, FlowKey, Flow> = HashMap::try_from(map)?;
        for client in clients {
            let key = FlowKey {
                client: std::net::Ipv4Addr::from(client).into(),
                port: PORT.to_be(),
                service: 0,
            };
            table.insert(key, Flow::default(), 0)?;
        }
        Ok(())
    }

    fn run(&self, program: &str, frame: &[u8], repeat: u32) -> Result<f64, Box<dyn Error>> {
        let program: &Xdp = self.0.program(program).ok_or("a yardstick")?.try_into()?;
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::default()
        };
        Ok(nanoseconds(program.test_run(options)?.duration))
    }
}

/// Every client has one connection, from this port.
const PORT: u16 = 5000;

fn address(client: u32) -> [u8; 4] {
    (0x0A00_0001 + client).to_be_bytes()
}

fn frame(client: u32, flags: &str) -> Vec<u8> {
    tcp(address(client), PORT, flags)
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What the kernel has taken for a map, in bytes.
fn memory_of(map: &MapData) -> Result<u64, Box<dyn Error>> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let number = map.fd().as_fd().as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let memory = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(memory.ok_or("fdinfo has no memlock line")?.trim().parse()?)
}

/// A figure, what it is compared with, and the ratio or difference to reach.
const GOALS: [(&str, &str, &str, Goal); 8] = [
    (
        "A packet that is not IP",
        "arp",
        "bare_pass",
        Goal::AtMostMore(10.0),
    ),
    (
        "A packet for no service",
        "not_a_service",
        "bare_pass",
        Goal::AtMostMore(10.0),
    ),
    (
        "Established, IPv4 and TCP",
        "established",
        "one_look_up",
        Goal::AtMostTimes(1.5),
    ),
    (
        "Established, IPv6 and TCP",
        "established_ipv6",
        "established",
        Goal::AtMostTimes(1.25),
    ),
    (
        "Established, IPv4 and UDP",
        "established_udp",
        "one_look_up",
        Goal::AtMostTimes(1.5),
    ),
    (
        "Established, drawn from 65536 (single)",
        "single_established",
        "single_one_look_up",
        Goal::AtMostTimes(1.5),
    ),
    (
        "SYN with rr and persistence (single)",
        "single_syn",
        "single_established",
        Goal::AtMostTimes(4.0),
    ),
    (
        "SYN of a flood, half-open table full (single)",
        "single_syn_flood",
        "single_syn",
        Goal::AtMostTimes(2.0),
    ),
];

enum Goal {
    AtMostTimes(f64),
    AtMostMore(f64),
}

fn print_table(figures: &Figures, facts: &Facts, walks: &Figures) {
    println!("| yardstick | ns |\n|---|---:|");
    for (says, name) in [
        ("bare XDP_PASS", "bare_pass"),
        ("swap MAC addresses, transmit", "swap"),
        ("one look-up, swap, transmit", "one_look_up"),
        (
            "one look-up, drawn from 65536 (single)",
            "single_one_look_up",
        ),
        (
            "bare XDP_PASS (single, taken off the others)",
            "single_bare_pass",
        ),
    ] {
        println!("| {says} | {:.0} |", figures[name]);
    }
    println!("\n| packet | ns | against | goal | reached |\n|---|---:|---|---|---|");
    for (says, name, against, goal) in &GOALS {
        let (figure, yardstick) = (figures[name], figures[against]);
        let (goal, got, is_reached) = match goal {
            Goal::AtMostTimes(times) => (
                format!("≤ {times} ×"),
                format!("{:.2} ×", figure / yardstick),
                figure <= yardstick * times,
            ),
            Goal::AtMostMore(more) => (
                format!("≤ +{more:.0} ns"),
                format!("{:+.0} ns", figure - yardstick),
                figure <= yardstick + more,
            ),
        };
        let mark = if is_reached { "yes" } else { "**no**" };
        println!("| {says} | {figure:.0} | {against} | {goal} | {mark}: {got} |");
    }
    println!();
    for (name, value) in facts {
        let value = value.as_str().map_or(value.to_string(), str::to_owned);
        println!("- {}: {value}", name.replace('_', " "));
    }
    let connections = walks::CONNECTIONS;
    println!("\n| with {connections} connections in the table | ms |\n|---|---:|");
    for (name, says) in walks::WALKS {
        println!("| {says} | {:.0} |", walks[name]);
    }
}

fn print_json(figures: &Figures, facts: &Facts, walks: &Figures) {
    println!(
        "{}",
        serde_json::json!({
            "nanoseconds": figures,
            "facts": facts,
            "walk_milliseconds": walks,
        })
    );
}
