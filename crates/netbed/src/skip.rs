//! What a test says that cannot run here.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Ends a test that lacks something which only the machine can give: a kernel's feature,
/// systemd, a control group. The arguments say what is missing, as those of [`format!`] do.
///
/// A test that needs root is `#[ignore = "needs root"]` instead.
/// A program that `scripts/setup.sh` installs is not such a thing: without it the test
/// fails.
#[macro_export]
macro_rules! skip {
    ($($why:tt)+) => {{
        $crate::say_skipped(format_args!($($why)+));
        return;
    }};
}

/// Writes the line by which `scripts/test.sh` counts a test as skipped.
pub fn say_skipped(why: impl Display) {
    // Not through eprintln!, which the test harness keeps to itself. Where standard
    // error is closed, nobody reads it.
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}
