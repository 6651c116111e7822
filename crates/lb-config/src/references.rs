//! References from one part of a configuration to another.

use conf_kit::{Diagnostics, Location, did_you_mean};
use lb_model::config::Config;

/// Reports a `track_file` that is named but does not exist.
pub(crate) fn known_file(
    name: &str,
    location: &Location,
    config: &Config,
    diagnostics: &mut Diagnostics,
) {
    let known = || config.track_file.iter().map(|file| file.name.as_str());
    if !known().any(|file| file == name) {
        let suggestion = did_you_mean(name, known());
        diagnostics.error(
            location,
            format!("there is no track_file `{name}`{suggestion}"),
        );
    }
}

/// A place as the end of a sentence; nothing if it is unknown.
pub(crate) fn at(location: &Location) -> String {
    match location.is_known() {
        true => format!(" at {location}"),
        false => String::new(),
    }
}
