//! The server's side: what each command does, in and out of order.

mod connect;
mod limits;
mod message_streams;
mod messages;
mod play;
mod publish;
