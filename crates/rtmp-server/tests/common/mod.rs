//! Helpers that the test programs share.

pub(crate) mod certificates;
pub(crate) mod nginx;
pub(crate) mod program;
pub(crate) mod server;
