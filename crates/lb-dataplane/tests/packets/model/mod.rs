//! A model of the balancer in Rust: the verdicts that the program must reach.
//!
//! Pauses are multiples of [`PAUSE`], and no time-out is near a multiple of it:
//! how long a test itself takes does not matter.

mod packet;
mod scheduling;

use std::collections::HashMap;
use std::time::Duration;

use lb_model::DesiredState;
use lb_model::{OrphanPolicy, Protocol, Scheduler, Thresholds, Timeouts, Vlan};

pub(crate) use packet::Packet;
use packet::{CLOSED, ESTABLISHED, FIN_WAIT, Key, SYN_RECEIVED, State, TIME_WAIT, UDP};

use packet_bed::{Verdict, persistent, server, service, state};

const NAMES: [&str; 3] = ["edge 1", "edge 2", "edge 3"];

pub(crate) const PAUSE: u64 = 64;
/// Time-outs of persistence that changes choose among.
pub(crate) const PERSISTENCE: [u64; 2] = [160, 352];

/// The services, in this order: TCP over IPv4 by client, TCP over IPv6 by
/// network, UDP, TCP over IPv4 to all ports.
pub(crate) const SERVICES: usize = 4;
pub(crate) const OVER_IPV6: usize = 1;
pub(crate) const OVER_UDP: usize = 2;
pub(crate) const TO_ALL_PORTS: usize = 3;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Alive(usize, bool),
    Weight(usize, u32),
    /// A server is in the configuration, or not.
    Present(usize, bool),
    /// A server's MAC address is known, or not.
    Reached(usize, bool),
    Vlan(usize, Vlan),
    KeepsTemplates(usize, bool),
    Scheduler(Scheduler),
    HashPort(bool),
    HashFallback(bool),
    OnePacket(bool),
    Thresholds(usize, (u32, u32)),
    Persistence(Option<Persistence>),
    ExpireQuiescent(bool),
    Sloppy(bool),
    Orphans(OrphanPolicy),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Persistence {
    pub timeout: u64,
    /// Low bits of a client's number that its network leaves out.
    pub network_bits: u32,
}

/// A server and its generation, which death and removal increment: connections and
/// templates of earlier generations are not valid.
type Owner = (usize, u32);

#[derive(Debug, Clone, Copy)]
struct Flow {
    owner: Owner,
    state: State,
    established: bool,
    seen: u64,
    rearm: u64,
}

#[derive(Debug, Clone, Copy)]
struct Template {
    owner: Owner,
    expires: u64,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    present: bool,
    alive: bool,
    reached: bool,
    weight: u32,
    keeps_templates: bool,
    vlan: Vlan,
    /// Its last next hop.
    known: Option<Vlan>,
    lives: u32,
    /// The upper one and the lower one.
    thresholds: (u32, u32),
    is_full: bool,
}

/// The input of a hash, and the servers that it chooses among: the same key always gives
/// the same server.
type Hashed = (bool, Vec<(usize, u32)>, u8, Option<u16>);

#[derive(Debug, Clone)]
pub(crate) struct Service {
    index: usize,
    is_udp: bool,
    servers: [Server; 3],
    scheduler: Scheduler,
    hash_port: bool,
    hash_fallback: bool,
    one_packet: bool,
    persistence: Option<Persistence>,
    expire_quiescent: bool,
    sloppy: bool,
    orphans: OrphanPolicy,
    cursor: usize,
    hashed: HashMap<Hashed, usize>,
    flows: HashMap<Key, Flow>,
    templates: HashMap<u8, Template>,
    new_templates: HashMap<u8, Template>,
}

