//! VRRP: which of several directors holds the virtual addresses.
//!
//! [`packet`] knows the bytes, [`machine`] decides for one virtual router and
//! [`group`] for several that lead together; neither knows sockets or clocks.
//! [`Vrrp`] drives them: it follows the interfaces, runs the scripts that are
//! tracked, sends and receives adverts and holds the addresses. Needs
//! `CAP_NET_RAW` and `CAP_NET_ADMIN`.
//!
//! ```no_run
//! # async fn example(config: &lb_model::config::Config) -> Result<(), Box<dyn std::error::Error>> {
//! use vrrp::{Settings, Vrrp};
//!
//! let mut vrrp = Vrrp::start(Settings::from_config(config)?).await?;
//! let event = vrrp.next_event().await;
//! println!("{event}");
//! vrrp.stop().await;
//! # Ok(())
//! # }
//! ```

mod announcement;
mod driver;
pub mod group;
mod holder;
mod instance;
pub mod machine;
pub mod notify;
pub mod packet;
pub mod route;
pub mod routes;
pub mod settings;
#[cfg(test)]
mod simulation;
mod socket;
mod status;
mod track_file;
mod track_script;
pub mod tracking;
mod unit;

use std::fmt;

pub use driver::Vrrp;
use machine::{Cause, State};
pub use settings::{Settings, SettingsError};
pub use status::{Counters, InstanceStatus};

/// What an [`Event`] is about.
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
    /// Which of the two.
    pub subject: Subject,
    /// Its name.
    pub name: String,
    /// The state.
    pub state: State,
    /// Why.
    pub cause: Cause,
    /// The priority at that moment; 0 for a group.
    pub priority: u8,
}

impl Event {
    /// What has changed, as in the configuration: `vrrp_instance VI_1`.
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
