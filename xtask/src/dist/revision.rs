//! Which revision of the source tree is packed.

use std::path::Path;
use std::process::Command;

use super::output;

/// The release that the tree is, or is on the way to.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// A revision, as programs and packages name it.
pub(super) struct Revision {
    /// What `--version` prints: `0.1.0 (137038b2c1, 2026-11-29)`.
    pub(super) shown: String,
    /// The version of packages: `0.1.0` at the tag `v0.1.0`. Elsewhere
    /// `0.1.0~20261129114253.137038b2c1`, which dpkg takes for older than 0.1.0 and
    /// for newer than earlier revisions.
    pub(super) debian: String,
    /// When it was committed, as RFC 5322 writes it.
    pub(super) date: String,
}

impl Revision {
    pub(super) fn of_the_tree() -> anyhow::Result<Self> {
        if !Path::new(".git").exists() {
            // The source of a release.
            return Ok(Self {
                shown: RELEASE.to_owned(),
                debian: RELEASE.to_owned(),
                date: output(Command::new("date").arg("--rfc-email"))?
                    .trim_end()
                    .to_owned(),
            });
        }
        let describe = ["describe", "--always", "--abbrev=10", "--dirty=+changes"];
        let revision = git(&[&describe[..], &["--exclude=*"]].concat())?;
        let tag = git(&[&describe[..], &["--tags"]].concat())?;
        let day = git(&["log", "-1", "--format=%cs"])?;
        let time = git(&[
            "log",
            "-1",
            "--date=format-local:%Y%m%d%H%M%S",
            "--format=%cd",
        ])?;
        Ok(Self {
            shown: format!("{RELEASE} ({revision}, {day})"),
            debian: package_version(&tag, &time, &revision),
            date: git(&["log", "-1", "--format=%cD"])?,
        })
    }
}

fn package_version(tag: &str, time: &str, revision: &str) -> String {
    if tag.strip_prefix('v') == Some(RELEASE) {
        RELEASE.to_owned()
    } else {
        format!("{RELEASE}~{time}.{revision}")
    }
}

fn git(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("git");
    let text = output(command.args(arguments).env("TZ", "UTC"))?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tagged_revision_has_the_version_of_the_release() {
        let version = |tag: &str| package_version(tag, "20261129114253", "137038b2c1");
        assert_eq!(version(&format!("v{RELEASE}")), RELEASE);
        for other in ["137038b2c1", "v0.0.9", "v0.0.9-3-g137038b2c1"] {
            let expected = format!("{RELEASE}~20261129114253.137038b2c1");
            assert_eq!(version(other), expected, "{other}");
        }
        assert_ne!(version(&format!("v{RELEASE}+changes")), RELEASE);
    }
}
