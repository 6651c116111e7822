//! What the network hears of an upgrade that carries many connections over.

use aya::maps::{HashMap, Map, MapData};
use lb_abi::{Flow, FlowKey, FlowState, maps};
use netbed::local::ChildGuard;

use super::director::Director;
use super::upgrade::{Installation, REAL, path_of, upgrade};
use super::*;

/// Has the director remember so many connections, from as many clients.
fn remember(director: &Director<'_>, connections: u32) {
    let pinned = director.pins().join("set-1").join(maps::FLOWS);
    let data = MapData::from_pin(pinned).expect("it is pinned");
    let mut table: HashMap<_, FlowKey, Flow> =
        Map::LruHashMap(data).try_into().expect("connections");
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    let flow = Flow {
        last_seen_ns: Duration::from(now).as_nanos() as u64,
        generation: 1,
        state: FlowState::Established as u16,
        ..Flow::default()
    };
    for client in 0..connections {
        let key = FlowKey {
            client: std::net::Ipv4Addr::from_bits(0x0A00_0001 + client).into(),
            port: 5000_u16.to_be(),
            service: 0,
            service_port: 1935_u16.to_be(),
            reserved: 0,
        };
        table.insert(key, flow, 0).expect("there is room");
    }
}

/// A virtual router that waits for its chance.
struct Backup {
    _agent: Process,
    directory: TempDir,
}

impl Backup {
    /// Starts it on a host, beside a master of this configuration.
    fn start(network: &Network, host: &str, configuration: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        let router = &configuration[..configuration.find("virtual_server").expect("behind it")];
        let router = router
            .replace("state MASTER", "state BACKUP")
            .replace("priority 150", "priority 50");
        fs::write(&file, router).expect("written");
        let mut command = Command::new(REAL);
        command
            .args(["run", "--no-pins", "-c"])
            .arg(&file)
            .arg("--socket");
        command.arg(directory.path().join("agent.sock"));
        let log = fs::File::create(directory.path().join("log"));
        command.stderr(log.expect("a log"));
        let backup = Self {
            _agent: network.start(host, command),
            directory,
        };
        wait_for("the backup to be ready", || {
            backup.log().contains("ready:").then_some(())
        });
        backup
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("a log")
    }
}

/// The deployment with a virtual router of this version and interval.
fn with_adverts(version: u8, interval: &str) -> String {
    both_servers().replacen(
        "state MASTER",
        &format!("state MASTER\npriority 150\nversion {version}\nadvert_int {interval}"),
        1,
    )
}

/// Waits for what takes as long as a million connections take.
fn wait_for_the_upgrade(director: &Director<'_>, mut upgrade: ChildGuard) {
    assert!(upgrade.end().success(), "{}", director.log());
    let list = director.list().expect("it answers");
    let cause = list["virtual_addresses"][0]["cause"].as_str();
    let cause = cause.expect("a cause").to_owned();
    assert!(cause.contains("handed over"), "{cause}");
}

/// Connections that the new program has carried over, by its log.
fn carried_over(director: &Director<'_>) -> Option<u32> {
    let log = director.log();
    let line = log
        .lines()
        .find(|line| line.contains("connection(s) carried over"))?;
    line.split_whitespace()
        .find_map(|word| word.parse::<u32>().ok())
}

#[test]
#[ignore = "needs root"]
fn a_backup_stays_backup_while_connections_are_carried_over() {
    const CONNECTIONS: u32 = 400_000;
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let configuration = with_adverts(2, "1");
    let director = Director::new(&network, &configuration);
    let installation = Installation::new();
    let sizes = ["--table", "connections=600000"];
    let _agent = director.start_program(path_of(&installation.program()), &sizes);
    director.wait_until_ready();
    let backup = Backup::start(&network, "client", &configuration);
    remember(&director, CONNECTIONS);
    installation.install("larger", "", "--table connections=700000");
    wait_for_the_upgrade(&director, upgrade(&director));
    let carried = carried_over(&director).expect("they were carried over");
    // A table that evicts the least recently used is full before its last entry.
    assert!(carried > CONNECTIONS / 2, "{carried}");
    let log = backup.log();
    assert!(!log.contains("VI_1: master"), "{log}");
}

/// Prints how long no advert is sent by a director that is upgraded. Run it by
/// itself, on a quiet machine:
/// `cargo test --release -p lb-user --test agent -- --ignored --nocapture no_adverts`
#[test]
#[ignore = "a measurement"]
fn how_long_no_adverts_are_sent_during_an_upgrade() {
    const CONNECTIONS: u32 = 1_000_000;
    for (version, interval) in [(2, "1"), (3, "0.3"), (3, "0.1")] {
        for (way, more) in [
            ("adopted", ""),
            ("carried over", "--table connections=1200000"),
        ] {
            let network = Network::new();
            let _servers = [network.converse("edge1"), network.converse("edge2")];
            let configuration = with_adverts(version, interval);
            let director = Director::new(&network, &configuration);
            let installation = Installation::new();
            let sizes = ["--table", "connections=1100000"];
            let _agent = director.start_program(path_of(&installation.program()), &sizes);
            director.wait_until_ready();
            let backup = Backup::start(&network, "client", &configuration);
            remember(&director, CONNECTIONS);
            installation.install("next", "", more);
            let adverts = network.capture("client", "-tt ip proto 112");
            let start = Instant::now();
            wait_for_the_upgrade(&director, upgrade(&director));
            let took = start.elapsed();
            let adverts = adverts.stop();
            let times: Vec<f64> = adverts
                .lines()
                .filter_map(|line| line.split_whitespace().next()?.parse().ok())
                .collect();
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            let longest = gaps.fold(0.0, f64::max);
            let was_master = backup.log().contains("VI_1: master");
            println!(
                "{way}, advert_int {interval}: {} adverts in {took:.1?}, the longest gap {:.0} ms; \
                 the backup took over: {was_master}; carried over: {:?}",
                times.len(),
                longest * 1e3,
                carried_over(&director)
            );
        }
    }
}
