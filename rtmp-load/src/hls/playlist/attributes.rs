//! Attribute lists (RFC 8216bis §4.2).

use std::time::Duration;

/// The text behind a tag's colon.
pub(super) struct Attributes<'a>(pub(super) &'a str);

impl<'a> Attributes<'a> {
    /// An attribute's value, without its quotation marks.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.0;
        loop {
            let (found, value) = rest.split_once('=')?;
            let (value, behind) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_at(value.find(',').unwrap_or(value.len())),
            };
            if found.trim() == name {
                return Some(value);
            }
            rest = behind.strip_prefix(',')?;
        }
    }

    /// True if an attribute is `YES`.
    pub(super) fn is_yes(&self, name: &str) -> bool {
        self.get(name) == Some("YES")
    }

    /// An attribute in seconds: `None` if it is not there, `Some(None)` if it
    /// is no number.
    pub(super) fn seconds(&self, name: &str) -> Option<Option<Duration>> {
        Some(super::seconds(self.get(name)?))
    }
}
