//! VRRP: which of several directors holds the virtual addresses.
//!
//! [`packet`] knows the bytes, [`machine`] decides for one virtual router and
//! [`group`] for several that lead together; none of them knows sockets or
//! clocks.

pub mod group;
pub mod machine;
pub mod packet;
#[cfg(test)]
mod simulation;
