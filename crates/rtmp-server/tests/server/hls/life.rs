//! A stream's life: publishers that return, its end, edges.

use super::client::{Answer, HlsClient, beside, seconds};
use super::{PLAYLIST, origin, publisher, serve};
use crate::support::until;
use rtmp_server::config::Role;

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_returns_makes_a_discontinuity() {
    let (origin, http) = origin("");
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
    player.fetch_until(&media, follows).await;
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
