//! Just enough fragmented MP4 for tests: one track of video with a clock of a
//! millisecond.

/// A box.
fn of(kind: &[u8; 4], contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let mut bytes = (contents.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend_from_slice(kind);
    bytes.extend_from_slice(&contents);
    bytes
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

/// An initialization section.
pub(super) fn initialization() -> Vec<u8> {
    let header = of(b"tkhd", &[&numbers(&[0, 0, 0, 1, 0, 0])]);
    let media_header = of(b"mdhd", &[&numbers(&[0, 0, 0, 1000, 0, 0])]);
    let handler = of(b"hdlr", &[&numbers(&[0, 0]), b"vide", &[0; 13]]);
    let media = of(b"mdia", &[&media_header, &handler]);
    let track = of(b"trak", &[&header, &media]);
    let extends = of(b"trex", &[&numbers(&[0, 1, 1, 0, 0, 0x0001_0000])]);
    let extends = of(b"mvex", &[&extends]);
    let movie = of(b"moov", &[&track, &extends]);
    [of(b"ftyp", &[b"iso6"]), movie].concat()
}

/// A fragment of these pictures, each so many milliseconds long, the first a
/// keyframe or not.
pub(super) fn fragment(
    at_ms: u32,
    interval_ms: u32,
    is_keyframe: bool,
    pictures: &[Vec<u8>],
) -> Vec<u8> {
    let first_flags = if is_keyframe { 0 } else { 0x0001_0000 };
    let mut run = numbers(&[0x305, pictures.len() as u32, 0, first_flags]);
    for picture in pictures {
        run.extend_from_slice(&numbers(&[interval_ms, picture.len() as u32]));
    }
    let assemble = |run: &[u8]| {
        let header = of(b"tfhd", &[&numbers(&[0x0002_0000, 1])]);
        let time = of(b"tfdt", &[&numbers(&[0, at_ms])]);
        let run = of(b"trun", &[run]);
        of(b"moof", &[&of(b"traf", &[&header, &time, &run])])
    };
    let offset = assemble(&run).len() as u32 + 8;
    run[8..12].copy_from_slice(&offset.to_be_bytes());
    let media = of(b"mdat", &[&pictures.concat()]);
    [assemble(&run), media].concat()
}
