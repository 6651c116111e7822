//! VLAN tags, of received and of forwarded frames.

use lb_model::DesiredState;
use lb_model::Vlan;

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, Verdict, service, state};

/// A service whose server is in VLANs.
fn behind(vlan: Vlan) -> DesiredState {
    let mut service = service("172.16.1.200:1935", &["edge 1"]);
    service.servers[0]
        .next_hop
        .as_mut()
        .expect("a next hop")
        .vlan = vlan;
    state([service])
}

const CUSTOMER: u16 = 0x8100;
const PROVIDER: u16 = 0x88A8;

fn syn() -> Vec<u8> {
    tcp(ALICE, 5000, S)
}

#[test]
#[ignore = "needs root"]
fn tags_are_made_those_of_the_server() {
    let one = |number| tagged(syn(), &[(CUSTOMER, number)]);
    let two = |outer, inner| tagged(syn(), &[(PROVIDER, outer), (CUSTOMER, inner)]);
    check([
        case("the same VLAN", behind(Vlan::Tagged(10)))
            .packet(one(10))
            .goes_to("edge 1"),
        case("the same two VLANs", behind(Vlan::Stacked(5, 10)))
            .packet(two(5, 10))
            .goes_to("edge 1"),
        case("a right tag keeps its priority", behind(Vlan::Tagged(10)))
            .packet(one(0xA00A))
            .goes_to("edge 1"),
        case("another VLAN", behind(Vlan::Tagged(20)))
            .packet(one(10))
            .goes_changed_to("edge 1", &one(20)[12..]),
        case("from none to one", behind(Vlan::Tagged(20)))
            .packet(syn())
            .goes_changed_to("edge 1", &one(20)[12..]),
        case("from one to none", behind(Vlan::Untagged))
            .packet(one(10))
            .goes_changed_to("edge 1", &syn()[12..]),
        case("from none to two", behind(Vlan::Stacked(5, 10)))
            .packet(syn())
            .goes_changed_to("edge 1", &two(5, 10)[12..]),
        case("from two to none", behind(Vlan::Untagged))
            .packet(two(5, 10))
            .goes_changed_to("edge 1", &syn()[12..]),
        case("from one to two", behind(Vlan::Stacked(5, 10)))
            .packet(one(7))
            .goes_changed_to("edge 1", &two(5, 10)[12..]),
        case("of two, the inner one", behind(Vlan::Stacked(5, 11)))
            .packet(two(5, 10))
            .goes_changed_to("edge 1", &two(5, 11)[12..]),
        case("another type of tag", behind(Vlan::Stacked(5, 10)))
            .packet(tagged(syn(), &[(CUSTOMER, 5), (CUSTOMER, 10)]))
            .goes_changed_to("edge 1", &two(5, 10)[12..]),
        case(
            "three tags are more than we look at",
            behind(Vlan::Untagged),
        )
        .packet(tagged(
            syn(),
            &[(PROVIDER, 1), (CUSTOMER, 2), (CUSTOMER, 3)],
        ))
        .passes("many-tags"),
        case("established, too", behind(Vlan::Tagged(20)))
            .after([S, A].map(|flags| packet(tcp(ALICE, 5000, flags))))
            .packet(tcp(ALICE, 5000, A))
            .goes_changed_to(
                "edge 1",
                &tagged(tcp(ALICE, 5000, A), &[(CUSTOMER, 20)])[12..],
            ),
        case("a tag for a priority only", behind(Vlan::Untagged))
            .packet(one(0xE000))
            .goes_changed_to("edge 1", &syn()[12..]),
        case("a tag before something else", behind(Vlan::Untagged))
            .packet(patched(one(10), 16, &[0x08, 0x06]))
            .passes("not-ip"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn answers_keep_the_tags() {
    let tags: [&[(u16, u16)]; 3] = [&[], &[(CUSTOMER, 10)], &[(PROVIDER, 5), (CUSTOMER, 10)]];
    check(tags.map(|tags| {
        case("a reset in the client's VLAN", behind(Vlan::Untagged))
            .after([packet(syn()), packet(tcp(ALICE, 5000, A))])
            .after([crate::Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(tagged(tcp(ALICE, 5000, "P."), tags))
            .gets_reset_at(5000)
    }));
}

#[test]
#[ignore = "needs root"]
fn a_tagged_frame_cut_anywhere_is_the_stacks() {
    let Some(mut bed) = Bed::shared(behind(Vlan::Stacked(5, 10))) else {
        return;
    };
    let whole = tagged(syn(), &[(PROVIDER, 5), (CUSTOMER, 10)]);
    for length in 14..whole.len() {
        let verdict = bed.send(&whole[..length]);
        assert_eq!(
            verdict,
            Verdict::Stack("truncated"),
            "cut after {length} bytes"
        );
    }
    assert_eq!(bed.send(&whole), Verdict::To("edge 1"));
}
