//! Any stream.
