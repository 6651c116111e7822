//! A strict reader of the boxes of fragmented MP4 (ISO/IEC 14496-12). It shares nothing
//! with the writer: whatever it does not know, or what is left over, fails the test.

use std::collections::BTreeMap;

/// Reads big-endian numbers, and insists on being emptied.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (now, rest) = self
            .0
            .split_at_checked(count)
            .expect("a box is not cut off");
        self.0 = rest;
        now
    }

    pub(crate) fn number(&mut self, bytes: usize) -> u64 {
        let bytes = self.bytes(bytes).iter();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn zeros(&mut self, count: usize) {
        let bytes = self.bytes(count);
        assert!(bytes.iter().all(|&byte| byte == 0), "reserved: {bytes:?}");
    }

    /// Version and flags.
    fn full(&mut self) -> (u64, u64) {
        (self.number(1), self.number(3))
    }

    fn end(self) {
        assert_eq!(self.0, b"", "a box ends with its last field");
    }

    fn next_box(&mut self) -> Option<([u8; 4], Reader<'a>)> {
        if self.0.is_empty() {
            return None;
        }
        let size = self.number(4) as usize;
        let kind = self.bytes(4).try_into().unwrap();
        Some((
            kind,
            Reader(self.bytes(size.checked_sub(8).expect("a size"))),
        ))
    }

    /// The boxes, which are these, in this order.
    fn boxes<const N: usize>(mut self, kinds: [&[u8; 4]; N]) -> [Reader<'a>; N] {
        let found = kinds.map(|kind| {
            let (found, content) = self.next_box().expect("a box");
            assert_eq!(
                found.escape_ascii().to_string(),
                kind.escape_ascii().to_string()
            );
            content
        });
        self.end();
        found
    }
}

impl<'a> Reader<'a> {
    /// The boxes, which are these, each once.
    fn boxes_in_any_order<const N: usize>(mut self, kinds: [&[u8; 4]; N]) -> [Reader<'a>; N] {
        let mut found = BTreeMap::new();
        while let Some((kind, content)) = self.next_box() {
            assert!(kinds.contains(&&kind), "{}", kind.escape_ascii());
            assert!(found.insert(kind, content).is_none(), "twice");
        }
        kinds.map(|kind| found.remove(kind).expect("a box"))
    }
}

/// A track of an initialization section.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrackHeader {
    pub(crate) id: u64,
    pub(crate) timescale: u64,
    pub(crate) handler: [u8; 4],
    pub(crate) size: (u64, u64),
    /// Of the sample entry.
    pub(crate) codec: [u8; 4],
    /// The content of its box of configuration.
    pub(crate) config: Vec<u8>,
    default_flags: u64,
}

/// Reads `ftyp` and `moov`.
pub(crate) fn read_header(bytes: &[u8]) -> Vec<TrackHeader> {
    let [mut ftyp, moov] = Reader(bytes).boxes([b"ftyp", b"moov"]);
    let major = ftyp.bytes(4);
    assert_eq!(ftyp.number(4), 0);
    assert_eq!(ftyp.0.len() % 4, 0);
    let brands: Vec<_> = ftyp.0.chunks(4).collect();
    assert!(
        brands.contains(&major),
        "the major brand is a compatible one"
    );
    assert!(brands.contains(&&b"cmfc"[..]));
    let mut children = Vec::new();
    let mut moov = moov;
    while let Some(child) = moov.next_box() {
        children.push(child);
    }
    let mut traks = Vec::new();
    let mut defaults = BTreeMap::new();
    let mut next_track = 0;
    for (kind, mut content) in children {
        match &kind {
            b"mvhd" => next_track = read_mvhd(content),
            b"trak" => traks.push(read_trak(content)),
            b"mvex" => {
                while let Some((kind, mut trex)) = content.next_box() {
                    assert_eq!(&kind, b"trex");
                    assert_eq!(trex.full(), (0, 0));
                    let track = trex.number(4);
                    assert_eq!(trex.number(4), 1, "the first sample entry");
                    assert_eq!((trex.number(4), trex.number(4)), (0, 0));
                    defaults.insert(track, trex.number(4));
                    trex.end();
                }
            }
            other => panic!("{}", other.escape_ascii()),
        }
    }
    assert_eq!(traks.len(), defaults.len());
    for trak in &mut traks {
        assert!(trak.id < next_track);
        trak.default_flags = defaults[&trak.id];
    }
    traks
}

