//! Properties: what is written is read again, however it is cut.

use proptest::collection::vec;
use proptest::prelude::*;

use rtmp_proto::wire::amf0::{Value, read_value, write_value};
use rtmp_proto::wire::chunk::{ChunkWriter, encode_message};
use rtmp_proto::wire::message::{Command, Control};
use rtmp_proto::wire::{Limits, Message, MessageType};

use crate::tools::read_pieces;

/// Timestamps with a liking for the places where something changes.
fn timestamp() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0..100_u32,
        0xff_fff0..=0x100_0010_u32,
        0x7fff_fff0..=0x8000_0010_u32,
        0xffff_fff0..=u32::MAX,
    ]
}

/// Messages that do not concern the chunk layer.
fn any_message() -> impl Strategy<Value = Message> {
    let type_id = prop_oneof![Just(8_u8), Just(9), Just(18), Just(20), 7..=255_u8];
    let payload = prop_oneof![vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..5000)];
    (timestamp(), type_id, any::<u32>(), payload).prop_map(
        |(timestamp, type_id, stream_id, payload)| Message {
            timestamp,
            message_type: MessageType(type_id),
            stream_id,
            payload: payload.into(),
        },
    )
}

/// Cuts bytes at these places, each taken modulo what is there.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    at.sort_unstable();
    let mut rest = bytes;
    let mut done = 0;
    let mut pieces = Vec::new();
    for cut in at {
        let (piece, tail) = rest.split_at(cut - done);
        pieces.push(piece);
        rest = tail;
        done = cut;
    }
    pieces.push(rest);
    pieces
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<f64>()
            .prop_filter("NaN equals nothing", |n| !n.is_nan())
            .prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        ".{0,40}".prop_map(Value::String),
        Just(Value::Null),
        Just(Value::Undefined),
        any::<u16>().prop_map(Value::Reference),
        (-1e15..1e15, any::<i16>()).prop_map(|(time, zone)| Value::Date(time, zone)),
        Just(Value::Unsupported),
        ".{0,40}".prop_map(Value::XmlDocument),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        let properties = vec((".{0,12}", inner.clone()), 0..8);
        prop_oneof![
            properties.clone().prop_map(Value::Object),
            properties.clone().prop_map(Value::EcmaArray),
            vec(inner, 0..8).prop_map(Value::StrictArray),
            (".{0,12}", properties).prop_map(|(class, p)| Value::TypedObject(class, p)),
        ]
    })
}

proptest! {
    #[test]
    fn self_contained_messages_come_back_however_they_are_cut(
        messages in vec(any_message(), 1..8),
        chunk_size in 1..6000_u32,
        csid in prop_oneof![3..64_u32, 64..320_u32, 320..=65_599_u32],
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        let size = Control::SetChunkSize(chunk_size).to_message();
        encode_message(&size, 128, 2, &mut bytes);
        for message in &messages {
            encode_message(message, chunk_size, csid, &mut bytes);
        }
        let read = read_pieces(pieces(&bytes, &cuts), &Limits::default()).unwrap();
        prop_assert_eq!(&read[1..], &messages[..]);
    }

    #[test]
    fn a_writers_messages_come_back_however_they_are_cut(
        messages in vec((any_message(), 3..8_u32), 1..12),
        chunk_size in 1..6000_u32,
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        let mut writer = ChunkWriter::new();
        writer.write(&Control::SetChunkSize(chunk_size).to_message(), 2, &mut bytes);
        writer.set_chunk_size(chunk_size);
        for (message, csid) in &messages {
            writer.write(message, *csid, &mut bytes);
        }
        let read = read_pieces(pieces(&bytes, &cuts), &Limits::default()).unwrap();
        let expected: Vec<_> = messages.into_iter().map(|(message, _)| message).collect();
        prop_assert_eq!(&read[1..], &expected[..]);
    }

    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        bytes in vec(any::<u8>(), 0..600),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let limits = Limits::default();
        let at_once = read_pieces([&bytes[..]], &limits);
        prop_assert_eq!(&read_pieces(bytes.chunks(1), &limits), &at_once);
        prop_assert_eq!(&read_pieces(pieces(&bytes, &cuts), &limits), &at_once);
    }

    #[test]
    fn amf0_values_come_back(value in any_value()) {
        let mut bytes = Vec::new();
        write_value(&value, &mut bytes);
        let mut input = &bytes[..];
        prop_assert_eq!(read_value(&mut input, 32), Ok(value));
        prop_assert!(input.is_empty());
    }

    #[test]
    fn any_amf0_that_can_be_read_comes_back_when_written(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(value) = read_value(&mut &bytes[..], 32) {
            let mut written = Vec::new();
            write_value(&value, &mut written);
            let again = read_value(&mut &written[..], 32);
            // NaN equals nothing: compare what is shown.
            prop_assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(value)));
        }
    }

    #[test]
    fn commands_come_back(
        name in "[a-zA-Z@_]{1,20}",
        transaction in 0..1000_u32,
        object in any_value(),
        arguments in vec(any_value(), 0..5),
    ) {
        let transaction_id = f64::from(transaction);
        let command = Command { name, transaction_id, object, arguments };
        prop_assert_eq!(Command::parse(&command.to_message(1), 32), Ok(command));
    }
}
