//! The part of the model that is about servers that come back. keepalived does
//! not know these words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Seconds;

/// Return of a server that has been down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Recovery {
    /// Time in which its share of new connections grows from a tenth to the whole;
    /// default 0, the whole at once.
    pub slow_start: Option<Seconds>,
    /// Changes between up and down within `flap_window` beyond which it is held out;
    /// default: it never is.
    pub flap_limit: Option<u32>,
    /// Time for which changes count; default 60.
    pub flap_window: Option<Seconds>,
    /// Time for which it is held out first, twice as long each time after, until it has
    /// kept quiet for a `flap_window`; default 30.
    pub flap_hold_down: Option<Seconds>,
    /// The longest that it is held out at a time; default 600.
    pub flap_hold_down_max: Option<Seconds>,
}

impl Recovery {
    /// These settings, and those of `outer` where these say nothing.
    #[must_use]
    pub fn or(&self, outer: &Self) -> Self {
        Self {
            slow_start: self.slow_start.or(outer.slow_start),
            flap_limit: self.flap_limit.or(outer.flap_limit),
            flap_window: self.flap_window.or(outer.flap_window),
            flap_hold_down: self.flap_hold_down.or(outer.flap_hold_down),
            flap_hold_down_max: self.flap_hold_down_max.or(outer.flap_hold_down_max),
        }
    }
}
