//! The sessions: names, dialogues as tables, and independent peers.

mod captures;
mod client;
mod dialogues;
mod independent_peer;
mod names;
mod server;
mod tools;
