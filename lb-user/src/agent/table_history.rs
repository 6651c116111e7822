//! The tables by which services with `lb_algo mh` schedule new connections, and those that
//! they had before: told to whoever asks (`GET /api/v1/tables`).
//!
//! Real servers work out from them which of them has the connection of another director's
//! client (docs/decisions/0017-second-chance.md).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::control::told_tables::ToldTables;
use lb_dataplane::is_eligible;
use lb_model::{
    DesiredState, Forwarding, Generation, MAX_GENERATIONS, Protocol, RealServer, Scheduler,
    Service, ServiceTables, TableServer, Tables,
};

/// The tables of all services.
#[derive(Debug)]
pub(super) struct TableHistory {
    /// Number of places in each table.
    places: u32,
    /// The former tables of each service.
    services: BTreeMap<SocketAddr, History>,
    told: watch::Sender<Arc<Tables>>,
    reader: ToldTables,
}

/// The tables that a service had; those of another form are none of its own.
#[derive(Debug, Clone, Default)]
struct History {
    /// True if they hash the client's port, too.
    hash_port: bool,
    /// The newest first.
    generations: Vec<Generation>,
}

impl TableHistory {
    /// Tables of `places` places each, which go on from what an earlier agent has `saved`,
    /// but for services whose tables had another size. That is told until the state is
    /// [observed](Self::observe). `started_ms`: the time, in milliseconds since 1970.
    pub(super) fn inherit(places: u32, started_ms: u64, saved: &[ServiceTables]) -> Self {
        let same_size = saved.iter().filter(|it| it.places == places);
        let told = Tables {
            version: started_ms,
            services: same_size.cloned().collect(),
        };
        let history = |service: &ServiceTables| {
            let history = History {
                hash_port: service.hash_port,
                generations: service.generations.clone(),
            };
            (service.address, history)
        };
        let services = told.services.iter().map(history).collect();
        let sender = watch::Sender::new(Arc::new(told));
        Self {
            places,
            services,
            reader: ToldTables::new(sender.subscribe()),
            told: sender,
        }
    }

    /// What there is to tell, now and later.
    pub(super) fn told(&self) -> &ToldTables {
        &self.reader
    }

    /// All of it, for a later agent.
    pub(super) fn to_save(&self) -> Vec<ServiceTables> {
        self.told.borrow().services.clone()
    }

    /// Takes note of the state that the data plane has since `now_ms`, in milliseconds
    /// since 1970.
    pub(super) fn observe(&mut self, in_force: &DesiredState, now_ms: u64) {
        let services = in_force
            .services
            .iter()
            .filter(|service| has_table(service));
        let services: Vec<_> = services
            .map(|service| ServiceTables {
                address: service.address,
                places: self.places,
                hash_port: service.hash_port,
                servers: table_servers(service),
                generations: self.follow(service, now_ms).to_vec(),
            })
            .collect();
        self.services
            .retain(|address, _| services.iter().any(|service| service.address == *address));
        self.told.send_if_modified(|told| {
            if told.services == services {
                return false;
            }
            *told = Arc::new(Tables {
                version: told.version + 1,
                services,
            });
            true
        });
    }

    /// Adds the table of `service` if it is a new one; returns all.
    fn follow(&mut self, service: &Service, now_ms: u64) -> &[Generation] {
        let history = self.services.entry(service.address).or_default();
        if history.hash_port != service.hash_port {
            *history = History {
                hash_port: service.hash_port,
                generations: Vec::new(),
            };
        }
        let generations = &mut history.generations;
        let eligible = service.servers.iter().filter(|server| is_eligible(server));
        let weights: BTreeMap<_, _> = eligible
            .map(|server| (server.address, server.weight))
            .collect();
        let newest = generations.first().map(|newest| &newest.weights);
        if !weights.is_empty() && newest != Some(&weights) {
            generations.retain(|former| former.weights != weights);
            let newest = Generation {
                since_ms: now_ms,
                weights,
            };
            generations.insert(0, newest);
            generations.truncate(MAX_GENERATIONS);
        }
        generations
    }
}

/// True if the connections of a service are found by a table.
fn has_table(service: &Service) -> bool {
    service.scheduler == Scheduler::Mh
        && service.protocol == Protocol::Tcp
        && service.address.port() != 0
}

/// The servers that packets can be passed on to, in an order that does not depend on the
/// configuration's.
fn table_servers(service: &Service) -> Vec<TableServer> {
    let servers = service.servers.iter();
    let mut servers: Vec<_> = servers.filter_map(table_server).collect();
    servers.sort_unstable_by_key(|server| server.address);
    servers
}

/// The server, if packets can be passed on to it: it is up, and on our segment.
fn table_server(server: &RealServer) -> Option<TableServer> {
    let next_hop = server.next_hop.filter(|next_hop| !next_hop.is_router)?;
    let is_reached = server.alive && server.forwarding == Forwarding::Direct;
    is_reached.then_some(TableServer {
        address: server.address,
        mac: next_hop.destination,
    })
}

