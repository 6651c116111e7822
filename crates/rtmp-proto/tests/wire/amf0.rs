//! AMF0: every type, and every way to be wrong.

use rtmp_proto::wire::amf0::{Amf0Error, Value, read_all, read_value, write_value};

use crate::tools::hex;

/// Reads one value with the server's limit.
fn read(bytes: &[u8]) -> Result<Value, Amf0Error> {
    read_value(&mut &bytes[..], 32)
}

fn properties(pairs: &[(&str, Value)]) -> Vec<(String, Value)> {
    pairs
        .iter()
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect()
}

/// What AMF0 §2 defines, as bytes and as values.
fn specification() -> Vec<(&'static str, Vec<u8>, Value)> {
    vec![
        ("a number", hex("00 3ff8000000000000"), Value::Number(1.5)),
        ("true", hex("01 01"), Value::Boolean(true)),
        ("false", hex("01 00"), Value::Boolean(false)),
        (
            "a string",
            hex("02 0003 616263"),
            Value::String("abc".into()),
        ),
        (
            "an empty string",
            hex("02 0000"),
            Value::String(String::new()),
        ),
        ("UTF-8", hex("02 0002 c3a9"), Value::String("é".into())),
        ("an empty object", hex("03 000009"), Value::Object(vec![])),
        (
            "an object, its properties in their order",
            hex("03 0001 62 05  0001 61 01 01  000009"),
            Value::Object(properties(&[
                ("b", Value::Null),
                ("a", Value::Boolean(true)),
            ])),
        ),
        ("null", hex("05"), Value::Null),
        ("undefined", hex("06"), Value::Undefined),
        ("a reference", hex("07 0102"), Value::Reference(0x0102)),
        (
            "an associative array",
            hex("08 00000001  0001 61 05  000009"),
            Value::EcmaArray(properties(&[("a", Value::Null)])),
        ),
        (
            "an array",
            hex("0a 00000002  05 0a 00000000"),
            Value::StrictArray(vec![Value::Null, Value::StrictArray(vec![])]),
        ),
        (
            "a date",
            hex("0b 4000000000000000 ffc4"),
            Value::Date(2.0, -60),
        ),
        ("unsupported", hex("0d"), Value::Unsupported),
        (
            "XML",
            hex("0f 00000004 3c612f3e"),
            Value::XmlDocument("<a/>".into()),
        ),
        (
            "a typed object",
            hex("10 0001 54  0001 61 05  000009"),
            Value::TypedObject("T".into(), properties(&[("a", Value::Null)])),
        ),
    ]
}

#[test]
fn every_type_is_read() {
    for (name, bytes, value) in specification() {
        let mut input = &[&bytes[..], b"rest"].concat()[..];
        assert_eq!(read_value(&mut input, 32), Ok(value), "{name}");
        assert_eq!(input, b"rest", "{name}");
    }
}

#[test]
fn every_type_is_written() {
    for (name, bytes, value) in specification() {
        let mut out = Vec::new();
        write_value(&value, &mut out);
        assert_eq!(out, bytes, "{name}");
    }
}

#[test]
fn every_value_cut_short_anywhere_is_an_error() {
    for (name, bytes, _) in specification() {
        let is_object = matches!(bytes[0], 3 | 8 | 16);
        for len in 0..bytes.len() {
            let result = read(&bytes[..len]);
            // At a property's end, the object's end may be missing.
            if !is_object || result.is_err() {
                assert_eq!(
                    result,
                    Err(Amf0Error::CutShort),
                    "{name}, first {len} bytes"
                );
            }
        }
    }
}

#[test]
fn the_object_end_may_be_missing_at_the_end_of_the_message() {
    let expected = Value::Object(properties(&[("a", Value::Null)]));
    assert_eq!(read(&hex("03 0001 61 05")), Ok(expected));
}

