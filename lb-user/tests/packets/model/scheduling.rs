//! Which server takes a connection that nothing else decides.

use lb_user::dataplane::state::Scheduler;

use super::{Flow, NAMES, Owner, Packet, Service};
use crate::bed::Verdict;

impl Service {
    pub(super) fn schedule(&mut self, packet: Packet, got: &Verdict) -> Option<Owner> {
        let eligible: Vec<(usize, u32)> = (0..3)
            .map(|number| (number, &self.servers[number]))
            .filter(|(_, server)| server.present && server.alive && server.reached)
            .map(|(number, server)| (number, server.weight))
            .filter(|(_, weight)| *weight > 0)
            .collect();
        let first = eligible.first()?.0;
        let server = match self.scheduler {
            Scheduler::Rr => self.turn(eligible.iter().map(|(server, _)| *server).collect()),
            Scheduler::Wrr => self.turn(turns(&eligible)),
            Scheduler::Lc | Scheduler::Wlc => {
                let is_weighted = self.scheduler == Scheduler::Wlc;
                let weight = |weight: u32| if is_weighted { weight.into() } else { 1 };
                let mut loads = eligible.iter().map(|(server, own)| {
                    let (active, inactive) = self.load(*server);
                    (*server, active * 256 + inactive, weight(*own))
                });
                let begin = loads.next()?;
                let least = loads.fold(begin, |best, other| {
                    if other.1 * best.2 < best.1 * other.2 {
                        other
                    } else {
                        best
                    }
                });
                least.0
            }
            Scheduler::Sh | Scheduler::Mh => {
                let port = self.hash_port.then_some(packet.port);
                let is_maglev = self.scheduler == Scheduler::Mh;
                let hashed = (is_maglev, eligible.clone(), packet.client, port);
                let got = eligible
                    .iter()
                    .map(|(server, _)| *server)
                    .find(|server| names(got, NAMES[*server]));
                match got {
                    Some(got) => *self.hashed.entry(hashed).or_insert(got),
                    None => self.hashed.get(&hashed).copied().unwrap_or(first),
                }
            }
        };
        Some((server, self.servers[server].lives))
    }

    fn turn(&mut self, ring: Vec<usize>) -> usize {
        let server = ring[self.cursor % ring.len()];
        self.cursor += 1;
        server
    }

    /// Connections of a server, active ones and others.
    fn load(&self, server: usize) -> (u64, u64) {
        let owner = (server, self.servers[server].lives);
        let own = self.flows.values().filter(|flow| flow.owner == owner);
        let (active, inactive): (Vec<&Flow>, Vec<&Flow>) =
            own.partition(|flow| flow.state.is_active());
        (active.len() as u64, inactive.len() as u64)
    }

    /// The loads of all servers that there are.
    pub fn loads(&self) -> impl Iterator<Item = (u64, u64)> {
        let present = (0..3).filter(|server| self.servers[*server].present);
        present.map(|server| self.load(server))
    }
}

fn names(verdict: &Verdict, name: &str) -> bool {
    matches!(verdict, Verdict::To(server) | Verdict::Changed(server, _) if *server == name)
}

/// The turns of weighted servers (smooth weighted round robin).
fn turns(weighted: &[(usize, u32)]) -> Vec<usize> {
    let weights = || weighted.iter().map(|(_, weight)| i64::from(*weight));
    let divisor = (1..=4)
        .rev()
        .find(|d| weights().all(|weight| weight % d == 0));
    let total: i64 = weights().sum();
    let mut credit = vec![0; weighted.len()];
    let turn = |_| {
        for (credit, weight) in credit.iter_mut().zip(weights()) {
            *credit += weight;
        }
        let most = *credit.iter().max().expect("there are servers");
        let next = credit.iter().position(|credit| *credit == most);
        let next = next.expect("it is one of them");
        credit[next] -= total;
        weighted[next].0
    };
    (0..total / divisor.expect("1 divides all"))
        .map(turn)
        .collect()
}
