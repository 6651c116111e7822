//! `RTMP_CHECK` and `FLV_CHECK` of our own servers: does the stream play?

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use netbed::wait_for;
use testbed::{Cluster, HTTP_PORT, HealthChecks, ORIGIN, Source, VIP, keepalived_conf};

use crate::on;

/// What is asked of the servers of each service; services by their port.
const ASKED: [(u16, &str); 3] = [
    (1935, "stream livestream"),
    (1936, "stream nobody"),
    (1937, "app live"),
];

/// A director's configuration with the same servers in each service.
fn checked(servers: &[Ipv4Addr]) -> String {
    let deployed = keepalived_conf(HealthChecks::Quick, servers);
    let (head, _) = deployed
        .split_once("virtual_server ")
        .expect("there is a service");
    let mut text = head.to_owned();
    for (port, asked) in ASKED {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "virtual_server {VIP} {port} {{\n    delay_loop 0.5\n    warmup 0\n    retry 1\n    \
             delay_before_retry 0.5"
        );
        for server in servers {
            let _ = writeln!(
                text,
                "    real_server {server} {port} {{\n        RTMP_CHECK {{\n            \
                 connect_port 1935\n            play_timeout 3\n            {asked}\n        }}\n    }}"
            );
        }
        text += "}\n";
    }
    text
}

/// Waits until every server of each service is up, or is down: one letter for
/// each service.
fn wait_for_services(cluster: &Cluster, expected: &str) -> Result<()> {
    let mut last = String::new();
    let found = wait_for(format_args!("the services to be {expected}"), || {
        let services = cluster.director().list()?.services;
        last = services
            .iter()
            .map(|service| {
                let up = service.servers.iter().filter(|it| it.is_up()).count();
                match up {
                    0 => '-',
                    all if all == service.servers.len() => '+',
                    _ => '?',
                }
            })
            .collect();
        Ok(last == expected)
    });
    found.with_context(|| format!("they are {last}"))
}

#[test]
#[ignore = "needs root"]
fn an_edge_and_an_origin_are_up_only_while_the_named_stream_plays() {
    on(Cluster::builder(), |cluster| {
        let director = cluster.director();
        let mut servers: Vec<Ipv4Addr> = cluster.edges().iter().map(|it| it.address()).collect();
        servers.push(ORIGIN);
        // The file that the director was started with.
        director
            .host()
            .write_file("keepalived.conf", checked(&servers))?;
        director.order(&["reload"])?;
        // Of a stream that nobody publishes they play nothing.
        wait_for_services(cluster, "--+")?;
        let list = director.order(&["list"])?;
        assert!(list.contains("no media within 8 s"), "{list}");

        let encoder = cluster.push(&Source::Generated)?;
        wait_for_services(cluster, "+-+")?;

        encoder.kill()?;
        wait_for_services(cluster, "--+")?;
        Ok(())
    });
}

/// The example for browsers without the service that needs a certificate.
fn for_browsers() -> &'static str {
    let example = include_str!("../../../examples/keepalived-browsers.conf");
    let (plain, _) = example
        .split_once("virtual_server ${VIP} 443")
        .expect("the service of TLS is the last");
    plain
}

#[test]
#[ignore = "needs root"]
fn viewers_over_http_flv_leave_a_killed_edge_that_the_example_for_browsers_checks() {
    on(Cluster::builder().browsers(), |cluster| {
        let director = cluster.director();
        cluster.push(&Source::Generated)?;
        director
            .host()
            .write_file("keepalived.conf", for_browsers())?;
        director.order(&["reload"])?;
        wait_for_services(cluster, "++")?;

        let flv = format!("http://{VIP}:{HTTP_PORT}/live/livestream.flv");
        let serving = |client| cluster.edge_serving_at(HTTP_PORT, client);
        for client in cluster.clients() {
            let viewer = client.pull(&flv)?;
            viewer.wait_for_more(25)?.ensure_rising()?;
            client.pull(&cluster.viewing_url())?.wait_for_more(25)?;
            let edge = serving(client)?;
            assert!(edge.is_some(), "it is served");
            assert_eq!(edge, cluster.edge_serving(client)?, "at both ports");
        }
        let client = cluster.client(0);
        let viewer = client.pull(&flv)?;
        viewer.wait_for_more(25)?;
        let killed = serving(client)?.context("it is served")?;
        cluster.edge(killed).kill()?;
        viewer.process().wait()?;
        wait_for_services(cluster, "??")?;
        let list = director.list()?;
        let server = list.server(cluster.edge(killed).address());
        assert!(!server.context("it is listed")?.is_up());

        let again = client.pull(&flv)?;
        again.wait_for_more(25)?.ensure_rising()?;
        assert_eq!(serving(client)?, Some(1 - killed));
        Ok(())
    });
}
