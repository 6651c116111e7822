//! The engine below both configuration grammars, keepalived's and SRS's: places,
//! diagnostics, the tree of directives and its arguments, files and what they include.
//!
//! Each grammar has a lexer and keyword tables of its own.

#![forbid(unsafe_code)]

mod diagnostic;
mod directive;
mod location;
pub mod source;
mod suggestion;
pub mod text;

pub use diagnostic::{ConfigError, Diagnostic, Diagnostics, Severity};
pub use directive::Directive;
pub use location::Location;
pub use suggestion::did_you_mean;
