//! The data plane as the agent sees it: desired state in, counters out.
//!
//! This is the only module that touches aya. [`Dataplane::load`] attaches the
//! XDP program, [`Dataplane::apply`] makes it do what a [`DesiredState`]
//! describes, and dropping the [`Dataplane`] detaches it. Everything here
//! blocks, for milliseconds at most; there is one owner.

mod description;
mod error;
mod maps;
mod memory;
mod options;
mod program;
mod registry;
mod rings;
pub mod state;
mod statistics;

use std::collections::HashSet;
use std::time::Duration;

use aya::Ebpf;
use lb_common::Load;

pub use error::Error;
pub use memory::Swept;
pub use options::{AttachMode, Options, TableSizes};
pub use state::DesiredState;
pub use statistics::{ReasonCount, ServerStatistics, ServiceStatistics, Statistics, Traffic};

use description::Description;
use maps::{DescriptionMaps, Memory};
use registry::Registry;

/// The loaded XDP program and its maps. Dropping it detaches the program.
pub struct Dataplane {
    ebpf: Ebpf,
    maps: DescriptionMaps,
    memory: Memory,
    sizes: TableSizes,
    registry: Registry,
    desired: DesiredState,
    attachments: Vec<Attachment>,
}

/// What [`Dataplane::test_run`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRun {
    /// The last verdict: one of the kernel's `XDP_…`.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// Mean time of one run.
    pub duration: Duration,
}

/// Where and how the program is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the interface.
    pub interface: String,
    /// Its index.
    pub interface_index: u32,
    /// Never [`AttachMode::Auto`]: what was chosen.
    pub mode: AttachMode,
    /// In generic mode after [`AttachMode::Auto`]: why native was refused.
    pub native_refused: Option<String>,
}

/// What [`Dataplane::apply`] had to change; all zero when the state was there
/// already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services set up.
    pub services_added: usize,
    /// Services taken away.
    pub services_removed: usize,
    /// Real servers that joined a service.
    pub servers_added: usize,
    /// Real servers that left a service; their connections are void.
    pub servers_removed: usize,
    /// Map entries written.
    pub entries_written: usize,
}

impl Dataplane {
    /// Loads the program and attaches it to every interface of `options`.
    ///
    /// Nothing is forwarded before the first [`Dataplane::apply`]: every packet
    /// passes to the host's own stack.
    ///
    /// # Minimum kernel version
    ///
    /// 5.18; tested on 6.18.
    ///
    /// # Errors
    ///
    /// Whatever [`Error`] lists, except what concerns a desired state. Nothing
    /// stays attached then.
    pub fn load(options: &Options) -> Result<Self, Error> {
        let mut ebpf = program::load(options)?;
        let maps = DescriptionMaps::take(&mut ebpf)?;
        let memory = Memory::take(&mut ebpf)?;
        let xdp = program::program(&mut ebpf);
        let attachments = options
            .interfaces
            .iter()
            .map(|interface| program::attach(xdp, interface, options.mode))
            .collect::<Result<_, _>>()?;
        let sizes = options.tables;
        Ok(Self {
            ebpf,
            maps,
            memory,
            sizes,
            registry: Registry::new(&sizes),
            desired: DesiredState::default(),
            attachments,
        })
    }

    /// Where the program is attached, and how; one entry per interface asked
    /// for, in that order.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// The kernel's number of the loaded program, by which bpftool(8) shows it.
    pub fn program_id(&self) -> u32 {
        program::id(&self.ebpf)
    }

    /// Makes the data plane do what `desired` says, in one step: a packet is
    /// judged by the old state or by the new one.
    ///
    /// What `desired` no longer has is void: connections of a server that has
    /// left or is not alive are answered with a reset at their next packet.
    ///
    /// # Errors
    ///
    /// [`Error::TableFull`], [`Error::DuplicateService`], [`Error::Map`]: packets
    /// are still judged by the old state.
    pub fn apply(&mut self, desired: &DesiredState) -> Result<Changes, Error> {
        let known: HashSet<_> = self.registry.owners().collect();
        let memory = &self.memory;
        let counters = |slot| memory.server_counters(slot);
        let mut changes = self.registry.reconcile(desired, &self.sizes, counters)?;
        let description = Description::new(desired, &self.registry, &self.sizes)?;
        for (slot, generation) in self.registry.owners() {
            if !known.contains(&(slot, generation)) {
                self.memory.correct_load(slot, Load::default())?;
            }
        }
        changes.entries_written = self.maps.switch_to(&description)?;
        self.desired = desired.clone();
        Ok(changes)
    }

    /// Reads every counter, and counts connections and templates.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn statistics(&self) -> Result<Statistics, Error> {
        statistics::collect(&self.desired, &self.registry, &self.memory)
    }

    /// Removes connections and templates whose time is over, and re-arms the
    /// templates of connections that live but are silent.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn sweep(&mut self) -> Result<Swept, Error> {
        memory::sweep(&self.desired, &self.registry, &mut self.memory)
    }

    /// Lets the program judge `frame` as if it had come in by the loopback
    /// interface, `repeat` times in a row, without any network. Connections,
    /// templates and counters change as they would.
    ///
    /// # Errors
    ///
    /// [`Error::TestRun`].
    pub fn test_run(&self, frame: &[u8], repeat: u32) -> Result<TestRun, Error> {
        program::test_run(&self.ebpf, frame, repeat)
    }

    /// How often [`Dataplane::sweep`] wants to be called.
    ///
    /// A silent connection's template would otherwise end; it has at least
    /// three quarters of its time when the connection falls silent.
    pub fn sweep_interval(&self) -> Duration {
        let persistence = self
            .desired
            .services
            .iter()
            .filter_map(|service| service.persistence);
        let shortest = persistence.map(|persistence| persistence.timeout / 2).min();
        shortest
            .unwrap_or(LONGEST_SWEEP_INTERVAL)
            .clamp(SHORTEST_SWEEP_INTERVAL, LONGEST_SWEEP_INTERVAL)
    }
}

const SHORTEST_SWEEP_INTERVAL: Duration = Duration::from_millis(250);
const LONGEST_SWEEP_INTERVAL: Duration = Duration::from_secs(10);