impl Service {
    pub(crate) fn new(index: usize) -> Self {
        let is_udp = index == OVER_UDP;
        Self {
            index,
            is_udp,
            servers: [Server {
                present: true,
                alive: true,
                reached: true,
                weight: 1,
                keeps_templates: true,
                vlan: Vlan::Untagged,
                known: Some(Vlan::Untagged),
                lives: 0,
                thresholds: (0, 0),
                is_full: false,
            }; 3],
            scheduler: Scheduler::Rr,
            hash_port: false,
            hash_fallback: false,
            one_packet: false,
            persistence: Some(Persistence {
                timeout: PERSISTENCE[0],
                network_bits: u32::from(index == OVER_IPV6),
            }),
            expire_quiescent: false,
            sloppy: false,
            orphans: if is_udp {
                OrphanPolicy::Reschedule
            } else {
                OrphanPolicy::Reset
            },
            cursor: 0,
            hashed: HashMap::new(),
            flows: HashMap::new(),
            templates: HashMap::new(),
            new_templates: HashMap::new(),
        }
    }

    pub(crate) fn change(&mut self, change: Change) {
        match change {
            Change::Alive(server, alive) => {
                let server = &mut self.servers[server];
                if server.present && server.alive && !alive {
                    server.lives += 1;
                    server.is_full = false;
                }
                server.alive = alive;
            }
            Change::Weight(server, weight) => self.servers[server].weight = weight,
            Change::Present(server, present) => {
                let server = &mut self.servers[server];
                if server.present && !present {
                    server.lives += 1;
                    server.is_full = false;
                    server.known = None;
                }
                server.present = present;
            }
            Change::Reached(server, reached) => self.servers[server].reached = reached,
            Change::Vlan(server, vlan) => self.servers[server].vlan = vlan,
            Change::KeepsTemplates(server, keeps) => self.servers[server].keeps_templates = keeps,
            Change::Scheduler(scheduler) => self.scheduler = scheduler,
            Change::HashPort(hash_port) => self.hash_port = hash_port,
            Change::HashFallback(fallback) => self.hash_fallback = fallback,
            Change::OnePacket(one_packet) => self.one_packet = one_packet,
            Change::Thresholds(server, thresholds) => {
                let server = &mut self.servers[server];
                let (upper, before) = (thresholds.0, server.thresholds.0);
                server.is_full &= upper != 0 && upper <= before;
                server.thresholds = thresholds;
            }
            Change::Persistence(persistence) => self.persistence = persistence,
            Change::ExpireQuiescent(expire) => self.expire_quiescent = expire,
            Change::Sloppy(sloppy) => self.sloppy = sloppy,
            Change::Orphans(orphans) => self.orphans = orphans,
        }
        for server in &mut self.servers {
            if server.present && server.reached {
                server.known = Some(server.vlan);
            }
        }
    }

    /// The tags of frames to a server; none of ours to one that is never reached.
    pub(crate) fn vlan(&self, name: &str) -> Option<Vlan> {
        let server = NAMES.iter().position(|known| *known == name)?;
        self.servers[server].known
    }

    fn is_valid(&self, (server, life): Owner) -> bool {
        let server = &self.servers[server];
        server.present && server.alive && server.known.is_some() && server.lives == life
    }

    /// `packet`, of which only a service of all ports looks at the port.
    fn to_own_port(&self, packet: Packet) -> Packet {
        let to = if self.index == TO_ALL_PORTS {
            packet.to
        } else {
            0
        };
        Packet { to, ..packet }
    }

    fn remove(&mut self, key: Key) {
        if let Some(flow) = self.flows.remove(&key) {
            self.went(flow.owner.0);
        }
    }

    fn network(&self, client: u8) -> u8 {
        let bits = self
            .persistence
            .map_or(0, |persistence| persistence.network_bits);
        client >> bits << bits
    }

    fn timeout(&self) -> u64 {
        self.persistence
            .map_or(0, |persistence| persistence.timeout)
    }

