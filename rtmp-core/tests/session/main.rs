//! The sessions, against scripts of commands and against independent peers.

mod independent_peer;
