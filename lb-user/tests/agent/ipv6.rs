//! A service of IPv6 from end to end: address, checks, neighbours, packets.

use super::network::{Network, VIP6};
use super::{Agent, wait_for};

#[test]
#[ignore = "needs root"]
fn a_service_of_ipv6_is_held_checked_and_balanced() {
    let network = Network::new();
    let _one = network.serve("edge1");
    let two = network.serve("edge2");
    let configuration = format!(
        "vrrp_instance VI_6 {{
            state MASTER
            interface eth2
            virtual_router_id 52
            virtual_ipaddress {{ {VIP6} }}
        }}
        virtual_server {VIP6} 1935 {{
            delay_loop 0.2
            delay_before_retry 0.1
            warmup 0
            lb_algo rr
            lb_kind DR
            persistence_granularity 64
            real_server 2001:db8::d3 1935 {{ TCP_CHECK {{ connect_timeout 1 }} }}
            real_server 2001:db8::cf 1935 {{ TCP_CHECK {{ connect_timeout 1 }} }}
        }}"
    );
    let agent = Agent::start(&network, &configuration);
    agent.wait_for_states(&["up", "up"]);
    assert_eq!(network.ask_twice_at(VIP6), ["edge1", "edge2"]);
    two.kill().expect("it runs");
    agent.wait_for_states(&["up", "down"]);
    for _ in 0..3 {
        assert_eq!(network.answer_at(VIP6), "edge1");
    }
    // The neighbour is found by neighbour discovery, and followed.
    let mac = "02:00:00:00:00:66";
    network.output("edge1", &["ip", "link", "set", "eth2", "address", mac]);
    wait_for("the new MAC address", || {
        let list = agent.list()?;
        (list["services"][0]["servers"][0]["mac"] == mac).then_some(())
    });
    let link = network.stdout("director", &["ip", "addr", "show", "eth2"]);
    assert!(link.contains(&format!("{VIP6}/128")), "{link}");
}
