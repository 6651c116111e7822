//! H.264 pictures made without an encoder: flat grey ones, which every decoder
//! shows, filled up to any size.
//!
//! A keyframe is one IDR slice whose first macroblock is `I_PCM` of one
//! brightness; all others predict from their neighbours and carry no residual,
//! one byte each. Every other picture skips all macroblocks. Filler data NAL
//! units make up the size that the bit rate asks for. Source: ITU-T H.264
//! §7.3, §9.1, §9.2.

use super::bits::Bits;

/// Width in macroblocks: 1280 pixels.
const WIDTH_MBS: u32 = 80;
/// Height in macroblocks: 720 pixels.
const HEIGHT_MBS: u32 = 45;
/// Pixels across.
pub(crate) const WIDTH: u32 = WIDTH_MBS * 16;
/// Pixels down.
pub(crate) const HEIGHT: u32 = HEIGHT_MBS * 16;

const NAL_INTERFRAME: u8 = 0x41;
const NAL_IDR: u8 = 0x65;
const NAL_SPS: u8 = 0x67;
const NAL_PPS: u8 = 0x68;
const NAL_FILLER: u8 = 0x0c;
const PROFILE_BASELINE: u32 = 66;
/// `constraint_set0_flag` and `constraint_set1_flag`.
const CONSTRAINTS: u32 = 0xc0;
/// Level 4.0: 720p up to 68 pictures a second, 20 Mbit/s.
const LEVEL: u32 = 40;
const FRAME_NUM_BITS: u32 = 8;
/// FLV tag header of a video message: frame type and codec, packet type,
/// composition time.
const TAG_HEADER_BYTES: usize = 5;
/// The length field before each NAL unit.
const LENGTH_BYTES: usize = 4;
/// A filler NAL unit is a header and a stop byte at least.
const MIN_FILLER: usize = LENGTH_BYTES + 2;

/// The message that configures the decoder: FLV AVC sequence header with an
/// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.2.4.1).
pub(crate) fn sequence_header(frames_per_second: u32) -> Vec<u8> {
    let sps = sps(frames_per_second);
    let pps = pps();
    let mut message = vec![0x17, 0, 0, 0, 0];
    message.extend_from_slice(&[1, sps[1], sps[2], sps[3], 0xfc | (LENGTH_BYTES as u8 - 1)]);
    for (count, set) in [(0xe1, &sps), (1, &pps)] {
        message.push(count);
        message.extend_from_slice(&(set.len() as u16).to_be_bytes());
        message.extend_from_slice(set);
    }
    message
}

/// A video message holding the picture that comes `index` pictures after its
/// keyframe (0 is the keyframe), as near to `size` bytes as can be. `gop`
/// counts the keyframes before.
pub(crate) fn picture(index: u32, gop: u32, size: usize) -> Vec<u8> {
    let (frame_type, slice) = match index {
        0 => (0x17, idr_slice(gop)),
        _ => (0x27, skipped_slice(index)),
    };
    let mut message = Vec::with_capacity(size.max(TAG_HEADER_BYTES + LENGTH_BYTES + slice.len()));
    message.extend_from_slice(&[frame_type, 1, 0, 0, 0]);
    push_nal(&mut message, &slice);
    if message.len() + MIN_FILLER <= size {
        let filler = size - message.len() - LENGTH_BYTES;
        message.extend_from_slice(&(filler as u32).to_be_bytes());
        message.push(NAL_FILLER);
        message.resize(size - 1, 0xff);
        message.push(0x80);
    }
    message
}

fn push_nal(message: &mut Vec<u8>, nal: &[u8]) {
    message.extend_from_slice(&(nal.len() as u32).to_be_bytes());
    message.extend_from_slice(nal);
}

fn sps(frames_per_second: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(8, PROFILE_BASELINE);
    bits.put(8, CONSTRAINTS);
    bits.put(8, LEVEL);
    bits.put_ue(0); // seq_parameter_set_id
    bits.put_ue(FRAME_NUM_BITS - 4); // log2_max_frame_num_minus4
    bits.put_ue(2); // pic_order_cnt_type: output order is decoding order
    bits.put_ue(1); // max_num_ref_frames
    bits.put(1, 0); // gaps_in_frame_num_value_allowed_flag
    bits.put_ue(WIDTH_MBS - 1);
    bits.put_ue(HEIGHT_MBS - 1);
    bits.put(1, 1); // frame_mbs_only_flag
    bits.put(1, 1); // direct_8x8_inference_flag
    bits.put(1, 0); // frame_cropping_flag
    bits.put(1, 1); // vui_parameters_present_flag
    bits.put(4, 0); // no aspect ratio, overscan, signal type, chroma location
    bits.put(1, 1); // timing_info_present_flag
    bits.put(32, 1); // num_units_in_tick
    bits.put(32, 2 * frames_per_second); // time_scale counts fields
    bits.put(1, 1); // fixed_frame_rate_flag
    bits.put(4, 0); // no HRD parameters, no pic_struct, no restrictions
    nal(NAL_SPS, bits)
}

