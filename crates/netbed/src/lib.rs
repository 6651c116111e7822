//! Hosts and switches in network namespaces, and what else tests share.
//!
//! A [`Bed`] holds any number of [`Host`]s, each with its own network stack, its own
//! `/run` and its own BPF file system, on [`Segment`]s of a switch. They run real
//! programs that exchange real packets. Several beds may exist at once, with the same
//! addresses. Whatever happens to the program that made one, nothing of it remains.
//!
//! A test that needs no second host runs [`alone`] in namespaces of its own thread.
//! Every test waits with [`wait_for`], and says with [`skip!`] what it lacks.

pub mod alone;
mod bed;
mod capture;
mod control_group;
mod host;
mod keepalived;
mod lifeline;
pub mod local;
mod namespace;
mod process;
mod segment;
mod skip;
mod sockets;
mod wait;

pub use bed::Bed;
pub use capture::{Capture, Frame};
pub use control_group::of_bed as control_group_of;
pub use host::{Counters, Host, INTERFACE};
pub use keepalived::start_keepalived;
pub use process::Process;
pub use segment::{Cable, Segment};
pub use skip::say_skipped;
pub use wait::{Condition, TIME_LIMIT, wait_for, wait_for_within};
