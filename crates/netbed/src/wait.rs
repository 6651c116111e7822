//! Waiting for a condition rather than for a time.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// How long a condition may take to come true.
///
/// Only a broken program makes a test wait so long: what works takes seconds, and some
/// tens of seconds on the most loaded machine. It is well below the time after which
/// nextest ends a test (`.config/nextest.toml`).
pub const TIME_LIMIT: Duration = Duration::from_secs(120);

/// How often a condition is looked at. Short, so that a test goes on at once; long
/// enough that several waiting tests leave the processors to the programs under test.
const INTERVAL: Duration = Duration::from_millis(20);

/// What can be waited for: `true`, `Some(value)`, or either of them in a [`Result`].
pub trait Condition: Sized {
    /// What the wait returns.
    type Value;

    /// The value, if the condition has come true or has failed for good.
    fn settled(self, what: &dyn Display) -> Option<Self::Value>;

    /// Fails in the condition's own way: a plain condition panics, one that is a
    /// [`Result`] becomes an error.
    fn timed_out(message: String) -> Self::Value;
}

impl Condition for bool {
    type Value = ();

    fn settled(self, _: &dyn Display) -> Option<()> {
        self.then_some(())
    }

    #[track_caller]
    fn timed_out(message: String) {
        panic!("{message}");
    }
}

impl<T> Condition for Option<T> {
    type Value = T;

    fn settled(self, _: &dyn Display) -> Self {
        self
    }

    #[track_caller]
    fn timed_out(message: String) -> T {
        panic!("{message}");
    }
}

impl Condition for Result<bool> {
    type Value = Result<()>;

    fn settled(self, what: &dyn Display) -> Option<Result<()>> {
        self.map(|is_true| is_true.then_some(())).settled(what)
    }

    fn timed_out(message: String) -> Result<()> {
        Err(anyhow!(message))
    }
}

impl<T> Condition for Result<Option<T>> {
    type Value = Result<T>;

    fn settled(self, what: &dyn Display) -> Option<Result<T>> {
        self.with_context(|| format!("while waiting for {what}"))
            .transpose()
    }

    fn timed_out(message: String) -> Result<T> {
        Err(anyhow!(message))
    }
}

/// Looks at `condition` again and again until it comes true, and returns its value.
///
/// A condition that is a [`Result`] makes the wait one, too: an error ends it at once.
///
/// # Panics
/// When [`TIME_LIMIT`] has passed and the condition is no [`Result`].
#[track_caller]
pub fn wait_for<C: Condition>(what: impl Display, condition: impl FnMut() -> C) -> C::Value {
    wait_for_within(TIME_LIMIT, what, condition)
}

/// As [`wait_for`], with another limit, where the limit is what a test is about.
///
/// The condition is always looked at once more after the limit, so that a machine that
/// stood still for a while does not fail a test that would have passed.
///
/// # Panics
/// As [`wait_for`].
#[track_caller]
pub fn wait_for_within<C: Condition>(
    limit: Duration,
    what: impl Display,
    mut condition: impl FnMut() -> C,
) -> C::Value {
    let started = Instant::now();
    loop {
        let is_last_look = started.elapsed() >= limit;
        if let Some(value) = condition().settled(&what) {
            return value;
        }
        if is_last_look {
            return C::timed_out(format!("timed out after {limit:.1?}, waiting for: {what}"));
        }
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        wait_for("three looks", || {
            looks += 1;
            looks == 3
        });
        assert_eq!(looks, 3);
        let mut values = [None, Some("value")].into_iter();
        let value = wait_for("a value", || values.next().expect("two looks"));
        assert_eq!(value, "value");
    }

    #[test]
    #[should_panic = "waiting for: the moon is blue"]
    fn a_condition_that_never_comes_true_is_named_in_the_panic() {
        wait_for_within(Duration::ZERO, "the moon is blue", || false);
    }

    #[test]
    fn a_condition_that_never_comes_true_is_named_in_the_error() {
        let error = wait_for_within(Duration::ZERO, "the moon is blue", || Ok(false)).unwrap_err();
        assert!(
            error.to_string().ends_with("waiting for: the moon is blue"),
            "{error}"
        );
    }

    #[test]
    fn a_condition_that_fails_ends_the_wait_at_once() {
        let mut looks = 0;
        let error = wait_for("a file", || -> Result<bool> {
            looks += 1;
            bail!("no such file")
        })
        .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "while waiting for a file: no such file"
        );
        assert_eq!(looks, 1);
    }
}
