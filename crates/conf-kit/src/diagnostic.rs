//! What is said about a configuration: where, how bad, and what to do.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

/// A line of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file as the operator named it.
    pub file: Arc<Path>,
    /// Line number, from 1.
    pub line: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Where a part of the model was written, if it came from a file with lines.
///
/// Two parts that differ only in their origin are equal: moving a block within
/// the file is no change of configuration.
#[derive(Debug, Clone, Default)]
pub struct Origin(pub Option<Position>);

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    /// As all are equal, none counts.
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Whether the configuration can be used in spite of what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It can; the operator should know.
    Warning,
    /// It cannot.
    Error,
}

/// One sentence about the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the configuration can still be used.
    pub severity: Severity,
    /// The file and line, or only the file, that the sentence is about.
    pub place: String,
    /// What is there, what was expected, what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "",
        };
        write!(f, "{}: {severity}{}", self.place, self.message)
    }
}

/// Gathers diagnostics while a file is read: an operator wants all mistakes at
/// once, not one per attempt.
#[derive(Debug)]
pub struct Diagnostics {
    file: Arc<Path>,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Starts a list about `file`.
    pub fn new(file: Arc<Path>) -> Self {
        Self {
            file,
            list: Vec::new(),
        }
    }

    /// Records a mistake that makes the configuration unusable.
    pub fn error(&mut self, at: &Origin, message: impl Into<String>) {
        self.push(Severity::Error, at, message.into());
    }

    /// Records something that the operator should know.
    pub fn warn(&mut self, at: &Origin, message: impl Into<String>) {
        self.push(Severity::Warning, at, message.into());
    }

    fn push(&mut self, severity: Severity, at: &Origin, message: String) {
        let place = match &at.0 {
            Some(position) => position.to_string(),
            None => self.file.display().to_string(),
        };
        self.list.push(Diagnostic {
            severity,
            place,
            message,
        });
    }

    /// Whether any of them is an error.
    pub fn has_errors(&self) -> bool {
        self.list
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// All of them, in the order in which they were found.
    pub fn into_list(self) -> Vec<Diagnostic> {
        self.list
    }
}
