//! The tree of directives that every grammar is read into, and their arguments.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Diagnostic, Location, text};

/// One directive: `keyword argument …`, perhaps with a block of further directives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// The first word.
    pub keyword: String,
    /// The words after it.
    pub arguments: Vec<String>,
    /// The directives of its block; `None` if it has no block.
    pub children: Option<Vec<Directive>>,
    /// Place of the keyword.
    pub location: Location,
}

impl Directive {
    /// A directive without a block.
    pub fn leaf(keyword: &str, arguments: &[&str], location: Location) -> Self {
        Self {
            keyword: keyword.to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            children: None,
            location,
        }
    }

    /// A directive with a block.
    pub fn block(
        keyword: &str,
        arguments: &[&str],
        children: Vec<Self>,
        location: Location,
    ) -> Self {
        Self {
            children: Some(children),
            ..Self::leaf(keyword, arguments, location)
        }
    }

    /// A mistake at the place of this directive.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(&self.location, message)
    }

    /// The mistake that the arguments are not what was `expected`. Of a URL the message shows
    /// the scheme alone: a password, a token or a stream's key may stand in it.
    pub fn expects(&self, expected: &str) -> Diagnostic {
        let found = match self.arguments.as_slice() {
            [] => "nothing".to_owned(),
            words => {
                let words: Vec<_> = words.iter().map(|word| without_secrets(word)).collect();
                format!("`{}`", text::shortened(&words.join(" ")))
            }
        };
        self.error(format!(
            "`{}` expects {expected}, found {found}",
            text::shortened(&self.keyword)
        ))
    }

    /// The one argument.
    ///
    /// # Errors
    /// There is none, or several.
    pub fn argument(&self, expected: &str) -> Result<&str, Diagnostic> {
        match self.arguments.as_slice() {
            [argument] => Ok(argument),
            _ => Err(self.expects(expected)),
        }
    }

    /// The arguments, of which there is one at least.
    ///
    /// # Errors
    /// There is none.
    pub fn words(&self, expected: &str) -> Result<&[String], Diagnostic> {
        match self.arguments.as_slice() {
            [] => Err(self.expects(expected)),
            words => Ok(words),
        }
    }

    /// The one argument, as whatever it can be parsed to and `is_right` for.
    ///
    /// # Errors
    /// It is not what was `expected`.
    pub fn parsed<T: FromStr>(
        &self,
        expected: &str,
        is_right: impl Fn(&T) -> bool,
    ) -> Result<T, Diagnostic> {
        let parsed = self.argument(expected)?.parse().ok();
        parsed
            .filter(is_right)
            .ok_or_else(|| self.expects(expected))
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// The argument is no such number.
    pub fn number<T>(&self, range: RangeInclusive<T>) -> Result<T, Diagnostic>
    where
        T: FromStr + PartialOrd + Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(&expected, |number| range.contains(number))
    }

    /// A time span in whole milliseconds within `range`.
    ///
    /// # Errors
    /// The argument is no such number.
    pub fn milliseconds(&self, range: RangeInclusive<u32>) -> Result<Duration, Diagnostic> {
        let (first, last) = (range.start(), range.end());
        let expected = format!("a whole number of milliseconds from {first} to {last}");
        let number = self.parsed(&expected, |number| range.contains(number))?;
        Ok(Duration::from_millis(number.into()))
    }

    /// A time span in seconds within `range`, fractions allowed.
    ///
    /// # Errors
    /// The argument is no such number.
    pub fn seconds_within(&self, range: RangeInclusive<u32>) -> Result<Duration, Diagnostic> {
        let (first, last) = (range.start(), range.end());
        let expected = format!("a number of seconds from {first} to {last}");
        let range = f64::from(*first)..=f64::from(*last);
        let number = self.parsed(&expected, |number| range.contains(number))?;
        Ok(Duration::from_secs_f64(number))
    }

    /// A time span in seconds, fractions allowed.
    ///
    /// # Errors
    /// The argument is no such number.
    pub fn seconds(&self) -> Result<Duration, Diagnostic> {
        const EXPECTED: &str = "a number of seconds, such as 3 or 0.5";
        let seconds = self.argument(EXPECTED)?.parse().ok();
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| self.expects(EXPECTED))
    }

    /// An IP address.
    ///
    /// # Errors
    /// The argument is none.
    pub fn ip_address(&self) -> Result<IpAddr, Diagnostic> {
        self.parsed("an IP address", |_| true)
    }

    /// The one of `choices` that the one argument names.
    ///
    /// # Errors
    /// The argument is none of them.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)], expected: &str) -> Result<T, Diagnostic> {
        let word = self.argument(expected)?;
        let choice = choices.iter().find(|(name, _)| *name == word);
        choice
            .map(|(_, value)| *value)
            .ok_or_else(|| self.expects(expected))
    }
}

/// `word` as a message may show it.
fn without_secrets(word: &str) -> Cow<'_, str> {
    match word.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://…").into(),
        None => word.into(),
    }
}
