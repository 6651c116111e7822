//! H.264's byte stream format (ITU-T H.264 Annex B).

const IDR: u8 = 5;
/// Parameter sets and delimiters.
const ADDED: [u8; 3] = [7, 8, 9];
const NAL_TYPE_MASK: u8 = 0x1f;

/// True if a picture's first bytes begin an IDR slice.
pub(super) fn has_idr(bytes: &[u8]) -> bool {
    units(bytes).any(|unit| nal_type(unit) == Some(IDR))
}

/// The units with their lengths in four bytes before them, as FLV and MP4 have
/// them and our publisher's checksums are made of them; without parameter sets
/// and delimiters, which packagers put in where they like.
pub(super) fn with_lengths(bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(bytes.len() + 16);
    let is_publishers = |unit: &&[u8]| nal_type(unit).is_some_and(|kind| !ADDED.contains(&kind));
    for unit in units(bytes).filter(is_publishers) {
        whole.extend_from_slice(&(unit.len() as u32).to_be_bytes());
        whole.extend_from_slice(unit);
    }
    whole
}

fn nal_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|byte| byte & NAL_TYPE_MASK)
}

/// The NAL units, without the zeros behind them.
fn units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts = bytes
        .windows(3)
        .enumerate()
        .filter(|(_, window)| *window == [0, 0, 1])
        .map(|(at, _)| at)
        .peekable();
    std::iter::from_fn(move || {
        let start = starts.next()? + 3;
        let end = starts.peek().copied().unwrap_or(bytes.len());
        let unit = &bytes[start..end];
        let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
        Some(&unit[..unit.len() - zeros])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_apart_by_start_codes_of_either_length() {
        let stream = b"\0\0\0\x01\x09\xf0\0\0\x01\x06SEI\0\0\0\x01\x65\xff\x80";
        assert!(has_idr(stream));
        assert!(!has_idr(&stream[..12]));
        assert_eq!(
            with_lengths(stream),
            b"\0\0\0\x04\x06SEI\0\0\0\x03\x65\xff\x80"
        );
    }
}
