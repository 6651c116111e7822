//! AMF0 (Action Message Format, version 0): the values in commands and data.

mod marker;
mod read;
mod value;
mod write;

pub use read::{Amf0Error, read_all, read_value};
pub use value::Value;
pub use write::write_value;