#[test]
fn an_associative_arrays_count_is_a_hint_and_may_be_wrong() {
    let expected = Value::EcmaArray(properties(&[("a", Value::Null)]));
    for count in ["00000000", "00000001", "000000ff", "ffffffff"] {
        let bytes = [hex("08"), hex(count), hex("0001 61 05  000009")].concat();
        assert_eq!(read(&bytes), Ok(expected.clone()), "count {count}");
    }
}

#[test]
fn an_arrays_count_alone_reserves_nothing() {
    assert_eq!(read(&hex("0a ffffffff 05 05")), Err(Amf0Error::CutShort));
}

#[test]
fn a_property_may_have_an_empty_name() {
    let expected = Value::Object(properties(&[("", Value::Null)]));
    assert_eq!(read(&hex("03 0000 05  000009")), Ok(expected));
}

#[test]
fn a_property_may_come_twice_and_the_first_counts() {
    let value = read(&hex("03 0001 61 05  0001 61 06  000009")).unwrap();
    assert_eq!(value.properties().len(), 2);
    assert_eq!(value.get("a"), Some(&Value::Null));
}

#[test]
fn any_boolean_but_zero_is_true() {
    assert_eq!(read(&hex("01 02")), Ok(Value::Boolean(true)));
}

#[test]
fn bytes_that_are_not_utf_8_are_replaced() {
    assert_eq!(
        read(&hex("02 0002 61ff")),
        Ok(Value::String("a\u{fffd}".into()))
    );
}

#[test]
fn a_string_of_65536_bytes_is_a_long_one() {
    let long = "x".repeat(65_536);
    let mut out = Vec::new();
    write_value(&Value::String(long.clone()), &mut out);
    assert_eq!(out[..5], hex("0c 00010000"));
    assert_eq!(read(&out), Ok(Value::String(long)));

    let short = "x".repeat(65_535);
    let mut out = Vec::new();
    write_value(&Value::String(short.clone()), &mut out);
    assert_eq!(out[..3], hex("02 ffff"));
    assert_eq!(read(&out), Ok(Value::String(short)));
}

#[test]
fn a_propertys_name_beyond_its_length_field_is_cut_between_characters() {
    let mut out = Vec::new();
    write_value(
        &Value::Object(vec![("é".repeat(40_000), Value::Null)]),
        &mut out,
    );
    let value = read(&out).unwrap();
    assert_eq!(value.properties(), [("é".repeat(32_767), Value::Null)]);
}

#[test]
fn what_amf0_does_not_define_is_an_error() {
    for marker in [4, 9, 14, 17, 18, 0x80, 0xff] {
        assert_eq!(read(&[marker]), Err(Amf0Error::Marker(marker)));
    }
}

#[test]
fn nesting_is_bounded() {
    let objects = |depth: usize| {
        [
            hex("03 0001 61").repeat(depth),
            hex("05"),
            hex("000009").repeat(depth),
        ]
        .concat()
    };
    let arrays = |depth: usize| [hex("0a 00000001").repeat(depth), hex("05")].concat();
    for nested in [objects(32), arrays(32)] {
        assert!(read(&nested).is_ok());
    }
    for nested in [objects(33), arrays(33)] {
        assert_eq!(read(&nested), Err(Amf0Error::Nesting(32)));
    }
}

#[test]
fn sixteen_kilobytes_of_nested_objects_do_not_overflow_the_stack() {
    // What aborted other servers' processes.
    assert_eq!(
        read(&hex("03 0001 61").repeat(4096)),
        Err(Amf0Error::Nesting(32))
    );
    assert_eq!(
        read(&hex("08 00000001 0001 61").repeat(2048)),
        Err(Amf0Error::Nesting(32))
    );
}

#[test]
fn values_before_an_unreadable_one_are_kept() {
    let bytes = hex("02 0001 61  05  11 0a0b");
    let (values, error) = read_all(&bytes, 32);
    assert_eq!(values, [Value::String("a".into()), Value::Null]);
    assert_eq!(error, Some(Amf0Error::Marker(0x11)));
}
