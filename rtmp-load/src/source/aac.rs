//! AAC-LC frames made without an encoder: mono silence, filled up to any size.
//!
//! Source: ISO/IEC 14496-3 §1.6.2.1 (configuration) and §4.4.2.1 (raw data
//! block).

use super::bits::Bits;

/// Samples of one channel in a frame.
pub(crate) const SAMPLES_PER_FRAME: u64 = 1024;
/// Samples a second.
pub(crate) const SAMPLE_RATE: u64 = 44_100;

const ID_FILL: u32 = 6;
const ID_END: u32 = 7;
/// The most that one fill element holds: 15 + 255 − 1 bytes.
const MAX_FILL: usize = 269;
/// `fill_byte` of an extension payload of type `EXT_FILL_DATA`.
const FILL_BYTE: u32 = 0b1010_0101;

/// The message that configures the decoder: FLV AAC sequence header with an
/// `AudioSpecificConfig` of AAC-LC, 44.1 kHz, one channel.
pub(crate) fn sequence_header() -> Vec<u8> {
    let mut config = Bits::default();
    config.put(5, 2); // AAC-LC
    config.put(4, 4); // 44,100 Hz
    config.put(4, 1); // one channel
    config.put(3, 0); // 1024 samples, no core coder, no extension
    let mut message = vec![0xaf, 0];
    message.extend_from_slice(&config.into_bytes());
    message
}

/// An audio message of silence, as near to `size` bytes as can be.
pub(crate) fn silence(size: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(3, 0); // single channel element
    bits.put(4, 0); // element_instance_tag
    bits.put(8, 0); // global_gain
    bits.put(1, 0); // ics_reserved_bit
    bits.put(2, 0); // window_sequence: only long
    bits.put(1, 0); // window_shape
    bits.put(6, 0); // max_sfb: no spectrum at all
    bits.put(1, 0); // predictor_data_present
    bits.put(3, 0); // no pulse, noise shaping or gain control data
    let message_header = 2;
    loop {
        let room = size.saturating_sub(message_header + bits.len().div_ceil(8) + 1);
        // A fill element costs up to two bytes around its payload.
        let fill = room.saturating_sub(2).min(MAX_FILL);
        if fill == 0 {
            break;
        }
        put_fill(&mut bits, fill);
    }
    bits.put(3, ID_END);
    let mut message = vec![0xaf, 1];
    message.extend_from_slice(&bits.into_bytes());
    message
}

/// A fill element with `count` (1 to 269) bytes of payload.
fn put_fill(bits: &mut Bits, count: usize) {
    bits.put(3, ID_FILL);
    if count < 15 {
        bits.put(4, count as u32);
    } else {
        bits.put(4, 15);
        bits.put(8, count as u32 - 14);
    }
    bits.put(4, 1); // EXT_FILL_DATA
    bits.put(4, 0); // fill_nibble
    for _ in 1..count {
        bits.put(8, FILL_BYTE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_that_of_aac_lc_mono_at_44100() {
        assert_eq!(sequence_header(), [0xaf, 0, 0x12, 0x08]);
    }

    #[test]
    fn silence_comes_within_three_bytes_of_the_size_asked_for() {
        for size in [10, 20, 34, 100, 186, 372, 1000] {
            let length = silence(size).len();
            assert!(length.abs_diff(size) <= 3, "{length} bytes for {size}");
        }
    }
}
