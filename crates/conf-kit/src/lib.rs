//! What the readers of keepalived's and of SRS's configuration files share.

#![forbid(unsafe_code)]

mod diagnostic;
mod suggestion;
pub mod text;

pub use diagnostic::{Diagnostic, Diagnostics, Origin, Position, Severity};
pub use suggestion::did_you_mean;
