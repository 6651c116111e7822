//! Virtual services and real servers as every part of the director knows them.
//!
//! [`config`] is what the operator wrote; [`DesiredState`] is what the data plane is
//! to do.

#![forbid(unsafe_code)]

pub mod config;
mod service;

pub use service::*;
