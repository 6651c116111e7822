//! `cargo xtask dependencies`: licences and sources of dependencies against `deny.toml`.
//!
//! `cargo deny check` judges more (advisories, yanked versions), but takes longer to
//! build than the project itself. The configuration is the same file, so that both say
//! the same of what both look at.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use spdx::{Expression, ParseMode};

use crate::cargo::{Package, packages};

/// The source of packages from the public registry, as cargo names it.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Manifests of the workspaces: their dependencies differ.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "lb-ebpf/Cargo.toml", "fuzz/Cargo.toml"];

/// The part of `deny.toml` that is judged here.
#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
}

/// Judges every dependency.
///
/// # Errors
/// One has a licence that `deny.toml` does not allow or does not come from the public
/// registry; all such are named.
pub(crate) fn run() -> anyhow::Result<()> {
    let text = fs::read_to_string("deny.toml").context("cannot read deny.toml")?;
    let deny: Deny = toml::from_str(&text).context("deny.toml")?;
    let mut faults = BTreeSet::new();
    let mut count = 0;
    for manifest in MANIFESTS {
        let packages = packages(manifest)?;
        count += packages.len();
        faults.extend(packages.iter().filter_map(|package| {
            let fault = fault_of(package, &deny.licenses.allow)?;
            Some(format!("{} {}: {fault}", package.name, package.version))
        }));
    }
    ensure!(count > 0, "cargo metadata names no package");
    if !faults.is_empty() {
        let faults: Vec<String> = faults.into_iter().collect();
        bail!(
            "deny.toml allows these no place:\n  {}",
            faults.join("\n  ")
        );
    }
    println!("{count} packages: licences and sources are as deny.toml allows");
    Ok(())
}

/// Why a package may not be used; `None` if it may.
fn fault_of(package: &Package, allowed: &BTreeSet<String>) -> Option<String> {
    if let Some(source) = &package.source
        && source != REGISTRY
    {
        return Some(format!("comes from {source}"));
    }
    let Some(licence) = &package.license else {
        return Some("names no licence".to_owned());
    };
    // LAX: older packages separate licences by `/`.
    let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return Some(format!("licence `{licence}`: {}", error.reason)),
    };
    let is_allowed = expression.evaluate(|wanted| {
        wanted.addition.is_none()
            && wanted
                .license
                .id()
                .is_some_and(|id| allowed.contains(id.name))
    });
    (!is_allowed).then(|| format!("licence `{licence}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(license: Option<&str>, source: Option<&str>) -> Option<String> {
        let package = Package {
            name: "a".to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            authors: Vec::new(),
            source: source.map(str::to_owned),
            manifest_path: "a/Cargo.toml".into(),
        };
        fault_of(&package, &["MIT", "ISC"].map(str::to_owned).into())
    }

    #[test]
    fn a_dependency_needs_an_allowed_licence_and_the_public_registry() {
        for licence in ["MIT", "MIT/GPL-3.0", "MIT AND ISC", "GPL-2.0-only OR ISC"] {
            assert_eq!(fault(Some(licence), Some(REGISTRY)), None, "{licence}");
        }
        for licence in ["GPL-3.0-only", "MIT AND GPL-2.0-only", "none at all"] {
            assert!(fault(Some(licence), Some(REGISTRY)).is_some(), "{licence}");
        }
        assert!(fault(None, None).is_some());
        assert!(fault(Some("MIT"), Some("git+https://example.org/a")).is_some());
    }
}
