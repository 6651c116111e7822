//! Log lines of what the agent is told to do and what it refuses.

use conf_kit::Diagnostic;

/// Logs the warnings of a configuration.
pub(super) fn log_diagnostics(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        log::warn!("{}", diagnostic.sentence());
    }
}

/// Logs that something was not done, and that nothing has changed; a reason may have
/// several lines.
pub(super) fn log_refusal(what: &str, reason: &str) {
    log::error!("{what}, nothing has changed:");
    for line in reason.lines() {
        log::error!("  {line}");
    }
}