fn read_mvhd(mut mvhd: Reader<'_>) -> u64 {
    let (version, flags) = mvhd.full();
    assert_eq!(flags, 0);
    let wide = if version == 1 { 8 } else { 4 };
    mvhd.bytes(2 * wide);
    assert!(mvhd.number(4) > 0, "a timescale");
    assert_eq!(mvhd.number(wide), 0, "no duration");
    assert_eq!(mvhd.number(4), 0x0001_0000, "rate");
    assert_eq!(mvhd.number(2), 0x0100, "volume");
    mvhd.zeros(10);
    read_matrix(&mut mvhd);
    mvhd.zeros(24);
    let next = mvhd.number(4);
    mvhd.end();
    next
}

fn read_matrix(reader: &mut Reader<'_>) {
    let matrix: Vec<u64> = (0..9).map(|_| reader.number(4)).collect();
    assert_eq!(matrix, [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000]);
}

fn read_trak(trak: Reader<'_>) -> TrackHeader {
    let [mut tkhd, mdia] = trak.boxes_in_any_order([b"tkhd", b"mdia"]);
    let (version, flags) = tkhd.full();
    assert_eq!(flags & 3, 3, "enabled, in the movie");
    let wide = if version == 1 { 8 } else { 4 };
    tkhd.bytes(2 * wide);
    let id = tkhd.number(4);
    tkhd.zeros(4);
    assert_eq!(tkhd.number(wide), 0, "no duration");
    tkhd.zeros(8);
    tkhd.zeros(4);
    let volume = tkhd.number(2);
    tkhd.zeros(2);
    read_matrix(&mut tkhd);
    let size = (tkhd.number(4) >> 16, tkhd.number(4) >> 16);
    tkhd.end();
    let [mut mdhd, mut hdlr, minf] = mdia.boxes_in_any_order([b"mdhd", b"hdlr", b"minf"]);
    let (version, _) = mdhd.full();
    let wide = if version == 1 { 8 } else { 4 };
    mdhd.bytes(2 * wide);
    let timescale = mdhd.number(4);
    assert_eq!(mdhd.number(wide), 0, "no duration");
    assert_eq!(mdhd.number(2), 0x55c4, "und");
    mdhd.zeros(2);
    mdhd.end();
    assert_eq!(hdlr.full(), (0, 0));
    hdlr.zeros(4);
    let handler: [u8; 4] = hdlr.bytes(4).try_into().unwrap();
    hdlr.zeros(12);
    assert_eq!(hdlr.0.last(), Some(&0), "a name ends");
    let header = if &handler == b"vide" {
        b"vmhd"
    } else {
        b"smhd"
    };
    assert_eq!(volume, if &handler == b"vide" { 0 } else { 0x0100 });
    let [mut media, dinf, stbl] = minf.boxes_in_any_order([header, b"dinf", b"stbl"]);
    let flags = media.full().1;
    assert_eq!(flags, u64::from(&handler == b"vide"));
    let [mut dref] = dinf.boxes([b"dref"]);
    assert_eq!(dref.full(), (0, 0));
    assert_eq!(dref.number(4), 1);
    let [mut url] = dref.boxes([b"url "]);
    assert_eq!(url.full(), (0, 1), "in the same file");
    url.end();
    let (codec, config) = read_sample_table(stbl, &handler, size);
    TrackHeader {
        id,
        timescale,
        handler,
        size,
        codec,
        config,
        default_flags: 0,
    }
}

