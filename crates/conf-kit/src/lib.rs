//! What the readers of keepalived's and of SRS's configuration files share.

#![forbid(unsafe_code)]

mod suggestion;
pub mod text;

pub use suggestion::did_you_mean;
