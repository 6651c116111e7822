//! Forwards: to servers that are there, come late, take nothing, or are this one; by
//! configuration and by backend.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use netbed::local::free_address;
use rtmp_proto::wire::MessageType;
use rtmp_server::config::Role;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::api_client::Api;
use crate::hooks::expect_stream;
use crate::slate::slate_file;
use crate::support::{
    Client, TestServer, eventually, headers, keep_log, keyframe, log_lines, message, picture,
    publishing, until, web_server,
};
use crate::tls_support::TlsServer;

/// A configuration whose vhost forwards as `forward` says.
fn forwarding(forward: &str, vhost: &str) -> String {
    format!(
        "vhost __defaultVhost__ {{ min_latency on; {vhost} forward {{ enabled on; {forward} }} }}"
    )
}

fn to(destinations: &[SocketAddr]) -> String {
    let destinations: Vec<_> = destinations.iter().map(ToString::to_string).collect();
    format!("destination {};", destinations.join(" "))
}

/// The forwards that the API shows once they are as `is_expected` says.
async fn forwards(api: &Api, is_expected: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    eventually(async || {
        let shown = api.get("/api/v1/forwards").await["forwards"].clone();
        let shown = shown.as_array().unwrap().clone();
        is_expected(&shown).then_some(shown)
    })
    .await
}

fn all_in(state: &'static str) -> impl Fn(&[Value]) -> bool {
    move |shown| !shown.is_empty() && shown.iter().all(|it| it["state"] == state)
}

/// A publisher of `s` that has sent a keyframe.
async fn publisher(server: &TestServer) -> Client {
    let mut publisher = server.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0)]).await;
    publisher
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_published_at_each_server_until_its_end() {
    let targets = [TestServer::origin(""), TestServer::origin("")];
    let text = forwarding(&to(&[targets[0].address, targets[1].address]), "");
    let origin = TestServer::start(Role::Origin, &text);
    let api = Api::of(&origin).await;
    let mut publisher = publisher(&origin).await;
    let shown = forwards(&api, |shown| {
        all_in("sending")(shown) && shown.iter().all(|it| it["bytes"].as_u64() > Some(0))
    })
    .await;
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0]["destination"], targets[0].address.to_string());
    assert_eq!(shown[0]["attempts"], 1);
    assert_eq!(shown[0]["error"], Value::Null);
    for target in &targets {
        let mut player = target.player("s").await;
        // Metadata, as every player gets it.
        player.joined().await;
        assert_eq!(player.frame().await, keyframe(0));
    }
    let metrics = api.ask("GET", "/metrics").await.body;
    for line in [
        "millrace_forwards{state=\"sending\"} 2\n",
        "millrace_forward_attempts_total 2\n",
        "millrace_forward_failures_total 0\n",
        "millrace_forward_skips_total 0\n",
    ] {
        assert!(metrics.contains(line), "{line} {metrics}");
    }
    let mut player = targets[0].player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    // The last picture arrives, though the publisher goes at once.
    publisher.publish(&[picture(40)]).await;
    drop(publisher);
    assert_eq!(player.frame().await, picture(40));
    let stream = targets[1].server.streams()[0].clone();
    until(|| !stream.is_published()).await;
    assert_eq!(forwards(&api, <[Value]>::is_empty).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_late_or_returns_gets_the_stream_from_a_keyframe() {
    keep_log();
    let address = free_address();
    let origin = TestServer::start(Role::Origin, &forwarding(&to(&[address]), ""));
    let api = Api::of(&origin).await;
    let mut publisher = publisher(&origin).await;
    let shown = forwards(&api, all_in("waiting")).await;
    let error = shown[0]["error"].as_str().unwrap();
    assert!(error.contains("cannot connect"), "{error}");
    for time in [1_000, 2_000] {
        let target = TestServer::start_at(address, Role::Origin, "vhost __defaultVhost__ {}");
        forwards(&api, all_in("sending")).await;
        publisher.publish(&[keyframe(time)]).await;
        let mut player = target.player("s").await;
        while player.frame().await != keyframe(time) {}
        target.stop().await;
        forwards(&api, |shown| shown[0]["state"] != "sending").await;
    }
    // As often as it has tried, it has said so once for each reason.
    let lines = log_lines(&format!("cannot be forwarded to {address}"));
    assert!((2..=4).contains(&lines.len()), "{lines:?}");
}

/// A server before another one, which reads nothing of what comes while it is told not to.
async fn deaf_proxy(target: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let deaf = Arc::new(AtomicBool::new(false));
    let is_deaf = deaf.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(target).await.unwrap();
            let is_deaf = is_deaf.clone();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let there = async {
                    let mut bytes = vec![0; 16 << 10];
                    loop {
                        until(|| !is_deaf.load(Ordering::Relaxed)).await;
                        match from_client.read(&mut bytes).await {
                            Ok(0) | Err(_) => return,
                            Ok(count) => to_server.write_all(&bytes[..count]).await.unwrap(),
                        }
                    }
                };
                tokio::select! {
                    () = there => {}
                    _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                }
            });
        }
    });
    (address, deaf)
}

