//! Policy, inputs and actions of a virtual router.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::packet::{Advert, Version};

/// State of a virtual router (RFC 3768 §6.4), with `fault` as in keepalived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not started yet, or stopped.
    Init,
    /// Listens for the master.
    Backup,
    /// Holds the addresses, and sends adverts.
    Master,
    /// Something that it needs is missing.
    Fault,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Init => "init",
            Self::Backup => "backup",
            Self::Master => "master",
            Self::Fault => "fault",
        })
    }
}

/// The time at which a router takes over from a master of lower priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preemption {
    /// As soon as it can.
    AtOnce,
    /// This time after its first advert (`preempt_delay`).
    After(Duration),
    /// Not while that master lives (`nopreempt`).
    Never,
}

/// Numbers and times of gratuitous ARPs (for IPv6, unsolicited neighbour
/// advertisements): keepalived.conf(5), `garp_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnnouncementPolicy {
    /// Number that is sent on becoming master, and again after `delay`.
    pub repeat: u32,
    /// Delay of the second set; zero for none.
    pub delay: Duration,
    /// Number that is sent after an advert of lower priority, and again after
    /// `lower_priority_delay`; zero for none.
    pub lower_priority_repeat: u32,
    /// Delay of that second set; zero for none.
    pub lower_priority_delay: Duration,
    /// Interval at which a master announces again; zero for never.
    pub refresh: Duration,
    /// Number that is sent then.
    pub refresh_repeat: u32,
}

impl AnnouncementPolicy {
    /// One frame, once: keepalived.conf(5), `vrrp_min_garp`.
    pub const MIN: Self = Self {
        repeat: 1,
        delay: Duration::ZERO,
        lower_priority_repeat: 1,
        lower_priority_delay: Duration::ZERO,
        refresh: Duration::ZERO,
        refresh_repeat: 1,
    };
}

impl Default for AnnouncementPolicy {
    /// keepalived's defaults.
    fn default() -> Self {
        Self {
            repeat: 5,
            delay: Duration::from_secs(5),
            lower_priority_repeat: 5,
            lower_priority_delay: Duration::from_secs(5),
            refresh: Duration::ZERO,
            refresh_repeat: 1,
        }
    }
}

/// Settings of a virtual router that its states depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Version of VRRP: the unit of the skew, and whose interval counts.
    pub version: Version,
    /// Interval of our own adverts.
    pub interval: Duration,
    /// Master at once when started (`state MASTER` and priority 255).
    pub owner: bool,
    /// Take-over from a master of lower priority.
    pub preemption: Preemption,
    /// Intervals of silence after which a master counts as gone; 3 in the RFCs.
    pub down_timer_adverts: u32,
    /// Announcements of the addresses.
    pub announcing: AnnouncementPolicy,
    /// As master, answer a lower priority with an advert.
    pub answer_lower_priority: bool,
    /// As master, send one more advert before giving way to a higher priority.
    pub answer_higher_priority: bool,
    /// Member of a sync group: becomes master only by [`Input::BecomeMaster`].
    pub grouped: bool,
}

/// An event for a virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// It begins. `has_leftovers`: its addresses are on the interface already, left
    /// by an earlier run.
    Start {
        /// They are.
        has_leftovers: bool,
    },
    /// It goes on as the master that an earlier run was until a moment ago, its
    /// addresses being on the interface.
    Resume,
    /// Time has passed.
    Tick,
    /// An advert has arrived, and has passed all checks.
    Advert(Advert),
    /// Its priority is now another.
    Priority(u8),
    /// Something that it needs is missing.
    Fault(String),
    /// Nothing is missing any more.
    Recovered,
    /// Its sync group becomes master.
    BecomeMaster,
    /// Its sync group becomes backup, for this reason.
    BecomeBackup(String),
    /// It ends.
    Stop,
}

/// An action that a virtual router asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send an advert.
    Advertise {
        /// With this priority.
        priority: u8,
    },
    /// Add the virtual addresses.
    AddAddresses,
    /// Remove the virtual addresses, if they are there.
    RemoveAddresses,
    /// Announce the addresses to the network.
    Announce {
        /// So many times each.
        repeat: u32,
    },
    /// Report that a state was entered.
    Entered(State, Cause),
}

/// The reason why a virtual router is in its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It has only been configured.
    Configured,
    /// It was started.
    Started,
    /// An earlier run has handed over, being master.
    HandedOver,
    /// It owns the addresses.
    Owner,
    /// No advert of a master has come for this time.
    Silence(Duration),
    /// The master said that it leaves.
    MasterLeft(IpAddr),
    /// The master had a lower priority.
    LowerPriority(IpAddr, u8),
    /// Another master has a higher priority.
    HigherPriority(IpAddr, u8),
    /// Another master has the same priority and a higher address.
    HigherAddress(IpAddr),
    /// All members of the sync group can be master.
    Group,
    /// The sync group has become backup, for this reason.
    GroupYields(String),
    /// Something that it needs is missing.
    Fault(String),
    /// Nothing is missing any more.
    Recovered,
    /// It was stopped.
    Stopped,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => write!(f, "not started yet"),
            Self::Started => write!(f, "started"),
            Self::HandedOver => write!(f, "handed over by the program that ran before"),
            Self::Owner => write!(f, "it owns the addresses (priority 255)"),
            Self::Silence(silence) => {
                write!(f, "no master heard for {:.3} s", silence.as_secs_f64())
            }
            Self::MasterLeft(address) => write!(f, "the master {address} has left"),
            Self::LowerPriority(address, priority) => {
                write!(f, "the master {address} has the lower priority {priority}")
            }
            Self::HigherPriority(address, priority) => {
                write!(f, "{address} is master with the higher priority {priority}")
            }
            Self::HigherAddress(address) => {
                write!(
                    f,
                    "{address} is master with the same priority and a higher address"
                )
            }
            Self::Group => write!(f, "all of its sync group can be master"),
            Self::GroupYields(reason) => write!(f, "its sync group gave way: {reason}"),
            Self::Fault(reason) => write!(f, "{reason}"),
            Self::Recovered => write!(f, "nothing is missing any more"),
            Self::Stopped => write!(f, "stopped"),
        }
    }
}
