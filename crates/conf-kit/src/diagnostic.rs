//! Mistakes and warnings of a configuration: place, cause, way out.

use std::fmt;

use crate::Location;

/// Severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration can be used; the operator should know.
    Warning,
    /// The configuration cannot be used.
    Error,
}

/// One sentence about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file and line, or only the file, that the sentence is about.
    pub location: Location,
    /// Cause, expectation, way out.
    pub message: String,
}

impl Diagnostic {
    /// A mistake that makes the configuration unusable.
    pub fn error(location: &Location, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            location: location.clone(),
            message: message.into(),
        }
    }

    /// Something that the operator should know.
    pub fn warning(location: &Location, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(location, message)
        }
    }

    /// True if it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Place and message without the severity, for a log that shows it anyway.
    pub fn sentence(&self) -> String {
        format!("{}: {}", self.location, self.message)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "",
        };
        write!(f, "{}: {severity}{}", self.location, self.message)
    }
}

impl std::error::Error for Diagnostic {}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The reasons, and warnings beside them, in the order in which they were found.
    pub diagnostics: Vec<Diagnostic>,
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            diagnostics: vec![diagnostic],
        }
    }
}

impl fmt::Display for ConfigError {
    /// One line for each diagnostic.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            let separator = if index > 0 { "\n" } else { "" };
            write!(f, "{separator}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The diagnostics of a configuration so far: an operator wants all mistakes at
/// once, not one per attempt.
#[derive(Debug)]
pub struct Diagnostics {
    file: Location,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// An empty list about `file`, which is the place of everything that names none.
    pub fn new(file: Location) -> Self {
        Self {
            file,
            list: Vec::new(),
        }
    }

    /// Records a mistake that makes the configuration unusable.
    pub fn error(&mut self, location: &Location, message: impl Into<String>) {
        self.push(Diagnostic::error(location, message));
    }

    /// Records something that the operator should know.
    pub fn warn(&mut self, location: &Location, message: impl Into<String>) {
        self.push(Diagnostic::warning(location, message));
    }

    /// Records a diagnostic.
    pub fn push(&mut self, mut diagnostic: Diagnostic) {
        diagnostic.location = diagnostic.location.or(&self.file);
        self.list.push(diagnostic);
    }

    /// The value of a result, whose error is recorded.
    pub fn take<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|diagnostic| self.push(diagnostic)).ok()
    }

    /// True if any of them is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(Diagnostic::is_error)
    }

    /// All of them, in the order in which they were found.
    pub fn into_list(self) -> Vec<Diagnostic> {
        self.list
    }
}
