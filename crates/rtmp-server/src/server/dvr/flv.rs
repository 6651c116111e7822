//! What is particular to recordings in FLV: the beginning of a file, and what is entered there
//! at its end.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_flv::tag::{self, FILE_HEADER_BYTES, TAG_HEADER_BYTES, TagKind};
use rtmp_proto::wire::amf0::{Value, write_value};
use rtmp_proto::wire::message::data;
use rtmp_proto::wire::{Limits, Message, MessageType};

use super::file::Patch;
use crate::stream::PerTrack;

/// Place of the flags that say which media there are.
const FLAGS_OFFSET: u64 = 4;
/// The name of the metadata, with its marker and length.
const NAME_BYTES: usize = 3 + METADATA.len();
/// Marker and length of an associative array.
const ARRAY_BYTES: usize = 5;
/// Length and marker before a property's number, without the property's name.
const PROPERTY_BYTES: usize = 3;
/// Place of the duration's number, which is the first property.
const DURATION_OFFSET: usize = FILE_HEADER_BYTES
    + TAG_HEADER_BYTES
    + NAME_BYTES
    + ARRAY_BYTES
    + PROPERTY_BYTES
    + DURATION.len();
/// Place of the file size's number, which is the second.
const FILE_SIZE_OFFSET: usize = DURATION_OFFSET + 8 + PROPERTY_BYTES + FILE_SIZE.len();

const METADATA: &str = "onMetaData";
const DURATION: &str = "duration";
const FILE_SIZE: &str = "filesize";
/// The property by which a file of this server's is known again.
const RECORDER: &str = "recorder";

/// The bytes of that property, in AMF0.
pub(super) const MARK: &[u8] = b"\0\x08recorder\x02\0\x08Millrace";

/// The first bytes of a file: its header and its metadata, where duration and size are 0
/// until it is finished.
pub(super) fn beginning(media: PerTrack<bool>, metadata: Option<&Bytes>) -> Vec<u8> {
    let own = [
        (DURATION.to_owned(), Value::Number(0.0)),
        (FILE_SIZE.to_owned(), Value::Number(0.0)),
        (RECORDER.to_owned(), "Millrace".into()),
    ];
    let mut others = metadata.map(properties_of).unwrap_or_default();
    others.retain(|(name, _)| own.iter().all(|(own, _)| own != name));
    let properties = own.into_iter().chain(others).collect();
    let mut payload = BytesMut::new();
    write_value(&METADATA.into(), &mut payload);
    write_value(&Value::EcmaArray(properties), &mut payload);
    let mut bytes = tag::file_header(media.audio, media.video).to_vec();
    tag::write_tag(TagKind::Script, 0, &payload, &mut bytes);
    bytes
}

/// The properties of metadata as a publisher has sent it.
fn properties_of(payload: &Bytes) -> Vec<(String, Value)> {
    let message = Message {
        timestamp: 0,
        message_type: MessageType::DATA_AMF0,
        stream_id: 0,
        payload: payload.clone(),
    };
    let values = data::values(&message, Limits::default().amf_nesting);
    let properties = values.iter().map(Value::properties);
    properties
        .filter(|it| !it.is_empty())
        .take(1)
        .flatten()
        .cloned()
        .collect()
}

/// What is entered at the end of a file of `length` bytes: the media that it has, its duration
/// and its size.
pub(super) fn patches(media: PerTrack<bool>, duration: Duration, length: u64) -> [Patch; 3] {
    let header = tag::file_header(media.audio, media.video);
    #[expect(clippy::cast_precision_loss, reason = "AMF0 has no other numbers")]
    let size = length as f64;
    let number = |number: f64| number.to_be_bytes().to_vec();
    [
        (FLAGS_OFFSET, header[4..5].to_vec()),
        (DURATION_OFFSET as u64, number(duration.as_secs_f64())),
        (FILE_SIZE_OFFSET as u64, number(size)),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The duration and the size that the file `bytes` tells.
    pub(in crate::server::dvr) fn duration_and_size(bytes: &[u8]) -> (f64, f64) {
        let number =
            |offset: usize| f64::from_be_bytes(bytes[offset..offset + 8].try_into().unwrap());
        (number(DURATION_OFFSET), number(FILE_SIZE_OFFSET))
    }

    #[test]
    fn a_publishers_metadata_stays_but_for_duration_and_size() {
        let mut payload = BytesMut::new();
        write_value(&METADATA.into(), &mut payload);
        let properties = vec![
            (DURATION.to_owned(), Value::Number(7.0)),
            (RECORDER.to_owned(), "another".into()),
            ("width".to_owned(), Value::Number(640.0)),
        ];
        write_value(&Value::Object(properties), &mut payload);
        let bytes = beginning(PerTrack::BOTH, Some(&payload.freeze()));
        assert!(bytes.windows(MARK.len()).any(|it| it == MARK));
        let end = bytes.len() - 4;
        let payload = bytes[FILE_HEADER_BYTES + TAG_HEADER_BYTES..end].to_vec();
        let properties = properties_of(&payload.into());
        let names: Vec<_> = properties.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [DURATION, FILE_SIZE, RECORDER, "width"]);
        assert_eq!(properties[0].1, Value::Number(0.0));
    }
}
