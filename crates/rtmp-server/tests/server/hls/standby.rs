//! A standby publisher takes over: a discontinuity where headers change.

use super::client::{Answer, HlsClient, seconds, sequence_headers};
use super::{PLAYLIST, origin, publisher};
use crate::api_client::Api;
use crate::standby::ready;
use crate::support::{message, until};
use rtmp_proto::wire::MessageType;

/// The number behind the last segment's.
fn listed_up_to(playlist: &Answer) -> u64 {
    let first = playlist.number("#EXT-X-MEDIA-SEQUENCE");
    first.unwrap_or(0) + playlist.uris().len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_a_discontinuity_only_where_the_standbys_headers_differ() {
    for differ in [false, true] {
        let (origin, http) = origin("");
        let api = Api::of(&origin).await;
        let first = publisher(&origin, 9).await;
        let mut player = HlsClient::connect(http).await;
        let media = player.begin(PLAYLIST).await;
        let before = listed_up_to(&player.fetch(&media).await);
        let mut second = origin.publisher("s?backup=1").await;
        let mut headers = sequence_headers(0);
        if differ {
            headers[1] = message(MessageType::AUDIO, 0, &[0xaf, 0, 0x12, 0x10]);
        }
        second.publish(&headers).await;
        second.publish(&seconds(0, 1)).await;
        ready(&api).await;
        drop(first);
        let on_air = || {
            let clients = origin.server.clients().list();
            let kinds: Vec<_> = clients.iter().map(|it| it.activity().name()).collect();
            kinds.contains(&"publish") && !kinds.contains(&"standby") && kinds.len() == 3
        };
        until(on_air).await;
        second.publish(&seconds(1, 8)).await;
        let grown = |playlist: &Answer| listed_up_to(playlist) >= before + 2;
        let playlist = player.fetch_until(&media, grown).await;
        let has_discontinuity = playlist.text().contains("#EXT-X-DISCONTINUITY\n");
        assert_eq!(has_discontinuity, differ, "{playlist:?}");
    }
}
