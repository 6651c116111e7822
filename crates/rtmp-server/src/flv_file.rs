//! FLV files for tests.

use http_flv::tag::{TagKind, file_header, write_tag};

pub(crate) const KEYFRAME: &[u8] = &[0x17, 1, 0, 0, 0, 1];
pub(crate) const INTER: &[u8] = &[0x27, 1, 0, 0, 0, 1];

/// An FLV file of pictures with these payloads, one each 100 ms.
pub(crate) fn file(payloads: &[&[u8]]) -> Vec<u8> {
    let mut file = file_header(true, true).to_vec();
    for (number, payload) in payloads.iter().enumerate() {
        let time = 1_000 + 100 * u32::try_from(number).unwrap();
        write_tag(TagKind::Video, time, payload, &mut file);
    }
    file
}
