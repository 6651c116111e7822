//! What is in a message: bytes and structure, family by family.

use rtmp_proto::wire::amf0::{Amf0Error, Value};
use rtmp_proto::wire::message::data::{self, DataKind};
use rtmp_proto::wire::message::{BandwidthLimit, Command, Control, UserControl, aggregate};
use rtmp_proto::wire::{Message, MessageType};

use crate::tools::{hex, message};

fn control_messages() -> Vec<(u8, Vec<u8>, Control)> {
    use UserControl::*;
    let user = Control::UserControl;
    let stream_id = 0x0102_0304;
    vec![
        (1, hex("00001000"), Control::SetChunkSize(4096)),
        (2, hex("00000006"), Control::Abort(6)),
        (3, hex("ffffffff"), Control::Acknowledgement(u32::MAX)),
        (5, hex("002625a0"), Control::WindowAckSize(2_500_000)),
        (
            6,
            hex("002625a0 00"),
            Control::SetPeerBandwidth(2_500_000, BandwidthLimit::Hard),
        ),
        (
            6,
            hex("002625a0 01"),
            Control::SetPeerBandwidth(2_500_000, BandwidthLimit::Soft),
        ),
        (
            6,
            hex("002625a0 02"),
            Control::SetPeerBandwidth(2_500_000, BandwidthLimit::Dynamic),
        ),
        (4, hex("0000 01020304"), user(StreamBegin(stream_id))),
        (4, hex("0001 01020304"), user(StreamEof(stream_id))),
        (4, hex("0002 01020304"), user(StreamDry(stream_id))),
        (
            4,
            hex("0003 01020304 000003e8"),
            user(SetBufferLength {
                stream_id,
                milliseconds: 1000,
            }),
        ),
        (4, hex("0004 01020304"), user(StreamIsRecorded(stream_id))),
        (4, hex("0006 01020304"), user(PingRequest(0x0102_0304))),
        (4, hex("0007 01020304"), user(PingResponse(0x0102_0304))),
        (
            4,
            hex("001a"),
            user(Other {
                event: 26,
                data: vec![].into(),
            }),
        ),
        (
            4,
            hex("001f 01020304"),
            user(Other {
                event: 31,
                data: hex("01020304").into(),
            }),
        ),
    ]
}

#[test]
fn control_messages_are_read() {
    for (type_id, payload, control) in control_messages() {
        assert_eq!(
            Control::parse(&message(0, type_id, 0, &payload)),
            Some(control)
        );
    }
}

#[test]
fn control_messages_are_written() {
    for (type_id, payload, control) in control_messages() {
        assert_eq!(control.to_message(), message(0, type_id, 0, &payload));
    }
}

#[test]
fn control_messages_that_are_too_short_are_nothing() {
    for (type_id, payload, control) in control_messages() {
        // All but the bandwidth's type is needed, and anything is an unknown
        // event's data.
        let needed = match control {
            Control::SetPeerBandwidth(..) => 4,
            Control::UserControl(UserControl::Other { .. }) => 2,
            _ => payload.len(),
        };
        for len in 0..needed {
            let cut = message(0, type_id, 0, &payload[..len]);
            assert_eq!(Control::parse(&cut), None, "{control:?}, first {len} bytes");
        }
    }
}

#[test]
fn a_bandwidth_without_type_is_dynamic() {
    let expected = Control::SetPeerBandwidth(5000, BandwidthLimit::Dynamic);
    assert_eq!(
        Control::parse(&message(0, 6, 0, &hex("00001388"))),
        Some(expected)
    );
}

#[test]
fn media_and_commands_are_no_control_messages() {
    for type_id in [0, 7, 8, 9, 15, 17, 18, 20, 22, 255] {
        assert_eq!(
            Control::parse(&message(0, type_id, 0, &[0; 16])),
            None,
            "type {type_id}"
        );
    }
}

/// `createStream`, transaction 2, null.
const CREATE_STREAM: &str = "02 000c 63726561746553747265616d  00 4000000000000000  05";

