//! Sends streams to their players: one thread per core, each with an epoll of
//! its own. A player is a socket and an offset into its stream's log.

mod handoff;
mod mailbox;
mod part;
mod player;
mod pool;
mod report;
mod send_queue;
mod stall;
mod tcp_info;
mod worker;

pub(crate) use handoff::{
    Delivery, Dialogue, Joining, Meter, MeterPart, Reason, Request, ReturnedPlayer,
};
pub(crate) use mailbox::FlushTimes;
pub(crate) use part::{Adopting, Frozen, PlayerPart};
pub(crate) use pool::Fanout;
pub(crate) use report::{GroupReport, LagTimes, PlayerLag, SocketReport, Standing, no_lag_times};
pub(crate) use tcp_info::TcpInfo;

#[cfg(test)]
mod tests;
