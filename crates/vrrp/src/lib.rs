//! VRRP, by which one of several directors is master and holds the virtual addresses.
//!
//! `packet` encodes and checks adverts; `machine` decides for one virtual router and
//! `group` for a sync group: none of them knows sockets or clocks. `unit` joins them
//! with sockets and addresses, and `driver` is the task that runs all units:
//!
//! ```text
//! handle ─▶ driver ─▶ unit ─▶ group ─▶ machine
//!             │        ├────▶ tracking (scripts, files, interfaces, quorums)
//!             │        └────▶ instance ─▶ socket, address_manager ─▶ announcement, routes
//!             └──▶ settings ◀─┘ (and packet below all of them)
//! ```
//!
//! [`Vrrp`] starts it. Needs `CAP_NET_RAW` and `CAP_NET_ADMIN`.
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

mod address_manager;
mod announcement;
mod driver;
mod event;
mod group;
mod handle;
mod instance;
mod machine;
mod notify;
pub mod packet;
mod packet_queue;
mod routes;
mod settings;
#[cfg(test)]
mod simulation;
mod socket;
mod status;
mod tracking;
mod unit;

pub use event::{Event, Subject};
pub use handle::{Prepared, Vrrp};
pub use machine::{Cause, Preemption, State};
pub use notify::notify_scripts;
pub use packet::Refusal;
pub use routes::{Routes, resolve_route};
pub use settings::{InstanceSettings, Settings, SettingsError, VirtualAddress};
pub use status::{Counters, InstanceStatus};
pub use tracking::{Tracked, TrackedSubject};
