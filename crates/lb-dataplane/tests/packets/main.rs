//! The specification of the data plane, packet by packet, run in the kernel
//! (BPF_PROG_TEST_RUN). Needs root.
//!
//! Every case is a sentence, the state before, a packet and its verdict.

mod agreement;
mod all_ports;
mod concurrency;
mod connections;
mod counters;
mod entries;
mod fast_path;
mod fragments;
mod frames;
mod full_tables;
mod hostile;
mod icmp;
mod ipv6;
mod local;
mod loops;
mod martians;
mod model;
mod mtu;
mod one_packet;
mod other_hosts;
mod persistence;
mod protection;
mod refusal;
mod scheduling;
mod thresholds;
mod trace;
mod tunnels;
mod udp;
mod vlans;

use lb_model::DesiredState;
use packet_bed::{Bed, Step, Verdict};

/// One sentence of the specification.
struct Case {
    says: &'static str,
    state: DesiredState,
    before: Vec<Step>,
    packet: Vec<u8>,
    verdict: Verdict,
}

/// A sentence, to be completed by the methods of [`Case`].
fn case(says: &'static str, state: DesiredState) -> Case {
    Case {
        says,
        state,
        before: Vec::new(),
        packet: Vec::new(),
        verdict: Verdict::Stack(""),
    }
}

impl Case {
    fn after(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.before.extend(steps);
        self
    }

    fn packet(mut self, packet: Vec<u8>) -> Self {
        self.packet = packet;
        self
    }

    fn goes_to(mut self, server: &'static str) -> Self {
        self.verdict = Verdict::To(server);
        self
    }

    fn goes_via_another_interface_to(mut self, server: &'static str) -> Self {
        self.verdict = Verdict::Via(server);
        self
    }

    fn goes_changed_to(mut self, server: &'static str, rest: &[u8]) -> Self {
        self.verdict = Verdict::Changed(server, rest.to_vec());
        self
    }

    fn gets_reset_at(mut self, sequence: u32) -> Self {
        self.verdict = Verdict::Reset(sequence);
        self
    }

    fn gets_told_the_mtu(mut self, mtu: u32) -> Self {
        self.verdict = Verdict::TooBig(mtu);
        self
    }

    fn vanishes(mut self) -> Self {
        self.verdict = Verdict::Dropped("dropped");
        self
    }

    fn passes(mut self, reason: &'static str) -> Self {
        self.verdict = Verdict::Stack(reason);
        self
    }
}

/// Runs every case on a data plane without connections or templates of the others.
fn check(cases: impl IntoIterator<Item = Case>) {
    let mut failures = Vec::new();
    let Some(mut bed) = Bed::shared(DesiredState::default()) else {
        return;
    };
    for case in cases {
        bed.reset(case.state);
        for step in &case.before {
            bed.step(step);
        }
        let verdict = bed.send(&case.packet);
        if verdict != case.verdict {
            failures.push(format!(
                "{}\n  expected {:?}, got {verdict:?}\n  packet {:02x?}",
                case.says, case.verdict, case.packet
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} wrong:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Shorthand for [`Step::Packet`].
fn packet(frame: Vec<u8>) -> Step {
    Step::Packet(frame)
}
