//! Schedulers.

use lb_model::Scheduler;

use super::{Flow, NAMES, Owner, Packet, Service};
use packet_bed::Verdict;

impl Service {
    pub(super) fn schedule(&mut self, packet: Packet, got: &Verdict) -> Option<Owner> {
        let eligible: Vec<(usize, u32)> = (0..3)
            .map(|number| (number, &self.servers[number]))
            .filter(|(_, server)| server.present && server.alive && server.reached)
            .map(|(number, server)| (number, server.weight))
            .filter(|(_, weight)| *weight > 0)
            .collect();
        let with_room: Vec<(usize, u32)> = eligible
            .iter()
            .copied()
            .filter(|(server, _)| !self.servers[*server].is_full)
            .collect();
        let server = match self.scheduler {
            Scheduler::Rr => self.turn(eligible.iter().map(|(server, _)| *server).collect()),
            Scheduler::Wrr => self.turn(turns(&eligible)),
            Scheduler::Lc | Scheduler::Wlc | Scheduler::Sed | Scheduler::Nq => {
                self.least_loaded(&with_room)
            }
            Scheduler::Fo => heaviest(&with_room),
            Scheduler::Ovf => {
                let below =
                    |(server, weight): &&(usize, u32)| self.load(*server).0 <= u64::from(*weight);
                heaviest(&with_room.iter().filter(below).copied().collect::<Vec<_>>())
            }
            Scheduler::Dh => self.by_destination(&eligible),
            Scheduler::Sh | Scheduler::Mh => self.by_client(packet, eligible, got),
        }?;
        Some((server, self.servers[server].lives))
    }

    fn least_loaded(&self, servers: &[(usize, u32)]) -> Option<usize> {
        let loads = servers.iter().map(|(server, weight)| {
            let (active, inactive) = self.load(*server);
            let weight = u64::from(*weight);
            match self.scheduler {
                Scheduler::Lc => (*server, active * 256 + inactive, 1),
                Scheduler::Wlc => (*server, active * 256 + inactive, weight),
                _ => (*server, active + 1, weight),
            }
        });
        if self.scheduler == Scheduler::Nq
            && let Some(idle) = loads.clone().find(|(_, load, _)| *load == 1)
        {
            return Some(idle.0);
        }
        let least = loads.reduce(|best, other| {
            if other.1 * best.2 < best.1 * other.2 {
                other
            } else {
                best
            }
        });
        least.map(|(server, ..)| server)
    }

    /// The server that a hash of the client chooses is learned from the program's verdict,
    /// and must not change.
    fn by_client(
        &mut self,
        packet: Packet,
        eligible: Vec<(usize, u32)>,
        got: &Verdict,
    ) -> Option<usize> {
        let port = self.hash_port.then_some(packet.port);
        let is_maglev = self.scheduler == Scheduler::Mh;
        let hashed = (is_maglev, eligible.clone(), packet.client, port);
        let has_room = |server: &usize| !self.servers[*server].is_full;
        let servers = || eligible.iter().map(|(server, _)| *server);
        let said = servers().find(|server| names(got, NAMES[*server]));
        match (self.hashed.get(&hashed), said) {
            (Some(own), _) if has_room(own) => Some(*own),
            // Any other one.
            (Some(_), said) if self.hash_fallback => {
                said.filter(has_room).or_else(|| servers().find(has_room))
            }
            (Some(_), _) => None,
            (None, Some(said)) if has_room(&said) => {
                if !self.hash_fallback || servers().all(|server| has_room(&server)) {
                    self.hashed.insert(hashed, said);
                }
                Some(said)
            }
            // Nothing is known of the client, and its server may be a full one.
            (None, _) if self.hash_fallback => servers().find(has_room),
            (None, _) if servers().all(|server| has_room(&server)) => servers().next(),
            (None, _) => None,
        }
    }

    fn by_destination(&self, eligible: &[(usize, u32)]) -> Option<usize> {
        // The hash of ip_vs_dh.c, of one address for each service.
        let destination: u32 = [0xAC10_01C8, 0x2001_0D70, 0xAC10_01C8, 0xAC10_01C9][self.index];
        let bucket = u64::from(destination) * 2_654_435_761 % 256;
        let (server, _) = eligible[(bucket as usize).checked_rem(eligible.len())?];
        (!self.servers[server].is_full).then_some(server)
    }

    /// The next server in turn that has room.
    fn turn(&mut self, ring: Vec<usize>) -> Option<usize> {
        for _ in 0..ring.len() {
            let server = ring[self.cursor % ring.len()];
            self.cursor += 1;
            if !self.servers[server].is_full {
                return Some(server);
            }
        }
        None
    }

    /// A connection of a server has come (`ip_vs_bind_dest`).
    pub(super) fn came(&mut self, server: usize) {
        let (active, inactive) = self.load(server);
        let server = &mut self.servers[server];
        let (upper, _) = server.thresholds;
        server.is_full |= upper != 0 && active + inactive >= upper.into();
    }

    /// A connection of a server has gone (`ip_vs_unbind_dest`).
    pub(super) fn went(&mut self, server: usize) {
        let (active, inactive) = self.load(server);
        let (server, total) = (&mut self.servers[server], active + inactive);
        server.is_full &= match server.thresholds {
            (upper, 0) => total * 4 >= u64::from(upper) * 3,
            (_, lower) => total >= lower.into(),
        };
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
    pub(crate) fn loads(&self) -> impl Iterator<Item = (u64, u64)> {
        let present = (0..3).filter(|server| self.servers[*server].present);
        present.map(|server| self.load(server))
    }
}

fn names(verdict: &Verdict, name: &str) -> bool {
    matches!(verdict, Verdict::To(server) | Verdict::Changed(server, _) if *server == name)
}

/// The first of the heaviest.
fn heaviest(servers: &[(usize, u32)]) -> Option<usize> {
    let most = servers.iter().map(|(_, weight)| *weight).max()?;
    let first = servers.iter().find(|(_, weight)| *weight == most);
    first.map(|(server, _)| *server)
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