    /// `got` is the program's verdict; only the servers of hashes are taken from it.
    pub(crate) fn packet(&mut self, packet: Packet, now: u64, got: &Verdict) -> Verdict {
        let packet = self.to_own_port(packet);
        let is_syn = packet.is_syn() && !self.is_udp;
        let is_reset = packet.has('R') && !self.is_udp;
        let known = self.flows.get(&packet.key()).copied().filter(|flow| {
            now - flow.seen <= flow.state.timeout() && !(is_syn && flow.state.is_over())
        });
        if let Some(flow) = known {
            if packet.is_anothers {
                return Verdict::Stack("other-host");
            }
            if self.is_valid(flow.owner) {
                self.go_on(packet, flow, now);
                return Verdict::To(NAMES[flow.owner.0]);
            }
            let reschedules = self.is_udp && self.orphans == OrphanPolicy::Reschedule;
            if !is_syn && !reschedules {
                match self.orphans {
                    OrphanPolicy::Drop => return Verdict::Dropped("dropped"),
                    _ if self.sloppy && !is_reset => {}
                    _ if self.is_udp || is_reset || !packet.has('.') => {
                        return Verdict::Stack("server-gone");
                    }
                    _ => return Verdict::Reset(5000),
                }
            }
        }
        self.remove(packet.key());
        if is_syn || self.is_udp || self.sloppy && !is_reset {
            self.open(packet, now, got)
        } else {
            Verdict::Stack("no-connection")
        }
    }

    fn go_on(&mut self, packet: Packet, mut flow: Flow, now: u64) {
        flow.seen = now;
        flow.state = flow.state.after(&packet);
        let ends = !self.is_udp && packet.ends();
        let becomes_established = !flow.established && flow.state.is_established();
        let is_due = flow.established && self.persistence.is_some() && (now >= flow.rearm || ends);
        if becomes_established || is_due {
            flow.established = true;
            flow.rearm = now + self.timeout() / 4;
            if self.persistence.is_some() {
                self.rearm(packet.client, flow.owner, now);
            }
        }
        self.flows.insert(packet.key(), flow);
    }

    fn rearm(&mut self, client: u8, owner: Owner, now: u64) {
        let network = self.network(client);
        let held = self.templates.get(&network).copied();
        if let Some(held) = held.filter(|held| self.holds(held, now))
            && held.owner.0 != owner.0
        {
            return;
        }
        let expires = now + self.timeout();
        self.templates.insert(network, Template { owner, expires });
    }

    fn holds(&self, template: &Template, now: u64) -> bool {
        let server = &self.servers[template.owner.0];
        let is_void = server.weight == 0 && (self.expire_quiescent || !server.keeps_templates);
        template.expires > now && self.is_valid(template.owner) && !is_void
    }

    fn open(&mut self, packet: Packet, now: u64, got: &Verdict) -> Verdict {
        let network = self.network(packet.client);
        let sticky = self.sticky(network, now);
        let Some(owner) = sticky.or_else(|| self.schedule(packet, got)) else {
            return Verdict::Stack("no-server");
        };
        if packet.is_anothers {
            return Verdict::Stack("other-host");
        }
        let expires = now + self.timeout();
        if sticky.is_some() {
            // Another connection re-arms it.
            let established = self.templates.get(&network);
            let table = if established.is_some_and(|template| self.holds(template, now)) {
                &mut self.templates
            } else {
                &mut self.new_templates
            };
            table.get_mut(&network).expect("it holds").expires = expires;
        } else if self.persistence.is_some() {
            self.new_templates
                .insert(network, Template { owner, expires });
        }
        if self.one_packet && self.is_udp {
            if sticky.is_some() {
                self.rearm(packet.client, owner, now);
            }
            return Verdict::To(NAMES[owner.0]);
        }
        let flow = Flow {
            owner,
            state: if self.is_udp {
                State::Udp
            } else {
                State::SynReceived
            },
            established: false,
            seen: now,
            rearm: 0,
        };
        self.flows.insert(packet.key(), flow);
        self.came(owner.0);
        Verdict::To(NAMES[owner.0])
    }

    /// A fragment of which only the addresses are known.
    pub(crate) fn without_ports(&self, client: u8, now: u64) -> Verdict {
        let template = self.sticky(self.network(client), now);
        template.map_or(Verdict::Stack("fragment"), |owner| {
            Verdict::To(NAMES[owner.0])
        })
    }

