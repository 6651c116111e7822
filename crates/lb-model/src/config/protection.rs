//! The part of the model that is about floods.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `lb_syn_validation`: when SYNs of sources that are not proven are challenged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SynValidation {
    /// Never.
    #[default]
    Off,
    /// During floods.
    Automatic,
    /// At all times.
    Always,
}

impl SynValidation {
    /// The modes by their names in keepalived.conf.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("off", Self::Off),
        ("automatic", Self::Automatic),
        ("always", Self::Always),
    ];
}

impl fmt::Display for SynValidation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Automatic => "automatic",
            Self::Always => "always",
        })
    }
}
