//! The part of the model that is about files whose number is followed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use conf_kit::Location;

/// `track_file NAME`, also spelled `vrrp_track_file`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name", "file"]))]
pub struct TrackFile {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The path of the file.
    pub file: String,
    /// Factor of the number where it is tracked without a weight; default 1. 0: any
    /// number but 0 is a failure.
    pub weight: Option<i32>,
    /// Changes the sign of the number; with weight 0, 0 is the failure.
    pub reverse: bool,
    /// Content that is written to the file when the agent starts.
    pub init_file: Option<InitFile>,
    /// Place of the block.
    #[serde(skip)]
    pub location: Location,
}

/// `init_file [VALUE] [overwrite]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InitFile {
    /// The number.
    #[schemars(range(min = i32::MIN, max = i32::MAX))]
    pub value: i32,
    /// Replaces the content of a file that exists.
    pub overwrite: bool,
}

/// One line of `track_file` in a virtual router or a sync group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrackedFile {
    /// Name of the `track_file`.
    pub name: String,
    /// Factor of the number before it is added to the priority, -254 to 254; default the
    /// file's own weight. 0: any number but 0 is a fault.
    #[schemars(range(min = *bounds::TRACKED_FILE_WEIGHT.start(), max = *bounds::TRACKED_FILE_WEIGHT.end()))]
    pub weight: Option<i16>,
    /// Changes the sign of the number; with weight 0, 0 is the fault.
    #[serde(default)]
    pub reverse: bool,
}
