//! What a process hands over to the program that it becomes: values as bytes, times, and
//! descriptors.
//!
//! Each owner writes what it has to go on with as a part: a structure of numbers, texts and
//! bytes. Parts are written as maps with the names of their fields (MessagePack): a later
//! version may add fields, and gives them a default.

mod codec;
mod descriptors;
pub(crate) mod monotonic;
mod steps;

use std::io;

pub(crate) use codec::Blob;
pub(crate) use descriptors::{HandedOver, Inherited, hand_over};
pub(crate) use steps::Steps;

/// Why something cannot be handed over, or taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandOverError {
    /// It cannot be written down.
    #[error("cannot be written down: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// It is not what this program expects.
    #[error("is not what this program reads: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    /// A descriptor is missing, or cannot be used.
    #[error("a descriptor cannot be used: {0}")]
    Descriptor(#[from] io::Error),
    /// The keys of a connection by TLS are of no use.
    #[error("cannot go on: {0}")]
    Tls(#[from] tls_record::BadSecret),
    /// More of a record has come by TLS than can have been kept.
    #[error("cannot go on: {0} bytes of one TLS record")]
    TlsRecord(usize),
    /// What refers to another part that is not there.
    #[error("there is no {0}")]
    Missing(String),
}
