//! Values as bytes.

use std::fmt;
use std::hint::black_box;
use std::io::Write;

use rmp_serde::{Deserializer, Serializer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::HandOverError;

/// A value as bytes. What is within another part as a blob is read by its owner alone: where
/// it cannot be, the rest can. Keys are among it: it is overwritten when it is dropped.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Blob(#[serde(with = "rtmp_proto::wire::bytes_format")] Vec<u8>);

impl Blob {
    /// Writes `value`.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn of(value: &impl Serialize) -> Result<Self, HandOverError> {
        let mut bytes = Vec::new();
        Self::write_to(value, &mut bytes)?;
        Ok(Self(bytes))
    }

    /// Writes `value` to `out`.
    ///
    /// # Errors
    /// It cannot be written down, or not there.
    pub(crate) fn write_to(value: &impl Serialize, out: impl Write) -> Result<(), HandOverError> {
        Ok(value.serialize(&mut Serializer::new(out).with_struct_map())?)
    }

    /// The value that `bytes` are, which it may refer to.
    ///
    /// # Errors
    /// They are another one.
    pub(crate) fn read_from<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, HandOverError> {
        Ok(T::deserialize(&mut Deserializer::from_read_ref(bytes))?)
    }

    /// The value.
    ///
    /// # Errors
    /// It is another one.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, HandOverError> {
        Self::read_from(&self.0)
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        // Not by `zeroize`, which stores byte by byte: there are megabytes, and everybody stands
        // still. Looked at afterwards, for a compiler may leave out what nobody reads.
        self.0.fill(0);
        black_box(self.0.as_slice());
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Written<'a> {
        name: &'a str,
        gone: u8,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Read {
        name: String,
        #[serde(default)]
        new: Option<u32>,
    }

    #[test]
    fn another_version_may_have_more_fields_and_fewer() {
        let written = Written { name: "x", gone: 7 };
        let blob = Blob::of(&written).unwrap();
        let read: Read = blob.read().unwrap();
        assert_eq!(
            read,
            Read {
                name: "x".to_owned(),
                new: None
            }
        );
        let error = blob.read::<Vec<u8>>().unwrap_err();
        assert!(matches!(error, HandOverError::Decode(_)), "{error}");
    }
}
