//! The balancer in plain Rust: what the program must decide.
//!
//! Pauses are multiples of [`PAUSE`], and no time-out is near a multiple of it:
//! how long a test itself takes does not matter.

use std::collections::HashMap;
use std::time::Duration;

use lb_user::dataplane::DesiredState;
use lb_user::dataplane::state::{OrphanPolicy, Protocol, Timeouts};

use crate::bed::{Verdict, persistent, server, service, state};

const NAMES: [&str; 3] = ["edge 1", "edge 2", "edge 3"];

pub const PAUSE: u64 = 64;
const SYN_RECEIVED: u64 = 96;
const ESTABLISHED: u64 = 928;
const FIN_WAIT: u64 = 160;
const TIME_WAIT: u64 = 224;
const CLOSED: u64 = 32;
const UDP: u64 = 288;
const PERSISTENCE: u64 = 160;
const REARM: u64 = PERSISTENCE / 4;
/// A sweep re-arms a template with no more left.
const SWEEP: u64 = PERSISTENCE / 2 + PERSISTENCE / 8;

/// The services, in this order: TCP over IPv4 by client, TCP over IPv6 by
/// network, UDP.
pub const SERVICES: usize = 3;
pub const OVER_IPV6: usize = 1;
const OVER_UDP: usize = 2;

#[derive(Debug, Clone, Copy)]
pub enum Change {
    Alive(usize, bool),
    Weight(usize, u32),
    /// A server is in the configuration, or not.
    Present(usize, bool),
    ExpireQuiescent(bool),
    Sloppy(bool),
    Orphans(OrphanPolicy),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SynReceived,
    Established,
    FinWait,
    TimeWait,
    Closed,
    Udp,
}

impl State {
    fn timeout(self) -> u64 {
        match self {
            Self::SynReceived => SYN_RECEIVED,
            Self::Established => ESTABLISHED,
            Self::FinWait => FIN_WAIT,
            Self::TimeWait => TIME_WAIT,
            Self::Closed => CLOSED,
            Self::Udp => UDP,
        }
    }

    fn is_over(self) -> bool {
        matches!(self, Self::FinWait | Self::TimeWait | Self::Closed)
    }

    fn after(self, flags: &str) -> Self {
        match (self, flags) {
            (Self::Udp, _) | (_, "S") => self,
            (_, "R") => Self::Closed,
            (Self::SynReceived, "F.") => Self::TimeWait,
            (Self::Established, "F.") => Self::FinWait,
            (Self::SynReceived, ".") => Self::Established,
            _ => self,
        }
    }
}

/// A server, and which of its lives: death and removal make everything void.
type Owner = (usize, u32);

#[derive(Debug, Clone, Copy)]
struct Flow {
    owner: Owner,
    state: State,
    lasting: bool,
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
    weight: u32,
    lives: u32,
}

#[derive(Debug)]
pub struct Service {
    is_udp: bool,
    /// Low bits of a client's number that its network leaves out.
    network_bits: u32,
    servers: [Server; 3],
    expire_quiescent: bool,
    sloppy: bool,
    orphans: OrphanPolicy,
    cursor: usize,
    flows: HashMap<(u8, u16), Flow>,
    templates: HashMap<u8, Template>,
    new_templates: HashMap<u8, Template>,
}

impl Service {
    pub fn new(index: usize) -> Self {
        let is_udp = index == OVER_UDP;
        Self {
            is_udp,
            network_bits: u32::from(index == OVER_IPV6),
            servers: [Server {
                present: true,
                alive: true,
                weight: 1,
                lives: 0,
            }; 3],
            expire_quiescent: false,
            sloppy: false,
            orphans: if is_udp {
                OrphanPolicy::Reschedule
            } else {
                OrphanPolicy::Reset
            },
            cursor: 0,
            flows: HashMap::new(),
            templates: HashMap::new(),
            new_templates: HashMap::new(),
        }
    }

    pub fn change(&mut self, change: Change) {
        match change {
            Change::Alive(server, alive) => {
                let server = &mut self.servers[server];
                server.lives += u32::from(server.present && server.alive && !alive);
                server.alive = alive;
            }
            Change::Weight(server, weight) => self.servers[server].weight = weight,
            Change::Present(server, present) => {
                let server = &mut self.servers[server];
                server.lives += u32::from(server.present && !present);
                server.present = present;
            }
            Change::ExpireQuiescent(expire) => self.expire_quiescent = expire,
            Change::Sloppy(sloppy) => self.sloppy = sloppy,
            Change::Orphans(orphans) => self.orphans = orphans,
        }
    }

    fn is_valid(&self, (server, life): Owner) -> bool {
        let server = &self.servers[server];
        server.present && server.alive && server.lives == life
    }

    fn network(&self, client: u8) -> u8 {
        client >> self.network_bits
    }

    pub fn packet(&mut self, client: u8, port: u16, flags: &str, now: u64) -> Verdict {
        let is_syn = flags == "S" && !self.is_udp;
        let is_reset = flags == "R" && !self.is_udp;
        let key = (client, port);
        let known = self.flows.get(&key).copied().filter(|flow| {
            now - flow.seen <= flow.state.timeout() && !(is_syn && flow.state.is_over())
        });
        if let Some(flow) = known {
            if self.is_valid(flow.owner) {
                self.go_on(key, flow, flags, now);
                return Verdict::To(NAMES[flow.owner.0]);
            }
            let reschedules = self.is_udp && self.orphans == OrphanPolicy::Reschedule;
            if !is_syn && !reschedules {
                match self.orphans {
                    OrphanPolicy::Drop => return Verdict::Dropped,
                    _ if self.sloppy && !is_reset => {}
                    _ if self.is_udp || is_reset => return Verdict::Stack("server-gone"),
                    _ => return Verdict::Reset(5000),
                }
            }
        }
        self.flows
            .retain(|other, flow| *other != key || !flow.lasting);
        if is_syn || self.is_udp || self.sloppy && !is_reset {
            self.open(key, now)
        } else {
            Verdict::Stack("no-connection")
        }
    }

