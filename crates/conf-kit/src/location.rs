//! Places in a configuration.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Place of a part of a configuration, for messages: a line of a file, a file as a
/// whole, an option of the command line, or unknown (the default).
///
/// All locations are equal. So two parts of a configuration that differ only in
/// their location are equal, too: moving a block within a file changes nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Location {
    source: Option<Arc<str>>,
    line: Option<usize>,
}

impl Location {
    /// A line of a file, counted from 1.
    pub fn line(source: &Arc<str>, line: usize) -> Self {
        Self {
            source: Some(Arc::clone(source)),
            line: Some(line),
        }
    }

    /// A source without lines, such as an option of the command line, or a file as a
    /// whole.
    pub fn whole(source: &str) -> Self {
        Self {
            source: Some(source.into()),
            line: None,
        }
    }

    /// False if nothing is known of the place.
    pub fn is_known(&self) -> bool {
        self.source.is_some()
    }

    /// True if it is a line of a file.
    pub fn has_line(&self) -> bool {
        self.line.is_some()
    }

    /// The file as the operator named it, or the option.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// This place, or `other` if nothing is known of this one.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        if self.is_known() { self } else { other }.clone()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.source().unwrap_or("configuration"))?;
        match self.line {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}

impl PartialEq for Location {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Location {}

impl Hash for Location {
    /// Equal values have equal hashes.
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
