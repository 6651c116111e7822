//! `RTMP_CHECK` and `FLV_CHECK` of our own servers: does the stream play?

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use netbed::{Process, wait_for};
use testbed::{
    Client, Cluster, HealthChecks, ORIGIN, RTMP_PORT, Server, Source, VIP, keepalived_conf, program,
};

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

/// The port of HTTP-FLV.
const HTTP_PORT: u16 = 8080;

/// The example for browsers without the service that needs a certificate.
fn for_browsers() -> &'static str {
    let example = include_str!("../../../examples/keepalived-browsers.conf");
    let (plain, _) = example
        .split_once("virtual_server ${VIP} 443")
        .expect("the service of TLS is the last");
    plain
}

/// Starts an edge again that serves HTTP-FLV, too.
fn serve_browsers(edge: &Server) -> Result<Process> {
    let plain = testbed::DEPLOYED_EDGE_CONF;
    let vhost = "vhost __defaultVhost__ {\n";
    ensure!(plain.contains(vhost), "the deployment's file has a vhost");
    let remux = format!("{vhost}    http_remux {{ enabled on; }}\n");
    let server = format!("http_server {{ enabled on; listen {HTTP_PORT}; }}\n");
    edge.stop()?;
    let host = edge.host();
    host.write_file("browsers.conf", server + &plain.replace(vhost, &remux))?;
    let mut command = Command::new(program("rtmp-edge")?);
    command.args(["-c", "browsers.conf"]);
    let process = host.spawn("browsers", command)?;
    for port in [RTMP_PORT, HTTP_PORT] {
        wait_for(format_args!("the edge to listen on port {port}"), || {
            ensure!(process.is_running(), "it has ended: {}", process.log_tail());
            host.listens(port)
        })?;
    }
    Ok(process)
}

/// The only edge that has a connection of `client` at `port`.
fn edge_serving(cluster: &Cluster, client: &Client, port: u16) -> Result<usize> {
    let mut serving = Vec::new();
    for (index, edge) in cluster.edges().iter().enumerate() {
        let peers = edge.host().connections(port)?;
        if peers
            .iter()
            .map(SocketAddr::ip)
            .any(|ip| ip == client.address())
        {
            serving.push(index);
        }
    }
    ensure!(serving.len() == 1, "served by edges {serving:?} at {port}");
    Ok(serving[0])
}

#[test]
#[ignore = "needs root"]
fn viewers_over_http_flv_leave_a_killed_edge_that_the_example_for_browsers_checks() {
    on(Cluster::builder(), |cluster| {
        let director = cluster.director();
        cluster.push(&Source::Generated)?;
        let edges = cluster.edges().iter();
        let edges = edges.map(serve_browsers).collect::<Result<Vec<_>>>()?;
        director
            .host()
            .write_file("keepalived.conf", for_browsers())?;
        director.order(&["reload"])?;
        wait_for_services(cluster, "++")?;

        let flv = format!("http://{VIP}:{HTTP_PORT}/live/livestream.flv");
        for client in cluster.clients() {
            let viewer = client.pull(&flv)?;
            viewer.wait_for_more(25)?.ensure_rising()?;
            client.pull(&cluster.viewing_url())?.wait_for_more(25)?;
            assert_eq!(
                edge_serving(cluster, client, HTTP_PORT)?,
                edge_serving(cluster, client, RTMP_PORT)?,
                "the same edge at both ports"
            );
        }
        let client = cluster.client(0);
        let viewer = client.pull(&flv)?;
        viewer.wait_for_more(25)?;
        let killed = edge_serving(cluster, client, HTTP_PORT)?;
        edges[killed].kill()?;
        viewer.process().wait()?;
        wait_for_services(cluster, "??")?;
        let list = director.list()?;
        let server = list.server(cluster.edge(killed).address());
        assert!(!server.context("it is listed")?.is_up());

        let again = client.pull(&flv)?;
        again.wait_for_more(25)?.ensure_rising()?;
        assert_eq!(edge_serving(cluster, client, HTTP_PORT)?, 1 - killed);
        Ok(())
    });
}
