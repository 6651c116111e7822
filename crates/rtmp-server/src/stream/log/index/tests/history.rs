//! The past that a log gives to a consumer that begins with it.

use std::sync::Arc;

use bytes::Bytes;
use rtmp_proto::wire::MessageType;
use rtmp_proto::wire::media::MediaClass;

use super::*;
use crate::stream::log::headers::Header;

/// Headers with one that lies at `offset`.
fn headers(offset: u64) -> Arc<Headers> {
    let mut headers = Headers::default();
    headers.set(Header {
        class: MediaClass::VideoSequenceHeader { track: 0 },
        codec: None,
        message_type: MessageType::VIDEO,
        payload: Bytes::from_static(b"header"),
        offset,
    });
    Arc::new(headers)
}

#[test]
fn it_begins_with_the_oldest_keyframe_that_is_not_too_old() {
    let mut index = index(10_000);
    pictures(&mut index, 0..120, 25);
    for (length_ms, first) in [(0, 100), (1_000, 100), (2_500, 75), (60_000, 0)] {
        let history = index.history(length_ms);
        assert_eq!(history.from, first * LENGTH, "{length_ms}");
        assert_eq!(history.end, index.end());
        assert_eq!(history.times.first(), Some(&(first * 40)));
        assert_eq!(history.times.len() as u64, 120 - first);
    }
}

#[test]
fn it_has_no_messages_of_before_a_change_of_headers_or_publication() {
    let mut index = index(10_000);
    pictures(&mut index, 0..50, 25);
    index.set_headers(headers(50 * LENGTH));
    pictures(&mut index, 50..90, 25);
    let history = index.history(60_000);
    assert_eq!(history.from, 50 * LENGTH);
    assert_eq!(history.headers.len(), 1);
    index.begin_publication(false);
    index.set_headers(headers(90 * LENGTH));
    let empty = index.history(60_000);
    assert_eq!((empty.from, empty.times.len()), (index.end(), 0));
    // Headers that have come before the first frame are not lost.
    assert_eq!((empty.headers.len(), empty.begin_ms), (1, 89 * 40));
    pictures(&mut index, 100..130, 25);
    assert_eq!(index.history(60_000).from, 90 * LENGTH);
}