#[cfg(test)]
mod tests {
    use lb_model::{NextHop, OrphanPolicy, Thresholds, Vlan};
    use net_types::MacAddress;

    use super::*;

    fn server(number: u8) -> RealServer {
        RealServer {
            address: SocketAddr::from(([10, 0, 0, number], 1935)),
            weight: 1,
            thresholds: Thresholds::default(),
            keeps_templates: true,
            alive: true,
            forwarding: Forwarding::Direct,
            next_hop: Some(NextHop {
                interface_index: 1,
                source: MacAddress([2, 0, 0, 0, 0, 1]),
                destination: MacAddress([2, 0, 0, 0, 0, number]),
                vlan: Vlan::Untagged,
                is_router: false,
            }),
        }
    }

    fn state(scheduler: Scheduler, servers: Vec<RealServer>) -> DesiredState {
        DesiredState {
            services: vec![Service {
                protocol: Protocol::Tcp,
                address: SocketAddr::from(([10, 0, 0, 200], 1935)),
                scheduler,
                hash_port: true,
                hash_fallback: false,
                one_packet: false,
                persistence: None,
                orphans: OrphanPolicy::Reset,
                sloppy: true,
                servers,
            }],
            ..DesiredState::default()
        }
    }

    fn with(servers: &[u8]) -> DesiredState {
        state(
            Scheduler::Mh,
            servers.iter().map(|number| server(*number)).collect(),
        )
    }

    /// When each table began, and its servers.
    fn generations(history: &TableHistory) -> Vec<(u64, Vec<SocketAddr>)> {
        let told = history.told.borrow();
        let generations = told.services[0].generations.iter();
        generations
            .map(|it| (it.since_ms, it.weights.keys().copied().collect()))
            .collect()
    }

    fn addresses(numbers: &[u8]) -> Vec<SocketAddr> {
        numbers
            .iter()
            .map(|number| server(*number).address)
            .collect()
    }

    #[test]
    fn each_change_of_the_servers_is_a_generation() {
        let mut history = TableHistory::inherit(251, 1000, &[]);
        let told = history.told.subscribe();
        history.observe(&with(&[1, 2]), 1);
        history.observe(&with(&[2, 1]), 2);
        assert_eq!(
            generations(&history),
            [(1, addresses(&[1, 2]))],
            "their order makes no difference"
        );
        assert_eq!(told.borrow().version, 1001);
        let mut drained = with(&[1, 2, 3]);
        history.observe(&drained, 3);
        drained.services[0].servers[0].weight = 0;
        history.observe(&drained, 4);
        assert_eq!(
            generations(&history),
            [
                (4, addresses(&[2, 3])),
                (3, addresses(&[1, 2, 3])),
                (1, addresses(&[1, 2])),
            ]
        );
        let macs = told.borrow().services[0].servers.len();
        assert_eq!(macs, 3, "who is drained still has connections");
        history.observe(&with(&[1, 2]), 5);
        let since: Vec<_> = generations(&history).iter().map(|it| it.0).collect();
        assert_eq!(since, [5, 4, 3], "a table that is back counts once");
        history.observe(&with(&[]), 6);
        assert_eq!(generations(&history).len(), 3, "none is no table");
        assert_eq!(told.borrow().services[0].servers, []);
    }

    #[test]
    fn a_later_agent_goes_on_from_what_was_saved() {
        let mut history = TableHistory::inherit(251, 1000, &[]);
        history.observe(&with(&[1, 2]), 1);
        for (places, expected) in [(251, vec![2, 1]), (4093, vec![2])] {
            let mut later = TableHistory::inherit(places, 2000, &history.to_save());
            let at_once = later.told.borrow().services.clone();
            assert_eq!(at_once.len(), expected.len() - 1, "{places}");
            later.observe(&with(&[1]), 2);
            let since: Vec<_> = generations(&later).iter().map(|it| it.0).collect();
            assert_eq!(since, expected, "{places}");
        }
    }

    #[test]
    fn tables_of_another_hash_are_forgotten() {
        let mut history = TableHistory::inherit(251, 1000, &[]);
        history.observe(&with(&[1, 2]), 1);
        let mut by_address = with(&[1, 2, 3]);
        by_address.services[0].hash_port = false;
        history.observe(&by_address, 2);
        assert_eq!(generations(&history), [(2, addresses(&[1, 2, 3]))]);
    }

    #[test]
    fn only_what_is_scheduled_by_a_table_is_told() {
        let mut history = TableHistory::inherit(251, 1000, &[]);
        history.observe(&state(Scheduler::Rr, vec![server(1)]), 1);
        assert_eq!(history.told.borrow().services, []);
        let mut state = with(&[1, 2, 3]);
        let servers = &mut state.services[0].servers;
        servers[0].alive = false;
        servers[1].next_hop.as_mut().expect("it has one").is_router = true;
        history.observe(&state, 2);
        let told = history.told.borrow();
        assert_eq!(told.services[0].servers[0].address, server(3).address);
        assert_eq!(told.services[0].servers.len(), 1);
    }
}
