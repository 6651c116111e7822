//! Whole servers on loopback sockets, with our own client session as the peer.

mod api;
mod edge;
mod hooks;
mod origin;
mod support;
