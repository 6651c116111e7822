//! Packets, sections and PES headers (ISO/IEC 13818-1 §2.4).

use serde::{Deserialize, Serialize};

use crate::segmenter::track::Ticks;

/// The length of a packet.
pub(super) const PACKET_BYTES: usize = 188;
const HEADER_BYTES: usize = 4;

pub(super) const PMT_PID: u16 = 0x1000;
pub(super) const VIDEO_PID: u16 = 0x100;
pub(super) const AUDIO_PID: u16 = 0x101;

/// The continuity counters, of which each counts the packets of a PID.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) pat: u8,
    pub(super) pmt: u8,
    pub(super) video: u8,
    pub(super) audio: u8,
}

/// What the first packet of a PES packet says of it.
pub(super) struct Start {
    /// The program clock reference, in ticks.
    pub(super) clock: Option<Ticks>,
    /// Decoding can begin here.
    pub(super) random_access: bool,
}

/// A section of a table of program 1 (§2.4.4).
pub(super) fn section(table_id: u8, version: u8, body: &[u8]) -> Vec<u8> {
    const HEAD_AND_CRC: usize = 5 + 4;
    let length = (body.len() + HEAD_AND_CRC) as u16;
    let [length_high, length_low] = (0xb000 | length).to_be_bytes();
    let current = 0xc1 | version << 1;
    let mut section = vec![table_id, length_high, length_low, 0, 1, current, 0, 0];
    section.extend_from_slice(body);
    section.extend_from_slice(&crc(&section).to_be_bytes());
    section
}

/// The checksum of sections (annex A).
fn crc(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x04c1_1db7;
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            let shifted = crc << 1;
            if crc >> 31 == 1 {
                shifted ^ POLYNOMIAL
            } else {
                shifted
            }
        })
    })
}

/// Appends the packet of a section, which fits one.
pub(super) fn write_section(pid: u16, counter: &mut u8, section: &[u8], out: &mut Vec<u8>) {
    let end = out.len() + PACKET_BYTES;
    write_header(pid, true, PAYLOAD, counter, out);
    out.push(0);
    out.extend_from_slice(section);
    out.resize(end, 0xff);
}

/// The header of a PES packet (§2.4.3.6), without its length.
pub(super) fn pes_header(stream_id: u8, shown: Ticks, decoded: Option<Ticks>) -> Vec<u8> {
    const ALIGNED: u8 = 0x84;
    let decoded = decoded.filter(|&decoded| decoded != shown);
    let (flags, length) = if decoded.is_some() {
        (0xc0, 10)
    } else {
        (0x80, 5)
    };
    let mut pes = vec![0, 0, 1, stream_id, 0, 0, ALIGNED, flags, length];
    let marker = if decoded.is_some() { 3 } else { 2 };
    pes.extend_from_slice(&timestamp(marker, shown));
    if let Some(decoded) = decoded {
        pes.extend_from_slice(&timestamp(1, decoded));
    }
    pes
}

/// A time of 33 bits, which wraps, between marker bits.
fn timestamp(marker: u8, time: Ticks) -> [u8; 5] {
    [
        marker << 4 | (time >> 29) as u8 & 0x0e | 1,
        (time >> 22) as u8,
        (time >> 14) as u8 | 1,
        (time >> 7) as u8,
        (time << 1) as u8 | 1,
    ]
}

/// Sets a PES packet's length where it can be said; video may leave it out, as may what is
/// too long.
pub(super) fn set_pes_length(pes: &mut [u8]) {
    const BEFORE: usize = 6;
    let length = u16::try_from(pes.len() - BEFORE).unwrap_or(0);
    pes[4..BEFORE].copy_from_slice(&length.to_be_bytes());
}

/// Whether a packet has an adaptation field, a payload (§2.4.3.3).
const PAYLOAD: u8 = 1;
const FIELD_AND_PAYLOAD: u8 = 3;

fn write_header(pid: u16, first: bool, control: u8, counter: &mut u8, out: &mut Vec<u8>) {
    let [high, low] = pid.to_be_bytes();
    let start = if first { 0x40 } else { 0 };
    out.extend_from_slice(&[0x47, start | high, low, control << 4 | *counter]);
    *counter = (*counter + 1) & 0x0f;
}

/// Appends the packets of a PES packet.
pub(super) fn write_pes(
    pid: u16,
    counter: &mut u8,
    start: &Start,
    mut pes: &[u8],
    out: &mut Vec<u8>,
) {
    let mut field = adaptation(start);
    let mut first = true;
    while !pes.is_empty() {
        let room = PACKET_BYTES - HEADER_BYTES - field.len();
        let (now, later) = pes.split_at(pes.len().min(room));
        stuff(&mut field, room - now.len());
        let control = if field.is_empty() {
            PAYLOAD
        } else {
            FIELD_AND_PAYLOAD
        };
        write_header(pid, first, control, counter, out);
        out.extend_from_slice(&field);
        out.extend_from_slice(now);
        pes = later;
        field.clear();
        first = false;
    }
}

/// An adaptation field (§2.4.3.4) with its length; empty if there is nothing to say.
fn adaptation(start: &Start) -> Vec<u8> {
    const RANDOM_ACCESS: u8 = 0x40;
    const CLOCK: u8 = 0x10;
    let mut flags = 0;
    if start.random_access {
        flags |= RANDOM_ACCESS;
    }
    if start.clock.is_some() {
        flags |= CLOCK;
    }
    if flags == 0 {
        return Vec::new();
    }
    let mut field = vec![1, flags];
    if let Some(clock) = start.clock {
        // 33 bits in units of 1/90,000 s, 6 reserved bits, an extension of 9 bits.
        let reference = clock << 15 | 0x3f << 9;
        field.extend_from_slice(&reference.to_be_bytes()[2..]);
        field[0] += 6;
    }
    field
}

/// Makes an adaptation field longer by `bytes`.
fn stuff(field: &mut Vec<u8>, bytes: usize) {
    let length = field.len() + bytes;
    if bytes == 0 {
        return;
    }
    if field.is_empty() {
        field.push(0);
        if length > 1 {
            field.push(0);
        }
    }
    field.resize(length, 0xff);
    field[0] = (length - 1) as u8;
}
