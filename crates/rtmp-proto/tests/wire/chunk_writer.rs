//! Messages in, chunks out.

use rtmp_proto::wire::chunk::{ChunkWriter, encode_message, encoded_len, readdress};
use rtmp_proto::wire::message::{Control, UserControl};

use crate::tools::{counting, hex, message};

#[test]
fn a_self_contained_message_begins_with_format_0_and_goes_on_with_format_3() {
    let payload = counting(300);
    let mut out = Vec::new();
    encode_message(&message(1000, 9, 1, &payload), 128, 6, &mut out);
    let expected = [
        hex("06  0003e8 00012c 09 01000000"),
        payload[..128].to_vec(),
        hex("c6"),
        payload[128..256].to_vec(),
        hex("c6"),
        payload[256..].to_vec(),
    ]
    .concat();
    assert_eq!(out, expected);
}

#[test]
fn an_extended_timestamp_is_repeated_on_each_continuation() {
    let payload = counting(200);
    let mut out = Vec::new();
    encode_message(&message(0xffff_ffff, 8, 1, &payload), 128, 4, &mut out);
    let expected = [
        hex("04  ffffff 0000c8 08 01000000  ffffffff"),
        payload[..128].to_vec(),
        hex("c4  ffffffff"),
        payload[128..].to_vec(),
    ]
    .concat();
    assert_eq!(out, expected);
}

#[test]
fn an_empty_message_is_a_header() {
    let mut out = Vec::new();
    encode_message(&message(1, 8, 1, b""), 128, 4, &mut out);
    assert_eq!(out, hex("04  000001 000000 08 01000000"));
}

#[test]
fn chunk_stream_ids_take_one_two_or_three_bytes() {
    for (csid, basic) in [
        (2, "02"),
        (63, "3f"),
        (64, "00 00"),
        (319, "00 ff"),
        (320, "01 00 01"),
        (65_599, "01 ff ff"),
    ] {
        let mut out = Vec::new();
        encode_message(&message(0, 9, 1, b"a"), 128, csid, &mut out);
        assert_eq!(
            out,
            [hex(basic), hex("000000 000001 09 01000000 61")].concat()
        );
    }
}

#[test]
fn the_encoded_length_is_known_beforehand() {
    for timestamp in [0, 0xff_fffe, 0xff_ffff, u32::MAX] {
        for length in [0, 1, 127, 128, 129, 256, 1000] {
            for csid in [3, 64, 400] {
                let message = message(timestamp, 9, 1, &counting(length));
                let mut out = Vec::new();
                encode_message(&message, 128, csid, &mut out);
                let expected = encoded_len(&message, 128, csid);
                assert_eq!(out.len(), expected, "{timestamp} {length} {csid}");
            }
        }
    }
}

#[test]
fn a_writer_leaves_out_what_has_not_changed() {
    let mut writer = ChunkWriter::new();
    let mut out = Vec::new();
    for (timestamp, type_id, stream_id, payload) in [
        (1000, 8, 1, "aa"),
        (1023, 8, 1, "bb"), // only the time has changed
        (1046, 8, 1, "c"),  // the length, too
        (1046, 18, 1, "d"), // the type
        (1040, 18, 1, "e"), // backwards: from the beginning
        (1040, 18, 2, "f"), // another message stream: from the beginning
    ] {
        writer.write(
            &message(timestamp, type_id, stream_id, payload.as_bytes()),
            4,
            &mut out,
        );
    }
    let expected = hex("04  0003e8 000002 08 01000000  6161
                        84  000017                     6262
                        44  000017 000001 08           63
                        44  000000 000001 12           64
                        04  000410 000001 12 01000000  65
                        04  000410 000001 12 02000000  66");
    assert_eq!(out, expected);
}

#[test]
fn a_writer_extends_a_difference_that_does_not_fit() {
    let mut writer = ChunkWriter::new();
    let mut out = Vec::new();
    writer.write(&message(1, 8, 1, b"a"), 4, &mut out);
    writer.write(&message(0x0100_0001, 8, 1, b"bb"), 4, &mut out);
    let expected = hex("04  000001 000001 08 01000000  61
                        44  ffffff 000002 08 01000000  6262");
    assert_eq!(out, expected);
}

#[test]
fn chunk_streams_have_nothing_to_do_with_one_another() {
    let mut writer = ChunkWriter::new();
    let mut out = Vec::new();
    writer.write(&message(1, 8, 1, b"a"), 4, &mut out);
    writer.write(&message(2, 9, 1, b"b"), 6, &mut out);
    writer.write(&message(3, 8, 1, b"c"), 4, &mut out);
    let expected = hex("04  000001 000001 08 01000000  61
                        06  000002 000001 09 01000000  62
                        84  000002                     63");
    assert_eq!(out, expected);
}

#[test]
fn an_encoded_message_can_be_given_another_message_stream() {
    for csid in [6, 64, 320] {
        for timestamp in [1, u32::MAX] {
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            encode_message(
                &message(timestamp, 9, 1, &counting(300)),
                128,
                csid,
                &mut out,
            );
            readdress(&mut out, 0x0102);
            let readdressed = message(timestamp, 9, 0x0102, &counting(300));
            encode_message(&readdressed, 128, csid, &mut expected);
            assert_eq!(out, expected);
        }
    }
}

#[test]
fn so_can_what_is_said_of_a_message_stream() {
    let begin = |id| Control::UserControl(UserControl::StreamBegin(id)).to_message();
    let (mut out, mut expected) = (Vec::new(), Vec::new());
    encode_message(&begin(1), 128, 2, &mut out);
    readdress(&mut out, 0x0102);
    encode_message(&begin(0x0102), 128, 2, &mut expected);
    assert_eq!(out, expected);
}
