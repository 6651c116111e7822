use super::*;

const LOW_LATENCY: &str = "#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,CAN-SKIP-UNTIL=12
#EXT-X-PART-INF:PART-TARGET=0.33334
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-MAP:URI=\"init,1.mp4?t=a=b\"
#EXTINF:2.0,
s7.m4s
#EXT-X-PART:DURATION=0.33334,URI=\"s8.0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.33334,URI=\"s8.m4s\",BYTERANGE=100@50
#EXT-X-PART:DURATION=0.33334,URI=\"s8.m4s\",BYTERANGE=20
#EXTINF:1.00002,
s8.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PART:DURATION=0.2,URI=\"s9.0.m4s\",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s9.1.m4s\"
";

fn media(text: &str) -> MediaPlaylist {
    match Playlist::parse(text).unwrap() {
        Playlist::Media(list) => list,
        Playlist::Multivariant(_) => panic!("a media playlist was expected"),
    }
}

fn newest_map(list: &MediaPlaylist) -> Option<&Resource> {
    list.segments.last()?.map.as_ref()
}

#[test]
fn a_low_latency_playlist_is_read_with_its_parts() {
    let list = media(LOW_LATENCY);
    assert_eq!(list.end(), (9, 1));
    let segment = list.segment(8).unwrap();
    let ranges: Vec<_> = segment
        .parts
        .iter()
        .map(|part| part.resource.range)
        .collect();
    assert_eq!(ranges, [None, Some((50, Some(100))), Some((150, Some(20)))]);
    assert!(segment.parts[0].independent && !segment.parts[1].independent);
    assert!(!segment.discontinuity && list.segment(9).unwrap().discontinuity);
    assert_eq!(newest_map(&list).unwrap().uri, "init,1.mp4?t=a=b");
    assert_eq!(list.hint.as_ref().unwrap().uri, "s9.1.m4s");
    assert!(list.control.can_block_reload && list.control.can_skip);
    assert_eq!(list.oddities(), [""; 0]);
}

#[test]
fn a_multivariant_playlist_names_its_variants() {
    let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"a,b\"\nlow.m3u8\n\
                #EXT-X-STREAM-INF:BANDWIDTH=2\nhigh.m3u8?x\n";
    let Ok(Playlist::Multivariant(variants)) = Playlist::parse(text) else {
        panic!("a multivariant playlist was expected");
    };
    assert_eq!(variants, ["low.m3u8", "high.m3u8?x"]);
}

#[test]
fn a_delta_update_is_completed_from_the_playlist_before() {
    let old = media(LOW_LATENCY);
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n\
                #EXT-X-SKIP:SKIPPED-SEGMENTS=2\n#EXTINF:2,\ns9.m4s\n";
    let mut list = media(text);
    list.complete(Some(&old)).unwrap();
    assert_eq!(list.end(), (10, 0));
    assert_eq!(
        list.segment(7).unwrap().whole,
        old.segment(7).unwrap().whole
    );
    assert_eq!(newest_map(&list), newest_map(&old));
    assert_eq!(media(text).complete(None), Err(PlaylistError::Skip));
    let more = text.replace("SEGMENTS=2", "SEGMENTS=3");
    assert_eq!(media(&more).complete(Some(&old)), Err(PlaylistError::Skip));
}

#[test]
fn what_cannot_be_played_is_an_error() {
    for (text, expected) in [
        ("", "#EXTM3U"),
        ("#EXTM3U\n", "EXT-X-TARGETDURATION"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:x\n", "line 2"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:-1,\n", "line 3"),
    ] {
        let error = Playlist::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn rules_that_a_player_can_live_without_are_named() {
    let list = media(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-SERVER-CONTROL:HOLD-BACK=2,PART-HOLD-BACK=0.3\n\
         #EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-PART:DURATION=0.3,URI=\"p\"\n#EXTINF:1.6,\ns\n",
    );
    assert_eq!(list.oddities().len(), 4, "{:?}", list.oddities());
}
