//! The wire, as tables of bytes and what must come out.

mod amf0;
mod chunk_limits;
mod chunk_reader;
mod chunk_timestamps;
mod chunk_writer;
mod handshake;
mod media;
mod messages;
mod round_trips;
mod tools;
