//! The second chance: the program at a real server's ingress that passes packets on to the
//! server that has their connection.
//!
//! [`SecondChance::load`], [`SecondChance::attach`], then [`SecondChance::apply`] whenever
//! the directors' tables have changed. Dropping it detaches the program.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TcAttachType, tc};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use lb_abi::second_chance::{
    COUNTED_GENERATIONS, COUNTERS, Counter, MAX_TARGETS, Next, NextServer, PASSERS, PLACES, Places,
    SERVICES, TARGETS, Target, VirtualEndpoint,
};
use net_types::MacAddress;
use service_kit::with_causes;

use super::error::Error;
use super::map_io::{array, read, take, write};
use super::program::{load_error, raise_locked_memory_limit, run_on};
use super::{TestRun, attach};

/// The program as `cargo xtask build-ebpf` left it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SECOND_CHANCE_OBJECT"));

const PROGRAM: &str = "second_chance";

/// The first kernel that attaches such programs by links, several side by side (tcx).
const LINKS_SINCE: KernelVersion = KernelVersion::new(6, 6, 0);

/// The action for a packet that is none of the program's business: the next program, or the
/// stack, gets it.
pub const LEFT_ALONE: u32 = u32::MAX;
/// The action for a packet that is passed on.
pub const PASSED_ON: u32 = 7;

/// The server that comes next for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Its MAC address.
    pub server: MacAddress,
    /// Number of generations between the table that names it and the newest one.
    pub generation: u32,
}

/// The servers to which the packets of one place's clients are passed on; none where the
/// stack is to answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextHops {
    /// Of packets from a director.
    pub from_director: Option<Hop>,
    /// Of packets that another server has passed on.
    pub from_server: Option<Hop>,
}

/// All places of one virtual service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceHops {
    /// Virtual address and port.
    pub address: SocketAddr,
    /// True if the client's port is hashed along with its address.
    pub hash_port: bool,
    /// As many as the directors' table has.
    pub places: Vec<NextHops>,
}

/// Numbers of packets, since the program was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed on to a server, by the generation of the table that named it: 0 for the
    /// newest. The last one counts all before it, too.
    pub passed_on: Vec<u64>,
    /// Those for which no server was left, so that the stack has answered.
    pub no_target: u64,
    /// Those that had no hop left.
    pub hops_exceeded: u64,
}

/// The loaded program and its maps.
pub struct SecondChance {
    ebpf: Ebpf,
    services: HashMap<MapData, VirtualEndpoint, Places>,
    places: Array<MapData, Next>,
    passers: HashMap<MapData, Target, u32>,
    targets: Array<MapData, Target>,
    counters: PerCpuArray<MapData, u64>,
    /// Where each service's places lie, and what they hold.
    written: BTreeMap<VirtualEndpoint, Written>,
    /// Where each server lies in `targets`.
    numbers: BTreeMap<[u8; 6], u32>,
}

#[derive(Debug)]
struct Written {
    first: u32,
    hash_port: bool,
    next: Vec<Next>,
}

impl SecondChance {
    /// Loads the program, with room for `places` places of all services together.
    ///
    /// # Minimum kernel version
    ///
    /// 5.12.
    ///
    /// # Errors
    ///
    /// [`Error::MissingCapability`], [`Error::Verifier`], [`Error::Load`].
    pub fn load(places: u32) -> Result<Self, Error> {
        raise_locked_memory_limit();
        let mut loader = EbpfLoader::new();
        loader
            .verifier_log_level(VerifierLogLevel::STATS)
            .map_max_entries(PLACES, places);
        let mut ebpf = loader.load(OBJECT).map_err(load_error)?;
        program(&mut ebpf)
            .load()
            .map_err(|error| load_error(error.into()))?;
        Ok(Self {
            services: take(&mut ebpf, SERVICES)?,
            places: array(&mut ebpf, PLACES)?,
            passers: take(&mut ebpf, PASSERS)?,
            targets: array(&mut ebpf, TARGETS)?,
            counters: take(&mut ebpf, COUNTERS)?,
            ebpf,
            written: BTreeMap::new(),
            numbers: BTreeMap::new(),
        })
    }

