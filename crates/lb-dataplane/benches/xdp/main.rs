//! The cost of a packet in XDP (BPF_PROG_TEST_RUN): `cargo xtask bench xdp`.
//!
//! Every round measures everything once, so that other load on the machine affects all
//! figures alike; the medians over the rounds are printed. A *hot* figure is the mean of
//! many runs in a row on one packet. A *single* figure is one run on a packet drawn at
//! random, less the figure of a bare `XDP_PASS` that is measured in the same way: the cost
//! of the measurement.
//!
//! A program that changes its frame would find it changed in the next run. For hot figures
//! another program therefore restores the frame first (`again` of
//! `lb-ebpf/src/bin/baselines.rs`); its cost is subtracted.

mod baselines;
mod report;
mod scans;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use aya::maps::MapData;
use aya::programs::{ProgramError, Xdp};
use aya::{EbpfLoader, VerifierLogLevel};
use lb_abi::maps;
use lb_dataplane::{DeniedNetworks, TableSizes};
use lb_model::DesiredState;
use lb_model::{Forwarding, OrphanPolicy, Protocol, Service};
use net_types::Network;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use packet_bed::frames::{A, RTMP, S, VIP, patched, tcp, tcp_to, tcp6, udp};
use packet_bed::{Bed, persistent, service, state};

use baselines::Baselines;

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
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let json = has("--json");
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
    let Some(mut validating) = Bed::with_tables(deployment(), tables()) else {
        return Err("BPF_PROG_TEST_RUN needs root".into());
    };
    validating.dataplane.replace_cookie_key([1, 2])?;
    validating.dataplane.validate_sources(true)?;
    validating.dataplane.deny(&denied())?;
    let mut bench = Bench {
        bed,
        flooded,
        validating,
        baselines: Baselines::load()?,
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
    // The scans take most of the time, and say nothing of packets.
    let scanned = (!has("--without-scans")).then(|| scans::measure(&scanned()));
    let scans: Figures = scanned
        .transpose()?
        .unwrap_or_default()
        .into_iter()
        .map(|(name, figures)| (name, median(figures)))
        .collect();
    if json {
        report::print_json(&medians, &facts, &scans)
    } else {
        report::print_table(&medians, &facts, &scans)
    }
    Ok(())
}

fn deployment() -> DesiredState {
    let mut datagrams = service("172.16.1.200:1935", &["edge 1"]);
    datagrams.protocol = Protocol::Udp;
    datagrams.orphans = OrphanPolicy::Reschedule;
    let edges = ["edge 1", "edge 2"];
    state([
        persistent(service("172.16.1.200:1935", &edges), 50, 32),
        persistent(service("[2001:db8::c8]:1935", &edges), 50, 128),
        datagrams,
        tunnelled("172.16.1.201:1935", "172.16.1.211", "172.16.1.208"),
        tunnelled("[2001:db8::c9]:1935", "2001:db8:0:2::1", "2001:db8::8"),
    ])
}

/// A service whose one server is behind a router.
fn tunnelled(address: &str, server: &str, source: &str) -> Service {
    let mut service = persistent(service(address, &["edge 1"]), 50, 32);
    let only = &mut service.servers[0];
    only.address.set_ip(server.parse().expect("an address"));
    only.forwarding = Forwarding::Tunnel {
        source: source.parse().expect("an address"),
        mtu: 1500,
    };
    service
}

