//! A strict reader of MPEG-TS (ISO/IEC 13818-1). It shares nothing with the writer.

use std::collections::BTreeMap;

use hls::segmenter::Output;

use crate::stream::segments;

/// A PES packet.
#[derive(Debug, Clone)]
pub(crate) struct Pes {
    pub(crate) pid: u16,
    pub(crate) stream_id: u8,
    pub(crate) pts: u64,
    pub(crate) dts: u64,
    /// The program clock of its first packet, in units of 1/27,000,000 s.
    pub(crate) clock: Option<u64>,
    pub(crate) random_access: bool,
    pub(crate) data: Vec<u8>,
}

/// A segment: its tables, then PES packets.
#[derive(Debug)]
pub(crate) struct Transport {
    /// Stream types by PID.
    pub(crate) streams: BTreeMap<u16, u8>,
    pub(crate) clock_pid: u16,
    pub(crate) pes: Vec<Pes>,
}

/// Reads segments; continuity counters go on from one to the next.
#[derive(Debug, Default)]
pub(crate) struct TransportReader {
    counters: BTreeMap<u16, u8>,
}

impl TransportReader {
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Transport {
        assert_eq!(bytes.len() % 188, 0, "whole packets");
        let mut map_pid = None;
        let mut map: Option<(u16, BTreeMap<u16, u8>)> = None;
        let mut open = BTreeMap::<u16, Pes>::new();
        let mut done = Vec::new();
        for (index, packet) in bytes.chunks(188).enumerate() {
            assert_eq!(packet[0], 0x47, "packet {index}");
            assert_eq!(packet[1] & 0xa0, 0, "no error, no priority");
            let starts = packet[1] & 0x40 != 0;
            let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
            assert_eq!(packet[3] >> 6, 0, "not scrambled");
            let control = packet[3] >> 4 & 3;
            assert!(control & 1 == 1, "packet {index} has a payload");
            let counter = packet[3] & 0x0f;
            if let Some(last) = self.counters.insert(pid, counter) {
                assert_eq!(counter, (last + 1) % 16, "packet {index} of PID {pid:#x}");
            }
            let mut payload = &packet[4..];
            let (mut clock, mut random_access) = (None, false);
            if control == 3 {
                let length = usize::from(payload[0]);
                (clock, random_access) = read_adaptation(&payload[1..1 + length]);
                payload = &payload[1 + length..];
            }
            match index {
                0 => {
                    assert!(starts && pid == 0, "PAT first");
                    assert_eq!(control, 1);
                    map_pid = Some(read_pat(payload));
                }
                1 => {
                    assert!(starts && Some(pid) == map_pid, "PMT second");
                    assert_eq!(control, 1);
                    map = Some(read_pmt(payload));
                }
                _ => {
                    let (_, streams) = map.as_ref().expect("a map");
                    assert!(streams.contains_key(&pid), "PID {pid:#x} is mapped");
                    if starts {
                        done.extend(open.remove(&pid));
                        open.insert(pid, read_pes(pid, payload, clock, random_access));
                    } else {
                        assert!(clock.is_none() && !random_access);
                        let pes = open.get_mut(&pid).expect("a PES packet begins");
                        pes.data.extend_from_slice(payload);
                    }
                }
            }
        }
        done.extend(open.into_values());
        let (clock_pid, streams) = map.expect("a map");
        Transport {
            streams,
            clock_pid,
            pes: done,
        }
    }
}

fn read_adaptation(field: &[u8]) -> (Option<u64>, bool) {
    let Some((&flags, mut rest)) = field.split_first() else {
        return (None, false);
    };
    assert_eq!(flags & !0x50, 0, "only clock and random access");
    let mut clock = None;
    if flags & 0x10 != 0 {
        let number = rest[..6]
            .iter()
            .fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        assert_eq!(number >> 9 & 0x3f, 0x3f, "reserved bits are set");
        clock = Some((number >> 15) * 300 + (number & 0x1ff));
        rest = &rest[6..];
    }
    assert!(rest.iter().all(|&byte| byte == 0xff), "stuffing");
    (clock, flags & 0x40 != 0)
}

/// The body of the section that a payload holds.
fn read_section(payload: &[u8], table: u8) -> &[u8] {
    assert_eq!(payload[0], 0, "pointer");
    let section = &payload[1..];
    assert_eq!(section[0], table);
    assert_eq!(section[1] & 0xf0, 0xb0);
    let length = usize::from(u16::from_be_bytes([section[1] & 0x0f, section[2]]));
    let (section, stuffing) = section.split_at(3 + length);
    assert!(stuffing.iter().all(|&byte| byte == 0xff), "stuffing");
    assert_eq!(section[5] & 0xc1, 0xc1, "current");
    assert_eq!(&section[6..8], [0, 0], "the only section");
    let mut crc = 0xffff_ffff_u32;
    for bit in section
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        let carry = crc >> 31 ^ u32::from(bit);
        crc = crc << 1 ^ if carry == 1 { 0x04c1_1db7 } else { 0 };
    }
    assert_eq!(crc, 0, "the checksum of a section with its checksum");
    &section[8..section.len() - 4]
}

fn read_pat(payload: &[u8]) -> u16 {
    let [0, 1, high, low] = read_section(payload, 0) else {
        panic!("one program, number 1");
    };
    assert_eq!(high >> 5, 7, "reserved");
    u16::from_be_bytes([high & 0x1f, *low])
}

