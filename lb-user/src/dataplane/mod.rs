//! The data plane as the agent sees it: desired state in, counters out.
//!
//! This is the only module that touches aya. [`Dataplane::load`] attaches the
//! XDP program, [`Dataplane::apply`] makes it do what a [`DesiredState`]
//! describes, and dropping the [`Dataplane`] detaches it.

mod error;
mod options;
pub mod state;
mod statistics;

pub use error::Error;
pub use options::{AttachMode, Options, TableSizes};
pub use state::DesiredState;
pub use statistics::{ReasonCount, ServerStatistics, ServiceStatistics, Statistics, Traffic};

/// The loaded XDP program and its maps. Dropping it detaches the program.
#[derive(Debug)]
pub struct Dataplane {
    attachments: Vec<Attachment>,
}

impl Dataplane {
    /// Where the program is attached, and how; one entry per interface asked
    /// for, in that order.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }
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
