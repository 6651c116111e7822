//! A stream's life: publishers that return, its end, edges.

use super::client::{Answer, HlsClient, beside, coded_picture, seconds};
use super::{PLAYLIST, hooks, origin, publisher, serve};
use crate::hooks::Site;
use crate::support::{TestServer, until};
use rtmp_server::config::{self, Role, conf};
use std::net::SocketAddr;

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_returns_makes_a_discontinuity() {
    for hls in ["", "hls_low_latency on;"] {
        let (origin, http) = origin(hls);
        let first = publisher(&origin, 9).await;
        let mut player = HlsClient::connect(http).await;
        let media = player.begin(PLAYLIST).await;
        let before = player.fetch(&media).await;
        assert!(
            !before.text().contains("#EXT-X-DISCONTINUITY"),
            "{before:?}"
        );
        drop(first);
        until(|| !origin.server.streams()[0].is_published()).await;
        let _second = publisher(&origin, 9).await;
        let follows = |after: &Answer| after.text().contains("#EXT-X-DISCONTINUITY\n");
        let after = player.fetch_until(&media, follows).await;
        // What the player has is the same, and the session goes on.
        for tag in ["#EXT-X-TARGETDURATION", "#EXT-X-VERSION"] {
            assert_eq!(after.number(tag), before.number(tag), "{after:?}");
        }
        let newest = after.uris().pop().unwrap();
        player.fetch(&beside(PLAYLIST, &newest)).await;
    }
}

