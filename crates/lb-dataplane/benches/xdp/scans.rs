//! The cost of scans of a full table: by operators (`list`, `list -c`), by the agent
//! (expired connections, clients whose server is gone), and by an upgrade to tables of
//! another size.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use lb_abi::{Flow, FlowKey, FlowState, maps};
use lb_dataplane::{AttachMode, Cursor, Dataplane, Options, TableSizes, remove_leftovers};
use lb_model::DesiredState;
use nix::time::{ClockId, clock_gettime};

/// Connections in the table.
pub(crate) const CONNECTIONS: u32 = 1_000_000;

/// Number of times that each scan is made.
const ROUNDS: usize = 3;

/// Connections in a page of `list -c`.
const PAGE: usize = 512;

/// Longer than any connection may be silent.
const LONG_AGO: Duration = Duration::from_secs(100_000);

/// Milliseconds of each scan.
pub(crate) type Scans = BTreeMap<&'static str, Vec<f64>>;

/// Directory where the tables are pinned; removed when dropped.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = remove_leftovers(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// Measures every scan, for a data plane that does what `desired` says; its
/// first service has the connections, half of them with its first server.
///
/// # Errors
/// The kernel refuses something.
pub(crate) fn measure(desired: &DesiredState) -> Result<Scans, Box<dyn Error>> {
    let mut scans = Scans::new();
    let mut note = |name, start: Instant| {
        let figures: &mut Vec<f64> = scans.entry(name).or_default();
        figures.push(start.elapsed().as_secs_f64() * 1e3);
    };
    for _ in 0..ROUNDS {
        let name = format!("/sys/fs/bpf/millrace-bench-scans-{}", std::process::id());
        let pins = Pins(name.into());
        let options = |connections| Options {
            interfaces: Vec::new(),
            mode: AttachMode::Generic,
            tables: TableSizes {
                connections,
                ..TableSizes::default()
            },
            pins: Some(pins.0.clone()),
            trace: false,
        };
        let mut dataplane = Dataplane::load(&options(CONNECTIONS + CONNECTIONS / 5))?;
        dataplane.apply(desired)?;
        fill(&pins.0.join("set-1"), Duration::ZERO)?;

        let remembered = dataplane.conntrack_snapshot();
        let start = Instant::now();
        remembered.counts()?;
        note("census", start);

        let start = Instant::now();
        let mut next = Some(Cursor::default());
        while let Some(place) = next {
            next = remembered.connections(place, PAGE)?.1;
        }
        note("pages", start);

        let start = Instant::now();
        remembered.sweep()?;
        note("sweep", start);

        let mut without_first = desired.clone();
        without_first.services[0].servers.remove(0);
        let departed = dataplane.apply(&without_first)?.removed_servers;
        let start = Instant::now();
        let mut orphans = 0;
        remembered.for_each_orphan(&departed, |_, _| orphans += 1)?;
        note("orphans", start);
        if orphans < CONNECTIONS / 3 {
            return Err(format!("{orphans} orphans only").into());
        }

        drop(dataplane);
        let start = Instant::now();
        let mut larger = Dataplane::load(&options(CONNECTIONS + CONNECTIONS / 4))?;
        note("load", start);
        let start = Instant::now();
        larger.apply(desired)?;
        note("carry_over", start);

        fill(&pins.0.join("set-2"), LONG_AGO)?;
        let start = Instant::now();
        let (swept, _) = larger.conntrack_snapshot().sweep()?;
        note("sweep_expired", start);
        if swept.connections_expired < CONNECTIONS as usize / 2 {
            return Err(format!("{swept:?}").into());
        }
        // Whoever has the directory removes it.
        drop(larger);
    }
    Ok(scans)
}

/// Makes the pinned table hold so many established connections, silent for
/// `silent`.
fn fill(tables: &Path, silent: Duration) -> Result<(), Box<dyn Error>> {
    let data = MapData::from_pin(tables.join(maps::FLOWS))?;
    let mut table: HashMap<_, FlowKey, Flow> = Map::LruHashMap(data).try_into()?;
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    for client in 0..CONNECTIONS {
        let key = FlowKey {
            client: std::net::Ipv4Addr::from_bits(0x0A00_0001 + client).into(),
            port: 5000_u16.to_be(),
            service: 0,
            service_port: 1935_u16.to_be(),
            reserved: 0,
        };
        let flow = Flow {
            last_seen_ns: (now.as_nanos() as u64).wrapping_sub(silent.as_nanos() as u64),
            server: client % 2,
            generation: 1,
            state: FlowState::Established as u16,
            taken_over: 0,
            ..Flow::default()
        };
        table.insert(key, flow, 0)?;
    }
    Ok(())
}

/// The names of the scans, and a sentence for each.
pub(crate) const SCANS: [(&str, &str); 7] = [
    ("census", "count them by server (`list`)"),
    ("pages", "read them page by page (`list -c`)"),
    ("sweep", "look for those that have expired: none"),
    ("sweep_expired", "remove those that have expired: all"),
    ("orphans", "find those of a server that has died: half"),
    ("load", "load the program beside it (larger tables)"),
    ("carry_over", "carry them over to larger tables"),
];
