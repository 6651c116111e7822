//! Waiting for a condition rather than for a time.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a condition is looked at. Short, so that a test goes on at once;
/// long enough that several waiting tests leave the cores to the cluster.
const INTERVAL: Duration = Duration::from_millis(25);

/// Looks at `condition` again and again until it yields a value, and returns it.
///
/// # Errors
/// When the condition fails, and when `deadline` has passed; both name `what`
/// was waited for. The condition is always tried once more after the deadline,
/// so that a machine that stood still for a while does not fail a test that
/// would have passed.
pub fn wait_for<T>(
    what: impl Display,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let last_try = started.elapsed() >= deadline;
        let value = condition().with_context(|| format!("while waiting for {what}"))?;
        if let Some(value) = value {
            return Ok(value);
        }
        if last_try {
            bail!("waited {:.1} s in vain: {what}", deadline.as_secs_f32());
        }
        thread::sleep(INTERVAL);
    }
}

/// [`wait_for`] a condition that is only true or false.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_until(
    what: impl Display,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    wait_for(what, deadline, || Ok(condition()?.then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        wait_until("three looks", Duration::from_secs(10), || {
            looks += 1;
            Ok(looks == 3)
        })
        .unwrap();
        assert_eq!(looks, 3);
    }

    #[test]
    fn a_condition_that_never_comes_true_is_named_in_the_error() {
        let error = wait_until("the moon is blue", Duration::ZERO, || Ok(false)).unwrap_err();
        assert!(
            error.to_string().ends_with("in vain: the moon is blue"),
            "{error}"
        );
    }

    #[test]
    fn a_condition_that_fails_ends_the_wait_at_once() {
        let mut looks = 0;
        let error = wait_until("a file", Duration::from_secs(10), || {
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
