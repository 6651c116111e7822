//! What does not work at the moment.

use std::collections::HashSet;
use std::fmt::Display;

/// What does not work: each is said once, and again if it has worked in between.
#[derive(Debug, Default)]
pub(super) struct Complaints(HashSet<String>);

impl Complaints {
    /// Notes what has come of `what`, and says so if it does not work any more.
    pub(super) fn note(&mut self, what: &str, outcome: Result<(), impl Display>) {
        match outcome {
            Ok(()) => {
                self.0.remove(what);
            }
            Err(error) => {
                if self.0.insert(what.to_owned()) {
                    log::warn!("cannot {what}, and tries again: {error:#}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_works_again_is_said_again_when_it_fails() {
        let mut complaints = Complaints::default();
        let is_silent = |complaints: &Complaints, what: &str| complaints.0.contains(what);
        complaints.note("listen", Err("no"));
        complaints.note("tell", Err("no"));
        assert!(is_silent(&complaints, "listen") && is_silent(&complaints, "tell"));
        complaints.note("listen", Ok::<(), &str>(()));
        assert!(!is_silent(&complaints, "listen") && is_silent(&complaints, "tell"));
    }
}
