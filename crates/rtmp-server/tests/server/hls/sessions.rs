//! Sessions: hooks, limits and operators see a viewer, not its requests.

use std::sync::Arc;

use super::client::{HlsClient, beside};
use super::{PLAYLIST, hooked, hooks, origin, publisher, serve};
use crate::api_client::Api;
use crate::hooks::Site;
use crate::support::{TestServer, keep_log, log_lines, until};
use rtmp_server::Client;
use rtmp_server::config::Role;

/// The sessions of a server.
fn sessions(server: &TestServer) -> Vec<Arc<Client>> {
    let clients = server.server.clients().list();
    let playing = |client: &Arc<Client>| client.activity().name() == "play";
    clients.into_iter().filter(playing).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_is_one_client_with_its_own_parameters_in_each_uri() {
    keep_log();
    let (origin, http) = origin("");
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin("/live/s.m3u8?sign=a%20b&x").await;
    assert!(media.contains("?hls_ctx="), "{media}");
    assert!(media.ends_with("&sign=a%20b&x"), "{media}");
    let (_, query) = media.split_once('?').unwrap();
    let playlist = player.fetch(&media).await;
    for uri in playlist.uris() {
        assert!(uri.ends_with(query), "{uri}");
        // Another connection may ask, too.
        let mut other = HlsClient::connect(http).await;
        other.fetch(&beside(PLAYLIST, &uri)).await;
    }
    let [session] = &sessions(&origin)[..] else {
        panic!("one session");
    };
    let sent = session
        .meter
        .bytes
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(sent > 10_000, "{sent}");
    let id = session.id;
    assert!(origin.server.dismiss(id));
    assert_eq!(player.get(&media).await.status, 403);
    assert!(sessions(&origin).is_empty());
    let line = format!("c{id} 127.0.0.1");
    until(|| {
        log_lines(&line)
            .iter()
            .any(|it| it.ends_with("bytes; dismissed"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_asked_once_and_told_of_the_end() {
    let site = Site::default();
    let (origin, http) = hooked(&site, &[("on_play", "/zero"), ("on_stop", "/zero")]).await;
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin("/live/s.m3u8?token=x").await;
    for uri in player.fetch(&media).await.uris() {
        player.fetch(&beside(PLAYLIST, &uri)).await;
    }
    assert_eq!(site.actions(), ["on_play"]);
    let id = sessions(&origin)[0].id;
    {
        let asked = site.asked.lock().unwrap();
        assert_eq!(asked[0]["param"], "?token=x");
        assert_eq!(asked[0]["client_id"], id.to_string());
    }
    origin.server.dismiss(id);
    until(|| site.actions() == ["on_play", "on_stop"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_server_goes_on_here_by_the_same_checks() {
    let site = Site::default();
    let (origin, http) = hooked(&site, &[("on_play", "/zero")]).await;
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let playlist = player
        .fetch("/live/s.m3u8?hls_ctx=0123456789abcdef&token=x")
        .await;
    let uris = playlist.uris();
    assert!(
        uris[0].ends_with("?hls_ctx=0123456789abcdef&token=x"),
        "{uris:?}"
    );
    player.fetch(&beside(PLAYLIST, &uris[0])).await;
    assert_eq!(site.actions(), ["on_play"]);
    assert_eq!(sessions(&origin).len(), 1);
    // It is a session of that stream alone.
    let other = player
        .get("/live/other.m3u8?hls_ctx=0123456789abcdef")
        .await;
    assert_eq!(other.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_play_gets_no_session() {
    let site = Site::default();
    let hooks = hooks(&site, &[("on_play", "/one")]).await;
    for (vhost, fields, reason) in [
        (hooks.as_str(), "", "not allowed"),
        ("security { enabled on; deny play all; }", "", "address"),
        (
            "refer_play example.com;",
            "Referer: http://evil.net/\r\n",
            "page",
        ),
    ] {
        let vhost = vhost.replace("deny play", "allow publish all; deny play");
        let (origin, http) = serve(Role::Origin, "", &vhost);
        let _publisher = publisher(&origin, 9).await;
        let mut player = HlsClient::connect(http).await;
        for target in [
            PLAYLIST,
            "/live/s.m3u8?hls_ctx=abc",
            "/live/s-1.ts?hls_ctx=abc",
        ] {
            player.ask(&format!("GET {target}"), fields).await;
            let refused = player.answer().await;
            assert_eq!(refused.status, 403, "{target} {vhost}: {refused:?}");
            assert!(refused.text().contains(reason), "{refused:?}");
        }
        assert!(sessions(&origin).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sessions_the_media_playlist_is_there_at_once() {
    let (origin, http) = origin("hls_ctx off;");
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let playlist = player.fetch("/live/s.m3u8?a=b").await;
    let uris = playlist.uris();
    assert!(uris[0].ends_with(".ts?a=b"), "{playlist:?}");
    player.fetch(&beside(PLAYLIST, &uris[0])).await;
    assert!(sessions(&origin).is_empty());
    // Those that caches keep for all viewers.
    let (origin, http) = super::origin("hls_ts_ctx off;");
    let _publisher = super::publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let uris = player.fetch(&media).await.uris();
    assert!(uris[0].ends_with(".ts"), "{uris:?}");
    player.fetch(&beside(PLAYLIST, &uris[0])).await;
    assert_eq!(sessions(&origin).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_have_the_limits_of_connections_for_themselves() {
    for limit in ["max_connections 2;", "max_connections_per_address 2;"] {
        let text = format!(
            "http_server {{ enabled on; }} {limit} vhost __defaultVhost__ {{ hls {{ enabled on; \
             hls_fragment 2; }} }}"
        );
        let origin = TestServer::start(Role::Origin, &text);
        let _publisher = publisher(&origin, 9).await;
        let mut player = HlsClient::connect(origin.http.unwrap()).await;
        // A session ends 10 s after its last request: on a slow machine it takes more.
        let mut newest = None;
        let refused = loop {
            let answer = player.get(PLAYLIST).await;
            assert!(sessions(&origin).len() <= 2, "{limit}");
            if answer.status != 200 {
                break answer;
            }
            newest = answer.uris().pop();
        };
        assert_eq!(refused.status, 503, "{limit}: {refused:?}");
        player.fetch(&beside(PLAYLIST, &newest.unwrap())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_worth_nothing_at_another_address() {
    let site = Site::default();
    let (origin, http) = hooked(&site, &[("on_play", "/zero")]).await;
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    player.fetch(&media).await;
    let address = std::net::Ipv4Addr::new(127, 0, 0, 2);
    let mut other = HlsClient::connect_from(address, http).await;
    other.fetch(&media).await;
    assert_eq!(site.actions(), ["on_play", "on_play"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_refused_session_leave_no_client_behind() {
    let site = Site::default();
    let (origin, http) = hooked(&site, &[("on_play", "/one")]).await;
    let _publisher = publisher(&origin, 9).await;
    // Some requests are refused while others begin the session anew.
    let mut players = tokio::task::JoinSet::new();
    for _ in 0..8 {
        players.spawn(async move {
            let mut player = HlsClient::connect(http).await;
            for _ in 0..20 {
                let refused = player.get("/live/s.m3u8?hls_ctx=abc").await;
                assert_eq!(refused.status, 403);
            }
        });
    }
    players.join_all().await;
    // The publisher is left.
    until(|| origin.server.clients().count() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_hooks_are_asked_is_let_out_again() {
    let site = Site::default();
    let (origin, http) = hooked(&site, &[("on_play", "/both"), ("on_stop", "/zero")]).await;
    let _publisher = publisher(&origin, 9).await;
    let mut first = HlsClient::connect(http).await;
    first.ask(&format!("GET {PLAYLIST}"), "").await;
    until(|| site.actions() == ["on_play"]).await;
    drop(first);
    // Its session is left, besides the publisher.
    until(|| origin.server.clients().count() <= 2).await;
    // The hook answers two at a time.
    let mut second = HlsClient::connect(http).await;
    second.ask(&format!("GET {PLAYLIST}"), "").await;
    assert_eq!(second.answer().await.status, 200);
    let is_let_out = || {
        let asked = site.asked.lock().unwrap();
        let of_first = asked
            .iter()
            .filter(|it| it["client_id"] == asked[0]["client_id"]);
        of_first.map(|it| &it["action"]).eq(["on_play", "on_stop"])
    };
    until(is_let_out).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_head_begins_no_session() {
    let site = Site::default();
    let (origin, http) = hooked(&site, &[("on_play", "/zero")]).await;
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let segment = player.fetch(&media).await.uris().remove(0);
    let segment = beside(PLAYLIST, &segment);
    let (path, _) = segment.split_once('?').unwrap();
    let foreign = format!("{path}?hls_ctx=0123456789abcdef");
    for target in [
        &segment,
        &foreign,
        PLAYLIST,
        &media,
        "/live/s.m3u8?hls_ctx=x",
    ] {
        player.ask(&format!("HEAD {target}"), "").await;
        let head = player.answer_to("HEAD").await;
        assert_eq!(head.status, 200, "{target}: {head:?}");
    }
    assert_eq!(sessions(&origin).len(), 1);
    assert_eq!(site.actions(), ["on_play"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_dismissed_stays_so() {
    let (origin, http) = origin("");
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let segment = player.fetch(&media).await.uris().remove(0);
    origin.server.dismiss(sessions(&origin)[0].id);
    // Nothing is left of it that a sweep could forget: one of another viewer has come since.
    let mut other = HlsClient::connect(http).await;
    other.begin(PLAYLIST).await;
    for target in [&media, &beside(PLAYLIST, &segment)] {
        assert_eq!(player.get(target).await.status, 403, "{target}");
        player.ask(&format!("HEAD {target}"), "").await;
        assert_eq!(player.answer_to("HEAD").await.status, 403, "{target}");
    }
    assert_eq!(sessions(&origin).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_dismissed_while_hooks_are_asked_gives_its_place_back_at_once() {
    let site = Site::default();
    let hooks = hooks(&site, &[("on_play", "/both"), ("on_stop", "/zero")]).await;
    let quota = "quota { players_per_address 1; }";
    let (origin, http) = serve(Role::Origin, "", &format!("{hooks} {quota}"));
    let _publisher = publisher(&origin, 9).await;
    let mut first = HlsClient::connect(http).await;
    first.ask(&format!("GET {PLAYLIST}"), "").await;
    until(|| site.actions() == ["on_play"]).await;
    let waiting = || {
        let clients = origin.server.clients().list();
        clients
            .into_iter()
            .find(|it| it.activity().name() == "wait")
    };
    origin.server.dismiss(waiting().unwrap().id);
    // The hook has not answered: it waits for a second request, which needs the place.
    let mut second = HlsClient::connect(http).await;
    second.ask(&format!("GET {PLAYLIST}"), "").await;
    assert_eq!(second.answer().await.status, 200);
    assert_eq!(first.answer().await.status, 403);
    // Nor does it take the place again once the hook has let it in.
    until(|| site.actions().contains(&"on_stop".to_owned())).await;
    origin.server.dismiss(sessions(&origin)[0].id);
    let (mut third, mut fourth) = (
        HlsClient::connect(http).await,
        HlsClient::connect(http).await,
    );
    third.ask(&format!("GET {PLAYLIST}"), "").await;
    until(|| waiting().is_some()).await;
    assert_eq!(fourth.get(PLAYLIST).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_do_not_fill_the_log() {
    keep_log();
    let site = Site::default();
    let (origin, http) = hooked(&site, &[("on_play", "/one")]).await;
    let _publisher = origin.publisher("unwelcome").await;
    let mut player = HlsClient::connect(http).await;
    for _ in 0..100 {
        assert_eq!(player.get("/live/unwelcome.m3u8").await.status, 403);
    }
    until(|| !log_lines("more requests were refused within").is_empty()).await;
    until(|| !log_lines("hooks have not allowed").is_empty()).await;
    // A slow machine may take more than one period.
    for lines in ["HLS of live/unwelcome: refused", "does not allow it"] {
        let lines = log_lines(lines).len();
        assert!((1..100).contains(&lines), "{lines} lines");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_count_among_the_players_of_their_stream() {
    let (origin, http) = origin("");
    let api = Api::of(&origin).await;
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let uris = player.fetch(&media).await.uris();
    player.fetch(&beside(PLAYLIST, &uris[0])).await;
    let summaries = api.get("/api/v1/summaries").await;
    assert_eq!(summaries["data"]["players"], 1, "{summaries}");
    let metrics = api.ask("GET", "/metrics").await.body;
    let value = |name: &str| {
        let name = format!("millrace_stream_{name}{{");
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with(&name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!(value("players"), 1.0);
    assert!(value("sent_bytes_total") > 10_000.0);
}
