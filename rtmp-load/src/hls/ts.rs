//! Finds the samples of an MPEG transport stream (ISO/IEC 13818-1) as the bytes
//! come: one picture or frame of sound for each PES packet.

mod annex_b;

use super::demuxer::{DemuxError, Sample, SampleKind};

const PACKET_BYTES: usize = 188;
const SYNC: u8 = 0x47;
const PAT_PID: u16 = 0;
/// Behind the delimiter, parameter sets and PES header of an H.264 keyframe
/// lies a stamp.
const MAX_HEAD_BYTES: usize = 512;
/// The longest picture that is kept for its checksum, in bytes.
const MAX_PICTURE_BYTES: usize = 16 * 1024 * 1024;
const CLOCK_BITS: u32 = 33;

/// Stream types of the PMT (ISO/IEC 13818-1 table 2-34).
const H264: u8 = 0x1b;
const H265: u8 = 0x24;
const SOUND: [u8; 5] = [0x03, 0x04, 0x0f, 0x11, 0x81];

/// An elementary stream.
#[derive(Debug)]
struct Stream {
    pid: u16,
    stream_type: u8,
    continuity: Option<u8>,
    /// The PES packet that is not complete.
    packet: Option<Packet>,
    /// For times without the wrap after 26 hours: the last one, in ticks.
    last_time: Option<i64>,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    random_access: bool,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct TsReader {
    checksums: bool,
    /// A packet that is not complete.
    partial: Vec<u8>,
    pmt_pid: Option<u16>,
    streams: Vec<Stream>,
}

impl TsReader {
    pub(super) fn new(checksums: bool) -> Self {
        Self {
            checksums,
            partial: Vec::new(),
            pmt_pid: None,
            streams: Vec::new(),
        }
    }

    /// Takes bytes as they came and calls `sink` for each sample that they
    /// complete.
    ///
    /// # Errors
    /// If they are no transport stream.
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(Sample<'_>),
    ) -> Result<(), DemuxError> {
        if !self.partial.is_empty() {
            let count = bytes.len().min(PACKET_BYTES - self.partial.len());
            self.partial.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.partial.len() < PACKET_BYTES {
                return Ok(());
            }
            let partial = std::mem::take(&mut self.partial);
            self.packet(&partial, sink)?;
        }
        let mut packets = bytes.chunks_exact(PACKET_BYTES);
        for packet in &mut packets {
            self.packet(packet, sink)?;
        }
        self.partial.extend_from_slice(packets.remainder());
        Ok(())
    }

