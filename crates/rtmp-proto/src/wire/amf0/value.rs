//! The values of AMF0.

use serde::{Deserialize, Serialize};

/// An AMF0 value. Objects keep their properties in the order of the wire.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Value {
    /// A number (marker 0).
    Number(f64),
    /// A boolean (marker 1).
    Boolean(bool),
    /// A string or long string (markers 2 and 12). Bytes that are not UTF-8
    /// have been replaced.
    String(String),
    /// An object (marker 3).
    Object(Vec<(String, Value)>),
    /// Null (marker 5).
    Null,
    /// Undefined (marker 6).
    Undefined,
    /// A back reference to an object of the same message (marker 7); left as
    /// it is, not followed.
    Reference(u16),
    /// An associative array (marker 8).
    EcmaArray(Vec<(String, Value)>),
    /// An array (marker 10).
    StrictArray(Vec<Value>),
    /// A date: milliseconds since 1 January 1970 UTC, and a time zone that the
    /// specification wants to be 0 (marker 11).
    Date(f64, i16),
    /// "Unsupported" (marker 13).
    Unsupported,
    /// An XML document (marker 15).
    XmlDocument(String),
    /// An object with a class name (marker 16).
    TypedObject(String, Vec<(String, Value)>),
}

impl Value {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number of a number.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The truth of a boolean; a number counts as true unless it is 0, for
    /// encoders that send 0 and 1.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(truth) => Some(*truth),
            Value::Number(number) => Some(*number != 0.0),
            _ => None,
        }
    }

    /// The properties of an object, typed object or associative array.
    pub fn properties(&self) -> &[(String, Value)] {
        match self {
            Value::Object(properties)
            | Value::EcmaArray(properties)
            | Value::TypedObject(_, properties) => properties,
            _ => &[],
        }
    }

    /// The first property of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.properties()
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Boolean(truth)
    }
}