fn read_pmt(payload: &[u8]) -> (u16, BTreeMap<u16, u8>) {
    let [high, low, 0xf0, 0, streams @ ..] = read_section(payload, 2) else {
        panic!("a clock PID, no descriptors");
    };
    let pid = |high: u8, low: u8| {
        assert_eq!(high >> 5, 7, "reserved");
        u16::from_be_bytes([high & 0x1f, low])
    };
    let clock_pid = pid(*high, *low);
    let mut found = BTreeMap::new();
    for entry in streams.chunks(5) {
        let [stream_type, high, low, 0xf0, 0] = entry else {
            panic!("no descriptors");
        };
        found.insert(pid(*high, *low), *stream_type);
    }
    assert!(found.contains_key(&clock_pid));
    (clock_pid, found)
}

fn read_pes(pid: u16, payload: &[u8], clock: Option<u64>, random_access: bool) -> Pes {
    assert_eq!(&payload[..3], [0, 0, 1]);
    assert_eq!(payload[6], 0x84, "aligned");
    let header = usize::from(payload[8]);
    let pts = read_timestamp(&payload[9..14]);
    let dts = match payload[7] {
        0x80 => {
            assert_eq!((header, payload[9] >> 4), (5, 2));
            pts
        }
        0xc0 => {
            assert_eq!((header, payload[9] >> 4, payload[14] >> 4), (10, 3, 1));
            read_timestamp(&payload[14..19])
        }
        flags => panic!("PES flags {flags:x}"),
    };
    Pes {
        pid,
        stream_id: payload[3],
        pts,
        dts,
        clock,
        random_access,
        data: payload[9 + header..].to_vec(),
    }
}

fn read_timestamp(bytes: &[u8]) -> u64 {
    assert!(
        [0, 2, 4].iter().all(|&at| bytes[at] & 1 == 1),
        "marker bits"
    );
    let bytes: Vec<u64> = bytes.iter().map(|&byte| byte.into()).collect();
    (bytes[0] >> 1 & 7) << 30
        | bytes[1] << 22
        | (bytes[2] >> 1) << 15
        | bytes[3] << 7
        | bytes[4] >> 1
}

/// Checks all segments: clock, order, access units.
pub(crate) fn check_transport(outputs: &[Output]) {
    let mut reader = TransportReader::default();
    let mut newest = BTreeMap::<u16, u64>::new();
    let mut newest_clock = None;
    for segment in segments(outputs) {
        let transport = reader.read(&segment.bytes());
        let mut video_seen = false;
        for pes in &transport.pes {
            let stream_type = transport.streams[&pes.pid];
            assert!(pes.pts >= pes.dts);
            if let Some(last) = newest.insert(pes.pid, pes.dts) {
                assert!(pes.dts > last, "times rise");
            }
            if let Some(clock) = pes.clock {
                assert_eq!(pes.pid, transport.clock_pid);
                assert!(clock < pes.dts * 300, "the clock is behind");
                if let Some(last) = newest_clock.replace(clock) {
                    assert!(clock > last && clock - last <= 27_000_000 / 10, "100 ms");
                }
            }
            match stream_type {
                0x1b | 0x24 => {
                    assert_eq!(pes.stream_id, 0xe0);
                    check_annex_b(pes, stream_type);
                    assert!(video_seen || pes.random_access, "a keyframe first");
                    video_seen = true;
                }
                0x0f => check_adts(&pes.data),
                0x81 => assert_eq!(pes.stream_id, 0xbd),
                _ => assert_eq!(pes.stream_id, 0xc0),
            }
        }
        assert!(transport.pes.iter().any(|pes| pes.clock.is_some()));
    }
}

/// NAL units behind start codes: a delimiter first, parameter sets with a keyframe.
fn check_annex_b(pes: &Pes, stream_type: u8) {
    let data = &pes.data;
    let starts: Vec<usize> = data
        .windows(4)
        .enumerate()
        .filter(|(_, window)| window == &[0, 0, 0, 1])
        .map(|(at, _)| at + 4)
        .collect();
    assert_eq!(starts.first(), Some(&4));
    let kinds: Vec<u8> = starts
        .iter()
        .map(|&at| match stream_type {
            0x1b => data[at] & 0x1f,
            _ => data[at] >> 1 & 0x3f,
        })
        .collect();
    let (delimiter, sets): (u8, &[u8]) = match stream_type {
        0x1b => (9, &[7, 8]),
        _ => (35, &[32, 33, 34]),
    };
    assert_eq!(kinds[0], delimiter);
    assert!(!kinds[1..].contains(&delimiter), "one delimiter");
    if pes.random_access {
        let first_set = kinds
            .iter()
            .position(|kind| *kind == sets[0])
            .expect("a set");
        assert!(kinds[first_set..].starts_with(sets), "{kinds:?}");
        assert_eq!(kinds.iter().filter(|kind| **kind == sets[0]).count(), 1);
    }
}

/// Frames in ADTS, which fill the packet.
fn check_adts(mut data: &[u8]) {
    assert!(!data.is_empty());
    while !data.is_empty() {
        assert_eq!(data[..2], [0xff, 0xf1]);
        let length =
            usize::from(data[3] & 3) << 11 | usize::from(data[4]) << 3 | usize::from(data[5]) >> 5;
        assert!(length > 7);
        data = &data[length..];
    }
}
