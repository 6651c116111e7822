//! The server's part of an upgrade: everybody stands still, what they have is written down,
//! and a server of another program goes on with it.
//!
//! ```text
//! settle ──▶ freeze ──▶ a first ServerPart ──▶ unfreeze ──▶ the other program reads it
//!                                                              │
//!               freeze ──▶ ServerPart ──▶ exec ──▶ take_over ◀─┤
//!                                                              │
//!               go_on, where the other program cannot ◀────────┘
//! ```

mod freeze;
mod parts;
mod safepoint;
mod take_over;

pub(crate) use crate::stream::LOG_LAYOUT;
pub(crate) use freeze::{FrozenServer, Purpose};
pub(crate) use parts::ServerPart;
pub(in crate::server) use parts::{ByStream, ClientsPart, EventsPart, TaskParts};
pub(in crate::server) use safepoint::{Participant, Phase, RequestInProgress, Safepoint};

/// The form of a [`ServerPart`] as a whole. Fields may come and go within it; a program that
/// has another one cannot go on. Since 2, connections that the server encrypts itself are in it.
pub(crate) const LAYOUT: u32 = 2;
/// The oldest form that this program can go on with.
pub(crate) const OLDEST_LAYOUT: u32 = 1;
