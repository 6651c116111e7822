//! Values to bytes.

use bytes::BufMut;

use super::marker;
use super::value::Value;

/// Appends one value.
///
/// A string beyond 65,535 bytes becomes a long string. A property's name has
/// no long form: one beyond 65,535 bytes is cut at a character's boundary.
pub fn write_value(value: &Value, out: &mut impl BufMut) {
    match value {
        Value::Number(number) => {
            out.put_u8(marker::NUMBER);
            out.put_f64(*number);
        }
        Value::Boolean(truth) => {
            out.put_u8(marker::BOOLEAN);
            out.put_u8(u8::from(*truth));
        }
        Value::String(text) => {
            if text.len() <= usize::from(u16::MAX) {
                out.put_u8(marker::STRING);
                write_name(text, out);
            } else {
                out.put_u8(marker::LONG_STRING);
                write_long(text, out);
            }
        }
        Value::Object(properties) => {
            out.put_u8(marker::OBJECT);
            write_properties(properties, out);
        }
        Value::Null => out.put_u8(marker::NULL),
        Value::Undefined => out.put_u8(marker::UNDEFINED),
        Value::Reference(index) => {
            out.put_u8(marker::REFERENCE);
            out.put_u16(*index);
        }
        Value::EcmaArray(properties) => {
            out.put_u8(marker::ECMA_ARRAY);
            out.put_u32(properties.len() as u32);
            write_properties(properties, out);
        }
        Value::StrictArray(values) => {
            out.put_u8(marker::STRICT_ARRAY);
            out.put_u32(values.len() as u32);
            for value in values {
                write_value(value, out);
            }
        }
        Value::Date(milliseconds, zone) => {
            out.put_u8(marker::DATE);
            out.put_f64(*milliseconds);
            out.put_i16(*zone);
        }
        Value::Unsupported => out.put_u8(marker::UNSUPPORTED),
        Value::XmlDocument(text) => {
            out.put_u8(marker::XML_DOCUMENT);
            write_long(text, out);
        }
        Value::TypedObject(class, properties) => {
            out.put_u8(marker::TYPED_OBJECT);
            write_name(class, out);
            write_properties(properties, out);
        }
    }
}

fn write_properties(properties: &[(String, Value)], out: &mut impl BufMut) {
    for (name, value) in properties {
        write_name(name, out);
        write_value(value, out);
    }
    out.put_u16(0);
    out.put_u8(marker::OBJECT_END);
}

fn write_name(text: &str, out: &mut impl BufMut) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn write_long(text: &str, out: &mut impl BufMut) {
    out.put_u32(text.len() as u32);
    out.put_slice(text.as_bytes());
}
