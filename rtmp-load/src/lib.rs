//! An RTMP load generator: thousands of players, and publishers for them, from
//! one process; with honest figures of what each player got and when.
//!
//! The path of a run, in the order of reading: [`options`] → [`plan`] →
//! [`run`](mod@run) → [`worker`] (one event loop per thread) → [`player`] and
//! [`publisher`] (what a connection is there for) → [`client`] (the RTMP
//! dialogue) → [`chunks`] (what arrives) → [`report`]. From [`player`] on
//! nothing performs I/O.
//!
//! What arrives is read and judged by rules of its own, not by the code of the
//! servers under test: [`chunks`], [`media`], [`timeline`], [`stamp`].

#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod address;
pub mod chunks;
pub mod client;
pub mod clock;
pub mod control;
pub mod limits;
mod link;
pub mod media;
pub mod options;
pub mod plan;
pub mod player;
pub mod progress;
pub mod publisher;
pub mod report;
pub mod run;
pub mod source;
pub mod stamp;
pub mod stats;
pub mod timeline;
pub mod usage;
pub mod worker;
