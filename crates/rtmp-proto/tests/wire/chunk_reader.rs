//! Chunks in, messages out: one test for each trap of the format.

use rtmp_proto::wire::Limits;
use rtmp_proto::wire::chunk::{ChunkError, ChunkReader};

use crate::tools::{assert_fails, assert_reads, counting, hex, message, wire};

#[test]
fn a_message_in_one_chunk() {
    assert_reads(
        &hex("03  000064 000003 14 00000000  616263"),
        &[message(100, 20, 0, b"abc")],
    );
}

#[test]
fn the_message_stream_id_is_little_endian() {
    assert_reads(
        &hex("06  000064 000001 09 01020304  61"),
        &[message(100, 9, 0x0403_0201, b"a")],
    );
}

#[test]
fn chunk_stream_ids_come_in_one_two_and_three_bytes() {
    let header = "000000 000001 09 01000000";
    for (basic, last) in [
        ("3f", "the last of one byte: 63"),
        ("00 00", "the first of two bytes: 64"),
        ("00 ff", "the last of two bytes: 319"),
        ("01 00 01", "the first that needs three bytes: 320"),
        ("01 ff ff", "the last of all: 65599"),
    ] {
        let bytes = [hex(basic), hex(header), b"x".to_vec()].concat();
        eprintln!("{last}");
        assert_reads(&bytes, &[message(0, 9, 1, b"x")]);
    }
}

#[test]
fn the_same_chunk_stream_id_in_two_and_three_bytes_is_the_same_chunk_stream() {
    // 64 + 6 = 70 in two bytes, then a continuation with the id in three.
    let payload = counting(130);
    let bytes = wire(
        "00 06  000000 000082 09 01000000  p128  c1 06 00  p",
        &[('p', &payload)],
    );
    assert_reads(&bytes, &[message(0, 9, 1, &payload)]);
}

#[test]
fn the_third_byte_of_a_chunk_stream_id_is_the_high_one() {
    // 01 00 01 is 64 + 0 + 256; 01 01 00 is 64 + 1: different chunk streams,
    // so the second one has no header to continue.
    assert_fails(
        &hex("01 00 01  000000 000001 09 01000000  61   c1 01 00  61"),
        ChunkError::NoHeaderToContinue {
            chunk_stream_id: 65,
            format: 3,
        },
    );
}

