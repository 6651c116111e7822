//! Decoder configurations as `serde` writes them: the bodies of their boxes (ISO/IEC 14496-12
//! §4.2), for fields (`#[serde(with = "…")]`).

use bytes::Bytes;
use mp4_atom::Atom;
use rtmp_proto::wire::bytes_format;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserializer, Serializer};

/// Writes the body of a box.
///
/// # Errors
/// It cannot be encoded, or those of the serializer.
pub(super) fn serialize<A: Atom, S: Serializer>(
    atom: &A,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut body = Vec::new();
    atom.encode_body(&mut body).map_err(S::Error::custom)?;
    bytes_format::serialize(&body, serializer)
}

/// Reads the body of a box.
///
/// # Errors
/// There is something else.
pub(super) fn deserialize<'de, A: Atom, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<A, D::Error> {
    let body: Bytes = bytes_format::deserialize(deserializer)?;
    A::decode_body(&mut &*body).map_err(D::Error::custom)
}