#[test]
fn a_command_in_amf0() {
    let command = Command::parse(&message(0, 20, 0, &hex(CREATE_STREAM)), 32);
    assert_eq!(command, Ok(Command::new("createStream", 2.0, vec![])));
}

#[test]
fn a_command_in_amf3_has_one_byte_before_its_amf0() {
    let expected = Ok(Command::new("createStream", 2.0, vec![]));
    let with_byte = [hex("00"), hex(CREATE_STREAM)].concat();
    assert_eq!(Command::parse(&message(0, 17, 0, &with_byte), 32), expected);
    // Some leave it out.
    assert_eq!(
        Command::parse(&message(0, 17, 0, &hex(CREATE_STREAM)), 32),
        expected
    );
}

#[test]
fn a_command_is_written_in_amf0() {
    let command = Command::new("createStream", 2.0, vec![]);
    assert_eq!(
        command.to_message(0),
        message(0, 20, 0, &hex(CREATE_STREAM))
    );
}

#[test]
fn what_a_command_leaves_out_is_null() {
    for (payload, transaction_id) in [
        ("02 0004 706c6179", 0.0),
        ("02 0004 706c6179  00 4000000000000000", 2.0),
        ("02 0004 706c6179  05", 0.0),
    ] {
        let command = Command::parse(&message(0, 20, 1, &hex(payload)), 32);
        assert_eq!(command, Ok(Command::new("play", transaction_id, vec![])));
    }
}

#[test]
fn an_unreadable_argument_ends_the_arguments_and_nothing_else() {
    let payload = [hex(CREATE_STREAM), hex("02 0001 61  11 ffff")].concat();
    let command = Command::parse(&message(0, 20, 0, &payload), 32);
    assert_eq!(
        command,
        Ok(Command::new("createStream", 2.0, vec!["a".into()]))
    );
}

#[test]
fn a_command_may_carry_dates_long_strings_and_references() {
    let payload = [
        hex(CREATE_STREAM),
        hex("0b 4000000000000000 0000  0c 00000001 61  07 0000  0d"),
    ]
    .concat();
    let arguments = vec![
        Value::Date(2.0, 0),
        Value::String("a".into()),
        Value::Reference(0),
        Value::Unsupported,
    ];
    let command = Command::parse(&message(0, 20, 0, &payload), 32);
    assert_eq!(command, Ok(Command::new("createStream", 2.0, arguments)));
}

#[test]
fn without_a_name_there_is_no_command() {
    for (payload, error) in [
        ("", Amf0Error::CutShort),
        ("02", Amf0Error::CutShort),
        ("05", Amf0Error::CommandName),
        ("00 4000000000000000", Amf0Error::CommandName),
        ("ff", Amf0Error::Marker(0xff)),
    ] {
        let command = Command::parse(&message(0, 20, 0, &hex(payload)), 32);
        assert_eq!(command, Err(error), "payload {payload:?}");
    }
}

/// `@setDataFrame`
const SET_DATA_FRAME: &str = "02 000d 40736574446174614672616d65";
/// `onMetaData`, then an associative array with fields nobody has heard of, a
/// date and a long string among them.
const METADATA: &str = "02 000a 6f6e4d65746144617461
    08 00000003  0001 61 0b 4000000000000000 0000  0001 62 0c 00000001 7a  0001 63 07 0000  000009";

#[test]
fn metadata_is_recognised_with_and_without_set_data_frame() {
    for prefix in ["", SET_DATA_FRAME] {
        let payload = [hex(prefix), hex(METADATA)].concat();
        assert_eq!(data::kind(&message(0, 18, 1, &payload)), DataKind::Metadata);
        let amf3 = [hex("00"), payload].concat();
        assert_eq!(data::kind(&message(0, 15, 1, &amf3)), DataKind::Metadata);
    }
}

