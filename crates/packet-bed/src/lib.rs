//! A data plane without a network, and the vocabulary to test it with.
//!
//! The clock is moved by ageing what the program remembers: the kernel's own
//! cannot be set.

pub mod answers;
pub mod frames;
mod services;
mod shared;
mod tables;

use std::sync::PoisonError;
use std::time::Duration;

use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData, PerCpuArray};
use aya::programs::ProgramInfo;
use lb_abi::{
    Address, Flow, FlowKey, FragmentKey, FragmentTarget, HandshakeCounters, Interface, Load,
    OwnerFlags, ServerOwner, Template, TemplateKey, maps,
};
use lb_dataplane::{
    AttachMode, Dataplane, DeniedNetworks, Error, Options, Statistics, SweepResult, TableSizes,
};
use lb_model::DesiredState;

use services::name_of;
pub use services::{local_server, persistent, server, service, small_tables, state};
use shared::IDLE;
pub use shared::SharedBed;
use tables::{clear, clear_table, maps_of, program_of, rewrite, zero_per_cpu};

/// MAC address of the director, which every frame is addressed to.
pub const DIRECTOR: [u8; 6] = [2, 0, 0, 0, 0, 8];
/// MAC address of whatever brings the viewers' frames.
pub const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// `BPF_PROG_TEST_RUN` lets frames come in by the loopback interface.
const INGRESS: u32 = 1;
/// Any other interface.
const ELSEWHERE: u32 = 4242;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It went back out towards the server of this name, only its MAC addresses
    /// changed, and its hops one less.
    To(&'static str),
    /// As `To`, by another interface.
    Via(&'static str),
    /// It went back out towards the server with these bytes behind its MAC
    /// addresses, but for the hop that its packet has made.
    Changed(&'static str, Vec<u8>),
    /// The client was answered by a reset with this sequence number.
    Reset(u32),
    /// The client was told that packets of more than so many bytes do not fit.
    TooBig(u32),
    /// The client was answered by a SYN-ACK that acknowledges this number.
    Challenged(u32),
    /// The client's SYN was refused by a reset.
    Refused,
    /// It was dropped, for the named reason.
    Dropped(&'static str),
    /// The host's own stack got it untouched, for the named reason.
    Stack(&'static str),
}

/// What may happen before the packet that a case is about.
#[derive(Clone)]
pub enum Step {
    /// A packet comes, whatever becomes of it.
    Packet(Vec<u8>),
    /// Time passes.
    Wait(Duration),
    /// The agent does what it does every now and then.
    Sweep,
    /// The state is changed.
    Change(fn(&mut DesiredState)),
    /// A new state is applied.
    Apply(DesiredState),
}

/// Shorthand for [`Step::Wait`].
pub fn seconds(seconds: u64) -> Step {
    Step::Wait(Duration::from_secs(seconds))
}

/// The data plane under test.
pub struct Bed {
    /// What is tested.
    pub dataplane: Dataplane,
    /// What it was told last.
    pub desired: DesiredState,
    /// Read before and after every packet: not worth all statistics.
    reasons: PerCpuArray<MapData, u64>,
}

impl Bed {
    /// A data plane that does what `desired` says; `None`, and says so, where
    /// the kernel lets us load none.
    pub fn new(desired: DesiredState) -> Option<Self> {
        Self::with_tables(desired, small_tables())
    }

    /// As [`Self::new`], on a data plane that earlier tests of this process may have used and
    /// that later ones will: a kernel that is emulated takes seconds to load one. Only the
    /// keys of challenges, and numbers that are never used again, tell.
    pub fn shared(desired: DesiredState) -> Option<SharedBed> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bed = match idle {
            Some(mut bed) => {
                bed.reset(desired);
                bed
            }
            None => Self::new(desired)?,
        };
        Some(SharedBed(Some(bed)))
    }

    /// As [`Self::new`], with tables of other sizes.
    pub fn with_tables(desired: DesiredState, tables: TableSizes) -> Option<Self> {
        Self::load(desired, tables, false)
    }

    /// As [`Self::new`], with a program that tells its decisions.
    pub fn tracing(desired: DesiredState) -> Option<Self> {
        Self::load(desired, small_tables(), true)
    }

    fn load(desired: DesiredState, tables: TableSizes, trace: bool) -> Option<Self> {
        let options = Options {
            interfaces: Vec::new(),
            mode: AttachMode::Generic,
            tables,
            pins: None,
            trace,
        };
        let mut dataplane = match Dataplane::load(&options) {
            Ok(dataplane) => dataplane,
            Err(error @ Error::MissingCapability { .. }) => {
                netbed::say_skipped(error);
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        dataplane
            .apply(&desired)
            .expect("the first state is applied");
        let bed = Self::of(dataplane, desired);
        bed.know_director();
        Some(bed)
    }

    /// A data plane that does what `desired` says already.
    pub fn of(dataplane: Dataplane, desired: DesiredState) -> Self {
        let reasons = maps_of(&program_of(dataplane.program_id()))
            .into_iter()
            .find_map(|(name, data)| (name == maps::REASONS).then_some(Map::PerCpuArray(data)))
            .expect("our program counts reasons")
            .try_into()
            .expect("reasons are counted per CPU");
        Self {
            dataplane,
            desired,
            reasons,
        }
    }

    /// Forgets everything and does what `desired` says from then on.
    pub fn reset(&mut self, desired: DesiredState) {
        self.dataplane
            .apply(&DesiredState::default())
            .expect("the empty state is applied");
        self.unprotect();
        for (name, data) in self.maps() {
            match name.as_str() {
                maps::REASONS => zero_per_cpu::<u64>(data),
                maps::HANDSHAKES => zero_per_cpu::<HandshakeCounters>(data),
                maps::INTERFACES => clear_table::<u32, Interface>(Map::HashMap(data)),
                maps::FLOWS | maps::HALF_OPEN => clear::<FlowKey, Flow>(data),
                maps::TEMPLATES | maps::NEW_TEMPLATES => clear::<TemplateKey, Template>(data),
                maps::FRAGMENTS => clear::<FragmentKey, FragmentTarget>(data),
                maps::PROVEN | maps::RATES => clear::<Address, u64>(data),
                maps::CURSORS => {
                    let mut cursors: Array<_, u64> =
                        Map::Array(data).try_into().expect("an array of cursors");
                    for cursor in 0..cursors.len() {
                        cursors.set(cursor, 0, 0).expect("can be written");
                    }
                }
                _ => {}
            }
        }
        self.dataplane
            .apply(&desired)
            .expect("the next state is applied");
        self.desired = desired;
        self.know_director();
    }

    /// Ends what a test has had the data plane do against floods.
    fn unprotect(&mut self) {
        let dataplane = &mut self.dataplane;
        let ended = dataplane
            .deny(&DeniedNetworks::default())
            .and_then(|_| dataplane.validate_sources(false))
            .and_then(|()| dataplane.limit_connections(None));
        ended.expect("the protection ends");
    }

    /// Lets `step` happen.
    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Packet(frame) => {
                self.send(frame);
            }
            Step::Wait(duration) => self.age(*duration),
            Step::Sweep => {
                self.sweep();
            }
            Step::Change(change) => {
                change(&mut self.desired);
                self.dataplane
                    .apply(&self.desired)
                    .expect("the new state is applied");
            }
            Step::Apply(desired) => {
                self.desired = desired.clone();
                self.dataplane
                    .apply(desired)
                    .expect("the new state is applied");
            }
        }
    }

    /// Lets `frame` come in, and says what became of it. Whatever must hold of
    /// every packet is checked here.
    pub fn send(&mut self, frame: &[u8]) -> Verdict {
        let before = self.reasons();
        let run = self.dataplane.test_run(frame, 1).expect("the program runs");
        let after = self.reasons();

        let counted: Vec<(&'static str, u64)> = lb_abi::REASONS
            .iter()
            .zip(before.iter().zip(&after))
            .map(|(reason, (before, after))| (reason.name(), after - before))
            .filter(|(_, count)| *count > 0)
            .collect();
        let [(reason, 1)] = counted[..] else {
            panic!("one packet, one reason, once; counted were {counted:?}");
        };

        if run.action == XDP_PASS {
            assert_eq!(run.frame, frame, "the stack gets frames untouched");
            return Verdict::Stack(reason);
        }
        match reason {
            "reset" => return answers::reset(frame, &run.frame),
            "too-big" => return answers::too_big(frame, &run.frame),
            "refused" => return answers::refusal(frame, &run.frame),
            "challenged" => return answers::challenge(frame, &run.frame),
            _ => {}
        }
        if run.action == XDP_DROP {
            return Verdict::Dropped(reason);
        }
        let expected = match reason {
            "forwarded" | "tunnelled" => XDP_TX,
            "redirected" | "tunnel-redirected" => XDP_REDIRECT,
            other => panic!("{other} led to action {}", run.action),
        };
        assert_eq!(run.action, expected, "{reason}");
        assert_eq!(run.frame[6..12], DIRECTOR, "the director is the sender");
        let server = name_of(&run.frame[..6]);
        if reason.starts_with("tunnel") {
            return Verdict::Changed(server, answers::tunnelled(&run.frame));
        }
        let rest = answers::before_the_hop(&run.frame)[12..].to_vec();
        if rest != frame[12..] {
            return Verdict::Changed(server, rest);
        }
        if run.action == XDP_REDIRECT {
            Verdict::Via(server)
        } else {
            Verdict::To(server)
        }
    }

    /// The statistics as they are now.
    pub fn statistics(&self) -> Statistics {
        let census = self.dataplane.conntrack_snapshot().counts();
        self.dataplane
            .statistics(&census.expect("the tables can be read"))
            .expect("the counters can be read")
    }

    /// Live connections, active ones and others, that the packet path takes each
    /// server to have; in no order.
    pub fn loads(&self) -> Vec<(u64, u64)> {
        let seen: Vec<Load> = self.values(maps::LOADS);
        let corrections: Vec<Load> = self.values(maps::LOAD_CORRECTIONS);
        let owners: Vec<ServerOwner> = self.values(maps::SERVER_OWNERS);
        let total = |(seen, correction): (&Load, &Load)| {
            (
                seen.active.wrapping_add(correction.active),
                seen.inactive.wrapping_add(correction.inactive),
            )
        };
        let loads = seen.iter().zip(&corrections).map(total);
        let of_servers = loads
            .zip(&owners)
            .filter(|(_, owner)| owner.flags.contains(OwnerFlags::PRESENT));
        of_servers.map(|(load, _)| load).collect()
    }

    /// All connections, in no order.
    pub fn flows(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        for (name, data) in self.maps() {
            if [maps::FLOWS, maps::HALF_OPEN].contains(&name.as_str()) {
                let table: BpfHashMap<_, FlowKey, Flow> = Map::LruHashMap(data)
                    .try_into()
                    .expect("keys and values are as lb_abi says");
                let entries = table.iter().map(|entry| entry.expect("can be read").1);
                flows.extend(entries);
            }
        }
        flows
    }

    /// What an array of the program's holds.
    fn values<V: aya::Pod>(&self, name: &str) -> Vec<V> {
        // The kernel keeps so many bytes of a name.
        let name = &name[..name.len().min(15)];
        let (_, data) = self
            .maps()
            .into_iter()
            .find(|(known, _)| known == name)
            .expect("a map of ours");
        let array: Array<_, V> = Map::Array(data)
            .try_into()
            .expect("values are as lb_abi says");
        array
            .iter()
            .map(|value| value.expect("can be read"))
            .collect()
    }

    /// Sweeps as the agent does.
    pub fn sweep(&mut self) -> SweepResult {
        let remembered = self.dataplane.conntrack_snapshot();
        let (swept, census) = remembered.sweep().expect("the tables can be swept");
        self.dataplane
            .correct_loads(&census)
            .expect("the loads can be written");
        swept
    }

    /// How often each of `lb_abi::REASONS` has decided.
    fn reasons(&self) -> Vec<u64> {
        self.reasons
            .iter()
            .map(|per_cpu| per_cpu.expect("can be read").iter().sum())
            .collect()
    }

    /// Makes everything that is remembered older by `duration`.
    fn age(&mut self, duration: Duration) {
        let older = duration.as_nanos() as u64;
        for (name, data) in self.maps() {
            match name.as_str() {
                maps::FLOWS | maps::HALF_OPEN => {
                    rewrite::<FlowKey, Flow>(data, |flow| {
                        flow.last_seen_ns = flow.last_seen_ns.wrapping_sub(older);
                        flow.rearm_ns = flow.rearm_ns.saturating_sub(older);
                    });
                }
                maps::TEMPLATES | maps::NEW_TEMPLATES => {
                    rewrite::<TemplateKey, Template>(data, |template| {
                        template.expires_ns = template.expires_ns.saturating_sub(older);
                    });
                }
                maps::FRAGMENTS => {
                    rewrite::<FragmentKey, FragmentTarget>(data, |target| {
                        target.expires_ns = target.expires_ns.saturating_sub(older);
                    });
                }
                maps::PROVEN | maps::RATES => {
                    rewrite::<Address, u64>(data, |time_ns| {
                        *time_ns = time_ns.saturating_sub(older);
                    });
                }
                _ => {}
            }
        }
    }

    /// Lets frames for the director be for the interface that they come in by.
    fn know_director(&self) {
        let (_, data) = self
            .maps()
            .into_iter()
            .find(|(name, _)| name == maps::INTERFACES)
            .expect("our program knows interfaces");
        let mut interfaces: BpfHashMap<_, u32, Interface> = Map::HashMap(data)
            .try_into()
            .expect("keys and values are as lb_abi says");
        let director = Interface {
            mac: DIRECTOR.into(),
            reserved: 0,
        };
        interfaces
            .insert(INGRESS, director, 0)
            .expect("can be written");
    }

    /// Our program, found as any tool would find it.
    pub fn program(&self) -> ProgramInfo {
        program_of(self.dataplane.program_id())
    }

    /// Its maps.
    pub fn maps(&self) -> Vec<(String, MapData)> {
        maps_of(&self.program())
    }
}