    /// Attaches the program to the ingress of `interface`, after programs that are there:
    /// by a link since Linux 6.6, before that by a filter of the queueing discipline
    /// `clsact`. A filter that a killed process has left is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownInterface`], [`Error::AttachIngress`].
    pub fn attach(&mut self, interface: &str) -> Result<(), Error> {
        attach::index_of(interface)?;
        let failed = |error: &dyn std::error::Error| Error::AttachIngress {
            interface: interface.to_owned(),
            reason: with_causes(error),
        };
        let has_links = KernelVersion::current().is_ok_and(|running| running >= LINKS_SINCE);
        if !has_links {
            // Fails where it is there already, which is as well; if it cannot be had, the
            // attachment tells.
            let _ = tc::qdisc_add_clsact(interface);
            let _ = tc::qdisc_detach_program(interface, TcAttachType::Ingress, PROGRAM);
        }
        program(&mut self.ebpf)
            .attach(interface, TcAttachType::Ingress)
            .map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Has packets passed on as `services` say, and no others. A service whose table has
    /// another size is without a second chance while its places are written.
    ///
    /// # Errors
    ///
    /// [`Error::SecondChanceFull`], [`Error::Map`].
    pub fn apply(&mut self, services: &[ServiceHops]) -> Result<(), Error> {
        self.admit(services)?;
        let endpoints: BTreeSet<_> = services.iter().map(|it| endpoint(it.address)).collect();
        let gone = self.written.keys().filter(|key| !endpoints.contains(*key));
        for endpoint in gone.copied().collect::<Vec<_>>() {
            self.remove(endpoint)?;
        }
        for service in services {
            self.write_service(service)?;
        }
        self.forget_targets(services)
    }

    /// Numbers of packets so far.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn counts(&self) -> Result<Counts, Error> {
        let read = |counter: u32| -> Result<u64, Error> {
            let values = read(COUNTERS, self.counters.get(&counter, 0))?;
            Ok(values.iter().sum())
        };
        Ok(Counts {
            passed_on: (0..COUNTED_GENERATIONS)
                .map(|generation| read(Counter::PassedOn as u32 + generation))
                .collect::<Result<_, _>>()?,
            no_target: read(Counter::NoTarget as u32)?,
            hops_exceeded: read(Counter::HopsExceeded as u32)?,
        })
    }

    /// Runs the program on `frame`, `repeat` times, as if it had come in by the loopback
    /// interface of this network namespace (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    ///
    /// [`Error::TestRun`].
    pub fn test_run(&mut self, frame: &[u8], repeat: u32) -> Result<TestRun, Error> {
        run_on(program(&mut self.ebpf), frame, repeat)
    }

    /// Checks that there is room for `services`.
    fn admit(&self, services: &[ServiceHops]) -> Result<(), Error> {
        let wanted: usize = services.iter().map(|service| service.places.len()).sum();
        let limit = self.places.len() as usize;
        let targets = macs(services).len();
        if wanted > limit || targets > MAX_TARGETS as usize {
            return Err(Error::SecondChanceFull {
                places: wanted,
                limit,
                servers: targets,
            });
        }
        Ok(())
    }