#[test]
fn players_get_metadata_whole_without_set_data_frame() {
    let payload = [hex(SET_DATA_FRAME), hex(METADATA)].concat();
    let expected = message(7, 18, 1, &hex(METADATA));
    assert_eq!(data::for_players(&message(7, 18, 1, &payload)), expected);
    assert_eq!(
        data::for_players(&message(7, 18, 1, &hex(METADATA))),
        expected
    );
    let amf3 = [hex("00"), payload].concat();
    assert_eq!(data::for_players(&message(7, 15, 1, &amf3)), expected);
}

#[test]
fn data_that_is_no_amf_at_all_passes_through_whole() {
    for payload in ["", "ff", "02", "02 ffff 61", "05"] {
        let message = message(7, 18, 1, &hex(payload));
        assert_eq!(data::kind(&message), DataKind::Other);
        assert_eq!(data::for_players(&message), message);
    }
}

#[test]
fn other_data_is_told_from_metadata() {
    let cue_point = "02 000a 6f6e437565506f696e74 05";
    assert_eq!(
        data::kind(&message(0, 18, 1, &hex(cue_point))),
        DataKind::Other
    );
    let framed = [hex(SET_DATA_FRAME), hex(cue_point)].concat();
    assert_eq!(data::kind(&message(0, 18, 1, &framed)), DataKind::Other);
    let clear = "02 000f 40636c656172446174614672616d65  02 000a 6f6e4d65746144617461";
    assert_eq!(
        data::kind(&message(0, 18, 1, &hex(clear))),
        DataKind::ClearMetadata
    );
}

/// A part of an aggregate: an FLV tag and its length.
fn part(type_id: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let [high, t0, t1, t2] = timestamp.to_be_bytes();
    let length = payload.len() as u32;
    let mut bytes = vec![type_id];
    bytes.extend(&length.to_be_bytes()[1..]);
    bytes.extend([t0, t1, t2, high, 0, 0, 0]);
    bytes.extend(payload);
    bytes.extend((11 + length).to_be_bytes());
    bytes
}

fn split(timestamp: u32, payload: &[u8]) -> Vec<Message> {
    let aggregate = message(timestamp, MessageType::AGGREGATE.0, 1, payload);
    aggregate::split(aggregate).collect()
}

#[test]
fn an_aggregate_is_split_and_its_first_part_has_its_timestamp() {
    let payload = [
        part(8, 500, b"audio"),
        part(9, 540, b"video"),
        part(18, 490, b"data"),
    ]
    .concat();
    assert_eq!(
        split(1000, &payload),
        [
            message(1000, 8, 1, b"audio"),
            message(1040, 9, 1, b"video"),
            message(990, 18, 1, b"data"),
        ]
    );
}

#[test]
fn an_aggregates_timestamps_may_exceed_24_bits_and_wrap() {
    let payload = [part(8, 0x0102_0304, b"a"), part(8, 0x0102_0305, b"b")].concat();
    assert_eq!(
        split(u32::MAX, &payload),
        [message(u32::MAX, 8, 1, b"a"), message(0, 8, 1, b"b")]
    );
}

#[test]
fn an_aggregate_cut_short_keeps_what_is_whole() {
    let payload = [part(8, 0, b"audio"), part(9, 40, b"video")].concat();
    let second = part(8, 0, b"audio").len();
    for len in 0..payload.len() {
        let parts = split(0, &payload[..len]).len();
        // The length after a part is of no use, and its absence no loss.
        let whole = usize::from(len >= second - 4) + usize::from(len >= payload.len() - 4);
        assert_eq!(parts, whole, "first {len} bytes");
    }
}

#[test]
fn aggregates_within_aggregates_and_commands_are_passed_over() {
    let inner = part(8, 0, b"audio");
    let payload = [
        part(22, 0, &inner),
        part(20, 0, b"command"),
        part(9, 1, b"video"),
    ]
    .concat();
    assert_eq!(split(0, &payload), [message(1, 9, 1, b"video")]);
}

#[test]
fn a_messages_debug_form_is_short() {
    let shown = format!("{:?}", message(40, 9, 1, &[0; 100_000]));
    assert!(shown.len() < 300, "{} characters", shown.len());
    assert!(shown.contains("100000 bytes"), "{shown}");
}