    /// The resource has ended, and with it the last picture.
    ///
    /// # Errors
    /// If it did within a packet.
    pub(super) fn end(&mut self, sink: &mut dyn FnMut(Sample<'_>)) -> Result<(), DemuxError> {
        for stream in &mut self.streams {
            stream.finish(self.checksums, sink)?;
        }
        match std::mem::take(&mut self.partial).is_empty() {
            true => Ok(()),
            false => Err(DemuxError::CutShort),
        }
    }

    /// Forgets what was not read to its end, and the counters of what was
    /// skipped.
    pub(super) fn restart(&mut self) {
        self.partial.clear();
        for stream in &mut self.streams {
            stream.packet = None;
            stream.continuity = None;
        }
    }

    /// The next times have nothing to do with those before.
    pub(super) fn discontinuity(&mut self) {
        for stream in &mut self.streams {
            stream.last_time = None;
            stream.continuity = None;
        }
    }

    fn packet(
        &mut self,
        packet: &[u8],
        sink: &mut dyn FnMut(Sample<'_>),
    ) -> Result<(), DemuxError> {
        let broken = DemuxError::Packet;
        let [SYNC, high, low, flags, rest @ ..] = packet else {
            return Err(broken("without the sync byte 0x47"));
        };
        let starts = high & 0x40 != 0;
        let pid = u16::from(high & 0x1f) << 8 | u16::from(*low);
        let mut payload = rest;
        let mut random_access = false;
        if flags & 0x20 != 0 {
            let length = usize::from(rest[0]);
            let field = rest.get(1..=length);
            let field = field.ok_or(broken("whose adaptation field is too long"))?;
            random_access = field.first().is_some_and(|flags| flags & 0x40 != 0);
            payload = &rest[length + 1..];
        }
        if flags & 0x10 == 0 {
            return Ok(());
        }
        if pid == PAT_PID || Some(pid) == self.pmt_pid {
            if starts {
                self.table(pid, payload)
                    .ok_or(broken("with a broken table"))?;
            }
            return Ok(());
        }
        let checksums = self.checksums;
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.pid == pid) else {
            return Ok(());
        };
        let counter = flags & 0x0f;
        let expected = stream.continuity.map(|last| (last + 1) & 0x0f);
        stream.continuity = Some(counter);
        if expected.is_some_and(|expected| expected != counter) && !starts {
            return Err(broken("whose continuity counter does not follow"));
        }
        if starts {
            stream.finish(checksums, sink)?;
            stream.packet = Some(Packet {
                bytes: Vec::new(),
                random_access,
            });
        }
        if let Some(open) = &mut stream.packet {
            let keeps = match checksums && stream.stream_type == H264 {
                true => MAX_PICTURE_BYTES,
                false => MAX_HEAD_BYTES,
            };
            let room = keeps.saturating_sub(open.bytes.len());
            open.bytes
                .extend_from_slice(&payload[..payload.len().min(room)]);
        }
        Ok(())
    }

    /// A PAT or PMT that fits into its packet, as those of live streams do.
    fn table(&mut self, pid: u16, payload: &[u8]) -> Option<()> {
        let pointer = usize::from(*payload.first()?);
        let section = payload.get(1 + pointer..)?;
        let length = usize::from(section.get(1)? & 0x0f) << 8 | usize::from(*section.get(2)?);
        // Without the checksum.
        let section = section.get(..(3 + length).checked_sub(4)?)?;
        let number = |bytes: &[u8]| u16::from(bytes[0] & 0x1f) << 8 | u16::from(bytes[1]);
        if pid == PAT_PID {
            let mut programs = section.get(8..)?.chunks_exact(4);
            let program = programs.find(|program| program[..2] != [0, 0])?;
            self.pmt_pid = Some(number(&program[2..]));
            return Some(());
        }
        let information = usize::from(number(section.get(10..12)?) & 0x0fff);
        let mut rest = section.get(12 + information..)?;
        while let [stream_type, high, low, length_high, length_low, ..] = rest {
            let pid = number(&[*high, *low]);
            if self.streams.iter().all(|stream| stream.pid != pid) {
                self.streams.push(Stream {
                    pid,
                    stream_type: *stream_type,
                    continuity: None,
                    packet: None,
                    last_time: None,
                });
            }
            let length = usize::from(length_high & 0x0f) << 8 | usize::from(*length_low);
            rest = rest.get(5 + length..)?;
        }
        Some(())
    }
}

impl Stream {
    /// Hands on the PES packet that has ended.
    fn finish(
        &mut self,
        checksums: bool,
        sink: &mut dyn FnMut(Sample<'_>),
    ) -> Result<(), DemuxError> {
        let Some(packet) = self.packet.take() else {
            return Ok(());
        };
        let (times, payload) = pes(&packet.bytes).ok_or(DemuxError::Packet(
            "that begins a PES packet without a time",
        ))?;
        let present = self.unwrapped(times.present);
        let decode = times.decode.map_or(present, |decode| {
            present - wrapped(times.present.wrapping_sub(decode))
        });
        let is_video = [H264, H265].contains(&self.stream_type);
        if !is_video && !SOUND.contains(&self.stream_type) {
            return Ok(());
        }
        let kind = match is_video {
            true => SampleKind::Video {
                is_keyframe: packet.random_access
                    || (self.stream_type == H264 && annex_b::has_idr(payload)),
            },
            false => SampleKind::Audio,
        };
        let whole;
        let (head, tail) = match checksums && self.stream_type == H264 {
            true => {
                whole = annex_b::with_lengths(payload);
                (whole.as_slice(), Some(crc32fast::Hasher::new()))
            }
            false => (payload, None),
        };
        sink(Sample {
            kind,
            decode_ms: decode.div_euclid(90),
            present_ms: present.div_euclid(90),
            head,
            tail,
        });
        Ok(())
    }

    /// A time in ticks of 90 kHz without the wrap.
    fn unwrapped(&mut self, time: i64) -> i64 {
        let last = self.last_time.unwrap_or(time);
        let time = last + wrapped(time - last);
        self.last_time = Some(time);
        time
    }
}

/// A difference of two 33-bit times, as near to 0 as it can be.
fn wrapped(difference: i64) -> i64 {
    let unused = 64 - CLOCK_BITS;
    difference << unused >> unused
}

struct Times {
    present: i64,
    decode: Option<i64>,
}

/// Times and payload of a PES packet (ISO/IEC 13818-1 §2.4.3.6).
fn pes(bytes: &[u8]) -> Option<(Times, &[u8])> {
    let [0, 0, 1, _, _, _, _, flags, length, rest @ ..] = bytes else {
        return None;
    };
    let time = |field: &[u8]| {
        let byte = |at: usize| i64::from(field[at]);
        (byte(0) >> 1 & 7) << 30 | byte(1) << 22 | byte(2) >> 1 << 15 | byte(3) << 7 | byte(4) >> 1
    };
    let present = (flags & 0x80 != 0).then(|| rest.get(..5).map(time))??;
    let decode = match flags & 0x40 {
        0 => None,
        _ => Some(time(rest.get(5..10)?)),
    };
    let payload = rest.get(usize::from(*length)..)?;
    Some((Times { present, decode }, payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet of the PAT, the PMT or a stream of video.
    fn packet(kind: u8, counter: u8, payload: &[u8]) -> Vec<u8> {
        let (pid, payload) = match kind % 3 {
            0 => (0, &b"\0\0\xb0\x0d\0\x01\xc1\0\0\0\x01\xe0\x10crc4"[..]),
            1 => (
                0x10,
                &b"\0\x02\xb0\x12\0\x01\xc1\0\0\xe0\x11\xf0\0\x1b\xe0\x11\xf0\0crc4"[..],
            ),
            _ => (0x11, payload),
        };
        let mut packet = vec![SYNC, 0x40, pid, 0x10 | counter & 0x0f];
        packet.extend_from_slice(payload);
        packet.resize(PACKET_BYTES, 0xff);
        packet
    }

    proptest! {
        #[test]
        fn packets_with_changed_bytes_are_read_or_refused(
            packets in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..20),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let picture = b"\0\0\x01\xe0\0\0\x80\x80\x05\x21\0\x01\0\x01\0\0\0\x01\x65";
            let mut bytes: Vec<u8> = packets
                .iter()
                .flat_map(|(kind, counter)| packet(*kind, *counter, picture))
                .collect();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let mut reader = TsReader::new(true);
            let read = reader.read(&bytes, &mut |_| {});
            let _ = read.and_then(|()| reader.end(&mut |_| {}));
        }
    }

    #[test]
    fn a_picture_is_found_by_way_of_the_tables() {
        let picture = b"\0\0\x01\xe0\0\0\x80\x80\x05\x21\0\x01\0\x01\0\0\0\x01\x65";
        let bytes = [packet(0, 0, b""), packet(1, 0, b""), packet(2, 0, picture)].concat();
        let mut reader = TsReader::new(false);
        let mut found = Vec::new();
        let mut sink = |sample: Sample<'_>| found.push((sample.kind, sample.present_ms));
        reader.read(&bytes, &mut sink).unwrap();
        reader.end(&mut sink).unwrap();
        assert_eq!(found, [(SampleKind::Video { is_keyframe: true }, 0)]);
    }

    #[test]
    fn times_go_on_where_their_33_bits_end() {
        let mut stream = Stream {
            pid: 1,
            stream_type: H264,
            continuity: None,
            packet: None,
            last_time: None,
        };
        let end = (1 << CLOCK_BITS) - 3000;
        assert_eq!(stream.unwrapped(end), end);
        assert_eq!(stream.unwrapped(0), end + 3000);
        assert_eq!(stream.unwrapped(end), end);
    }

    #[test]
    fn bytes_that_are_no_transport_stream_are_refused() {
        let mut reader = TsReader::new(false);
        let error = reader.read(&[b'x'; PACKET_BYTES], &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("sync byte"), "{error}");
        reader.read(&[SYNC; 10], &mut |_| {}).unwrap();
        assert_eq!(reader.end(&mut |_| {}), Err(DemuxError::CutShort));
    }
}