    /// An ICMP error about a packet from the service.
    pub(crate) fn error(&self, about: Packet) -> Verdict {
        match self.flows.get(&self.to_own_port(about).key()) {
            None => Verdict::Stack("icmp-unrelated"),
            Some(flow) if self.is_valid(flow.owner) => Verdict::To(NAMES[flow.owner.0]),
            Some(_) => Verdict::Stack("server-gone"),
        }
    }

    fn sticky(&self, network: u8, now: u64) -> Option<Owner> {
        self.persistence?;
        [&self.templates, &self.new_templates]
            .iter()
            .filter_map(|table| table.get(&network))
            .find(|template| self.holds(template, now))
            .map(|template| template.owner)
    }

    pub(crate) fn sweep(&mut self, now: u64) {
        let over = self.flows.iter();
        let over = over.filter(|(_, flow)| now - flow.seen > flow.state.timeout());
        for key in over.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.remove(key);
        }
        if let Some(persistence) = self.persistence {
            self.rearm_silent(persistence, now);
        }
        self.templates.retain(|_, template| template.expires > now);
        self.new_templates
            .retain(|_, template| template.expires > now);
    }

    fn rearm_silent(&mut self, Persistence { timeout, .. }: Persistence, now: u64) {
        let keep = self.flows.iter().filter(|(_, flow)| {
            (flow.established || flow.state == State::Udp)
                && !flow.state.is_over()
                && now - flow.seen >= timeout / 8
        });
        for ((client, ..), flow) in keep {
            let network = self.network(*client);
            let own = [&mut self.templates, &mut self.new_templates]
                .into_iter()
                .filter_map(|table| table.get_mut(&network))
                .find(|template| template.owner == flow.owner);
            if let Some(template) = own
                && template.expires <= now + timeout / 2 + timeout / 8
            {
                template.expires = now + timeout;
            }
        }
    }

    /// The service as part of the desired state.
    fn desired(&self, index: usize) -> lb_model::Service {
        let (address, bits) = [
            ("172.16.1.200:1935", 32),
            ("[2001:db8::c8]:1935", 128),
            ("172.16.1.200:1935", 32),
            ("172.16.1.201:0", 32),
        ][index];
        let mut desired = service(address, &[]);
        if let Some(persistence) = self.persistence {
            let prefix_length = bits - persistence.network_bits as u8;
            desired = persistent(desired, persistence.timeout, prefix_length);
        }
        if let Some(persistence) = &mut desired.persistence {
            persistence.expire_quiescent = self.expire_quiescent;
        }
        if self.is_udp {
            desired.protocol = Protocol::Udp;
        }
        desired.scheduler = self.scheduler;
        desired.hash_port = self.hash_port;
        desired.hash_fallback = self.hash_fallback;
        desired.one_packet = self.one_packet;
        desired.sloppy = self.sloppy;
        desired.orphans = self.orphans;
        desired.servers = (0..3)
            .filter(|server| self.servers[*server].present)
            .map(|number| {
                let Server {
                    alive,
                    reached,
                    weight,
                    keeps_templates,
                    vlan,
                    thresholds: (upper, lower),
                    ..
                } = self.servers[number];
                let mut server = server(NAMES[number], 1935);
                server.alive = alive;
                server.weight = weight;
                server.thresholds = Thresholds { upper, lower };
                server.keeps_templates = keeps_templates;
                server.next_hop = server.next_hop.filter(|_| reached);
                if let Some(hop) = &mut server.next_hop {
                    hop.vlan = vlan;
                }
                server
            })
            .collect();
        desired
    }
}

pub(crate) fn desired(services: &[Service]) -> DesiredState {
    let mut desired = state(
        services
            .iter()
            .enumerate()
            .map(|(index, service)| service.desired(index)),
    );
    desired.timeouts = Timeouts {
        syn_received: Duration::from_secs(SYN_RECEIVED),
        established: Duration::from_secs(ESTABLISHED),
        fin_wait: Duration::from_secs(FIN_WAIT),
        time_wait: Duration::from_secs(TIME_WAIT),
        closed: Duration::from_secs(CLOSED),
        udp: Duration::from_secs(UDP),
    };
    desired
}
