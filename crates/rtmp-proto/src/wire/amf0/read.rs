//! Bytes to values.
//!
//! A guard before another reader would have to walk every marker, length and
//! array itself to know where the nesting begins and ends, which is the whole
//! of a reader; so this is the reader. Nothing is allocated on the word of a
//! count, and recursion is bounded by the caller.

use super::marker;
use super::value::Value;

/// The reason for which bytes are not the AMF0 values they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Amf0Error {
    /// A value is longer than the bytes there are.
    #[error("AMF0 value cut short")]
    CutShort,
    /// A marker that AMF0 does not define or that nobody sends (movie clip,
    /// record set, the switch to AMF3).
    #[error("AMF0 marker {0:#04x} is not one of a value")]
    Marker(u8),
    /// A command does not begin with its name.
    #[error("a command does not begin with its name")]
    CommandName,
    /// Objects within objects beyond the limit.
    #[error("AMF0 objects are nested deeper than {0}")]
    Nesting(u32),
}

/// Reads one value off the front of `input`; on an error `input` is wherever
/// the reader stopped.
///
/// `max_nesting` bounds objects and arrays within one another: with 1, a
/// value may be an object of plain properties.
pub fn read_value(input: &mut &[u8], max_nesting: u32) -> Result<Value, Amf0Error> {
    Reader { input, max_nesting }.value(0)
}

/// Reads values until the end of `input`, or until one is not readable: the
/// values before it are the first part of the answer, the error the second.
pub fn read_all(mut input: &[u8], max_nesting: u32) -> (Vec<Value>, Option<Amf0Error>) {
    let mut values = Vec::new();
    while !input.is_empty() {
        match read_value(&mut input, max_nesting) {
            Ok(value) => values.push(value),
            Err(error) => return (values, Some(error)),
        }
    }
    (values, None)
}

struct Reader<'r, 'input> {
    input: &'r mut &'input [u8],
    max_nesting: u32,
}

impl<'input> Reader<'_, 'input> {
    fn value(&mut self, nesting: u32) -> Result<Value, Amf0Error> {
        let marker = self.byte()?;
        Ok(match marker {
            marker::NUMBER => Value::Number(self.number()?),
            marker::BOOLEAN => Value::Boolean(self.byte()? != 0),
            marker::STRING => Value::String(self.short_string()?),
            marker::OBJECT => Value::Object(self.properties(self.deeper(nesting)?)?),
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::REFERENCE => Value::Reference(u16::from_be_bytes(self.array()?)),
            marker::ECMA_ARRAY => {
                // The count is a hint that many encoders leave at 0: the end
                // is marked as an object's is.
                let _count: [u8; 4] = self.array()?;
                Value::EcmaArray(self.properties(self.deeper(nesting)?)?)
            }
            marker::STRICT_ARRAY => {
                let nesting = self.deeper(nesting)?;
                let count = u32::from_be_bytes(self.array()?);
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(nesting)?);
                }
                Value::StrictArray(values)
            }
            marker::DATE => Value::Date(self.number()?, i16::from_be_bytes(self.array()?)),
            marker::LONG_STRING => Value::String(self.long_string()?),
            marker::UNSUPPORTED => Value::Unsupported,
            marker::XML_DOCUMENT => Value::XmlDocument(self.long_string()?),
            marker::TYPED_OBJECT => {
                let nesting = self.deeper(nesting)?;
                Value::TypedObject(self.short_string()?, self.properties(nesting)?)
            }
            other => return Err(Amf0Error::Marker(other)),
        })
    }

    fn deeper(&self, nesting: u32) -> Result<u32, Amf0Error> {
        if nesting < self.max_nesting {
            Ok(nesting + 1)
        } else {
            Err(Amf0Error::Nesting(self.max_nesting))
        }
    }

    /// Properties up to the object's end. Some encoders leave the end out
    /// where the message ends as well; that is no error.
    fn properties(&mut self, nesting: u32) -> Result<Vec<(String, Value)>, Amf0Error> {
        let mut properties = Vec::new();
        while !self.input.is_empty() {
            let name = self.short_string()?;
            if self.input.first() == Some(&marker::OBJECT_END) {
                self.byte()?;
                break;
            }
            properties.push((name, self.value(nesting)?));
        }
        Ok(properties)
    }

    fn short_string(&mut self) -> Result<String, Amf0Error> {
        let length = u16::from_be_bytes(self.array()?);
        self.text(usize::from(length))
    }

    fn long_string(&mut self) -> Result<String, Amf0Error> {
        let length = u32::from_be_bytes(self.array()?);
        self.text(length as usize)
    }

    fn text(&mut self, length: usize) -> Result<String, Amf0Error> {
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn number(&mut self) -> Result<f64, Amf0Error> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    fn byte(&mut self) -> Result<u8, Amf0Error> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Amf0Error> {
        let (array, rest) = self.input.split_first_chunk().ok_or(Amf0Error::CutShort)?;
        *self.input = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'input [u8], Amf0Error> {
        let (taken, rest) = self
            .input
            .split_at_checked(length)
            .ok_or(Amf0Error::CutShort)?;
        *self.input = rest;
        Ok(taken)
    }
}