fn read_sample_table(stbl: Reader<'_>, handler: &[u8; 4], size: (u64, u64)) -> ([u8; 4], Vec<u8>) {
    let kinds = [b"stsd", b"stts", b"stsc", b"stsz", b"stco"];
    let [mut stsd, stts, stsc, mut stsz, stco] = stbl.boxes_in_any_order(kinds);
    for mut table in [stts, stsc, stco] {
        assert_eq!(table.full(), (0, 0));
        assert_eq!(table.number(4), 0, "no samples");
        table.end();
    }
    assert_eq!(stsz.full(), (0, 0));
    assert_eq!((stsz.number(4), stsz.number(4)), (0, 0));
    stsz.end();
    assert_eq!(stsd.full(), (0, 0));
    assert_eq!(stsd.number(4), 1);
    let (codec, mut entry) = stsd.next_box().expect("a sample entry");
    stsd.end();
    entry.zeros(6);
    assert_eq!(entry.number(2), 1, "the data reference");
    if handler == b"vide" {
        entry.zeros(16);
        assert_eq!((entry.number(2), entry.number(2)), size);
        assert_eq!(
            (entry.number(4), entry.number(4)),
            (0x0048_0000, 0x0048_0000)
        );
        entry.zeros(4);
        assert_eq!(entry.number(2), 1, "one frame in a sample");
        entry.bytes(32);
        assert_eq!(entry.number(2), 24, "depth");
        assert_eq!(entry.number(2), 0xffff);
    } else {
        entry.zeros(8);
        assert!(entry.number(2) > 0, "channels");
        assert_eq!(entry.number(2), 16);
        entry.zeros(4);
        entry.number(4);
    }
    let (_, config) = entry.next_box().expect("a configuration");
    entry.end();
    (codec, config.0.to_vec())
}

/// A sample as a player finds it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReadSample {
    pub(crate) track: u64,
    pub(crate) dts: u64,
    pub(crate) duration: u64,
    pub(crate) composition: i64,
    pub(crate) sync: bool,
    pub(crate) data: Vec<u8>,
}

/// A `moof` and its `mdat`.
#[derive(Debug)]
pub(crate) struct Fragment {
    pub(crate) sequence: u64,
    pub(crate) samples: Vec<ReadSample>,
}

/// Reads a part: one `moof` and one `mdat`, all of whose bytes belong to a sample.
pub(crate) fn read_part(tracks: &[TrackHeader], bytes: &[u8]) -> Fragment {
    let [mut moof, mdat] = Reader(bytes).boxes([b"moof", b"mdat"]);
    let data_start = bytes.len() - mdat.0.len();
    let (kind, mut mfhd) = moof.next_box().expect("mfhd");
    assert_eq!(&kind, b"mfhd");
    assert_eq!(mfhd.full(), (0, 0));
    let sequence = mfhd.number(4);
    mfhd.end();
    let mut samples = Vec::new();
    let mut position = data_start;
    let mut seen = Vec::new();
    while let Some((kind, traf)) = moof.next_box() {
        assert_eq!(&kind, b"traf");
        let [mut tfhd, mut tfdt, mut trun] = traf.boxes([b"tfhd", b"tfdt", b"trun"]);
        assert_eq!(tfhd.full(), (0, 0x02_0000), "the base is the moof");
        let id = tfhd.number(4);
        tfhd.end();
        assert!(!seen.contains(&id), "one run of a track");
        seen.push(id);
        let track = tracks.iter().find(|track| track.id == id).expect("a track");
        assert_eq!(tfdt.full(), (1, 0));
        let mut dts = tfdt.number(8);
        tfdt.end();
        let (version, flags) = trun.full();
        assert_eq!(flags & !0xf04, 1, "a data offset");
        assert_ne!(flags & 0x404, 0x404, "flags of one kind");
        assert_eq!(flags & 0x300, 0x300, "durations and sizes");
        let count = trun.number(4);
        assert!(count > 0);
        assert_eq!(trun.number(4) as usize, position, "runs follow each other");
        let first_flags = (flags & 4 != 0).then(|| trun.number(4));
        for index in 0..count {
            let duration = trun.number(4);
            let size = trun.number(4) as usize;
            let sample_flags = match (flags & 0x400, first_flags) {
                (0, Some(flags)) if index == 0 => flags,
                (0, _) => track.default_flags,
                _ => trun.number(4),
            };
            let composition = match flags & 0x800 {
                0 => 0,
                _ if version == 1 => i64::from(trun.number(4) as u32 as i32),
                _ => trun.number(4) as i64,
            };
            let sync = match sample_flags {
                0x0200_0000 => true,
                0x0101_0000 => false,
                other => panic!("sample flags {other:x}"),
            };
            samples.push(ReadSample {
                track: id,
                dts,
                duration,
                composition,
                sync,
                data: bytes[position..position + size].to_vec(),
            });
            dts += duration;
            position += size;
        }
        trun.end();
    }
    assert_eq!(position, bytes.len(), "all of mdat is samples");
    Fragment { sequence, samples }
}
