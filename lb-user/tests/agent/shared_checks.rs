//! Number of checks of a server.

use std::fs;

use super::network::{Network, VIP};
use super::{Agent, wait_for};

#[test]
#[ignore = "needs root"]
fn a_server_of_many_services_is_checked_as_often_as_one_of_one_service() {
    let network = Network::new();
    let directory = tempfile::tempdir().expect("a directory");
    let counts = ["edge1", "edge2"].map(|edge| directory.path().join(edge));
    let _servers = ["edge1", "edge2"]
        .iter()
        .zip(&counts)
        .map(|(edge, count)| network.count_connections(edge, count))
        .collect::<Vec<_>>();
    let mut configuration = format!(
        "vrrp_instance VI_1 {{
            state MASTER
            interface eth2
            virtual_router_id 51
            virtual_ipaddress {{ {VIP} }}
        }}\n"
    );
    let check = "TCP_CHECK { connect_port 1935\n connect_timeout 5 }";
    for port in 1935..1945 {
        // The second server is one of the first service alone.
        let second = match port {
            1935 => format!("real_server 172.16.1.207 {port} {{ {check} }}"),
            _ => String::new(),
        };
        configuration += &format!(
            "virtual_server {VIP} {port} {{
                delay_loop 0.1
                warmup 0
                real_server 172.16.1.211 {port} {{ {check} }}
                {second}
            }}\n"
        );
    }
    let agent = Agent::start(&network, &configuration);
    let count = |index: usize| {
        let text: String = fs::read_to_string(&counts[index]).unwrap_or_default();
        text.len()
    };
    let (of_all, of_one) = wait_for("checks of the second server", || {
        (count(1) >= 50).then(|| (count(0), count(1)))
    });
    let services = agent.list().expect("the agent answers")["services"].clone();
    assert_eq!(services.as_array().map(Vec::len), Some(10));
    assert!(
        of_all < 2 * of_one,
        "10 services: {of_all} checks; 1 service: {of_one}"
    );
}
