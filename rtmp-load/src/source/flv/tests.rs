use std::io::Write;

use super::*;

fn tag(type_id: u8, at_ms: u32, payload: &[u8]) -> Vec<u8> {
    let mut tag = vec![type_id];
    tag.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    tag.extend_from_slice(&at_ms.to_be_bytes()[1..]);
    tag.push((at_ms >> 24) as u8);
    tag.extend_from_slice(&[0; 3]);
    tag.extend_from_slice(payload);
    tag.extend_from_slice(&(11 + payload.len() as u32).to_be_bytes());
    tag
}

fn file(tags: &[Vec<u8>]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"FLV\x01\x05\0\0\0\x09\0\0\0\0").unwrap();
    for tag in tags {
        file.write_all(tag).unwrap();
    }
    file
}

fn short_film() -> tempfile::NamedTempFile {
    file(&[
        tag(18, 0, b"metadata"),
        tag(9, 1000, b"\x17\0header"),
        tag(9, 1000, b"\x17\x01key"),
        tag(8, 1010, b"\xaf\x01sound"),
        tag(9, 1040, b"\x27\x01inter"),
    ])
}

fn take(flv: &mut FlvFile, count: usize) -> Vec<(u8, u64)> {
    let message = |_| {
        flv.next_message()
            .map(|message| (message.type_id, message.at_ms))
            .unwrap()
    };
    (0..count).map(message).collect()
}

#[test]
fn time_begins_at_zero_with_the_first_audio_or_video() {
    let film = short_film();
    let mut flv = FlvFile::open(film.path()).unwrap();
    assert_eq!(
        take(&mut flv, 5),
        [(18, 0), (9, 0), (9, 0), (8, 10), (9, 40)]
    );
}

#[test]
fn the_file_is_looped_one_picture_later_and_without_its_metadata() {
    let film = short_film();
    let mut flv = FlvFile::open(film.path()).unwrap();
    take(&mut flv, 5);
    assert_eq!(
        take(&mut flv, 5),
        [(9, 80), (9, 80), (8, 90), (9, 120), (9, 160)]
    );
}

#[test]
fn a_new_connection_gets_the_metadata_again_and_time_goes_on() {
    let film = short_film();
    let mut flv = FlvFile::open(film.path()).unwrap();
    take(&mut flv, 4);
    flv.restart().unwrap();
    let after = take(&mut flv, 3);
    let types: Vec<u8> = after.iter().map(|(type_id, _)| *type_id).collect();
    assert_eq!(types, [18, 9, 9]);
    assert!(after.iter().all(|(_, at_ms)| *at_ms >= 10), "{after:?}");
}

#[test]
fn metadata_goes_to_the_server_as_a_data_frame() {
    let film = short_film();
    let mut flv = FlvFile::open(film.path()).unwrap();
    let message = flv.next_message().unwrap();
    assert_eq!(message.payload, b"\x02\x00\x0d@setDataFramemetadata");
}

#[test]
fn time_that_falls_in_the_file_is_held() {
    let film = file(&[
        tag(9, 100, b"\x17\x01a"),
        tag(8, 60, b"\xaf\x01b"),
        tag(9, 140, b"\x27\x01c"),
    ]);
    let mut flv = FlvFile::open(film.path()).unwrap();
    assert_eq!(take(&mut flv, 3), [(9, 0), (8, 0), (9, 40)]);
}

#[test]
fn a_tag_cut_short_is_the_end_of_the_file() {
    let mut cut = tag(9, 80, b"\x27\x01inter");
    cut.truncate(15);
    let film = file(&[tag(9, 0, b"\x17\x01key"), tag(9, 40, b"\x27\x01i"), cut]);
    let mut flv = FlvFile::open(film.path()).unwrap();
    assert_eq!(take(&mut flv, 4), [(9, 0), (9, 40), (9, 80), (9, 120)]);
}

#[test]
fn times_beyond_24_bits_are_read_whole() {
    let film = file(&[tag(9, 0, b"\x17\x01a"), tag(9, 0x0100_0001, b"\x27\x01b")]);
    let mut flv = FlvFile::open(film.path()).unwrap();
    assert_eq!(take(&mut flv, 2), [(9, 0), (9, 0x0100_0001)]);
}

#[test]
fn what_cannot_be_published_says_what_to_do() {
    let missing = FlvFile::open(Path::new("/no/such/film.flv"))
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("/no/such/film.flv") && missing.contains("generated"),
        "{missing}"
    );

    let mut other = tempfile::NamedTempFile::new().unwrap();
    other.write_all(b"\0\0\0\x18ftypmp42").unwrap();
    let not_flv = FlvFile::open(other.path()).unwrap_err().to_string();
    assert!(
        not_flv.contains("ffmpeg -i") && not_flv.contains("letters FLV"),
        "{not_flv}"
    );

    let empty = FlvFile::open(file(&[tag(18, 0, b"only metadata")]).path()).unwrap_err();
    assert!(matches!(empty, SourceError::Empty { .. }), "{empty}");
}
