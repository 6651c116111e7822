//! Virtual routers as the network and the operator see them.

use super::network::{Network, VIP, VIP6};
use super::{Agent, both_servers, wait_for};

#[test]
#[ignore = "needs root"]
fn a_master_whose_mac_address_changes_tells_the_network() {
    let network = Network::new();
    let _servers = [network.serve("edge1"), network.serve("edge2")];
    let both = format!(
        "{}\nvrrp_instance VI_6 {{
            state MASTER
            interface eth2
            virtual_router_id 52
            garp_master_delay 0
            virtual_ipaddress {{ {VIP6} }}
        }}
        virtual_server {VIP6} 1935 {{
            lb_kind DR
            real_server 2001:db8::d3 1935 {{ }}
        }}",
        // No second announcements, which would tell of it by chance.
        both_servers().replace("state MASTER", "state MASTER\ngarp_master_delay 0")
    );
    let agent = Agent::start(&network, &both);
    agent.wait_for_states(&["up", "up"]);
    for address in [VIP, VIP6] {
        network.answer_at(address);
    }
    let mac = "02:00:00:00:00:79";
    network.output("director", &["ip", "link", "set", "eth2", "address", mac]);
    for address in [VIP, VIP6] {
        wait_for("the new MAC address at a client that asks nothing", || {
            let entry = network.stdout("client", &["ip", "neigh", "show", address]);
            entry.contains(mac).then_some(())
        });
        network.answer_at(address);
    }
}

#[test]
#[ignore = "needs root"]
fn a_virtual_router_in_fault_tells_what_keeps_it_there_now() {
    let network = Network::new();
    for name in ["a", "b"] {
        network.ip_on(
            "director",
            &format!("link add {name}0 type veth peer name {name}1"),
        );
        network.ip_on("director", &format!("link set {name}0 up"));
        network.ip_on("director", &format!("link set {name}1 up"));
    }
    let tracked = "state BACKUP\ntrack_interface {\na0\nb0\n}";
    let agent = Agent::start(&network, &both_servers().replace("state MASTER", tracked));
    let wait_for_cause = |expected: &str| {
        wait_for(format!("`{expected}` as the cause"), || {
            let list = agent.list()?;
            let cause = list["virtual_addresses"][0]["cause"].as_str()?;
            cause.contains(expected).then_some(())
        });
    };
    network.ip_on("director", "link set a1 down");
    wait_for_cause("a0");
    network.ip_on("director", "link set b1 down");
    network.ip_on("director", "link set a1 up");
    wait_for_cause("b0");
}
