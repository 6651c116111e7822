//! Errors in words.

use std::error::Error;

/// An error with its causes, each said once: some errors quote their cause.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// An error that says this, and has this cause.
    #[derive(Debug)]
    struct Said(&'static str, Option<Box<Said>>);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Said {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|it| it as _)
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let because = |text, cause| Said(text, Some(Box::new(cause)));
        let cause = || Said("no such luck", None);
        assert_eq!(with_causes(&cause()), "no such luck");
        let quoted = because("cannot listen on /x: no such luck", cause());
        assert_eq!(with_causes(&quoted), "cannot listen on /x: no such luck");
        let chain = because("cannot start", because("no socket", cause()));
        let expected = "cannot start: no socket: no such luck";
        assert_eq!(with_causes(&chain), expected);
    }
}
