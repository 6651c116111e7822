//! The balancer in a few lines of plain Rust, and the program against it: on
//! any sequence of packets and changes both decide alike.
//!
//! The model knows no time; sequences are over long before any time-out.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::bed::frames::tcp;
use crate::bed::{Bed, Step, Verdict, persistent, service, state};

const NAMES: [&str; 3] = ["edge 1", "edge 2", "edge 3"];

#[derive(Debug, Clone)]
enum Event {
    Packet {
        client: u8,
        port: u16,
        flags: &'static str,
    },
    Alive(usize, bool),
    Weight(usize, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SynReceived,
    Established,
    Closing,
}

/// A server, and which of its lives: death makes everything void.
type Owner = (usize, u32);

#[derive(Debug, Clone, Copy)]
struct Flow {
    owner: Owner,
    state: State,
    lasting: bool,
}

#[derive(Debug, Default)]
struct Model {
    dead: [bool; 3],
    quiescent: [bool; 3],
    lives: [u32; 3],
    cursor: usize,
    flows: HashMap<(u8, u16), Flow>,
    templates: HashMap<u8, Owner>,
    new_templates: HashMap<u8, Owner>,
}

impl Model {
    fn is_valid(&self, (server, life): Owner) -> bool {
        !self.dead[server] && self.lives[server] == life
    }

    fn set_alive(&mut self, server: usize, alive: bool) {
        if !alive && !self.dead[server] {
            self.lives[server] += 1;
        }
        self.dead[server] = !alive;
    }

    fn packet(&mut self, client: u8, port: u16, flags: &str) -> Verdict {
        let is_syn = flags == "S";
        let Some(flow) = self.flows.get(&(client, port)).copied() else {
            return if is_syn {
                self.open(client, port)
            } else {
                Verdict::Stack("no-connection")
            };
        };
        let is_void = !self.is_valid(flow.owner);
        if is_syn && (is_void || flow.state == State::Closing) {
            if flow.lasting {
                self.flows.remove(&(client, port));
            }
            return self.open(client, port);
        }
        if is_void {
            let is_reset = flags == "R";
            return if is_reset {
                Verdict::Stack("server-gone")
            } else {
                Verdict::Reset(5000)
            };
        }
        self.follow(client, port, flow, flags);
        Verdict::To(NAMES[flow.owner.0])
    }

    fn follow(&mut self, client: u8, port: u16, mut flow: Flow, flags: &str) {
        let ends = flags == "F." || flags == "R";
        if ends {
            flow.state = State::Closing;
        } else if flags == "." && flow.state == State::SynReceived {
            flow.state = State::Established;
        }
        let promoted = !flow.lasting && flow.state == State::Established;
        if promoted || flow.lasting && ends {
            self.rearm(client, flow.owner);
        }
        flow.lasting |= promoted;
        self.flows.insert((client, port), flow);
    }

    fn rearm(&mut self, client: u8, owner: Owner) {
        let holder = self.templates.get(&client).copied();
        if !holder.is_some_and(|holder| self.is_valid(holder)) {
            self.templates.insert(client, owner);
        }
    }

    fn open(&mut self, client: u8, port: u16) -> Verdict {
        let held = [self.templates.get(&client), self.new_templates.get(&client)];
        let sticky = held
            .into_iter()
            .flatten()
            .copied()
            .find(|owner| self.is_valid(*owner));
        let Some(owner) = sticky.or_else(|| self.schedule()) else {
            return Verdict::Stack("no-server");
        };
        if sticky.is_none() {
            self.new_templates.insert(client, owner);
        }
        let flow = Flow {
            owner,
            state: State::SynReceived,
            lasting: false,
        };
        self.flows.insert((client, port), flow);
        Verdict::To(NAMES[owner.0])
    }

    fn schedule(&mut self) -> Option<Owner> {
        let ring: Vec<usize> = (0..3)
            .filter(|server| !self.dead[*server] && !self.quiescent[*server])
            .collect();
        let server = *ring.get(self.cursor % ring.len().max(1))?;
        self.cursor += 1;
        Some((server, self.lives[server]))
    }
}

fn event() -> impl Strategy<Value = Event> {
    let flags = prop::sample::select(vec!["S", "S", ".", ".", "F.", "R"]);
    prop_oneof![
        12 => (0_u8..3, 0_u16..3, flags)
            .prop_map(|(client, port, flags)| Event::Packet { client, port, flags }),
        1 => (0_usize..3, any::<bool>()).prop_map(|(server, alive)| Event::Alive(server, alive)),
        1 => (0_usize..3, 0_u32..2).prop_map(|(server, weight)| Event::Weight(server, weight)),
    ]
}

#[test]
fn the_program_decides_as_the_model_does() {
    let desired = || state([persistent(service("172.16.1.200:1935", &NAMES), 3600, 32)]);
    let Some(bed) = Bed::new(desired()) else {
        return;
    };
    let bed = std::cell::RefCell::new(bed);
    let config = Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(event(), 1..80), |events| {
        let mut bed = bed.borrow_mut();
        bed.reset(desired());
        let mut model = Model::default();
        for (index, event) in events.iter().enumerate() {
            match event {
                Event::Packet {
                    client,
                    port,
                    flags,
                } => {
                    let expected = model.packet(*client, *port, flags);
                    let got = bed.send(&tcp([10, 0, 0, *client], 5000 + port, flags));
                    prop_assert_eq!(got, expected, "event {}: {:?}", index, event);
                }
                Event::Alive(server, alive) => {
                    model.set_alive(*server, *alive);
                    let mut desired = bed.desired.clone();
                    desired.services[0].servers[*server].alive = *alive;
                    bed.step(&Step::Apply(desired));
                }
                Event::Weight(server, weight) => {
                    model.quiescent[*server] = *weight == 0;
                    let mut desired = bed.desired.clone();
                    desired.services[0].servers[*server].weight = *weight;
                    bed.step(&Step::Apply(desired));
                }
            }
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
