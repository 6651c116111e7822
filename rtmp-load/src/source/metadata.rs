//! The `onMetaData` message of a publisher.

use rtmp_proto::wire::amf0::{Value, write_value};

use super::{aac, h264, shape::Shape};

const CODEC_AVC: f64 = 7.0;
const CODEC_AAC: f64 = 10.0;

/// The payload that describes a generated stream to the server.
pub(super) fn of(shape: &Shape) -> Vec<u8> {
    let number = |name: &str, value: f64| (name.to_owned(), Value::Number(value));
    let mut fields = vec![
        number("width", h264::WIDTH.into()),
        number("height", h264::HEIGHT.into()),
        number("framerate", shape.frames_per_second.into()),
        number("videocodecid", CODEC_AVC),
        number("videodatarate", shape.video_bits_per_second as f64 / 1000.0),
    ];
    if shape.audio_bits_per_second > 0 {
        fields.push(number("audiocodecid", CODEC_AAC));
        fields.push(number(
            "audiodatarate",
            shape.audio_bits_per_second as f64 / 1000.0,
        ));
        fields.push(number("audiosamplerate", aac::SAMPLE_RATE as f64));
    }
    fields.push(("encoder".to_owned(), Value::String("rtmp-load".to_owned())));
    let mut payload = Vec::new();
    write_value(&Value::String("onMetaData".to_owned()), &mut payload);
    write_value(&Value::EcmaArray(fields), &mut payload);
    to_server(payload)
}

/// A file's data message as a publisher sends it: `@setDataFrame` in front
/// tells the server to keep it for players to come.
pub(super) fn to_server(payload: Vec<u8>) -> Vec<u8> {
    let mut message = Vec::with_capacity(payload.len() + 16);
    write_value(&Value::String("@setDataFrame".to_owned()), &mut message);
    message.extend_from_slice(&payload);
    message
}
