//! VRRP: which of several directors holds the virtual addresses.
//!
//! [`packet`] knows the bytes.

pub mod packet;
