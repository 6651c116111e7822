//! Arguments of keepalived.conf: each kind is read in one way, with one wording of its
//! mistakes.

mod arguments;
mod check;
mod global;
mod route;
mod service;
mod tracked;
mod vrrp;

use conf_kit::Diagnostics;

/// Reads directives and reports what is wrong with them.
pub(crate) struct Reader<'a> {
    /// The names of all virtual routers of the file.
    pub(crate) instances: Vec<String>,
    /// The names of scripts that have none, so that nothing can track them.
    pub(crate) without_script: Vec<String>,
    /// The port of the virtual server that is being read.
    pub(crate) service_port: u16,
    pub(crate) diagnostics: &'a mut Diagnostics,
}
