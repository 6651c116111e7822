//! `/metrics`, as Prometheus reads it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rtmp_proto::session::Purpose;
use rtmp_server::config::Role;
use serde_json::Value;

use crate::api_client::Api;
use crate::common::program::{Program, runs};
use crate::common::server::any_port;
use crate::hls::client::HlsClient;
use crate::hooks::Site;
use crate::support::{TestServer, eventually, keyframe, until};

/// The samples of `/metrics` by name and labels.
async fn scrape(api: &Api) -> BTreeMap<String, f64> {
    let answer = api.ask("GET", "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        answer.head
    );
    let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
    let mut samples = BTreeMap::new();
    for line in lines {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let earlier = samples.insert(series.to_owned(), value.parse().unwrap());
        assert_eq!(earlier, None, "twice: {series}");
    }
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_srss_names_and_those_of_each_stream() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    origin.refused(Purpose::Publish, "s").await;
    let of_stream = |name: &str| {
        let labels = "vhost=\"__defaultVhost__\",app=\"live\",stream=\"s\"";
        format!("millrace_stream_{name}{{{labels}}}")
    };
    let sent = of_stream("sent_bytes_total");
    // A worker counts what it has sent after that is on its way; who was refused goes.
    let samples = eventually(async || {
        let samples = scrape(&api).await;
        let settled = samples["srs_clients"] == 2.0 && samples[&sent] > 0.0;
        settled.then_some(samples)
    })
    .await;
    for (series, value) in [
        ("srs_streams", 1.0),
        ("srs_clients", 2.0),
        ("srs_clients_total", 3.0),
        ("srs_clients_errs_total", 1.0),
        (
            "millrace_connections{protocol=\"rtmp\",activity=\"play\"}",
            1.0,
        ),
        (
            "millrace_connections{protocol=\"rtmp\",activity=\"publish\"}",
            1.0,
        ),
        ("millrace_refusals_total{reason=\"busy\"}", 1.0),
        ("millrace_refusals_total{reason=\"hook\"}", 0.0),
        ("millrace_streams_left_out", 0.0),
        ("millrace_hook_seconds_count{event=\"on_play\"}", 0.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}: {samples:#?}");
    }
    assert_eq!(samples[&of_stream("published")], 1.0);
    assert_eq!(samples[&of_stream("players")], 1.0);
    assert_eq!(samples[&of_stream("frames_total")], 1.0);
    assert!(samples[&of_stream("received_bytes_total")] > 0.0);
    assert!(samples["srs_send_bytes_total"] > 0.0);
    assert!(samples["millrace_log_memory_bytes"] > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_count_by_their_reasons_whatever_the_protocol() {
    let site = Site::default();
    let hooks = site.start().await;
    let hook = format!("http_hooks {{ enabled on; on_play http://{hooks}/one; }}");
    for (vhost, series) in [
        (
            "security { enabled on; allow publish all; deny play all; }",
            "security",
        ),
        ("refer { enabled on; play example.com; }", "refer"),
        (&hook, "hook"),
        ("play_wait_timeout 0;", "no-stream"),
    ] {
        let text = format!(
            "http_server {{ enabled on; }} vhost __defaultVhost__ {{ hls {{ enabled on; }} \
             http_remux {{ enabled on; }} {vhost} }}"
        );
        let origin = TestServer::start(Role::Origin, &text);
        let api = Api::of(&origin).await;
        origin.refused(Purpose::Play, "s").await;
        let mut client = HlsClient::connect(origin.http.unwrap()).await;
        let page = "Referer: http://other.example/\r\n";
        for target in ["/live/s.m3u8", "/live/s.flv"] {
            client.ask(&format!("GET {target}"), page).await;
            assert_ne!(client.answer().await.status, 200, "{target} {vhost}");
        }
        until(|| origin.server.clients().count() == 0).await;
        let name = format!("millrace_refusals_total{{reason=\"{series}\"}}");
        assert_eq!(scrape(&api).await[&name], 3.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_says_which_origin_sends_its_streams() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "");
    let api = Api::of(&edge).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = edge.player("s").await;
    player.frame().await;
    let samples = scrape(&api).await;
    let series = format!(
        "millrace_pulls{{origin=\"{}\",state=\"flowing\"}}",
        origin.address
    );
    assert_eq!(samples.get(&series), Some(&1.0), "{samples:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_player_was_sent_counts_on_after_it_has_gone() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let series =
        "millrace_stream_sent_bytes_total{vhost=\"__defaultVhost__\",app=\"live\",stream=\"s\"}";
    let mut player = origin.player("s").await;
    player.frame().await;
    let before = eventually(async || {
        let sent = scrape(&api).await[series];
        (sent > 0.0).then_some(sent)
    })
    .await;
    drop(player);
    until(|| origin.server.clients().count() == 1).await;
    assert!(scrape(&api).await[series] >= before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_series_of_streams_are_bounded() {
    let origin = TestServer::start(
        Role::Origin,
        "max_connections 200; vhost __defaultVhost__ { publish_1stpkt_timeout 600000; }",
    );
    let api = Api::of(&origin).await;
    let mut publishers = Vec::new();
    // 64 kB of labels are shown.
    for number in 0..150 {
        let name = format!("{number:03}{}", "x".repeat(490));
        publishers.push(origin.publisher(&name).await);
    }
    let samples = scrape(&api).await;
    let shown = samples
        .keys()
        .filter(|series| series.starts_with("millrace_stream_players{"))
        .count();
    assert!((110..=125).contains(&shown), "{shown}");
    let left_out = samples["millrace_streams_left_out"];
    assert_eq!(left_out, f64::from(u32::try_from(150 - shown).unwrap()));
}

/// The folder of what operators install.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");

/// True if Debian's package is here.
fn has_prometheus() -> bool {
    runs("promtool", &["--version"]) && runs("prometheus", &["--version"])
}

/// Runs `promtool` with `input`, and expects that it finds nothing wrong.
fn promtool(arguments: &[&str], input: &str) {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert!(
        output.status.success(),
        "{arguments:?}: {out}{err}\n{input}"
    );
}

#[test]
fn promtool_accepts_the_rules_and_alerts_fire_when_they_should() {
    if !has_prometheus() {
        netbed::skip!("prometheus is not here: scripts/setup.sh installs it");
    }
    let of_servers = format!("{EXAMPLES}/prometheus-rules-servers.yml");
    let of_directors = format!("{EXAMPLES}/prometheus-rules.yml");
    promtool(&["check", "rules", &of_servers, &of_directors], "");
    let directory = tempfile::tempdir().unwrap();
    let tests = directory.path().join("tests.yml");
    let text = include_str!("prometheus_rules.yml").replace("RULES", &of_servers);
    std::fs::write(&tests, text).unwrap();
    promtool(&["test", "rules", tests.to_str().unwrap()], "");
}

/// The queries of the Grafana board, for any server.
fn board_queries() -> Vec<String> {
    let board = std::fs::read_to_string(format!("{EXAMPLES}/grafana-servers.json")).unwrap();
    let board: Value = serde_json::from_str(&board).unwrap();
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    queries
        .map(|query| query.replace("$instance", ".*"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_board_name_metrics_that_there_are() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let metrics = api.ask("GET", "/metrics").await.body;
    let rules = std::fs::read_to_string(format!("{EXAMPLES}/prometheus-rules-servers.yml"));
    let text = format!("{} {}", rules.unwrap(), board_queries().join(" "));
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let named = words.filter(|word| {
        let ours = ["millrace_", "srs_", "process_"];
        ours.iter().any(|prefix| word.starts_with(prefix))
    });
    let mut count = 0;
    for name in named {
        let family = name.strip_suffix("_bucket").unwrap_or(name);
        let line = format!("# TYPE {family} ");
        assert!(metrics.contains(&line), "there is no {family}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}

/// Asks a Prometheus; `Null` while it does not answer.
async fn query(address: SocketAddr, query: &str) -> Value {
    let encode = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let query: String = query.bytes().map(encode).collect();
    let api = Api { address };
    match tokio::net::TcpStream::connect(address).await {
        Ok(_) => {
            api.ask("GET", &format!("/api/v1/query?query={query}"))
                .await
                .json
        }
        Err(_) => Value::Null,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_scrapes_a_server_and_knows_all_queries_of_the_board() {
    if !has_prometheus() {
        netbed::skip!("prometheus is not here: scripts/setup.sh installs it");
    }
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.arrived("s", 1).await;
    promtool(
        &["check", "metrics"],
        &api.ask("GET", "/metrics").await.body,
    );

    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{EXAMPLES}/prometheus-rules-servers.yml]\n\
         scrape_configs: [{{job_name: millrace-servers, static_configs: [{{targets: [\"{}\"]}}]}}]\n",
        api.address
    );
    std::fs::write(&config, text).unwrap();
    // A port that is free now.
    let probe = std::net::TcpListener::bind(any_port()).unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let _prometheus = Program::start(
        Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null()),
    );
    eventually(async || {
        let answer = query(address, "millrace_stream_published").await;
        (answer["data"]["result"][0]["value"][1] == "1").then_some(())
    })
    .await;
    for expression in board_queries() {
        let answer = query(address, &expression).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
}