fn pps() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put_ue(0); // pic_parameter_set_id
    bits.put_ue(0); // seq_parameter_set_id
    bits.put(2, 0); // CAVLC, no field order
    bits.put_ue(0); // num_slice_groups_minus1
    bits.put_ue(0); // num_ref_idx_l0_default_active_minus1
    bits.put_ue(0); // num_ref_idx_l1_default_active_minus1
    bits.put(3, 0); // no weighted prediction
    bits.put_ue(0); // pic_init_qp_minus26
    bits.put_ue(0); // pic_init_qs_minus26
    bits.put_ue(0); // chroma_qp_index_offset
    bits.put(3, 0b100); // deblocking_filter_control_present_flag
    nal(NAL_PPS, bits)
}

fn idr_slice(gop: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put_ue(0); // first_mb_in_slice
    bits.put_ue(7); // slice_type: I, as all of the picture
    bits.put_ue(0); // pic_parameter_set_id
    bits.put(FRAME_NUM_BITS, 0);
    bits.put_ue(gop % 2); // idr_pic_id: differs between neighbouring IDR pictures
    bits.put(2, 0); // no_output_of_prior_pics_flag, long_term_reference_flag
    bits.put_ue(0); // slice_qp_delta
    bits.put_ue(1); // disable_deblocking_filter_idc
    for macroblock in 0..WIDTH_MBS * HEIGHT_MBS {
        if macroblock == 0 {
            bits.put_ue(25); // mb_type I_PCM
            bits.align();
            let brightness = 48 + (gop * 16 % 160) as u8;
            bits.put_bytes(&[brightness; 256]);
            bits.put_bytes(&[128; 128]);
            continue;
        }
        bits.put_ue(3); // mb_type I_16x16_2_0_0: DC prediction, no residual
        bits.put_ue(0); // intra_chroma_pred_mode DC
        bits.put_ue(0); // mb_qp_delta
        // coeff_token "no coefficients": its code depends on how many the
        // neighbours have, and I_PCM counts as 16 (§9.2.1).
        if macroblock == 1 || macroblock == WIDTH_MBS {
            bits.put(6, 0b000011);
        } else {
            bits.put(1, 1);
        }
    }
    nal(NAL_IDR, bits)
}

fn skipped_slice(index: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put_ue(0); // first_mb_in_slice
    bits.put_ue(5); // slice_type: P, as all of the picture
    bits.put_ue(0); // pic_parameter_set_id
    bits.put(FRAME_NUM_BITS, index); // modulo 2^FRAME_NUM_BITS
    bits.put(3, 0); // default reference list, no memory management
    bits.put_ue(0); // slice_qp_delta
    bits.put_ue(1); // disable_deblocking_filter_idc
    bits.put_ue(WIDTH_MBS * HEIGHT_MBS); // mb_skip_run
    nal(NAL_INTERFRAME, bits)
}

/// Ends an RBSP and wraps it into a NAL unit, with an emulation prevention byte
/// wherever three bytes would look like a start code (§7.4.1.1).
fn nal(header: u8, mut rbsp: Bits) -> Vec<u8> {
    rbsp.put(1, 1);
    let mut nal = vec![header];
    let mut zeros = 0;
    for byte in rbsp.into_bytes() {
        if zeros == 2 && byte <= 3 {
            nal.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        nal.push(byte);
    }
    nal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_the_size_that_was_asked_for() {
        for (index, size) in [(0, 50_000), (1, 8_000), (299, 8_000)] {
            assert_eq!(picture(index, 3, size).len(), size);
        }
    }

    #[test]
    fn a_size_too_small_for_the_slice_gives_the_slice_alone() {
        let message = picture(1, 0, 1);
        assert_eq!(message[..5], [0x27, 1, 0, 0, 0]);
        let nal = u32::from_be_bytes(message[5..9].try_into().unwrap()) as usize;
        assert_eq!(message.len(), TAG_HEADER_BYTES + LENGTH_BYTES + nal);
    }

    #[test]
    fn the_nal_units_of_a_picture_fill_it_exactly() {
        for (index, size) in [(0, 20_000), (5, 1000), (5, 20)] {
            let message = picture(index, 0, size);
            let mut rest = &message[TAG_HEADER_BYTES..];
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                rest = &after[u32::from_be_bytes(*length) as usize..];
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn no_nal_unit_contains_a_start_code() {
        for slice in [
            idr_slice(0),
            idr_slice(1),
            skipped_slice(1),
            skipped_slice(256),
            sps(30),
            pps(),
        ] {
            let found = slice.windows(3).position(|three| three == [0, 0, 1]);
            assert!(!slice.starts_with(&[0, 0]) && found.is_none());
        }
    }
}