    fn write_service(&mut self, service: &ServiceHops) -> Result<(), Error> {
        let endpoint = endpoint(service.address);
        let mut next = Vec::with_capacity(service.places.len());
        for hops in &service.places {
            next.push(Next {
                from_director: self.next_server(hops.from_director)?,
                from_server: self.next_server(hops.from_server)?,
            });
        }
        let fits = |written: &Written| {
            written.next.len() == next.len() && written.hash_port == service.hash_port
        };
        if self.written.get(&endpoint).is_some_and(|it| !fits(it)) {
            self.remove(endpoint)?;
        }
        let former = self.written.remove(&endpoint);
        let first = match &former {
            Some(former) => former.first,
            None => self.free_places(next.len())?,
        };
        for (index, (place, number)) in next.iter().zip(first..).enumerate() {
            let is_there = former.as_ref().is_some_and(|it| it.next[index] == *place);
            if !is_there {
                write(PLACES, self.places.set(number, place, 0))?;
            }
        }
        if former.is_none() {
            let places = Places {
                first,
                count: next.len() as u32,
                hash_port: service.hash_port.into(),
            };
            write(SERVICES, self.services.insert(endpoint, places, 0))?;
        }
        let written = Written {
            first,
            hash_port: service.hash_port,
            next,
        };
        self.written.insert(endpoint, written);
        Ok(())
    }

    fn remove(&mut self, endpoint: VirtualEndpoint) -> Result<(), Error> {
        write(SERVICES, self.services.remove(&endpoint))?;
        self.written.remove(&endpoint);
        Ok(())
    }

    /// The first of `count` places in a row that no service has.
    fn free_places(&self, count: usize) -> Result<u32, Error> {
        let mut taken: Vec<_> = self
            .written
            .values()
            .map(|it| (it.first, it.next.len() as u32))
            .collect();
        taken.sort_unstable();
        let mut first = 0;
        for (start, length) in taken {
            if (start - first) as usize >= count {
                return Ok(first);
            }
            first = start + length;
        }
        let limit = self.places.len() as usize;
        if first as usize + count > limit {
            return Err(Error::SecondChanceFull {
                places: first as usize + count,
                limit,
                servers: self.numbers.len(),
            });
        }
        Ok(first)
    }

    fn next_server(&mut self, hop: Option<Hop>) -> Result<NextServer, Error> {
        let Some(Hop { server, generation }) = hop else {
            return Ok(NextServer::NONE);
        };
        let number = match self.numbers.get(&server.0) {
            Some(number) => *number,
            None => self.add_target(server)?,
        };
        Ok(NextServer::new(number, generation))
    }

    fn add_target(&mut self, server: MacAddress) -> Result<u32, Error> {
        let taken: BTreeSet<u32> = self.numbers.values().copied().collect();
        let number = (0..).find(|number| !taken.contains(number));
        let number = number.expect("there are more numbers than servers");
        let target = target(server);
        write(TARGETS, self.targets.set(number, target, 0))?;
        write(PASSERS, self.passers.insert(target, 0, 0))?;
        self.numbers.insert(server.0, number);
        Ok(number)
    }

    /// Forgets servers that nothing names any more.
    fn forget_targets(&mut self, services: &[ServiceHops]) -> Result<(), Error> {
        let named = macs(services);
        let gone = self.numbers.keys().filter(|mac| !named.contains(*mac));
        for mac in gone.copied().collect::<Vec<_>>() {
            write(PASSERS, self.passers.remove(&target(MacAddress(mac))))?;
            self.numbers.remove(&mac);
        }
        Ok(())
    }
}

fn program(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    let program = ebpf
        .program_mut(PROGRAM)
        .expect("the embedded object has our program");
    program.try_into().expect("our program is a classifier")
}

fn endpoint(address: SocketAddr) -> VirtualEndpoint {
    VirtualEndpoint {
        address: address.ip().into(),
        port: address.port().to_be(),
        reserved: [0; 3],
    }
}

fn target(server: MacAddress) -> Target {
    Target {
        mac: server.0.into(),
        reserved: 0,
    }
}

/// The MAC addresses that packets are passed on to.
fn macs(services: &[ServiceHops]) -> BTreeSet<[u8; 6]> {
    let places = services.iter().flat_map(|service| &service.places);
    let hops = places.flat_map(|place| [place.from_director, place.from_server]);
    hops.flatten().map(|hop| hop.server.0).collect()
}
