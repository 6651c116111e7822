//! The alerts of `examples/prometheus-rules*.yml`, by Debian's Prometheus.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;

use anyhow::{Context, Result};
use netbed::{Host, wait_for};
use nix::sys::signal::Signal;
use testbed::{AGENT_HTTP_PORT, Cluster, HTTP_API_PORT, Source, program, source_root};

use crate::on;

const MONITOR: &str = "monitor";
const MONITOR_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 60);
const LISTEN: &str = "127.0.0.1:9090";
/// Players that stand still: all that their edge has.
const PLAYERS: usize = 20;

/// The rules of a file of `examples`, with shorter times: an alert fires as soon as its
/// condition is met, and rates are those of the last 20 seconds.
fn rules(file: &str) -> Result<String> {
    let path = source_root().join("examples").join(file);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = text.lines().map(|line| match line.split_once("for: ") {
        Some((before, _)) if before.trim().is_empty() => format!("{before}for: 0s\n"),
        _ => format!("{line}\n"),
    });
    Ok(lines.collect::<String>().replace("[1m]", "[20s]"))
}

/// Starts Prometheus, which scrapes every program of `cluster`.
fn watch(cluster: &Cluster) -> Result<&Host> {
    let monitor = cluster.host(MONITOR);
    let servers = cluster.edges().iter().chain([cluster.origin()]);
    let servers: Vec<_> = servers
        .map(|server| SocketAddrV4::new(server.address(), HTTP_API_PORT).to_string())
        .collect();
    let agent = SocketAddrV4::new(cluster.director().host().address(), AGENT_HTTP_PORT);
    for file in ["prometheus-rules.yml", "prometheus-rules-servers.yml"] {
        monitor.write_file(file, rules(file)?)?;
    }
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [prometheus-rules.yml, prometheus-rules-servers.yml]\n\
         scrape_configs:\n\
         - {{job_name: millrace, static_configs: [{{targets: [\"{agent}\"]}}]}}\n\
         - {{job_name: millrace-servers, static_configs: [{{targets: {servers:?}}}]}}\n"
    );
    monitor.write_file("prometheus.yml", config)?;
    let mut command = Command::new("prometheus");
    command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]);
    command.arg(format!("--web.listen-address={LISTEN}"));
    let process = monitor.spawn("prometheus", command)?;
    wait_for("prometheus to scrape everything", || {
        let up = query(monitor, "sum(up)")?;
        Ok(up.contains(&format!("=> {} @", servers.len() + 1)))
    })
    .with_context(|| process.log_tail())?;
    Ok(monitor)
}

/// What Prometheus answers; nothing while it does not listen.
fn query(monitor: &Host, expression: &str) -> Result<String> {
    let mut command = Command::new("promtool");
    command.args(["query", "instant", &format!("http://{LISTEN}"), expression]);
    let output = monitor.output(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until the alert called `name` fires, or does not, with these labels.
fn wait_for_alert(monitor: &Host, name: &str, labels: &str, fires: bool) -> Result<()> {
    let alert = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\", {labels}}}");
    let state = if fires { "fire" } else { "end" };
    // With a number in any case, an answer is told from none.
    let count = format!("count({alert}) or vector(0)");
    wait_for(format_args!("{alert} to {state}"), || {
        let answer = query(monitor, &count)?;
        Ok(answer.contains("=> ") && answer.contains("=> 0 @") != fires)
    })
}

#[test]
#[ignore = "needs root"]
fn alerts_fire_when_an_edge_dies_and_when_players_lag() {
    let builder = Cluster::builder().clients(1).metrics();
    on(builder.host(MONITOR, MONITOR_ADDRESS), |cluster| {
        cluster.push(&Source::Generated)?;
        let monitor = watch(cluster)?;
        let edge = cluster.edge(0);
        let api = format!("instance=\"{}:{HTTP_API_PORT}\"", edge.address());
        let server = format!("server=\"{}:1935\"", edge.address());
        for (alert, labels) in [("MillraceServerDown", &api), ("MillraceServerOut", &server)] {
            wait_for_alert(monitor, alert, labels, false)?;
        }
        edge.kill()?;
        for (alert, labels) in [("MillraceServerDown", &api), ("MillraceServerOut", &server)] {
            wait_for_alert(monitor, alert, labels, true)?;
        }
        edge.start()?;
        for (alert, labels) in [("MillraceServerDown", &api), ("MillraceServerOut", &server)] {
            wait_for_alert(monitor, alert, labels, false)?;
        }

        let client = cluster.client(0);
        let mut command = Command::new(program("rtmp-load")?);
        command
            .args(["-n", &PLAYERS.to_string(), "-t", "0", "--json"])
            .arg(cluster.viewing_url());
        let players = client.host().spawn("players", command)?;
        let serving = wait_for("an edge to serve them", || {
            for (number, edge) in cluster.edges().iter().enumerate() {
                let peers = edge.peers()?;
                let viewers = peers.iter().filter(|peer| peer.ip() == client.address());
                if viewers.count() == PLAYERS {
                    return Ok(Some(number));
                }
            }
            Ok(None)
        })?;
        let serving = cluster.edge(serving).address();
        let api = format!("instance=\"{serving}:{HTTP_API_PORT}\"");
        wait_for_alert(monitor, "MillracePlayersLag", &api, false)?;
        players.signal(Signal::SIGSTOP)?;
        wait_for_alert(monitor, "MillracePlayersLag", &api, true)?;
        players.signal(Signal::SIGCONT)?;
        wait_for_alert(monitor, "MillracePlayersLag", &api, false)
    });
}
