//! Changes of state, as they are reported.

use std::fmt;

use super::machine::{Cause, State};

/// The kind of thing whose state has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// One virtual router.
    Instance,
    /// All virtual routers of a sync group.
    Group,
}

/// A virtual router, or a sync group, has entered a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// A virtual router or a sync group.
    pub subject: Subject,
    /// Its name.
    pub name: String,
    /// The state that was entered.
    pub state: State,
    /// The reason.
    pub cause: Cause,
    /// The priority at that moment; 0 for a group.
    pub priority: u8,
}

impl Event {
    /// Its name as in the configuration: `vrrp_instance VI_1`.
    pub fn subject_name(&self) -> String {
        let kind = match self.subject {
            Subject::Instance => "vrrp_instance",
            Subject::Group => "vrrp_sync_group",
        };
        format!("{kind} {}", self.name)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, cause, .. } = self;
        write!(f, "{}: {state}: {cause}", self.subject_name())
    }
}
