//! FLV files (Adobe Flash Video File Format Specification 10.1, annex E): a file
//! header, then tags. Enhanced RTMP's payloads stand in tags as they are.

/// Length of a file header with the first `PreviousTagSize`, in bytes.
pub const FILE_HEADER_BYTES: usize = 13;
/// Length of a tag's header, in bytes.
pub const TAG_HEADER_BYTES: usize = 11;
/// The longest payload of a tag, in bytes: its length has 24 bits.
pub const MAX_PAYLOAD_BYTES: usize = 0xff_ffff;

/// The kind of a tag (E.4.1). The numbers are those of RTMP's message types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagKind {
    /// A frame of sound or its decoder's configuration.
    Audio = 8,
    /// A picture or its decoder's configuration.
    Video = 9,
    /// Metadata and other data, in AMF0.
    Script = 18,
}

/// The file header (E.2), with the `PreviousTagSize` of 0 behind it. The flags say
/// which kinds of media follow: some players wait for all that are announced.
#[must_use]
pub fn file_header(audio: bool, video: bool) -> [u8; FILE_HEADER_BYTES] {
    const AUDIO: u8 = 4;
    const VIDEO: u8 = 1;
    let flags = if audio { AUDIO } else { 0 } | if video { VIDEO } else { 0 };
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// Length of a tag with so much payload, and of the `PreviousTagSize` behind it, in bytes.
#[must_use]
pub fn tag_bytes(payload: usize) -> usize {
    TAG_HEADER_BYTES + payload + 4
}

/// Appends a tag and the `PreviousTagSize` behind it. `timestamp` is in ms.
///
/// # Panics
/// `payload` is longer than [`MAX_PAYLOAD_BYTES`].
pub fn write_tag(kind: TagKind, timestamp: u32, payload: &[u8], out: &mut Vec<u8>) {
    assert!(payload.len() <= MAX_PAYLOAD_BYTES, "a payload of 24 bits");
    let length = u32::try_from(payload.len()).expect("it has 24 bits");
    let [_, length_bytes @ ..] = length.to_be_bytes();
    let [extension, time @ ..] = timestamp.to_be_bytes();
    out.reserve(tag_bytes(payload.len()));
    out.push(kind as u8);
    out.extend_from_slice(&length_bytes);
    out.extend_from_slice(&time);
    out.push(extension);
    // The stream's number, always 0.
    out.extend_from_slice(&[0; 3]);
    out.extend_from_slice(payload);
    let header = u32::try_from(TAG_HEADER_BYTES).expect("it is small");
    out.extend_from_slice(&(header + length).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stands_between_its_length_and_its_length() {
        let mut out = Vec::new();
        write_tag(TagKind::Video, 0x0102_0304, &[0x17, 1], &mut out);
        assert_eq!(
            out,
            [
                9, 0, 0, 2, 0x02, 0x03, 0x04, 0x01, 0, 0, 0, 0x17, 1, 0, 0, 0, 13
            ]
        );
    }

    #[test]
    fn the_file_header_says_what_follows() {
        let flags = |audio, video| file_header(audio, video)[4];
        assert_eq!(flags(true, true), 5);
        assert_eq!(flags(true, false), 4);
        assert_eq!(flags(false, true), 1);
    }
}
