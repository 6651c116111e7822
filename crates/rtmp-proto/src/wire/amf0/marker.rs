//! The markers of AMF0 §2.1.

pub(super) const NUMBER: u8 = 0;
pub(super) const BOOLEAN: u8 = 1;
pub(super) const STRING: u8 = 2;
pub(super) const OBJECT: u8 = 3;
pub(super) const NULL: u8 = 5;
pub(super) const UNDEFINED: u8 = 6;
pub(super) const REFERENCE: u8 = 7;
pub(super) const ECMA_ARRAY: u8 = 8;
pub(super) const OBJECT_END: u8 = 9;
pub(super) const STRICT_ARRAY: u8 = 10;
pub(super) const DATE: u8 = 11;
pub(super) const LONG_STRING: u8 = 12;
pub(super) const UNSUPPORTED: u8 = 13;
pub(super) const XML_DOCUMENT: u8 = 15;
pub(super) const TYPED_OBJECT: u8 = 16;
