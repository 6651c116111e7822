//! The stamp that our own publisher puts into every video message, by which a
//! player knows when the frame was sent, which frame it is, and whether its
//! bytes are the ones that were sent.
//!
//! It is an H.264 SEI message of type *user data unregistered* (ITU-T H.264
//! D.1.7): any decoder skips it, any relay carries it. Its fields are written
//! seven bits to a byte with the top bit set, so that no start-code emulation
//! can arise and nothing needs escaping.

use crate::clock::Instant;

/// Marks our SEI message (`uuid_iso_iec_11578`); no byte of it is zero.
const UUID: [u8; 16] = *b"millrace-stamp\xb1\x01";
const SEI_NAL_TYPE: u8 = 6;
const USER_DATA_UNREGISTERED: u8 = 5;
const RBSP_STOP: u8 = 0x80;

/// Bytes of the UUID and the four 32-bit fields (5 bytes each) and the time
/// (10 bytes).
const PAYLOAD_BYTES: usize = UUID.len() + 4 * 5 + 10;
/// Bytes of the whole NAL unit, without the length field before it.
pub(crate) const NAL_BYTES: usize = 3 + PAYLOAD_BYTES + 1;

/// The stamp of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The boot whose clock `sent_at` was read from; see [`crate::clock`].
    pub boot: u32,
    /// Number of the publisher: differs between runs and between streams.
    pub publisher: u32,
    /// Number of video frames that this publisher has sent before this one.
    pub sequence: u32,
    /// Time at which the frame was handed to the publisher's socket.
    pub sent_at: Instant,
    /// CRC-32 of all bytes of the message behind the stamp.
    pub checksum: u32,
}

impl Stamp {
    /// The SEI NAL unit that carries this stamp.
    pub fn to_nal(self) -> [u8; NAL_BYTES] {
        let mut nal = [0; NAL_BYTES];
        nal[0] = SEI_NAL_TYPE;
        nal[1] = USER_DATA_UNREGISTERED;
        nal[2] = PAYLOAD_BYTES as u8;
        nal[3..19].copy_from_slice(&UUID);
        put(&mut nal[19..24], self.boot.into());
        put(&mut nal[24..29], self.publisher.into());
        put(&mut nal[29..34], self.sequence.into());
        put(&mut nal[34..44], self.sent_at.as_nanos());
        put(&mut nal[44..49], self.checksum.into());
        nal[49] = RBSP_STOP;
        nal
    }

    /// Finds a stamp in the first bytes of a video message, and with it the
    /// offset at which the checksummed bytes begin.
    pub fn find(head: &[u8]) -> Option<(Self, usize)> {
        let at = head.windows(UUID.len()).position(|window| window == UUID)?;
        let fields = head.get(at + UUID.len()..at + PAYLOAD_BYTES + 1)?;
        let stamp = Self {
            boot: get(&fields[0..5])? as u32,
            publisher: get(&fields[5..10])? as u32,
            sequence: get(&fields[10..15])? as u32,
            sent_at: Instant::from_nanos(get(&fields[15..25])?),
            checksum: get(&fields[25..30])? as u32,
        };
        Some((stamp, at + PAYLOAD_BYTES + 1))
    }
}

fn put(field: &mut [u8], value: u64) {
    for (index, byte) in field.iter_mut().rev().enumerate() {
        *byte = 0x80 | (value >> (7 * index)) as u8 & 0x7f;
    }
}

fn get(field: &[u8]) -> Option<u64> {
    field.iter().try_fold(0_u64, |value, &byte| {
        (byte & 0x80 != 0).then(|| value << 7 | u64::from(byte & 0x7f))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stamp_is_read_back_as_it_was_written(
            boot: u32, publisher: u32, sequence: u32, nanos: u64, checksum: u32,
            before in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let stamp = Stamp {
                boot, publisher, sequence, checksum, sent_at: Instant::from_nanos(nanos),
            };
            let mut head = before;
            head.extend_from_slice(&stamp.to_nal());
            let end = head.len();
            head.extend_from_slice(b"slice data");
            prop_assert_eq!(Stamp::find(&head), Some((stamp, end)));
        }

        #[test]
        fn a_stamp_holds_no_byte_that_would_need_emulation_prevention(
            boot: u32, publisher: u32, sequence: u32, nanos: u64, checksum: u32,
        ) {
            let stamp = Stamp {
                boot, publisher, sequence, checksum, sent_at: Instant::from_nanos(nanos),
            };
            prop_assert!(!stamp.to_nal().contains(&0));
        }
    }

    #[test]
    fn a_stamp_cut_short_is_not_found() {
        let stamp = Stamp {
            boot: 1,
            publisher: 2,
            sequence: 3,
            sent_at: Instant::from_nanos(4),
            checksum: 5,
        };
        let nal = stamp.to_nal();
        for length in 0..NAL_BYTES {
            assert_eq!(Stamp::find(&nal[..length]), None, "of {length} bytes");
        }
    }

    #[test]
    fn a_stamp_whose_fields_were_overwritten_with_zeros_is_not_believed() {
        let stamp = Stamp {
            boot: 1,
            publisher: 2,
            sequence: 3,
            sent_at: Instant::from_nanos(4),
            checksum: 5,
        };
        let mut nal = stamp.to_nal();
        nal[30] = 0;
        assert_eq!(Stamp::find(&nal), None);
    }
}
