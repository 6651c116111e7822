//! Persistence: a client's connections go to one server.

use lb_model::DesiredState;

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Step, persistent, seconds, server, service, state};

fn deployment() -> DesiredState {
    narrow(32)
}

fn lasting() -> DesiredState {
    let service = service("172.16.1.200:1935", &["edge 1", "edge 2"]);
    state([persistent(service, 300, 32)])
}

fn narrow(prefix_length: u8) -> DesiredState {
    let service = service("172.16.1.200:1935", &["edge 1", "edge 2", "edge 3"]);
    state([persistent(service, 50, prefix_length)])
}

/// With `expire_quiescent_template`.
fn expiring_quiescent() -> DesiredState {
    let mut state = deployment();
    let persistence = state.services[0].persistence.as_mut();
    persistence.expect("persistence").expire_quiescent = true;
    state
}

/// Templates of the first server are not valid.
fn drain_of_templates(state: &mut DesiredState) {
    let server = &mut state.services[0].servers[0];
    server.weight = 0;
    server.keeps_templates = false;
}

fn connects(client: [u8; 4], port: u16) -> [Step; 2] {
    [packet(tcp(client, port, S)), packet(tcp(client, port, A))]
}

#[test]
#[ignore = "needs root"]
fn a_client_sticks_to_its_server() {
    check([
        case(
            "a client's second connection goes where its first went",
            deployment(),
        )
        .after(connects(ALICE, 5000))
        .packet(tcp(ALICE, 5001, S))
        .goes_to("edge 1"),
        case("also while the first is half open", deployment())
            .after([packet(tcp(ALICE, 5000, S))])
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 1"),
        case(
            "other clients take their turn, undisturbed by it",
            deployment(),
        )
        .after(connects(ALICE, 5000))
        .after(connects(ALICE, 5001))
        .packet(tcp(BOB, 5000, S))
        .goes_to("edge 2"),
        case(
            "with a netmask the clients of a network are one",
            narrow(24),
        )
        .after(connects(ALICE, 5000))
        .packet(tcp(BOB, 5000, S))
        .goes_to("edge 1"),
        case("and other networks are others", narrow(24))
            .after(connects(ALICE, 5000))
            .packet(tcp(CAROL, 5000, S))
            .goes_to("edge 2"),
        case("a granularity of 0.0.0.0 makes all clients one", narrow(0))
            .after(connects(ALICE, 5000))
            .packet(tcp([192, 0, 2, 77], 5000, S))
            .goes_to("edge 1"),
        case("an odd netmask ends within a byte", narrow(23))
            .after(connects(ALICE, 5000))
            .packet(tcp(CAROL, 5000, S))
            .goes_to("edge 1"),
        case("services do not share templates", {
            let mut both = deployment();
            both.services.push(service("172.16.1.200:80", &["edge 3"]));
            both.services[1].persistence = both.services[0].persistence;
            both
        })
        .after(connects(ALICE, 5000))
        .packet(tcp_to(ALICE, 5000, VIP, 80, S))
        .goes_to("edge 3"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_template_ends_in_time() {
    check([
        case(
            "it holds for its time-out after the last connection's end",
            deployment(),
        )
        .after(connects(ALICE, 5000))
        .after([packet(tcp(ALICE, 5000, F)), seconds(49)])
        .packet(tcp(ALICE, 5001, S))
        .goes_to("edge 1"),
        case("and no longer", deployment())
            .after(connects(ALICE, 5000))
            .after([packet(tcp(ALICE, 5000, F)), seconds(51)])
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 2"),
        case(
            "a half-open connection's template ends as well",
            deployment(),
        )
        .after([packet(tcp(ALICE, 5000, S)), seconds(51)])
        .packet(tcp(ALICE, 5001, S))
        .goes_to("edge 2"),
        case("a connection's packets keep it", deployment())
            .after(connects(ALICE, 5000))
            .after((0..10).flat_map(|_| [seconds(30), packet(tcp(ALICE, 5000, A))]))
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 1"),
        case(
            "a silent connection keeps it by way of the sweep",
            deployment(),
        )
        .after(connects(ALICE, 5000))
        .after((0..20).flat_map(|_| [seconds(25), Step::Sweep]))
        .packet(tcp(ALICE, 5001, S))
        .goes_to("edge 1"),
        case(
            "a connection that is over keeps nothing by way of the sweep",
            deployment(),
        )
        .after(connects(ALICE, 5000))
        .after([packet(tcp(ALICE, 5000, F))])
        .after((0..3).flat_map(|_| [seconds(25), Step::Sweep]))
        .packet(tcp(ALICE, 5001, S))
        .goes_to("edge 2"),
        case("the last connection's FIN arms it", lasting())
            .after(connects(ALICE, 5000))
            .after([seconds(60), packet(tcp(ALICE, 5000, F)), seconds(299)])
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 1"),
        case("also when it is sent again", lasting())
            .after(connects(ALICE, 5000))
            .after([packet(tcp(ALICE, 5000, F)), seconds(60)])
            .after([packet(tcp(ALICE, 5000, F)), seconds(299)])
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 1"),
        case("and its RST", lasting())
            .after(connects(ALICE, 5000))
            .after([seconds(60), packet(tcp(ALICE, 5000, R)), seconds(299)])
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 1"),
        case("packets arm it four times per time-out", lasting())
            .after(connects(ALICE, 5000))
            .after([seconds(76), packet(tcp(ALICE, 5000, A)), seconds(299)])
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 1"),
        case("no more often: a quarter of it may be missing", lasting())
            .after(connects(ALICE, 5000))
            .after([seconds(74), packet(tcp(ALICE, 5000, A)), seconds(227)])
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 2"),
        case(
            "a connection with the server before does not change it",
            deployment(),
        )
        .after(connects(ALICE, 5000))
        .after([seconds(51)])
        .after(connects(ALICE, 5001))
        .after([seconds(30), packet(tcp(ALICE, 5000, A)), seconds(21)])
        .packet(tcp(ALICE, 5002, S))
        .goes_to("edge 3"),
        case("it outlives one of two connections", deployment())
            .after(connects(ALICE, 5000))
            .after(connects(ALICE, 5001))
            .after([packet(tcp(ALICE, 5000, F))])
            .after((0..10).flat_map(|_| [seconds(25), Step::Sweep]))
            .packet(tcp(ALICE, 5002, S))
            .goes_to("edge 1"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_template_follows_its_servers_fate() {
    check([
        case("a dead server's clients are scheduled anew", deployment())
            .after(connects(ALICE, 5000))
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 3"),
        case(
            "and stay with their new server when the old one returns",
            deployment(),
        )
        .after(connects(ALICE, 5000))
        .after([Step::Change(|state| {
            state.services[0].servers[0].alive = false
        })])
        .after(connects(ALICE, 5001))
        .after([Step::Change(|state| {
            state.services[0].servers[0].alive = true
        })])
        .packet(tcp(ALICE, 5002, S))
        .goes_to("edge 3"),
        case(
            "a removed server's clients are scheduled anew",
            deployment(),
        )
        .after(connects(ALICE, 5000))
        .after([Step::Change(|state| {
            state.services[0].servers.remove(0);
        })])
        .packet(tcp(ALICE, 5001, S))
        .goes_to("edge 3"),
        case(
            "a server that inherits the slot does not inherit clients",
            deployment(),
        )
        .after(connects(ALICE, 5000))
        .after([
            Step::Change(|state| {
                state.services[0].servers.remove(0);
            }),
            Step::Change(|state| {
                state.services[0]
                    .servers
                    .insert(0, server("far edge", 1935));
            }),
        ])
        .packet(tcp(ALICE, 5001, S))
        .goes_to("edge 2"),
        case("a server at weight 0 keeps its clients", deployment())
            .after(connects(ALICE, 5000))
            .after([Step::Change(|state| {
                state.services[0].servers[0].weight = 0
            })])
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 1"),
        case(
            "unless templates of such servers are to expire",
            expiring_quiescent(),
        )
        .after(connects(ALICE, 5000))
        .after([Step::Change(|state| {
            state.services[0].servers[0].weight = 0
        })])
        .packet(tcp(ALICE, 5001, S))
        .goes_to("edge 3"),
        case(
            "the connections themselves stay where they are",
            expiring_quiescent(),
        )
        .after(connects(ALICE, 5000))
        .after([Step::Change(|state| {
            state.services[0].servers[0].weight = 0
        })])
        .packet(tcp(ALICE, 5000, A))
        .goes_to("edge 1"),
        case(
            "or its own templates are dropped: new connections go elsewhere",
            deployment(),
        )
        .after(connects(ALICE, 5000))
        .after([Step::Change(drain_of_templates)])
        .packet(tcp(ALICE, 5001, S))
        .goes_to("edge 3"),
        case("and stay there from then on", deployment())
            .after(connects(ALICE, 5000))
            .after([Step::Change(drain_of_templates)])
            .after(connects(ALICE, 5001))
            .after([packet(tcp(ALICE, 5000, A))])
            .packet(tcp(ALICE, 5002, S))
            .goes_to("edge 3"),
        case("and those that are there stay", deployment())
            .after(connects(ALICE, 5000))
            .after([Step::Change(drain_of_templates)])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("and gets no new ones", deployment())
            .after(connects(ALICE, 5000))
            .after([Step::Change(|state| {
                state.services[0].servers[0].weight = 0
            })])
            .packet(tcp(BOB, 5000, S))
            .goes_to("edge 3"),
    ]);
}
