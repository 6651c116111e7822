//! The size of pictures, out of sequence headers.

use super::Resolution;
use super::bits::{Bits, without_emulation_prevention};

fn resolution(width: u64, height: u64) -> Option<Resolution> {
    let width = u16::try_from(width).ok().filter(|&width| width > 0)?;
    let height = u16::try_from(height).ok().filter(|&height| height > 0)?;
    Some(Resolution { width, height })
}

/// Of a sequence parameter set of H.264 (ITU-T H.264 §7.3.2.1.1), with its NAL header.
pub(super) fn of_h264(unit: &[u8]) -> Option<Resolution> {
    let unit = without_emulation_prevention(unit);
    let mut bits = Bits::new(&unit);
    bits.skip(8)?;
    let profile = bits.read(8)?;
    bits.skip(16)?;
    bits.exp_golomb()?;
    let mut chroma_format = 1;
    let mut separate_planes = false;
    let high = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
    if high.contains(&profile) {
        chroma_format = bits.exp_golomb()?;
        if chroma_format == 3 {
            separate_planes = bits.flag()?;
        }
        bits.exp_golomb()?;
        bits.exp_golomb()?;
        bits.skip(1)?;
        if bits.flag()? {
            let lists = if chroma_format == 3 { 12 } else { 8 };
            for list in 0..lists {
                if bits.flag()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.exp_golomb()?;
    match bits.exp_golomb()? {
        0 => {
            bits.exp_golomb()?;
        }
        1 => {
            bits.skip(1)?;
            bits.signed_exp_golomb()?;
            bits.signed_exp_golomb()?;
            for _ in 0..bits.exp_golomb()?.min(256) {
                bits.signed_exp_golomb()?;
            }
        }
        _ => {}
    }
    bits.exp_golomb()?;
    bits.skip(1)?;
    let width = (u64::from(bits.exp_golomb()?) + 1) * 16;
    let map_units = u64::from(bits.exp_golomb()?) + 1;
    let frames_only = bits.flag()?;
    let fields = if frames_only { 1 } else { 2 };
    let height = map_units * 16 * fields;
    if !frames_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let (mut across, mut down) = (0, 0);
    if bits.flag()? {
        let chroma = if separate_planes { 0 } else { chroma_format };
        let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma == 1 { 2 } else { 1 } * fields;
        across = (u64::from(bits.exp_golomb()?) + u64::from(bits.exp_golomb()?)) * unit_x;
        down = (u64::from(bits.exp_golomb()?) + u64::from(bits.exp_golomb()?)) * unit_y;
    }
    resolution(width.checked_sub(across)?, height.checked_sub(down)?)
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.signed_exp_golomb()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// Of a sequence parameter set of H.265 (ITU-T H.265 §7.3.2.2), with its NAL header.
pub(super) fn of_h265(unit: &[u8]) -> Option<Resolution> {
    let unit = without_emulation_prevention(unit);
    let mut bits = Bits::new(&unit);
    bits.skip(16 + 4)?;
    let sub_layers = bits.read(3)?;
    bits.skip(1)?;
    skip_profile_tier_level(&mut bits, sub_layers)?;
    bits.exp_golomb()?;
    let chroma_format = bits.exp_golomb()?;
    let separate_planes = chroma_format == 3 && bits.flag()?;
    let width = u64::from(bits.exp_golomb()?);
    let height = u64::from(bits.exp_golomb()?);
    let (mut across, mut down) = (0, 0);
    if bits.flag()? {
        let chroma = if separate_planes { 0 } else { chroma_format };
        let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma == 1 { 2 } else { 1 };
        across = (u64::from(bits.exp_golomb()?) + u64::from(bits.exp_golomb()?)) * unit_x;
        down = (u64::from(bits.exp_golomb()?) + u64::from(bits.exp_golomb()?)) * unit_y;
    }
    resolution(width.checked_sub(across)?, height.checked_sub(down)?)
}

/// `profile_tier_level(1, sub_layers)` (§7.3.3).
fn skip_profile_tier_level(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    bits.skip(88 + 8)?;
    let mut present = Vec::new();
    for _ in 0..sub_layers {
        present.push((bits.flag()?, bits.flag()?));
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers as usize))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 })?;
        bits.skip(if level { 8 } else { 0 })?;
    }
    Some(())
}

/// Of AV1's OBUs, among which there is a sequence header (AV1 §5.3, §5.5).
pub(super) fn of_av1(mut units: &[u8]) -> Option<Resolution> {
    const SEQUENCE_HEADER: u8 = 1;
    loop {
        let (&header, rest) = units.split_first()?;
        let extended = header & 0x04 != 0;
        let sized = header & 0x02 != 0;
        let rest = if extended { rest.get(1..)? } else { rest };
        let (length, rest) = match sized {
            true => leb128(rest)?,
            false => (rest.len(), rest),
        };
        let unit = rest.get(..length)?;
        if header >> 3 & 0x0f == SEQUENCE_HEADER {
            return av1_sequence_header(unit);
        }
        units = &rest[length..];
    }
}

/// `leb128()` (AV1 §4.10.5), and what follows it.
fn leb128(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for place in 0..8 {
        let (&byte, rest) = bytes.split_first()?;
        bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, bytes));
        }
    }
    None
}

fn av1_sequence_header(unit: &[u8]) -> Option<Resolution> {
    let mut bits = Bits::new(unit);
    bits.skip(3 + 1)?;
    if bits.flag()? {
        // A reduced still picture header.
        bits.skip(5)?;
    } else {
        let timing = bits.flag()?;
        let mut decoder_model = None;
        if timing {
            bits.skip(32 + 32)?;
            if bits.flag()? {
                bits.exp_golomb()?;
            }
            if bits.flag()? {
                decoder_model = Some(bits.read(5)? as usize + 1);
                bits.skip(32 + 5 + 5)?;
            }
        }
        let initial_display_delay = bits.flag()?;
        for _ in 0..=bits.read(5)? {
            bits.skip(12)?;
            if bits.read(5)? > 7 {
                bits.skip(1)?;
            }
            if let Some(delay_bits) = decoder_model
                && bits.flag()?
            {
                bits.skip(2 * delay_bits + 1)?;
            }
            if initial_display_delay && bits.flag()? {
                bits.skip(4)?;
            }
        }
    }
    let width_bits = bits.read(4)? + 1;
    let height_bits = bits.read(4)? + 1;
    let width = u64::from(bits.read(width_bits)?) + 1;
    let height = u64::from(bits.read(height_bits)?) + 1;
    resolution(width, height)
}

/// Of a keyframe of VP9 (VP9 Bitstream Specification §6.2): its sequence header has none.
pub(super) fn of_vp9(frame: &[u8]) -> Option<Resolution> {
    const SYNC_CODE: u32 = 0x49_83_42;
    const RGB: u32 = 7;
    let mut bits = Bits::new(frame);
    if bits.read(2)? != 2 {
        return None;
    }
    let profile = bits.read(1)? | bits.read(1)? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let shows_existing = bits.flag()?;
    let inter = bits.flag()?;
    bits.skip(2)?;
    if shows_existing || inter || bits.read(24)? != SYNC_CODE {
        return None;
    }
    if profile >= 2 {
        bits.skip(1)?;
    }
    match bits.read(3)? {
        RGB if profile % 2 == 1 => bits.skip(1)?,
        RGB => {}
        _ if profile % 2 == 1 => bits.skip(1 + 3)?,
        _ => bits.skip(1)?,
    }
    let width = u64::from(bits.read(16)?) + 1;
    let height = u64::from(bits.read(16)?) + 1;
    resolution(width, height)
}
