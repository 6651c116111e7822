//! Connections whose server is gone.

use std::collections::HashMap;
use std::net::SocketAddr;

use lb_abi::FlowState;

use super::changes::{RemovedServer, ServerId};
use super::conntrack::{ConntrackSnapshot, now_ns};
use super::error::Error;
use lb_model::Protocol;

/// The client of a connection whose server is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphan {
    /// The client's end.
    pub client: SocketAddr,
    /// The end that the client has connected to.
    pub service: SocketAddr,
    /// The last acknowledgment number of the client: a reset with this sequence
    /// number is in its window (RFC 5961 §3.2).
    pub awaited_sequence: u32,
}

impl ConntrackSnapshot {
    /// Calls `visit` with every live TCP connection of `removed`, and the index of its
    /// server in `removed`.
    ///
    /// A connection of which only the SYN has been seen is left out: its client
    /// will repeat that, and be given another server.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn for_each_orphan(
        &self,
        removed: &[RemovedServer],
        mut visit: impl FnMut(usize, Orphan),
    ) -> Result<(), Error> {
        let now_ns = now_ns();
        let numbers: HashMap<ServerId, usize> = removed
            .iter()
            .enumerate()
            .filter(|(_, server)| server.protocol == Protocol::Tcp)
            .map(|(number, server)| (server.id, number))
            .collect();
        self.tables.flows.for_each(|key, flow| {
            let live = [FlowState::Established, FlowState::FinWait];
            if let Some(number) = numbers.get(&(flow.server, flow.generation))
                && live.iter().any(|state| *state as u32 == flow.state)
                && !self.is_expired(&flow, now_ns)
            {
                let client = SocketAddr::new(key.client.into(), u16::from_be(key.port));
                let port = u16::from_be(key.service_port);
                visit(
                    *number,
                    Orphan {
                        client,
                        service: SocketAddr::new(removed[*number].service.ip(), port),
                        awaited_sequence: flow.awaited_sequence,
                    },
                );
            }
            Ok(())
        })
    }
}