#[test]
fn headers_of_format_1_2_and_3_leave_out_what_has_not_changed() {
    assert_reads(
        &hex("04  0003e8 000002 08 01000000  6161
              44  000017 000001 08           62
              84  000018                     63
              c4                             64"),
        &[
            message(1000, 8, 1, b"aa"),
            message(1023, 8, 1, b"b"),
            message(1047, 8, 1, b"c"),
            message(1071, 8, 1, b"d"),
        ],
    );
}

#[test]
fn format_3_after_format_0_adds_the_timestamp_once_more() {
    // RTMP 1.0 §5.3.1.2.4, and so do ffmpeg and SRS.
    assert_reads(
        &hex("04  00000a 000001 08 01000000  61   c4 62"),
        &[message(10, 8, 1, b"a"), message(20, 8, 1, b"b")],
    );
}

#[test]
fn a_message_of_several_chunks() {
    let payload = counting(300);
    let bytes = wire(
        "06  000000 00012c 09 01000000  p128  c6  p128  c6  p",
        &[('p', &payload)],
    );
    assert_reads(&bytes, &[message(0, 9, 1, &payload)]);
}

#[test]
fn a_message_as_long_as_a_chunk_needs_no_second_one() {
    let payload = counting(128);
    let bytes = wire("06  000000 000080 09 01000000  p", &[('p', &payload)]);
    assert_reads(&bytes, &[message(0, 9, 1, &payload)]);
}

#[test]
fn messages_of_several_chunk_streams_may_be_interleaved() {
    let video = counting(300);
    let audio = counting(200);
    let bytes = wire(
        "06  000028 00012c 09 01000000  v128
         04  000017 0000c8 08 01000000  s128  c6  v128  c4  s  c6  v",
        &[('v', &video), ('s', &audio)],
    );
    assert_reads(
        &bytes,
        &[message(23, 8, 1, &audio), message(40, 9, 1, &video)],
    );
}

#[test]
fn control_messages_may_come_between_the_chunks_of_a_message() {
    let video = counting(200);
    let bytes = wire(
        "06  000028 0000c8 09 01000000  v128
         02  000000 000006 04 00000000  0006 00000001  c6  v",
        &[('v', &video)],
    );
    assert_reads(
        &bytes,
        &[
            message(0, 4, 0, &hex("0006 00000001")),
            message(40, 9, 1, &video),
        ],
    );
}

#[test]
fn a_new_header_of_any_format_drops_the_unfinished_message_of_its_chunk_stream() {
    let unfinished = [hex("06  000028 0000c8 09 01000000"), counting(128)].concat();
    for (header, expected) in [
        ("06  000050 000003 08 02000000", message(80, 8, 2, b"new")),
        ("46  000005 000003 08", message(45, 8, 1, b"new")),
    ] {
        let bytes = [unfinished.clone(), hex(header), b"new".to_vec()].concat();
        assert_reads(&bytes, &[expected]);
    }
    // Format 2 keeps the length.
    let payload = counting(200);
    let bytes = wire(
        "v  86  000005  p128  c6  p",
        &[('v', &unfinished), ('p', &payload)],
    );
    assert_reads(&bytes, &[message(45, 9, 1, &payload)]);
}

#[test]
fn a_message_that_begins_again_with_the_same_header_comes_once_and_whole() {
    let payload = counting(200);
    let bytes = wire(
        "06  000028 0000c8 09 01000000  v
         06  000028 0000c8 09 01000000  p128  c6  p",
        &[('v', &[0xee; 128]), ('p', &payload)],
    );
    assert_reads(&bytes, &[message(40, 9, 1, &payload)]);
}

#[test]
fn abort_drops_the_unfinished_message_of_the_chunk_stream_it_names() {
    let bytes = wire(
        "06  000028 0000c8 09 01000000  v
         02  000000 000004 02 00000000  00000006
         06  000050 000001 09 01000000  61",
        &[('v', &counting(128))],
    );
    assert_reads(
        &bytes,
        &[message(0, 2, 0, &hex("00000006")), message(80, 9, 1, b"a")],
    );
}

#[test]
fn after_abort_format_3_begins_a_message() {
    let payload = counting(130);
    let bytes = wire(
        "06  000028 000082 09 01000000  v
         02  000000 000004 02 00000000  00000006  c6  p128  c6  p",
        &[('v', &[0xee; 128]), ('p', &payload)],
    );
    assert_reads(
        &bytes,
        &[
            message(0, 2, 0, &hex("00000006")),
            message(80, 9, 1, &payload),
        ],
    );
}

#[test]
fn abort_of_an_idle_or_unknown_or_impossible_chunk_stream_changes_nothing() {
    for named in ["00000002", "00000007", "00000000", "00010040", "ffffffff"] {
        let video = counting(200);
        let abort = format!("02  000000 000004 02 00000000  {named}");
        let script = format!("06  000028 0000c8 09 01000000  v128  {abort}  c6  v");
        let bytes = wire(&script, &[('v', &video)]);
        assert_reads(
            &bytes,
            &[message(0, 2, 0, &hex(named)), message(40, 9, 1, &video)],
        );
    }
}

#[test]
fn abort_without_a_chunk_stream_changes_nothing() {
    assert_reads(
        &hex("02  000000 000002 02 00000000  0000"),
        &[message(0, 2, 0, &hex("0000"))],
    );
}

#[test]
fn a_chunk_stream_may_begin_with_format_1() {
    // librtmp's ping: format 1 on a fresh chunk stream 2.
    assert_reads(
        &hex("42  000000 000006 04  0006 0000000d"),
        &[message(0, 4, 0, &hex("0006 0000000d"))],
    );
}

#[test]
fn a_chunk_stream_cannot_begin_with_format_2_or_3() {
    assert_fails(
        &hex("85 000000"),
        ChunkError::NoHeaderToContinue {
            chunk_stream_id: 5,
            format: 2,
        },
    );
    assert_fails(
        &hex("c5 00"),
        ChunkError::NoHeaderToContinue {
            chunk_stream_id: 5,
            format: 3,
        },
    );
}

#[test]
fn messages_may_be_empty() {
    assert_reads(
        &hex("04  000017 000000 08 01000000   c4   44  000005 000001 08  61"),
        &[
            message(23, 8, 1, b""),
            message(46, 8, 1, b""),
            message(51, 8, 1, b"a"),
        ],
    );
}

#[test]
fn set_chunk_size_holds_from_the_next_chunk_on() {
    let payload = counting(4000);
    let bytes = wire(
        "02  000000 000004 01 00000000  00001000
         06  000000 000fa0 09 01000000  p",
        &[('p', &payload)],
    );
    assert_reads(
        &bytes,
        &[
            message(0, 1, 0, &hex("00001000")),
            message(0, 9, 1, &payload),
        ],
    );
}

#[test]
fn set_chunk_size_may_come_in_the_middle_of_a_message() {
    let payload = counting(300);
    let bytes = wire(
        "06  000000 00012c 09 01000000  p128
         02  000000 000004 01 00000000  00000064  c6  p100  c6  p",
        &[('p', &payload)],
    );
    assert_reads(
        &bytes,
        &[
            message(0, 1, 0, &hex("00000064")),
            message(0, 9, 1, &payload),
        ],
    );
}

#[test]
fn chunks_may_be_shorter_than_128_bytes_and_as_short_as_one() {
    assert_reads(
        &hex("02  000000 000004 01 00000000  00000001
              06  000000 000003 09 01000000  61  c6 62  c6 63"),
        &[message(0, 1, 0, &hex("00000001")), message(0, 9, 1, b"abc")],
    );
}

#[test]
fn chunks_may_be_longer_than_any_message() {
    let payload = counting(1000);
    let bytes = wire(
        "02  000000 000004 01 00000000  7fffffff
         06  000000 0003e8 09 01000000  p",
        &[('p', &payload)],
    );
    assert_reads(
        &bytes,
        &[
            message(0, 1, 0, &hex("7fffffff")),
            message(0, 9, 1, &payload),
        ],
    );
}

#[test]
fn a_chunk_size_of_zero_or_with_the_first_bit_set_is_an_error() {
    for size in [0, 0x8000_0000, 0xffff_ffff_u32] {
        let bytes = [
            hex("02  000000 000004 01 00000000"),
            size.to_be_bytes().to_vec(),
        ]
        .concat();
        assert_fails(&bytes, ChunkError::ChunkSize(size));
    }
}

#[test]
fn a_set_chunk_size_that_is_too_short_is_ignored() {
    let payload = counting(128);
    let bytes = wire(
        "02  000000 000003 01 00000000  000001
         06  000000 000080 09 01000000  p",
        &[('p', &payload)],
    );
    assert_reads(
        &bytes,
        &[message(0, 1, 0, &hex("000001")), message(0, 9, 1, &payload)],
    );
}

#[test]
fn acknowledgements_are_due_at_half_the_window_the_peer_asked_for() {
    let mut reader = ChunkReader::new(&Limits::default());
    let window = hex("02  000000 000004 05 00000000  000003e8");
    reader.read(&mut &window[..]).unwrap().unwrap();
    assert_eq!(reader.take_acknowledgement(), None, "16 of 500 bytes");

    let video = [hex("06  000000 000074 09 01000000"), counting(116)].concat();
    assert_eq!(video.len(), 128);
    for _ in 0..3 {
        reader.read(&mut &video[..]).unwrap().unwrap();
        assert_eq!(reader.take_acknowledgement(), None);
    }
    reader.read(&mut &video[..]).unwrap().unwrap();
    assert_eq!(reader.take_acknowledgement(), Some(16 + 4 * 128));
    assert_eq!(reader.take_acknowledgement(), None, "once is enough");
}

#[test]
fn no_window_means_no_acknowledgements() {
    let mut reader = ChunkReader::new(&Limits::default());
    let video = [hex("06  000000 000074 09 01000000"), counting(116)].concat();
    for _ in 0..1000 {
        reader.read(&mut &video[..]).unwrap().unwrap();
        assert_eq!(reader.take_acknowledgement(), None);
    }
}
