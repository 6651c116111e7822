//! `lb-user convert` and `lb-user schema`: the two forms of a configuration.

use std::io::{self, Write as _};
use std::path::Path;

/// Prints `file` in the form that it does not have: keepalived.conf as JSON,
/// JSON as keepalived.conf.
///
/// # Errors
/// The file is refused.
pub(super) fn convert(file: &Path, config_id: &str) -> anyhow::Result<()> {
    let loaded = lb_config::load_for(file, config_id)?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    let text = if lb_config::is_json(file) {
        lb_config::to_keepalived(&loaded.config)
    } else {
        serde_json::to_string_pretty(&lb_config::to_json(&loaded.config))? + "\n"
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Prints the JSON Schema of a configuration.
///
/// # Errors
/// Standard output is closed.
pub(super) fn schema() -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&lb_config::schema())? + "\n";
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
