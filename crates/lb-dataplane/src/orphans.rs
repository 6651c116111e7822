//! Connections whose server is gone.

use std::collections::HashMap;
use std::net::SocketAddr;

use lb_abi::FlowState;

use super::Error;
use super::memory::{Owner, Remembered, now_ns};
use lb_model::{OrphanPolicy, Protocol};

/// A server that has died or left, and whose connections are void since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// Protocol of its service.
    pub protocol: Protocol,
    /// Address and port of its service.
    pub service: SocketAddr,
    /// The server.
    pub server: SocketAddr,
    /// What is to become of its connections.
    pub orphans: OrphanPolicy,
    pub(super) owner: Owner,
}

/// The client of a connection whose server is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphan {
    /// The client's end.
    pub client: SocketAddr,
    /// The end that the client has connected to.
    pub service: SocketAddr,
    /// What the client last acknowledged.
    pub awaited_sequence: u32,
}

impl Remembered {
    /// Hands every live TCP connection of `departed` to `visit`, with the
    /// number of its server in `departed`.
    ///
    /// A connection of which only the SYN has been seen is left out: its client
    /// will repeat that, and be given another server.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn for_each_orphan(
        &self,
        departed: &[Departed],
        mut visit: impl FnMut(usize, Orphan),
    ) -> Result<(), Error> {
        let now_ns = now_ns();
        let numbers: HashMap<Owner, usize> = departed
            .iter()
            .enumerate()
            .filter(|(_, departed)| departed.protocol == Protocol::Tcp)
            .map(|(number, departed)| (departed.owner, number))
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
                        service: SocketAddr::new(departed[*number].service.ip(), port),
                        awaited_sequence: flow.awaited_sequence,
                    },
                );
            }
            Ok(())
        })
    }
}
