//! Players on real sockets: what reaches them, and when they go.

mod codecs;
mod delivery;
mod departures;
mod flv;
mod joining;
mod publications;
mod publishers;
mod relays;
mod requests;
mod slow;
mod standby;
pub(super) mod support;
mod upgrade;
