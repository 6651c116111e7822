//! Configuration: keepalived.conf(5) or JSON in, one model and a list of
//! warnings out.
//!
//! A file goes through these stages: `expand` (files to lines), `words` (a line to
//! words), `tree` (words to directives), `blocks` (directives to the [`Config`]),
//! `validate` (rules that no single directive can check).
//!
//! `keywords` has a table for each kind of block. Below the tables are `vocabulary` (words
//! that are served or not), `reader`, `writer` and `bounds` (arguments), `keyword` and
//! `argument` (rows and kinds of argument). `blocks`, `schema` and `documentation` use the
//! tables.

mod argument;
mod blocks;
mod bounds;
mod documentation;
mod expand;
mod json;
mod keyword;
mod keywords;
mod names;
mod reader;
mod references;
mod repetition;
mod schema;
mod substitute;
mod tree;
mod validate;
mod validate_loops;
mod validate_routes;
mod validate_scripts;
mod validate_services;
mod validate_values;
mod vocabulary;
mod words;
mod writer;

#[cfg(test)]
mod expand_tests;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::Path;

pub use conf_kit::ConfigError;
use conf_kit::{Diagnostic, Diagnostics, Location, text};
use lb_model::config::Config;

pub use blocks::write as to_keepalived;
pub use conf_kit::source::is_json;
pub use documentation::keyword_tables;
pub use json::write as to_json;
pub use schema::schema;
pub use validate_scripts::runs_scripts_as_others;

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings for the operator.
    pub warnings: Vec<Diagnostic>,
}

/// Loads a configuration file; one whose name ends in `.json` is JSON, any
/// other is keepalived.conf.
///
/// Conditional lines hold for the host's name up to its first dot.
///
/// # Errors
/// The file cannot be read or says something that cannot be done: every
/// mistake is named with its file and line.
pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
    load_for(file, &default_config_id())
}

/// Loads a configuration file for a configuration id (keepalived.conf(5),
/// "Conditional configuration").
///
/// # Errors
/// As [`load`].
pub fn load_for(file: &Path, config_id: &str) -> Result<Loaded, ConfigError> {
    let mut diagnostics = Diagnostics::new(Location::whole(&file.to_string_lossy()));
    let text = expand::read(file, &Location::default(), &mut diagnostics);
    let config = text.and_then(|text| parse(file, &text, config_id, &mut diagnostics));
    finish(config, diagnostics)
}

/// Warnings of what a machine with `addresses` lacks to share the services in `file` with
/// real servers that are directors: itself, or others.
pub fn warnings_of_directors(
    config: &Config,
    file: &Path,
    addresses: &[IpAddr],
) -> Vec<Diagnostic> {
    let mut diagnostics = Diagnostics::new(Location::whole(&file.to_string_lossy()));
    validate_loops::warn_of_directors(config, addresses, &mut diagnostics);
    diagnostics.into_list()
}

/// Checks a configuration that was not read from a file as it is: one with discovered
/// servers.
///
/// # Errors
/// Every mistake; what would only be warned of is left out.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let mut diagnostics = Diagnostics::new(Location::default());
    validate::validate(config, &mut diagnostics);
    if diagnostics.has_errors() {
        let mut diagnostics = diagnostics.into_list();
        diagnostics.retain(Diagnostic::is_error);
        return Err(ConfigError { diagnostics });
    }
    Ok(())
}

/// The host's name up to its first dot.
pub fn default_config_id() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// Reads `text` as the content of `file`, and checks it.
fn parse(
    file: &Path,
    text: &str,
    config_id: &str,
    diagnostics: &mut Diagnostics,
) -> Option<Config> {
    let config = if is_json(file) {
        // JSON has no comments.
        if let Some(line) = text::first_undecodable_line(text) {
            let location = Location::line(&file.to_string_lossy().into(), line);
            diagnostics.error(&location, text::NOT_UTF8);
            return None;
        }
        json::read(text, diagnostics)?
    } else {
        let lines = expand::expand(file, text, config_id, diagnostics);
        let directives = tree::parse(&lines, diagnostics);
        blocks::read(&directives, diagnostics)
    };
    // What was not understood would only cause further complaints.
    if !diagnostics.has_errors() {
        validate::validate(&config, diagnostics);
    }
    Some(config)
}

fn finish(config: Option<Config>, diagnostics: Diagnostics) -> Result<Loaded, ConfigError> {
    match config {
        Some(config) if !diagnostics.has_errors() => Ok(Loaded {
            config,
            warnings: diagnostics.into_list(),
        }),
        _ => Err(ConfigError {
            diagnostics: diagnostics.into_list(),
        }),
    }
}
