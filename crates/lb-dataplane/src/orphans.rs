//! Connections of some servers: of those that are gone, and of those that another director
//! is told of.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use lb_abi::{Flow, FlowKey, FlowState};

use super::changes::{RemovedServer, ServerId};
use super::conntrack::{ConntrackSnapshot, now_ns};
use super::error::Error;
use lb_model::{Protocol, ServiceKey};

/// The client of a connection whose server is gone, or may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphan {
    /// The client's end.
    pub client: SocketAddr,
    /// The end that the client has connected to.
    pub service: SocketAddr,
    /// The last acknowledgment number of the client: a reset with this sequence
    /// number is in its window (RFC 5961 §3.2).
    pub awaited_sequence: u32,
    /// True if another director has scheduled the connection: its server may be another one.
    pub is_taken_over: bool,
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
        let numbers: HashMap<ServerId, usize> = removed
            .iter()
            .enumerate()
            .filter(|(_, server)| server.protocol == Protocol::Tcp)
            .map(|(number, server)| (server.id, number))
            .collect();
        let find = |_: &FlowKey, flow: &Flow| {
            let number = *numbers.get(&(flow.server, flow.generation))?;
            Some((number, removed[number].service.ip()))
        };
        self.for_each_live(find, &mut visit)
    }

    /// Calls `visit` with every live TCP connection of `servers`, each named with its
    /// service, and the index of its server in `servers`. Connections of which only the SYN
    /// has been seen are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn for_each_client(
        &self,
        servers: &[(ServiceKey, SocketAddr)],
        mut visit: impl FnMut(usize, Orphan),
    ) -> Result<(), Error> {
        let mut numbers: HashMap<(u16, ServerId), usize> = HashMap::new();
        for (number, service) in &self.ids.services {
            for (id, address) in &self.ids.servers {
                let is_it = |server: &_| *server == (service.key, *address);
                if let Some(index) = servers.iter().position(is_it) {
                    numbers.insert((*number, *id), index);
                }
            }
        }
        let find = |key: &FlowKey, flow: &Flow| {
            let index = *numbers.get(&(key.service, (flow.server, flow.generation)))?;
            Some((index, servers[index].0.address.ip()))
        };
        self.for_each_live(find, &mut visit)
    }

    /// Calls `visit` with the live TCP connections for which `find` names a number and the
    /// address of the service.
    fn for_each_live(
        &self,
        find: impl Fn(&FlowKey, &Flow) -> Option<(usize, IpAddr)>,
        visit: &mut dyn FnMut(usize, Orphan),
    ) -> Result<(), Error> {
        let now_ns = now_ns();
        let live = [FlowState::Established, FlowState::FinWait];
        self.tables.flows.for_each(|key, flow| {
            if let Some((number, service)) = find(&key, &flow)
                && live.iter().any(|state| *state as u16 == flow.state)
                && !self.is_expired(&flow, now_ns)
            {
                let client = SocketAddr::new(key.client.into(), u16::from_be(key.port));
                let port = u16::from_be(key.service_port);
                visit(
                    number,
                    Orphan {
                        client,
                        service: SocketAddr::new(service, port),
                        awaited_sequence: flow.awaited_sequence,
                        is_taken_over: flow.taken_over != 0,
                    },
                );
            }
            Ok(())
        })
    }
}
