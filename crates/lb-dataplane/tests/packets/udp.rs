//! UDP is balanced by flows.

use std::time::Duration;

use lb_model::DesiredState;
use lb_model::{OrphanPolicy, Protocol};

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, Step, Verdict, persistent, seconds, service, state};

fn deployment() -> DesiredState {
    let mut service = service("172.16.1.200:1935", &["edge 1", "edge 2"]);
    service.protocol = Protocol::Udp;
    service.orphans = OrphanPolicy::default_for(Protocol::Udp);
    state([service])
}

#[test]
#[ignore = "needs root"]
fn time_outs_are_those_of_the_configuration() {
    let impatient = |protocol| {
        let mut state = deployment();
        state.services[0].protocol = protocol;
        state.timeouts.established = Duration::from_secs(5);
        state.timeouts.fin_wait = Duration::from_secs(3);
        state.timeouts.udp = Duration::from_secs(2);
        state
    };
    let established = [packet(tcp(ALICE, 5000, S)), packet(tcp(ALICE, 5000, A))];
    let after = |steps: &[Step], silence| [steps, &[seconds(silence)]].concat();
    let closing = [&established[..], &[packet(tcp(ALICE, 5000, F))]].concat();
    let flow = [packet(udp(ALICE, 5000)), packet(udp(ALICE, 5000))];
    check([
        case("established, within `tcp`", impatient(Protocol::Tcp))
            .after(after(&established, 4))
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("and beyond", impatient(Protocol::Tcp))
            .after(after(&established, 6))
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case("closing, within `tcpfin`", impatient(Protocol::Tcp))
            .after(after(&closing, 2))
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("and beyond", impatient(Protocol::Tcp))
            .after(after(&closing, 4))
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case("datagrams, within `udp`", impatient(Protocol::Udp))
            .after(after(&flow, 1))
            .packet(udp(ALICE, 5000))
            .goes_to("edge 1"),
        case("and beyond", impatient(Protocol::Udp))
            .after(after(&flow, 3))
            .packet(udp(ALICE, 5000))
            .goes_to("edge 2"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_flow_stays_where_it_is() {
    check([
        case("a datagram is scheduled", deployment())
            .packet(udp(ALICE, 5000))
            .goes_to("edge 1"),
        case("the next one follows it", deployment())
            .after([packet(udp(ALICE, 5000))])
            .packet(udp(ALICE, 5000))
            .goes_to("edge 1"),
        case("and all others", deployment())
            .after([packet(udp(ALICE, 5000)), packet(udp(ALICE, 5000))])
            .packet(udp(ALICE, 5000))
            .goes_to("edge 1"),
        case("other flows are others", deployment())
            .after([packet(udp(ALICE, 5000))])
            .packet(udp(ALICE, 5001))
            .goes_to("edge 2"),
        case("a flow may be silent for 300 s", deployment())
            .after([
                packet(udp(ALICE, 5000)),
                packet(udp(ALICE, 5000)),
                seconds(299),
            ])
            .packet(udp(ALICE, 5000))
            .goes_to("edge 1"),
        case("and no longer", deployment())
            .after([
                packet(udp(ALICE, 5000)),
                packet(udp(ALICE, 5000)),
                seconds(301),
            ])
            .packet(udp(ALICE, 5000))
            .goes_to("edge 2"),
        case("TCP of the same port is not the service's", deployment())
            .packet(tcp(ALICE, 5000, S))
            .passes("not-a-service"),
        case("a length that lies", deployment())
            .packet(patched(udp(ALICE, 5000), 38, &[0, 7]))
            .passes("malformed"),
        case("a length longer than the packet", deployment())
            .packet(patched(udp(ALICE, 5000), 38, &[0, 13]))
            .passes("malformed"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_dead_servers_flow_is_treated_as_configured() {
    let dies = |orphans: fn(&mut DesiredState)| {
        [
            packet(udp(ALICE, 5000)),
            packet(udp(ALICE, 5000)),
            Step::Change(orphans),
        ]
    };
    check([
        case("it is given another server", deployment())
            .after(dies(|state| state.services[0].servers[0].alive = false))
            .packet(udp(ALICE, 5000))
            .goes_to("edge 2"),
        case(
            "or the stack answers that the port is unreachable",
            deployment(),
        )
        .after(dies(|state| {
            state.services[0].orphans = OrphanPolicy::Reset;
            state.services[0].servers[0].alive = false;
        }))
        .packet(udp(ALICE, 5000))
        .passes("server-gone"),
        case("or its packets vanish", deployment())
            .after(dies(|state| {
                state.services[0].orphans = OrphanPolicy::Drop;
                state.services[0].servers[0].alive = false;
            }))
            .packet(udp(ALICE, 5000))
            .vanishes(),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_client_of_single_datagrams_sticks_to_its_server() {
    let sticky = || {
        let mut state = deployment();
        let service = state.services.remove(0);
        packet_bed::state([persistent(service, 50, 32)])
    };
    check([
        case("every flow re-arms its template", sticky())
            .after([
                packet(udp(ALICE, 5000)),
                seconds(30),
                packet(udp(ALICE, 5001)),
                seconds(30),
            ])
            .packet(udp(ALICE, 5002))
            .goes_to("edge 1"),
        case("as TCP's SYNs do", {
            let mut state = sticky();
            state.services[0].protocol = Protocol::Tcp;
            state
        })
        .after([
            packet(tcp(ALICE, 5000, S)),
            packet(tcp(ALICE, 5000, A)),
            seconds(30),
            packet(tcp(ALICE, 5001, S)),
            seconds(30),
        ])
        .packet(tcp(ALICE, 5002, S))
        .goes_to("edge 1"),
        case("a flow of one datagram keeps it while it lives", sticky())
            .after([packet(udp(ALICE, 5000))])
            .after((0..9).flat_map(|_| [seconds(30), Step::Sweep]))
            .packet(udp(ALICE, 5001))
            .goes_to("edge 1"),
        case("and no longer", sticky())
            .after([packet(udp(ALICE, 5000))])
            .after((0..13).flat_map(|_| [seconds(30), Step::Sweep]))
            .packet(udp(ALICE, 5001))
            .goes_to("edge 2"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_frame_cut_anywhere_is_the_stacks() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    let whole = udp(ALICE, 5000);
    for length in 14..whole.len() {
        let verdict = bed.send(&whole[..length]);
        assert_eq!(
            verdict,
            Verdict::Stack("truncated"),
            "cut after {length} bytes"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn datagrams_over_ipv6_are_balanced_like_others() {
    let deployment = || {
        let mut service = service("[2001:db8::c8]:1935", &["edge 1", "edge 2"]);
        service.protocol = Protocol::Udp;
        service.orphans = OrphanPolicy::default_for(Protocol::Udp);
        state([service])
    };
    let dead = |state: &mut DesiredState| state.services[0].servers[0].alive = false;
    check([
        case("a datagram is scheduled", deployment())
            .packet(udp6(DAVE, 5000))
            .goes_to("edge 1"),
        case("the next one follows it", deployment())
            .after([packet(udp6(DAVE, 5000))])
            .packet(udp6(DAVE, 5000))
            .goes_to("edge 1"),
        case("another port is another flow", deployment())
            .after([packet(udp6(DAVE, 5000))])
            .packet(udp6(DAVE, 5001))
            .goes_to("edge 2"),
        case("with a tag in front", deployment())
            .packet(tagged(udp6(DAVE, 5000), &[(0x8100, 7)]))
            .goes_changed_to("edge 1", &udp6(DAVE, 5000)[12..]),
        case("a dead server's flow goes elsewhere", deployment())
            .after([packet(udp6(DAVE, 5000)), Step::Change(dead)])
            .packet(udp6(DAVE, 5000))
            .goes_to("edge 2"),
        case("of TCP there is no service", deployment())
            .packet(tcp6(DAVE, 5000, S))
            .passes("not-a-service"),
    ]);
}
