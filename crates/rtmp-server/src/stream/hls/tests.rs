//! A packager of a stream that somebody publishes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hls::playlist::Resource;
use hls::segmenter::{Container, Settings};
use rtmp_proto::session::StreamKey;
use rtmp_proto::wire::{Message, MessageType};

use super::{HlsSettings, StartedPackager};
use crate::stream::{MediaMessage, Publication, Registry, Stream, StreamSettings, Wakers};

/// x264's decoder configuration of 320x180.
const AVC_CONFIGURATION: &str = "01f4000dffe1001a67f4000d919681419f8dc044000003000400000300f03c50aa\
                                 8001000568ce0f1920fff8f800";

fn message(message_type: MessageType, timestamp: u32, payload: Vec<u8>) -> Message {
    Message {
        timestamp,
        message_type,
        stream_id: 1,
        payload: payload.into(),
    }
}

fn sequence_headers() -> Vec<Message> {
    let configuration = data_encoding::HEXLOWER.decode(AVC_CONFIGURATION.as_bytes());
    let mut video = vec![0x17, 0, 0, 0, 0];
    video.extend(configuration.unwrap());
    vec![
        message(MessageType::VIDEO, 0, video),
        message(MessageType::AUDIO, 0, vec![0xaf, 0, 0x11, 0x90]),
    ]
}

fn sound(timestamp: u32) -> Message {
    let payload = [&[0xaf, 1][..], &[0x21; 200]].concat();
    message(MessageType::AUDIO, timestamp, payload)
}

/// A picture of one NAL unit of this length.
fn picture(is_keyframe: bool, timestamp: u32, length: u32) -> Message {
    let (head, unit) = if is_keyframe {
        (0x17, 0x65)
    } else {
        (0x27, 0x41)
    };
    let mut payload = vec![head, 1, 0, 0, 0];
    payload.extend(length.to_be_bytes());
    payload.resize(9 + length as usize, unit);
    message(MessageType::VIDEO, timestamp, payload)
}

fn published(gop_cache_max_frames: usize) -> (Arc<Stream>, Publication) {
    let registry = Registry::new(Wakers::new(1).unwrap(), u64::MAX, Instant::now());
    let key = StreamKey {
        vhost: "v".to_owned(),
        app: "live".to_owned(),
        stream: "s".to_owned(),
    };
    let mut settings = StreamSettings::of_tests();
    settings.retention.gop_cache_max_frames = gop_cache_max_frames;
    let stream = registry.obtain(&key, &settings, Instant::now());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, sequence_headers());
    (stream, publication)
}

fn publish(publication: &mut Publication, messages: Vec<Message>) {
    let messages: Vec<_> = messages.into_iter().map(MediaMessage::from).collect();
    publication.append(&messages, Instant::now()).unwrap();
}

fn start(stream: &Stream) -> StartedPackager {
    let settings = HlsSettings {
        segments: Settings {
            container: Container::Fmp4,
            fragment: Duration::from_secs(1),
            ..Settings::default()
        },
        window: Duration::from_secs(30),
        low_latency: false,
        keys: None,
    };
    stream.start_hls(settings).unwrap()
}

/// Takes what is queued; the number of segments that are whole by it.
async fn take(started: &mut StartedPackager) -> usize {
    let mut segments = 0;
    while !started.reader.is_empty() {
        let batch = started.reader.next().await.unwrap();
        segments += started.packager.take(&batch).unwrap().len();
    }
    segments
}

/// Seconds of a keyframe and sound, each in a batch of its own.
fn publish_seconds(publication: &mut Publication, seconds: std::ops::Range<u32>, length: u32) {
    for second in seconds {
        let time = second * 1_000;
        publish(publication, vec![picture(true, time, length), sound(time)]);
    }
}

#[tokio::test]
async fn after_a_loss_segments_go_on_at_the_next_keyframe() {
    let (stream, mut publication) = published(0);
    publish_seconds(&mut publication, 0..2, 1_000);
    let mut started = start(&stream);
    // More than the queue holds.
    publish_seconds(&mut publication, 2..22, 1 << 20);
    take(&mut started).await;
    assert_eq!(
        started.packager.output().lost(),
        0,
        "the loss is told later"
    );
    publish_seconds(&mut publication, 22..26, 1_000);
    assert!(take(&mut started).await >= 2);
    assert!(started.packager.output().lost() > 0);
}

#[tokio::test]
async fn a_packager_that_begins_before_the_first_keyframe_gets_the_headers() {
    let (stream, mut publication) = published(0);
    publish(&mut publication, vec![sound(0)]);
    let mut started = start(&stream);
    publish_seconds(&mut publication, 1..5, 1_000);
    assert!(take(&mut started).await >= 2);
    let multivariant = started.packager.output().multivariant("m").unwrap();
    assert!(multivariant.contains("avc1."), "{multivariant}");
    assert!(multivariant.contains("mp4a.40.2"), "{multivariant}");
}

#[tokio::test]
async fn a_packager_that_begins_in_a_group_that_is_too_long_gets_the_headers() {
    let (stream, mut publication) = published(4);
    publish(&mut publication, vec![picture(true, 0, 1_000)]);
    let pictures = (1..9).map(|number| picture(false, number * 40, 1_000));
    publish(&mut publication, pictures.collect());
    let mut started = start(&stream);
    publish_seconds(&mut publication, 1..5, 1_000);
    assert!(take(&mut started).await >= 2);
    let multivariant = started.packager.output().multivariant("m").unwrap();
    assert!(multivariant.contains("avc1."), "{multivariant}");
}

#[tokio::test]
async fn a_packager_that_follows_gives_no_name_twice() {
    let (stream, mut publication) = published(0);
    publish_seconds(&mut publication, 0..10, 1_000);
    let former = start(&stream).packager.output().clone();
    assert!(former.first_segment() < former.next_segment());
    // An upgrade hands it over while the packager is at work.
    let handed_over = stream.free_hls_segment();
    assert!(handed_over > former.next_segment());
    stream.end_hls(&former);
    let output = start(&stream).packager.output().clone();
    // Nor the one that players wait for, who would take the past for what comes.
    assert!(output.first_segment() >= handed_over);
    assert!(
        output
            .find(Resource::Initialization(former.first_segment()))
            .is_none()
    );
}