    fn go_on(&mut self, key: (u8, u16), mut flow: Flow, flags: &str, now: u64) {
        flow.seen = now;
        flow.state = flow.state.after(flags);
        let ends = !self.is_udp && (flags == "F." || flags == "R");
        let lasts = self.is_udp || flow.state == State::Established;
        if !flow.lasting && lasts || flow.lasting && (now >= flow.rearm || ends) {
            flow.lasting = true;
            flow.rearm = now + REARM;
            self.rearm(key.0, flow.owner, now);
        }
        self.flows.insert(key, flow);
    }

    fn rearm(&mut self, client: u8, owner: Owner, now: u64) {
        let network = self.network(client);
        let held = self.templates.get(&network).copied();
        if let Some(held) = held.filter(|held| self.holds(held, now))
            && held.owner.0 != owner.0
        {
            return;
        }
        let expires = now + PERSISTENCE;
        self.templates.insert(network, Template { owner, expires });
    }

    fn holds(&self, template: &Template, now: u64) -> bool {
        let quiescent = self.servers[template.owner.0].weight == 0;
        template.expires > now
            && self.is_valid(template.owner)
            && !(quiescent && self.expire_quiescent)
    }

    fn open(&mut self, key: (u8, u16), now: u64) -> Verdict {
        let network = self.network(key.0);
        let sticky = self.sticky(network, now);
        if sticky.is_some() {
            // Another connection re-arms it.
            let expires = now + PERSISTENCE;
            let lasting = self.templates.get(&network);
            let table = if lasting.is_some_and(|template| self.holds(template, now)) {
                &mut self.templates
            } else {
                &mut self.new_templates
            };
            table.get_mut(&network).expect("it holds").expires = expires;
        }
        let Some(owner) = sticky.or_else(|| self.schedule()) else {
            return Verdict::Stack("no-server");
        };
        if sticky.is_none() {
            let expires = now + PERSISTENCE;
            self.new_templates
                .insert(network, Template { owner, expires });
        }
        let flow = Flow {
            owner,
            state: if self.is_udp {
                State::Udp
            } else {
                State::SynReceived
            },
            lasting: false,
            seen: now,
            rearm: 0,
        };
        self.flows.insert(key, flow);
        Verdict::To(NAMES[owner.0])
    }

    /// A fragment that says no more than whose it is.
    pub fn without_ports(&self, client: u8, now: u64) -> Verdict {
        let template = self.sticky(self.network(client), now);
        template.map_or(Verdict::Stack("fragment"), |owner| {
            Verdict::To(NAMES[owner.0])
        })
    }

    fn sticky(&self, network: u8, now: u64) -> Option<Owner> {
        [&self.templates, &self.new_templates]
            .iter()
            .filter_map(|table| table.get(&network))
            .find(|template| self.holds(template, now))
            .map(|template| template.owner)
    }

    fn schedule(&mut self) -> Option<Owner> {
        let ring: Vec<usize> = (0..3)
            .filter(|server| {
                let server = &self.servers[*server];
                server.present && server.alive && server.weight > 0
            })
            .collect();
        let server = *ring.get(self.cursor % ring.len().max(1))?;
        self.cursor += 1;
        Some((server, self.servers[server].lives))
    }

    pub fn sweep(&mut self, now: u64) {
        self.flows
            .retain(|_, flow| now - flow.seen <= flow.state.timeout());
        for ((client, _), flow) in &self.flows {
            let network = client >> self.network_bits;
            if !(flow.lasting || flow.state == State::Udp) || flow.state.is_over() {
                continue;
            }
            let own = [&mut self.templates, &mut self.new_templates]
                .into_iter()
                .filter_map(|table| table.get_mut(&network))
                .find(|template| template.owner == flow.owner);
            if let Some(template) = own
                && template.expires <= now + SWEEP
            {
                template.expires = now + PERSISTENCE;
            }
        }
        self.templates.retain(|_, template| template.expires > now);
        self.new_templates
            .retain(|_, template| template.expires > now);
    }

    /// The service as the data plane is told of it.
    fn desired(&self, index: usize) -> lb_user::dataplane::state::Service {
        let (address, prefix_length) = [
            ("172.16.1.200:1935", 32),
            ("[2001:db8::c8]:1935", 127),
            ("172.16.1.200:1935", 32),
        ][index];
        let mut desired = persistent(service(address, &[]), PERSISTENCE, prefix_length);
        if self.is_udp {
            desired.protocol = Protocol::Udp;
        }
        let persistence = desired.persistence.as_mut().expect("persistence");
        persistence.expire_quiescent = self.expire_quiescent;
        desired.sloppy = self.sloppy;
        desired.orphans = self.orphans;
        desired.servers = (0..3)
            .filter(|server| self.servers[*server].present)
            .map(|number| {
                let mut server = server(NAMES[number], 1935);
                server.alive = self.servers[number].alive;
                server.weight = self.servers[number].weight;
                server
            })
            .collect();
        desired
    }
}

pub fn desired(services: &[Service]) -> DesiredState {
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
