//! Servers behind another interface, whose MTU a packet may exceed.

use nix::net::if_::if_nametoindex;
use nix::sched::CloneFlags;

use crate::{case, check, packet};
use netbed::alone::{ip, with_interfaces};
use packet_bed::frames::*;
use packet_bed::{Step, service, state};

#[test]
#[ignore = "needs root"]
fn a_client_is_told_when_its_packet_does_not_fit_the_interface() {
    with_interfaces(CloneFlags::empty(), || {
        ip("link set far mtu 1400");
        let deployment = || {
            let addresses = ["172.16.1.200:1935", "[2001:db8::c8]:1935"];
            let mut services = addresses.map(|address| service(address, &["far edge"]));
            for service in &mut services {
                let hop = service.servers[0].next_hop.as_mut().expect("a next hop");
                hop.interface_index = if_nametoindex("far").expect("it is there");
            }
            state(services)
        };
        let connected = || {
            [S, A].into_iter().flat_map(|flags| -> [Step; 2] {
                [
                    packet(tcp(ALICE, 5000, flags)),
                    packet(tcp6(DAVE, 5000, flags)),
                ]
            })
        };
        // Headers of 40 bytes.
        let long = |bytes: usize| tcp_of(ALICE, 5000, bytes - 40);
        check([
            case("the longest that fits", deployment())
                .after(connected())
                .packet(long(1400))
                .goes_via_another_interface_to("far edge"),
            case("a byte more", deployment())
                .after(connected())
                .packet(long(1401))
                .gets_told_the_mtu(1400),
            case("in several buffers", deployment())
                .after(connected())
                .packet(long(9000))
                .gets_told_the_mtu(1400),
            case("with a tag", deployment())
                .after(connected())
                .packet(tagged(long(1401), &[(0x8100, 7)]))
                .gets_told_the_mtu(1400),
            case("an ICMP error must not be answered", deployment())
                .after(connected())
                .packet(icmp(3, 4, &from_service(ALICE, 5000), 1440))
                .passes("too-big-silently"),
            case("nor one of IPv6", deployment())
                .after(connected())
                .packet(icmp6(2, 0, &from_service6(DAVE, 5000), 1400))
                .passes("too-big-silently"),
        ]);
    });
}