/// A server's text with these directives in `hls`, and hooks that are told of the end.
async fn reloading(site: &Site, hls: &str) -> (TestServer, SocketAddr, impl Fn(&str) + use<>) {
    let hooks = hooks(site, &[("on_play", "/zero"), ("on_stop", "/zero")]).await;
    let text = move |hls: &str| {
        format!(
            "http_server {{ enabled on; }} vhost __defaultVhost__ {{ min_latency on; \
             publish_normal_timeout 600000; hls {{ hls_window 10; {hls} }} {hooks} }}"
        )
    };
    let origin = TestServer::start(Role::Origin, &text(hls));
    let http = origin.http.unwrap();
    let server = origin.server.clone();
    let reload = move |hls: &str| {
        let directives = conf::parse("new.conf", &text(hls)).unwrap();
        let loaded = config::build(&directives, server.role()).unwrap();
        server.reconfigure(loaded.config);
    };
    (origin, http, reload)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_switches_hls_off_ends_it_and_one_that_switches_it_on_begins_it_anew() {
    for low_latency in ["", "hls_low_latency on;"] {
        let site = Site::default();
        let on = format!("enabled on; hls_fragment 2; {low_latency}");
        let (origin, http, reload) = reloading(&site, &on).await;
        let mut publisher = publisher(&origin, 9).await;
        let mut player = HlsClient::connect(http).await;
        let media = player.begin(PLAYLIST).await;
        let first = player.fetch(&media).await;
        let held = origin.server.log_memory().used();
        // One that waits for what comes next does not wait for ever.
        let mut waiting = HlsClient::connect(http).await;
        if !low_latency.is_empty() {
            let next = first.number("#EXT-X-MEDIA-SEQUENCE").unwrap() + first.uris().len() as u64;
            waiting
                .ask(&format!("GET {media}&_HLS_msn={next}"), "")
                .await;
        }
        reload("enabled off;");
        // A request for something else ends the connection.
        assert_eq!(player.get(&media).await.status, 404);
        let mut player = HlsClient::connect(http).await;
        if !low_latency.is_empty() {
            // 404 if the request has come after the reload.
            let status = waiting.answer().await.status;
            assert!(matches!(status, 404 | 503), "{status}");
        }
        // The segments are given back, though the stream goes on.
        until(|| origin.server.log_memory().used() < held).await;
        reload(&on);
        publisher.publish(&seconds(9, 12)).await;
        let known = first.uris();
        let again = player.fetch(&media).await;
        assert!(
            again.uris().iter().all(|uri| !known.contains(uri)),
            "no other bytes by the same name: {first:?} {again:?}"
        );
        let newest = again.uris().pop().unwrap();
        player.fetch(&beside(PLAYLIST, &newest)).await;
        // Hooks have seen one viewer all the time.
        assert_eq!(site.actions(), ["on_play"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_with_other_segments_keeps_viewers() {
    for low_latency in ["", "hls_low_latency on;"] {
        let site = Site::default();
        let (origin, http, reload) =
            reloading(&site, &format!("enabled on; hls_fragment 1; {low_latency}")).await;
        let mut publisher = publisher(&origin, 9).await;
        let mut player = HlsClient::connect(http).await;
        let media = player.begin(PLAYLIST).await;
        let before = player.fetch(&media).await;
        reload(&format!("enabled on; hls_fragment 4; {low_latency}"));
        // A packager with the new settings takes over within a second.
        let mut next = 9;
        let after = loop {
            publisher.publish(&seconds(next, next + 1)).await;
            next += 1;
            let answer = player.get(&media).await;
            if answer.status == 503 {
                continue;
            }
            assert_eq!(answer.status, 200, "{answer:?}");
            if answer.number("#EXT-X-TARGETDURATION") >= Some(4) {
                break answer;
            }
        };
        let first = |playlist: &Answer| playlist.number("#EXT-X-MEDIA-SEQUENCE").unwrap();
        assert!(first(&after) > first(&before), "{before:?} {after:?}");
        assert_eq!(site.actions(), ["on_play"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_memory_is_given_back_when_the_stream_has_ended_and_its_viewers_have_gone() {
    for hls in ["", "hls_low_latency on;"] {
        let (origin, http) = serve(Role::Origin, hls, "publish_return_timeout 100;");
        let publisher = publisher(&origin, 9).await;
        let mut player = HlsClient::connect(http).await;
        let media = player.begin(PLAYLIST).await;
        player.fetch(&media).await;
        assert!(origin.server.log_memory().used() > 0);
        drop(publisher);
        let ended = |playlist: &Answer| playlist.text().ends_with("#EXT-X-ENDLIST\n");
        player.fetch_until(&media, ended).await;
        let clients = origin.server.clients().list();
        let viewer = clients.iter().find(|it| it.activity().name() == "play");
        origin.server.dismiss(viewer.unwrap().id);
        until(|| origin.server.log_memory().used() == 0).await;
        assert!(origin.server.streams().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keyframes_that_become_rare_begin_a_playlist_that_has_room_for_them() {
    for low_latency in ["", "hls_low_latency on;"] {
        let hls = format!("hls_fragment 1; hls_aof_ratio 6; {low_latency}");
        let (origin, http) = origin(&hls);
        let mut publisher = publisher(&origin, 9).await;
        let mut player = HlsClient::connect(http).await;
        let media = player.begin(PLAYLIST).await;
        let before = player.fetch(&media).await;
        let target = before.number("#EXT-X-TARGETDURATION").unwrap();
        let independent = |playlist: &Answer| {
            let tag = "#EXT-X-INDEPENDENT-SEGMENTS";
            playlist.text().contains(tag)
        };
        assert!(target < 5 && independent(&before), "{before:?}");
        // A keyframe every five seconds from now on.
        let mut number = 9 * 25;
        let after = loop {
            for _ in 0..125 {
                let picture = coded_picture(number % 125 == 100, number * 40);
                publisher.publish(&[picture]).await;
                number += 1;
            }
            let answer = player.get(&media).await;
            if answer.status == 503 {
                continue;
            }
            assert_eq!(answer.status, 200, "{answer:?}");
            if answer.number("#EXT-X-TARGETDURATION") != Some(target) {
                break answer;
            }
            // Until then nothing else has changed.
            assert!(independent(&answer), "{answer:?}");
        };
        assert_eq!(after.number("#EXT-X-TARGETDURATION"), Some(6));
        assert!(!independent(&after), "{after:?}");
        assert!(!before.uris().contains(&after.uris()[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_ended_is_played_to_its_end() {
    for hls in ["", "hls_ctx off;", "hls_low_latency on;"] {
        let (origin, http) = serve(Role::Origin, hls, "publish_return_timeout 100;");
        let publisher = publisher(&origin, 9).await;
        let mut player = HlsClient::connect(http).await;
        let media = match hls.contains("off") {
            true => PLAYLIST.to_owned(),
            false => player.begin(PLAYLIST).await,
        };
        player.fetch(&media).await;
        drop(publisher);
        let ended = |playlist: &Answer| playlist.text().ends_with("#EXT-X-ENDLIST\n");
        let playlist = player.fetch_until(&media, ended).await;
        let last = playlist.uris().pop().unwrap();
        player.fetch(&beside(PLAYLIST, &last)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_pulls_when_somebody_asks_and_has_the_publishers_times() {
    let (origin, _) = origin("");
    let mut publisher = publisher(&origin, 9).await;
    let remote = format!("mode remote; origin {};", origin.address);
    let (edge, http) = serve(Role::Edge, "hls_use_fmp4 on;", &remote);
    assert!(edge.server.streams().is_empty());
    let mut player = HlsClient::connect(http).await;
    player.ask(&format!("GET {PLAYLIST}"), "").await;
    // The first segment is whole when the next one begins.
    until(|| {
        edge.server
            .streams()
            .iter()
            .any(|stream| stream.is_published())
    })
    .await;
    publisher.publish(&seconds(9, 14)).await;
    let multivariant = player.answer().await;
    assert_eq!(multivariant.status, 200, "{multivariant:?}");
    assert!(
        multivariant
            .text()
            .contains("CODECS=\"avc1.F4000D,mp4a.40.2\"")
            || multivariant
                .text()
                .contains("CODECS=\"avc1.f4000d,mp4a.40.2\""),
        "{multivariant:?}"
    );
    assert!(
        multivariant.text().contains("RESOLUTION=320x180"),
        "{multivariant:?}"
    );
    let media = beside(PLAYLIST, &multivariant.uris()[0]);
    let uri = player.fetch(&media).await.uris().remove(0);
    let segment = player.fetch(&beside(PLAYLIST, &uri)).await;
    // The origin's newest keyframe is the one of 8 s.
    let times = decode_times(&segment.body);
    assert_eq!(times.first(), Some(&8_000), "{times:?}");
}

/// The decode times of a segment's first track, ms, as its `tfdt` boxes give them at 90 kHz.
fn decode_times(segment: &[u8]) -> Vec<u64> {
    let mut times = Vec::new();
    let mut rest = segment;
    while let Some(place) = rest.windows(4).position(|name| name == b"tfdt") {
        let version = rest[place + 4];
        assert_eq!(version, 1, "a 64-bit time");
        let bytes = rest[place + 8..place + 16].try_into().unwrap();
        times.push(u64::from_be_bytes(bytes) / 90);
        rest = &rest[place + 16..];
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_ends_when_nobody_waits_for_it_any_more() {
    let (origin, _) = origin("");
    let _publisher = publisher(&origin, 9).await;
    let remote = format!("mode remote; origin {}; origin_linger 100;", origin.address);
    let (edge, http) = serve(Role::Edge, "", &remote);
    let published = || {
        let streams = edge.server.streams();
        streams.iter().any(|stream| stream.is_published())
    };
    let mut player = HlsClient::connect(http).await;
    player.ask(&format!("GET {PLAYLIST}"), "").await;
    until(published).await;
    drop(player);
    until(|| !published()).await;
}