/// A large picture.
fn large(first: u8, timestamp: u32) -> rtmp_proto::wire::Message {
    let payload = [&[first, 1, 0, 0, 0][..], &[0x5a; 500_000]].concat();
    message(MessageType::VIDEO, timestamp, &payload)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_nothing_costs_no_viewer_and_goes_on_at_a_keyframe() {
    let target = TestServer::origin("");
    let (address, deaf) = deaf_proxy(target.address).await;
    let good = TestServer::origin("");
    let text = forwarding(&to(&[address, good.address]), "queue_bytes 1048576;");
    let origin = TestServer::start(Role::Origin, &text);
    let api = Api::of(&origin).await;
    let mut publisher = publisher(&origin).await;
    forwards(&api, all_in("sending")).await;
    let mut player = target.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    let mut viewers = [origin.player("s").await, good.player("s").await];
    for viewer in &mut viewers {
        assert_eq!(viewer.frame().await, keyframe(0));
    }
    deaf.store(true, Ordering::Relaxed);
    // More than sockets take: 40 MB.
    let pictures: Vec<_> = (1..80)
        .map(|number| large(if number % 10 == 0 { 0x17 } else { 0x27 }, number * 40))
        .collect();
    for picture in &pictures {
        publisher.publish(std::slice::from_ref(picture)).await;
        for viewer in &mut viewers {
            assert_eq!(viewer.frame().await, *picture);
        }
    }
    let stream = origin.server.streams()[0].clone();
    let held = stream.memory().unwrap();
    assert!(held < 16 << 20, "the log has {held} bytes");
    deaf.store(false, Ordering::Relaxed);
    let shown = forwards(&api, |shown| shown[0]["skips"].as_u64() > Some(0)).await;
    assert_eq!(shown[1]["skips"], 0);
    assert_eq!(shown[0]["attempts"], 1, "it is the same connection");
    publisher.publish(&[keyframe(4_000)]).await;
    // What comes behind a gap is a keyframe.
    let mut last_ms = 0;
    loop {
        let frame = player.frame().await;
        if frame.timestamp > last_ms + 40 {
            assert_eq!(frame.payload[0], 0x17, "at {} ms", frame.timestamp);
        }
        last_ms = frame.timestamp;
        if last_ms == 4_000 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_forwarded_over_tls() {
    keep_log();
    let target = TlsServer::origin("", "");
    let port = target.server.rtmps.unwrap().port();
    let destination =
        format!("destination rtmps://localhost:{port}/other/name-secret?token=secret;");
    let trusting = format!("{destination} ca {};", target.authority.file().display());
    let origin = TestServer::start(Role::Origin, &forwarding(&destination, ""));
    let api = Api::of(&origin).await;
    let mut publisher = publisher(&origin).await;
    let shown = forwards(&api, all_in("waiting")).await;
    let error = shown[0]["error"].as_str().unwrap();
    assert!(error.contains("UnknownIssuer"), "{error}");
    origin.reload(&forwarding(&trusting, ""));
    let shown = forwards(&api, all_in("sending")).await;
    let destination = format!("rtmps://localhost:{port}/other/name…");
    assert_eq!(shown[0]["destination"], destination);
    publisher.publish(&[picture(40)]).await;
    until(|| !target.server.server.streams().is_empty()).await;
    let stream = target.server.server.streams()[0].clone();
    let key = stream.key();
    assert_eq!((&*key.app, &*key.stream), ("other", "name-secret"));
    until(|| stream.totals().messages_in.load(Ordering::Relaxed) >= 4).await;
    let lines = log_lines(&destination);
    assert!(!lines.is_empty());
    let events = api.get("/api/v1/events").await.to_string();
    assert!(!events.contains("secret"), "{events}");
    assert!(
        lines.iter().all(|line| !line.contains("secret")),
        "{lines:?}"
    );
}

/// What a backend is asked, and what it answers.
#[derive(Clone, Default)]
struct Site {
    asked: Arc<std::sync::Mutex<Vec<Value>>>,
    answer: Arc<std::sync::Mutex<Value>>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_says_where_a_publication_goes() {
    let target = TestServer::origin("");
    let unused = TestServer::origin("");
    let site = Site::default();
    *site.answer.lock().unwrap() = json!({"code": 1});
    let answer = async |State(site): State<Site>, axum::Json(event): axum::Json<Value>| {
        site.asked.lock().unwrap().push(event);
        axum::Json(site.answer.lock().unwrap().clone())
    };
    let router = Router::new().route("/forward", post(answer));
    let backend = web_server(router.with_state(site.clone())).await;
    let text = format!(
        "backend http://{backend}/forward; {}",
        to(&[unused.address])
    );
    let origin = TestServer::start(Role::Origin, &forwarding(&text, ""));
    let mut publisher = origin.publisher("s?token=x").await;
    publisher.publish(&[keyframe(0)]).await;
    until(|| !site.asked.lock().unwrap().is_empty()).await;
    // A backend that fails does not end the publication, and is asked again; each new reason is
    // told.
    let api = Api::of(&origin).await;
    let told = async |reason: &str| {
        eventually(async || {
            let events = api.get("/api/v1/events").await["events"].clone();
            let events = events.as_array().unwrap().clone();
            let is_it = |it: &Value| {
                let text = it["text"].as_str().unwrap_or_default();
                it["kind"] == "forward-failed" && text.contains(reason)
            };
            events.iter().any(is_it).then_some(())
        })
        .await;
    };
    told("is asked again").await;
    *site.answer.lock().unwrap() = json!({"code": 0, "data": {"urls": [1]}});
    told("no `data.urls`").await;
    let url = format!("rtmp://{}/far/renamed?key=y", target.address);
    *site.answer.lock().unwrap() = json!({"code": 0, "data": {"urls": [url, "ftp://no"]}});
    until(|| !target.server.streams().is_empty()).await;
    let key = target.server.streams()[0].key().clone();
    assert_eq!((&*key.app, &*key.stream), ("far", "renamed"));
    let asked = site.asked.lock().unwrap()[0].clone();
    expect_stream(&asked, "on_forward");
    assert!(unused.server.streams().is_empty(), "as in SRS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_to_ourselves_is_recognised() {
    let addresses = [free_address(), free_address()];
    // One forwards to itself and to the other, which forwards back.
    let server = |number: usize, to_whom: &[SocketAddr]| {
        TestServer::start_at(
            addresses[number],
            Role::Origin,
            &forwarding(&to(to_whom), ""),
        )
    };
    let here = server(0, &addresses);
    let there = server(1, &addresses[..1]);
    let _publisher = publisher(&here).await;
    for (server, destination) in [(&here, addresses[0]), (&there, addresses[0])] {
        let api = Api::of(server).await;
        let is_looping = |it: &Value| {
            let error = it["error"].as_str().unwrap_or_default();
            it["destination"] == destination.to_string() && error.contains("lead back")
        };
        forwards(&api, |shown| shown.iter().any(is_looping)).await;
    }
    let api = Api::of(&here).await;
    forwards(&api, |shown| {
        shown.iter().any(|it| it["state"] == "sending")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_adds_and_removes_servers_and_disturbs_no_other() {
    let targets = [TestServer::origin(""), TestServer::origin("")];
    let addresses = [targets[0].address, targets[1].address];
    let origin = TestServer::start(Role::Origin, "vhost __defaultVhost__ { min_latency on; }");
    let api = Api::of(&origin).await;
    let _publisher = publisher(&origin).await;
    origin.reload(&forwarding(&to(&addresses[..1]), ""));
    forwards(&api, all_in("sending")).await;
    origin.reload(&forwarding(&to(&addresses), ""));
    let both = |shown: &[Value]| shown.len() == 2 && all_in("sending")(shown);
    let shown = forwards(&api, both).await;
    assert_eq!(shown[0]["attempts"], 1);
    origin.reload(&forwarding(&to(&addresses[1..]), ""));
    let shown = forwards(&api, |shown| shown.len() == 1).await;
    assert_eq!(shown[0]["destination"], addresses[1].to_string());
    assert_eq!(shown[0]["attempts"], 1);
    origin.reload("vhost __defaultVhost__ { min_latency on; }");
    forwards(&api, <[Value]>::is_empty).await;
    let stream = targets[1].server.streams()[0].clone();
    until(|| !stream.is_published()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_goes_on_along_the_same_connection() {
    let target = TestServer::origin("");
    let text = forwarding(&to(&[target.address]), "publish { backup on; }");
    let origin = TestServer::start(Role::Origin, &text);
    let api = Api::of(&origin).await;
    let primary = publisher(&origin).await;
    let mut player = target.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    let mut standby =
        Client::connect(origin.address, publishing(origin.address, "s?backup=1")).await;
    standby.may_publish().await;
    standby.publish(&headers()).await;
    standby.publish(&[keyframe(500)]).await;
    let stream = origin.server.streams()[0].clone();
    drop(primary);
    let second = player.frame().await;
    assert_eq!(second.payload, keyframe(0).payload);
    standby.publish(&[picture(540)]).await;
    let third = player.frame().await;
    assert!(third.timestamp > second.timestamp && second.timestamp > 0);
    let shown = forwards(&api, all_in("sending")).await;
    assert_eq!(shown[0]["attempts"], 1);
    assert!(stream.is_published());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slate_goes_on_along_the_same_connection() {
    let target = TestServer::origin("");
    let slate = slate_file(0x99);
    let publish = format!(
        "publish {{ slate {}; slate_after 100; }}",
        slate.path().display()
    );
    let text = forwarding(&to(&[target.address]), &publish);
    let origin = TestServer::start(Role::Origin, &text);
    let api = Api::of(&origin).await;
    let first = publisher(&origin).await;
    let mut viewer = origin.player("s").await;
    let mut player = target.player("s").await;
    for player in [&mut viewer, &mut player] {
        assert_eq!(player.frame().await, keyframe(0));
    }
    drop(first);
    let shown = player.frame().await;
    assert_eq!(shown.payload.last(), Some(&0x99));
    let mut publisher = publisher(&origin).await;
    let mut last_ms = shown.timestamp;
    loop {
        let frame = player.frame().await;
        assert!(frame.timestamp >= last_ms);
        last_ms = frame.timestamp;
        if frame.payload == keyframe(0).payload {
            break;
        }
    }
    publisher.publish(&[picture(40)]).await;
    assert_eq!(player.frame().await.payload, picture(40).payload);
    let shown = forwards(&api, all_in("sending")).await;
    assert_eq!(shown[0]["attempts"], 1);
}
