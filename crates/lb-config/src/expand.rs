//! From files to lines: comments, `include`, parameters, conditional lines and
//! sequences (keepalived.conf(5), "ADVANCED CONFIGURATION").

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conf_kit::source::{self, IncludeChain};
use conf_kit::text::{self, UNDECODABLE};
use conf_kit::{Diagnostics, Location};

use super::repetition::{self, MAX_LINES, Repetition};
use super::substitute::{Found, next_parameter};
use super::words::without_comment;

/// A line that holds something, everything in it expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The text.
    pub text: String,
    /// Its place, or that of the line which it was expanded from.
    pub location: Location,
}

/// Files that include files that include files …
const MAX_INCLUDE_DEPTH: usize = 16;

/// Substitutions on one line; more mean that a parameter refers to itself.
const MAX_SUBSTITUTIONS: usize = 1000;

/// Length of a line in bytes, written or expanded to.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Expands the content of `file`. `config_id` decides which conditional lines
/// hold.
pub(crate) fn expand(
    file: &Path,
    text: &str,
    config_id: &str,
    diagnostics: &mut Diagnostics,
) -> Vec<Line> {
    let mut expander = Expander {
        config_id,
        parameters: HashMap::new(),
        open_definition: None,
        including: IncludeChain::default(),
        lines: Vec::new(),
        looked_at: 0,
        written: 0,
        diagnostics,
    };
    expander.file(file, text);
    expander.lines
}

/// Reads a file, which is named `at`, or reports why it cannot be read.
pub(crate) fn read(file: &Path, at: &Location, diagnostics: &mut Diagnostics) -> Option<String> {
    let text = source::read(file).map_err(|error| {
        let message = match at.is_known() {
            true => format!("{} cannot be read: {error}", file.display()),
            false => format!("cannot be read: {error}"),
        };
        diagnostics.error(at, message);
    });
    text.ok()
}

struct Expander<'a> {
    config_id: &'a str,
    /// The lines that each parameter stands for.
    parameters: HashMap<String, Vec<String>>,
    /// A definition that goes on on the next line.
    open_definition: Option<(String, Vec<String>)>,
    including: IncludeChain,
    lines: Vec<Line>,
    /// Number of lines that were looked at, at most [`MAX_LINES`] more than were
    /// written.
    looked_at: usize,
    /// Number of lines of the files.
    written: usize,
    diagnostics: &'a mut Diagnostics,
}

