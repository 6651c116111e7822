//! Routes that come and go with the state, as keepalived has them.

use netbed::wait_for;
use vrrp::State;

use crate::netns::{Host, INTERFACE, Network};
use crate::ours::Ours;
use crate::{VIP, deployment, leading_keepalived};

fn configuration() -> String {
    let routes = format!(
        "virtual_routes {{
            10.60.0.0/16 via 172.16.1.50 dev {INTERFACE} src {VIP}
            src {VIP} to 10.61.0.0/16 via 172.16.1.50 metric 7 mtu 1400
            10.62.0.0/16 dev {INTERFACE} scope link
            10.64.0.0/16 nexthop via 172.16.1.50 dev {INTERFACE} weight 3 \
            nexthop via 172.16.1.51 dev {INTERFACE} weight 1
            blackhole 10.65.0.0/16
            unreachable 10.66.0.0/16
            0.0.0.0/0 gw 172.16.1.50 table 100
            192.0.2.0/24 via 192.0.2.1 dev {INTERFACE} onlink table 1000
            fd00:60::/64 via fe80::50 dev {INTERFACE}
        }}"
    );
    // A line of the file is one route.
    deployment(100, &routes.replace("\\\n", " "))
}

/// What a host has by keepalived's protocol, or ours.
fn routes(network: &Network, host: Host) -> Vec<String> {
    let shown = ["-4", "-6"].map(|family| {
        let line = format!("ip {family} route show table all proto keepalived");
        network.run(host, &line)
    });
    let mut lines: Vec<String> = shown
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    lines
}

#[test]
#[ignore = "needs root"]
fn a_master_has_the_routes_that_keepalived_has_and_loses_them_with_its_state() {
    let network = Network::lay_out();
    let configuration = configuration();
    let keepalived = leading_keepalived(&network, &configuration, VIP);
    let expected = wait_for("keepalived's routes", || {
        let routes = routes(&network, Host::Theirs);
        routes
            .iter()
            .any(|line| line.starts_with("fd00:60::"))
            .then_some(routes)
    });
    assert!(expected.len() >= 10, "{expected:#?}");
    keepalived.stop();

    let ours = Ours::start(&network, &configuration);
    ours.wait_for_state(State::Master);
    let wait_for_routes = || {
        wait_for(format!("the routes {expected:#?}"), || {
            routes(&network, Host::Ours) == expected
        });
    };
    wait_for_routes();
    // Taken away by somebody, and with the interface's own address.
    network.run(Host::Ours, "ip route del 10.60.0.0/16");
    network.run(Host::Ours, "ip route del 10.65.0.0/16");
    wait_for_routes();
    ours.stop();
    assert_eq!(routes(&network, Host::Ours), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn a_reload_changes_the_routes_of_a_master() {
    let network = Network::lay_out();
    let with = |route: &str| deployment(100, &format!("virtual_routes {{\n{route}\n}}\n"));
    let ours = Ours::start(&network, &with("10.60.0.0/16 via 172.16.1.50"));
    ours.wait_for_state(State::Master);
    let wait_for_one = |network: &str, routes: &dyn Fn() -> Vec<String>| {
        wait_for(format!("{network} alone"), || {
            let routes = routes();
            routes.len() == 1 && routes[0].starts_with(network)
        });
    };
    let present = || routes(&network, Host::Ours);
    wait_for_one("10.60.0.0/16", &present);
    ours.reload(&with("10.61.0.0/16 via 172.16.1.50"));
    wait_for_one("10.61.0.0/16", &present);
    ours.stop();
    assert_eq!(present(), Vec::<String>::new());
}