/// Without persistence, so that scans read nothing but connections.
fn scanned() -> DesiredState {
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
    /// One more, which challenges sources that are not proven, and denies some.
    validating: Bed,
    baselines: Baselines,
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
        self.baselines.insert((0..DRAWN_FROM).map(address))?;
        for flags in [S, A] {
            for frame in [
                tcp6(packet_bed::frames::DAVE, 5000, flags),
                into_tunnel(flags),
                into_tunnel6(flags),
            ] {
                self.bed.dataplane.test_run(&frame, 1)?;
            }
        }
        for _ in 0..2 {
            self.bed
                .dataplane
                .test_run(&udp(packet_bed::frames::ALICE, 5000), 1)?;
        }
        Ok(())
    }

    fn round(&mut self) -> Result<Figures, Box<dyn Error>> {
        let established = frame(0, A);
        let mut figures = Figures::new();
        let ours = self.bed.program().fd()?;
        let baselines = &mut self.baselines;
        let bare_pass = baselines.run("bare_pass", &established, HOT_RUNS)?;
        figures.insert("bare_pass", bare_pass);
        let bare_again = baselines.again("bare_pass", &established)?;
        for program in ["swap", "one_look_up"] {
            let again = baselines.again(program, &established)?;
            figures.insert(program, again - bare_again + bare_pass);
        }
        // Of the two moves of the frame's start one is not the program's.
        let grown_again = baselines.again("grow", &established)?;
        let moved_again = (grown_again - bare_again) / 2.0;
        for (name, frame, own_share) in [
            ("arp", patched(established.clone(), 12, &[8, 6]), bare_again),
            (
                "not_a_service",
                tcp_to(address(0), 5000, VIP, RTMP + 1, A),
                bare_again,
            ),
            ("established", established.clone(), bare_again),
            (
                "established_ipv6",
                tcp6(packet_bed::frames::DAVE, 5000, "."),
                bare_again,
            ),
            (
                "established_udp",
                padded(udp(packet_bed::frames::ALICE, 5000)),
                bare_again,
            ),
            ("tunnel", into_tunnel(A), bare_again + moved_again),
            ("tunnel_ipv6", into_tunnel6(A), bare_again + moved_again),
        ] {
            let again = baselines.again_with(&ours, &frame)?;
            figures.insert(name, again - own_share + bare_pass);
        }

        let validating = self.validating.program().fd()?;
        let denied = tcp(DENIED, PORT, S);
        let again = self.baselines.again_with(&validating, &denied)?;
        figures.insert("denied", again - bare_again + bare_pass);
        let challenged = frame(0, S);
        let again = self.baselines.again_with(&validating, &challenged)?;
        figures.insert("challenge", again - bare_again + bare_pass);

        let mut pass = Vec::new();
        let mut single: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        for _ in 0..DRAWS {
            let drawn = frame(self.draw(), A);
            pass.push(self.baselines.run("bare_pass", &drawn, 1)?);
            let one_look_up = self.baselines.run("one_look_up", &drawn, 1)?;
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
        // One flood after the other, as they come.
        for _ in 0..DRAWS {
            let flood = self.flood()?;
            single
                .entry("single_flood_in_a_row")
                .or_default()
                .push(flood);
        }
        for _ in 0..DRAWS {
            let challenge = self.flood_validating()?;
            single
                .entry("single_challenge_in_a_row")
                .or_default()
                .push(challenge);
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

    /// As [`Self::flood`], to the data plane that challenges.
    fn flood_validating(&mut self) -> Result<f64, Box<dyn Error>> {
        let syn = frame(self.attackers, S);
        self.attackers += 1;
        let run = self.validating.dataplane.test_run(&syn, 1)?;
        Ok(nanoseconds(run.duration))
    }

    /// A client whose connection is in the tables.
    fn draw(&mut self) -> u32 {
        self.random = lb_abi::mix(self.random);
        (self.random >> 32) as u32 % DRAWN_FROM
    }

    /// Figures that are not times: the verifier's statistics, and memory.
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

/// The verifier's statistics of a program that it has accepted: bytes of stack by
/// function, number of states. Loaders show its log only where
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
        .ancestors()
        .nth(2)
        .expect("in the workspace")
}

/// A source that is denied.
const DENIED: [u8; 4] = [192, 168, 0, 1];

/// As many networks as the table holds, among them that of [`DENIED`].
fn denied() -> DeniedNetworks {
    let network = |number: u32| {
        let address = (u32::from_be_bytes(DENIED) + 2 * number).to_be_bytes();
        Network::new(IpAddr::from(address), 32)
    };
    (0..TableSizes::default().denied).map(network).collect()
}

/// Every client has one connection, from this port.
const PORT: u16 = 5000;

fn address(client: u32) -> [u8; 4] {
    (0x0A00_0001 + client).to_be_bytes()
}

fn frame(client: u32, flags: &str) -> Vec<u8> {
    tcp(address(client), PORT, flags)
}

/// As the frame comes from Ethernet (IEEE 802.3), without its checksum.
fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    const MIN_BYTES: usize = 60;
    frame.resize(frame.len().max(MIN_BYTES), 0);
    frame
}

/// To the service whose server is behind a tunnel.
fn into_tunnel(flags: &str) -> Vec<u8> {
    tcp_to(
        packet_bed::frames::ALICE,
        PORT,
        [172, 16, 1, 201],
        RTMP,
        flags,
    )
}

/// As [`into_tunnel`], over IPv6.
fn into_tunnel6(flags: &str) -> Vec<u8> {
    const LAST_OF_DESTINATION: usize = 53;
    patched(
        tcp6(packet_bed::frames::DAVE, PORT, flags),
        LAST_OF_DESTINATION,
        &[0xc9],
    )
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Memory that the kernel has allocated for a map, in bytes.
fn memory_of(map: &MapData) -> Result<u64, Box<dyn Error>> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let number = map.fd().as_fd().as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let memory = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(memory.ok_or("fdinfo has no memlock line")?.trim().parse()?)
}
