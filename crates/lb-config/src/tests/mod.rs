//! Configurations that are accepted, warned of and refused, and the words.

mod accepted;
mod convert;
mod json_form;
mod json_schema;
mod mistakes;
mod scripts;
mod vocabulary;
mod warnings;

use std::path::Path;

use super::*;
use conf_kit::Diagnostics;
use lb_model::config::{CheckKind, LbKind, Seconds};

const DEPLOYMENT: &str = include_str!("../../../../examples/keepalived.conf");
const EVERYTHING: &str = include_str!("everything.conf");

/// Reads `text` as `t.conf`.
fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let mut diagnostics = Diagnostics::new(Location::whole("t.conf"));
    let config = parse(Path::new("t.conf"), text, "main", &mut diagnostics);
    finish(config, diagnostics)
}

/// Reads `text` as `t.json`.
fn load_json(text: &str) -> Result<Loaded, ConfigError> {
    let mut diagnostics = Diagnostics::new(Location::whole("t.json"));
    let config = parse(Path::new("t.json"), text, "main", &mut diagnostics);
    finish(config, diagnostics)
}

fn messages(list: &[Diagnostic]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// The one mistake that `text` makes.
fn mistake(text: &str) -> String {
    let refused = load_text(text).expect_err("the text has a mistake");
    let errors: Vec<_> = refused
        .diagnostics
        .into_iter()
        .filter(|diagnostic| diagnostic.severity == conf_kit::Severity::Error)
        .collect();
    assert_eq!(errors.len(), 1, "expected one mistake, got {errors:#?}");
    errors[0].to_string()
}

/// A service with `inside` in its block and `server` in its real server's.
fn service(inside: &str, server: &str) -> String {
    format!(
        "virtual_server 10.0.0.1 80 {{\n{inside}\nreal_server 10.0.0.2 80 {{\n{server}\n}}\n}}\n"
    )
}
