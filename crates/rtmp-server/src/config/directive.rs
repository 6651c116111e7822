//! The tree of directives that every configuration source is read into.

use std::fmt;
use std::sync::Arc;

/// Where a directive was written, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file as the operator named it, or `command line`.
    pub source: Arc<str>,
    /// Line number counted from 1; `None` where lines mean nothing.
    pub line: Option<u32>,
}

impl Location {
    /// A place on a numbered line of a file.
    pub fn line(source: &Arc<str>, line: u32) -> Self {
        Self {
            source: source.clone(),
            line: Some(line),
        }
    }

    /// A source without lines, such as the command line.
    pub fn whole(source: &Arc<str>) -> Self {
        Self {
            source: source.clone(),
            line: None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// One directive: `name argument …;` or `name argument … { children }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The directive's first word.
    pub name: String,
    /// The words between the name and `;` or `{`.
    pub arguments: Vec<String>,
    /// The directives of the block; `None` for one that ends in `;`.
    pub children: Option<Vec<Directive>>,
    /// Where it was written.
    pub location: Location,
}

impl Directive {
    /// A directive without a block.
    pub fn leaf(name: &str, arguments: &[&str], location: Location) -> Self {
        Self {
            name: name.to_owned(),
            arguments: arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect(),
            children: None,
            location,
        }
    }

    /// A directive with a block.
    pub fn block(
        name: &str,
        arguments: &[&str],
        children: Vec<Directive>,
        location: Location,
    ) -> Self {
        Self {
            children: Some(children),
            ..Self::leaf(name, arguments, location)
        }
    }
}

/// A mistake in the configuration, at its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {message}")]
pub struct Mistake {
    /// Where it is.
    pub location: Location,
    /// What is wrong, what was expected, and what was perhaps meant.
    pub message: String,
}

impl Mistake {
    /// A mistake at `location`.
    pub fn new(location: &Location, message: impl Into<String>) -> Self {
        Self {
            location: location.clone(),
            message: message.into(),
        }
    }
}

/// `text` as it is shown in a message: not more than a line of it.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
