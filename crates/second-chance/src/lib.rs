//! The second chance at a real server: `millrace-second-chance`.
//!
//! Directors behind ECMP share no state. Of the connections that were opened before a server
//! last came or went, some reach another server when a router moves them to another director.
//! There this program's data plane ([`lb_dataplane::second_chance`]) passes them on to the
//! server that has them. It asks the directors for their tables (`fetch`), and works out
//! for each place of a table which server comes next (`order`).

#![forbid(unsafe_code)]

pub mod cli;
mod fetch;
mod http;
mod order;
