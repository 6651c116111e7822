//! Low-latency HLS (RFC 8216bis), by a client that holds the server to it.

use super::client::{HlsClient, beside, seconds};
use super::{PLAYLIST, origin, publisher};

const LOW_LATENCY: &str = "hls_low_latency on; hls_part 200;";

/// The number and the part that a resource of the playlist names.
fn hint(playlist: &super::client::Answer) -> (u64, u64, String) {
    let uris = playlist.attributes("#EXT-X-PRELOAD-HINT", "URI");
    let [uri] = &uris[..] else {
        panic!("one hint: {playlist:?}");
    };
    let (_, name) = uri.split('?').next().unwrap().rsplit_once('-').unwrap();
    let mut numbers = name.split('.');
    let mut number = || numbers.next().unwrap().parse().unwrap();
    (number(), number(), uri.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_make_up_their_segments() {
    let (origin, http) = origin(LOW_LATENCY);
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let playlist = player.fetch(&media).await;
    let control = playlist.attributes("#EXT-X-SERVER-CONTROL", "CAN-BLOCK-RELOAD");
    assert_eq!(control, ["YES"], "{playlist:?}");
    let maps = playlist.attributes("#EXT-X-MAP", "URI");
    let map = player.fetch(&beside(PLAYLIST, &maps[0])).await;
    assert_eq!(&map.body[4..8], b"ftyp");
    // The parts before a segment's URI are that segment's.
    let mut parts = Vec::new();
    let mut compared = 0;
    for line in playlist.text().lines() {
        if let Some(part) = line.strip_prefix("#EXT-X-PART:") {
            let uri = part
                .split("URI=\"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap();
            let part = player.fetch(&beside(PLAYLIST, uri)).await;
            assert_eq!(&part.body[4..8], b"moof");
            parts.extend(part.body);
        } else if !line.starts_with('#') {
            let segment = player.fetch(&beside(PLAYLIST, line)).await;
            if !parts.is_empty() {
                assert_eq!(segment.body, parts, "{line}");
                compared += 1;
            }
            parts.clear();
        }
    }
    assert!(compared > 0, "{playlist:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_reload_is_answered_when_the_part_is_there() {
    let (origin, http) = origin(LOW_LATENCY);
    let mut publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let playlist = player.fetch(&media).await;
    let (segment, part, uri) = hint(&playlist);
    let target = format!("{media}&_HLS_msn={segment}&_HLS_part={part}");
    player.ask(&format!("GET {target}"), "").await;
    // The hinted part is asked for before it is there, too.
    let mut loader = HlsClient::connect(http).await;
    loader
        .ask(&format!("GET {}", beside(PLAYLIST, &uri)), "")
        .await;
    publisher.publish(&seconds(9, 10)).await;
    let loaded = loader.answer().await;
    assert_eq!(loaded.status, 200);
    assert_eq!(&loaded.body[4..8], b"moof");
    let reloaded = player.answer().await;
    assert_eq!(reloaded.status, 200);
    let parts = reloaded.attributes("#EXT-X-PART", "URI");
    assert!(parts.contains(&uri), "{uri}: {reloaded:?}");
    assert_ne!(hint(&reloaded), hint(&playlist));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_can_never_be_answered_is_refused() {
    let (origin, http) = origin(LOW_LATENCY);
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let playlist = player.fetch(&media).await;
    let (segment, part, uri) = hint(&playlist);
    for bad in [
        format!("&_HLS_msn={}", segment + 3),
        format!("&_HLS_msn={segment}&_HLS_part={}", part + 100),
        "&_HLS_part=1".to_owned(),
        "&_HLS_msn=x".to_owned(),
    ] {
        let refused = player.get(&format!("{media}{bad}")).await;
        assert_eq!(refused.status, 400, "{bad}: {refused:?}");
    }
    // What is known is there at once.
    let there = player
        .get(&format!("{media}&_HLS_msn={}", segment - 1))
        .await;
    assert_eq!(there.status, 200);
    for gone in ["999", "1"] {
        let name = format!("s-{segment}.{part}");
        let uri = uri.replace(&name, &format!("s-{gone}"));
        let refused = player.get(&beside(PLAYLIST, &uri)).await;
        assert_eq!(refused.status, 404, "{uri}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_leaves_out_what_the_player_has() {
    let (origin, http) = origin("hls_low_latency on; hls_part 200; hls_fragment 1; hls_window 20;");
    let _publisher = publisher(&origin, 29).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let whole = player.fetch(&media).await;
    let update = player.fetch(&format!("{media}&_HLS_skip=YES")).await;
    let skipped = update.attributes("#EXT-X-SKIP", "SKIPPED-SEGMENTS");
    let skipped: usize = skipped[0].parse().unwrap();
    assert!(skipped > 0);
    let segments = whole.uris();
    assert_eq!(update.uris(), segments[skipped..]);
    let sequence = "#EXT-X-MEDIA-SEQUENCE";
    assert_eq!(update.number(sequence), whole.number(sequence));
}
