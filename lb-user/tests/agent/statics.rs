//! Static addresses and routes, which a director has whoever leads.

use std::fs;

use super::director::Director;
use super::network::{Network, VIP};
use super::{Agent, both_servers, wait_for};

fn with(statics: &str) -> String {
    statics.to_owned() + &both_servers()
}

/// True if the director has such an address, and such a route.
fn has(network: &Network, address: &str, route: &str) -> [bool; 2] {
    let shown = |words: &[&str]| {
        let output = network.output("director", words);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let addresses = shown(&["ip", "-o", "addr", "show", "dev", "eth2"]);
    let routes = shown(&["ip", "route", "show"]);
    [addresses.contains(address), routes.contains(route)]
}

#[test]
#[ignore = "needs root"]
fn static_addresses_and_routes_are_there_while_the_agent_runs() {
    let network = Network::new();
    let first = with(
        "static_ipaddress {\n10.8.0.1/24 dev eth2\n}\n\
         static_routes {\n10.9.0.0/16 via 10.8.0.254 dev eth2\n}\n",
    );
    let there = || {
        has(
            &network,
            "10.8.0.1/24",
            "10.9.0.0/16 via 10.8.0.254 dev eth2",
        )
    };
    let agent = Agent::start(&network, &first);
    assert_eq!(there(), [true, true]);
    for words in [
        ["route", "del", "10.9.0.0/16", "dev", "eth2"],
        ["addr", "del", "10.8.0.1/24", "dev", "eth2"],
    ] {
        let taken = network.output("director", &[&["ip"][..], &words].concat());
        assert!(taken.status.success(), "{taken:?}");
    }
    wait_for("both again", || (there() == [true, true]).then_some(()));

    let second = with(
        "static_ipaddress {\n10.8.1.1/24 dev eth2\n}\n\
         static_routes {\n10.9.1.0/24 dev eth2\n}\n",
    );
    fs::write(agent.file(), second).expect("the file is written");
    assert!(agent.command(&["reload"]).status.success());
    assert_eq!(there(), [false, false]);
    let now = || has(&network, "10.8.1.1/24", "10.9.1.0/24 dev eth2");
    assert_eq!(now(), [true, true]);
    assert!(agent.stop().success());
    assert_eq!(now(), [false, false]);
}

#[test]
#[ignore = "needs root"]
fn an_address_that_the_machine_had_before_stays_when_the_agent_goes() {
    let network = Network::new();
    network.output(
        "director",
        &["ip", "addr", "add", "10.8.0.1/24", "dev", "eth2"],
    );
    let agent = Agent::start(
        &network,
        &with("static_ipaddress {\n10.8.0.1/24 dev eth2\n}\n"),
    );
    assert!(agent.stop().success());
    assert_eq!(has(&network, "10.8.0.1/24", "172.16.1.0/24"), [true, true]);
}

#[test]
#[ignore = "needs root"]
fn what_a_killed_agent_has_set_goes_with_the_next_whose_file_has_it_no_more() {
    let network = Network::new();
    let _servers = [network.serve("edge1"), network.serve("edge2")];
    let both_addresses = both_servers().replace(
        &format!("{{ {VIP} }}"),
        &format!("{{\n{VIP}\n172.16.1.201\n}}\nvirtual_routes {{\n10.7.0.0/16 dev eth2\n}}"),
    );
    let statics = "static_ipaddress {\n10.8.0.1/24 dev eth2\n}\n\
                   static_routes {\n10.9.0.0/16 dev eth2\n}\n";
    let director = Director::new(&network, &(statics.to_owned() + &both_addresses));
    let there = || {
        [
            has(&network, "10.8.0.1/24", "10.9.0.0/16 dev eth2"),
            has(&network, "172.16.1.201/32", "10.7.0.0/16 dev eth2"),
        ]
    };
    let agent = director.start_up();
    let expected = [[true, true]; 2];
    wait_for("all is set", || (there() == expected).then_some(()));
    agent.kill().expect("it runs");
    assert_eq!(there(), expected, "a killed agent takes nothing along");

    director.configure(&both_servers());
    let _agent = director.start_up();
    assert_eq!(there(), [[false, false]; 2], "{}", director.log());
}

#[test]
#[ignore = "needs root"]
fn starts_that_fail_leave_nothing_however_many_there_are() {
    let network = Network::new();
    let first = Director::new(&network, &both_servers());
    let _agent = first.start(&[]);
    wait_for("the first agent", || first.list());
    // The first one's pins are refused to another.
    let second = Director::new(
        &network,
        &with("static_ipaddress {\n10.8.0.1/24 dev eth2\n}\n"),
    );
    for _ in 0..2 {
        assert!(!second.start(&[]).wait().expect("it ends").success());
        assert!(!has(&network, "10.8.0.1/24", "")[0], "{}", second.log());
        assert_eq!(second.files(), ["keepalived.conf", "log"]);
    }
}

/// A service whose address is announced on `lo`, with one server.
fn announced() -> String {
    format!(
        "virtual_server {VIP} 1935 {{\nlb_algo rr\nlb_kind DR\nannounce lo\ndelay_loop 1\n\
         real_server 172.16.1.211 1935 {{\nTCP_CHECK {{\nconnect_timeout 1\n}}\n}}\n}}\n"
    )
}

/// True if the director has the virtual address on `lo`.
fn is_announced(network: &Network) -> bool {
    let shown = network.stdout("director", &["ip", "-o", "addr", "show", "dev", "lo"]);
    shown.contains(VIP)
}

#[test]
#[ignore = "needs root"]
fn what_a_killed_agent_has_announced_the_next_one_withdraws() {
    let network = Network::new();
    let server = network.serve("edge1");
    let director = Director::new(&network, &announced());
    let start = || director.start(&["--interface", "eth2"]);
    let agent = start();
    wait_for("the announcement", || {
        (is_announced(&network) && director.states() == ["up"]).then_some(())
    });
    agent.kill().expect("it runs");
    assert!(is_announced(&network), "a killed agent takes nothing along");

    let agent = start();
    wait_for("the next agent", || {
        (director.states() == ["up"]).then_some(())
    });
    server.kill().expect("it runs");
    wait_for("no announcement without servers", || {
        (!is_announced(&network)).then_some(())
    });
    let _server = network.serve("edge1");
    wait_for("the announcement", || is_announced(&network).then_some(()));
    agent.kill().expect("it runs");
    let agent = start();
    wait_for("the last agent", || {
        (director.states() == ["up"]).then_some(())
    });
    assert!(agent.stop().expect("it stops").success());
    assert!(!is_announced(&network), "{}", director.log());
}

#[test]
#[ignore = "needs root"]
fn an_announced_address_that_is_there_already_is_a_warning() {
    let network = Network::new();
    let _server = network.serve("edge1");
    let own = format!("{VIP}/32");
    network.output("director", &["ip", "addr", "add", &own, "dev", "lo"]);
    let director = Director::new(&network, &announced());
    let agent = director.start(&["--interface", "eth2"]);
    wait_for("the warning", || {
        let warning = format!("announce: {VIP} is on lo already");
        director.log().contains(&warning).then_some(())
    });
    assert!(agent.stop().expect("it stops").success());
    assert!(is_announced(&network), "it is not ours");
}