impl Expander<'_> {
    fn file(&mut self, file: &Path, text: &str) {
        self.including.enter(file.to_owned());
        let name: Arc<str> = file.to_string_lossy().into();
        for (index, line) in text.lines().enumerate() {
            let location = Location::line(&name, index + 1);
            let line = without_comment(line).trim();
            if line.contains(UNDECODABLE) {
                self.diagnostics.error(&location, text::NOT_UTF8);
                continue;
            }
            self.written += 1;
            if self.open_definition.is_some() {
                self.continue_definition(line);
            } else if !line.is_empty() {
                self.line(line, &location, MAX_SUBSTITUTIONS);
            }
        }
        if let Some((name, _)) = self.open_definition.take() {
            let message = format!("the definition of `${name}` goes on, but the file ends");
            self.diagnostics.error(&Location::default(), message);
        }
        self.including.leave();
    }

    /// Expands one line; `budget` substitutions are left to it.
    fn line(&mut self, text: &str, location: &Location, budget: usize) {
        if !self.admits(text, location) {
            return;
        }
        let Some(text) = self.condition(text) else {
            return;
        };
        if text.is_empty() {
            return;
        }
        if let Some((name, value)) = definition(text) {
            self.define(name, value);
        } else if let Some(rest) = text.strip_prefix("~SEQ") {
            self.repeat(repetition::sequence(rest), location, budget);
        } else if let Some(rest) = text.strip_prefix("~LST") {
            self.repeat(repetition::list(rest), location, budget);
        } else if let Some(found) = next_parameter(text, |name| self.value(name)) {
            match budget.checked_sub(1) {
                Some(budget) => self.substitute(text, found, location, budget),
                None => {
                    let shown = excerpt(text);
                    let message =
                        format!("`{shown}` cannot be expanded: a parameter contains itself");
                    self.diagnostics.error(location, message);
                    self.looked_at = usize::MAX;
                }
            }
        } else if let Some((checks, pattern)) = include(text) {
            self.include(checks, pattern, location);
        } else {
            self.lines.push(Line {
                text: text.to_owned(),
                location: location.clone(),
            });
        }
    }

    /// True if one more line may be looked at: neither its length nor their
    /// number may grow without bound.
    fn admits(&mut self, text: &str, location: &Location) -> bool {
        if self.is_exhausted() {
            return false;
        }
        self.looked_at += 1;
        if self.is_exhausted() {
            let message = format!(
                "this expands to more than {MAX_LINES} lines: does a parameter contain itself, \
                 or a sequence another?"
            );
            self.diagnostics.error(location, message);
            return false;
        }
        if text.len() > MAX_LINE_BYTES {
            let message = format!("the line is longer than {MAX_LINE_BYTES} bytes");
            self.diagnostics.error(location, message);
            return false;
        }
        true
    }

    fn is_exhausted(&self) -> bool {
        self.looked_at > MAX_LINES.saturating_add(self.written)
    }

    /// The text after `@word`s that hold; `None` if one does not hold.
    fn condition<'t>(&self, mut text: &'t str) -> Option<&'t str> {
        while let Some(rest) = text.strip_prefix('@') {
            let (negated, rest) = match rest.strip_prefix('^') {
                Some(rest) => (true, rest),
                None => (false, rest),
            };
            let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            if (word == self.config_id) == negated {
                return None;
            }
            text = rest.trim_start();
        }
        Some(text)
    }

    fn define(&mut self, name: &str, value: &str) {
        match value.strip_suffix('\\') {
            Some(first) => {
                let first = Some(first.trim()).filter(|first| !first.is_empty());
                let lines = first.map(str::to_owned).into_iter().collect();
                self.open_definition = Some((name.to_owned(), lines));
            }
            None => {
                self.parameters
                    .insert(name.to_owned(), vec![value.to_owned()]);
            }
        }
    }

    fn continue_definition(&mut self, line: &str) {
        let Some((name, mut lines)) = self.open_definition.take() else {
            return;
        };
        let (line, goes_on) = match line.strip_suffix('\\') {
            Some(line) => (line.trim_end(), true),
            None => (line, false),
        };
        lines.push(line.to_owned());
        if goes_on {
            self.open_definition = Some((name, lines));
        } else {
            self.parameters.insert(name, lines);
        }
    }

    /// The lines that a parameter stands for, if it is defined.
    fn value(&self, name: &str) -> Option<Vec<String>> {
        if let Some(lines) = self.parameters.get(name) {
            return Some(lines.clone());
        }
        let mut words = name.split_whitespace();
        let value = match words.next()? {
            "_PWD" => self.including.directory().display().to_string(),
            "_INSTANCE" => self.config_id.to_owned(),
            "_HASH" => "#".to_owned(),
            "_BANG" => "!".to_owned(),
            "_RANDOM" => {
                let low = words.next().map_or(Ok(0), str::parse).ok()?;
                let high = words.next().map_or(Ok(32767), str::parse).ok()?;
                fastrand::u32(low..=high.max(low)).to_string()
            }
            _ => return None,
        };
        Some(vec![value])
    }

    fn substitute(&mut self, text: &str, found: Found, location: &Location, budget: usize) {
        let before = &text[..found.range.start];
        let after = &text[found.range.end..];
        let last = found.lines.len().saturating_sub(1);
        if found.lines.is_empty() {
            return self.line(&format!("{before}{after}"), location, budget);
        }
        for (index, line) in found.lines.iter().enumerate() {
            if self.is_exhausted() {
                return;
            }
            let before = if index == 0 { before } else { "" };
            let after = if index == last { after } else { "" };
            // Within a definition of several lines, lines can end with the
            // backslash of a nested one.
            let line = format!("{before}{line}{after}");
            self.line(line.trim(), location, budget);
        }
    }

    /// Expands the rest of a `~SEQ` or `~LST` line once per round.
    fn repeat(
        &mut self,
        repetition: Result<Repetition<'_>, &'static str>,
        location: &Location,
        budget: usize,
    ) {
        match repetition {
            Ok(repetition) => {
                for values in repetition.rounds {
                    if self.is_exhausted() {
                        return;
                    }
                    for (name, value) in repetition.names.iter().zip(values) {
                        self.parameters.insert((*name).to_owned(), vec![value]);
                    }
                    self.line(repetition.rest, location, budget);
                }
            }
            Err(expected) => {
                self.diagnostics
                    .error(location, format!("expected {expected}"));
            }
        }
    }

    fn include(&mut self, checks: IncludeChecks, pattern: &str, at: &Location) {
        if self.including.depth() > MAX_INCLUDE_DEPTH {
            let message = format!("more than {MAX_INCLUDE_DEPTH} files include one another");
            return self.diagnostics.error(at, message);
        }
        let full = self.including.directory().join(pattern);
        let matches = match glob::glob(&full.to_string_lossy()) {
            Ok(matches) => matches,
            Err(mistake) => {
                let message = format!("`{pattern}` is no file name or pattern: {mistake}");
                return self.diagnostics.error(at, message);
            }
        };
        let files: Vec<PathBuf> = matches.filter_map(Result::ok).collect();
        if files.is_empty() {
            let message = format!("no file matches `{}`", full.display());
            return if checks == IncludeChecks::MustMatch {
                self.diagnostics.error(at, message);
            } else if !pattern.contains(['*', '?', '[']) {
                self.diagnostics.warn(at, message);
            };
        }
        for file in files {
            if self.including.contains(&file) {
                let message = format!("{} includes itself", file.display());
                self.diagnostics.error(at, message);
            } else if let Some(text) = read(&file, at, self.diagnostics) {
                self.file(&file, &text);
            }
        }
    }
}

/// Enough of a line to know it by.
fn excerpt(text: &str) -> String {
    const MAX_CHARACTERS: usize = 60;
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `$NAME=VALUE` at the start of a line.
fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    let is_name = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then_some((name, value.trim()))
}

/// Strictness of an `include` line about its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IncludeChecks {
    /// Files may be missing.
    MayMatch,
    /// One file must be there at least.
    MustMatch,
}

/// `include PATTERN` and its variants.
fn include(text: &str) -> Option<(IncludeChecks, &str)> {
    let (keyword, pattern) = text.split_once(char::is_whitespace)?;
    let checks = match keyword {
        "include" | "includer" => IncludeChecks::MayMatch,
        "includem" | "includew" | "includeb" | "includea" => IncludeChecks::MustMatch,
        _ => return None,
    };
    Some((checks, pattern.trim().trim_matches('"')))
}
