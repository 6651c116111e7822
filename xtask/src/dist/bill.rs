//! Bills of materials: which libraries, of which versions and licences, are in a program.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::{do_it, output};

/// The tool that writes them, and its version.
const TOOL: (&str, &str) = ("cargo-sbom", "0.10.0");

/// Where it is installed, below the build's folder.
const TOOLS: &str = "target/tools";

/// Ending of the files' names.
pub(super) const SUFFIX: &str = ".cdx.json";

/// Writes `PROGRAM.cdx.json` (CycloneDX 1.6) for each program.
pub(super) fn write_all(programs: &[&str], out: &Path) -> anyhow::Result<()> {
    let tool = Path::new(TOOLS).join("bin").join(TOOL.0);
    if !tool.exists() {
        println!("building {} {} (some minutes)", TOOL.0, TOOL.1);
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "--quiet", "--locked", "--root", TOOLS, TOOL.0]);
        do_it(cargo.args(["--version", TOOL.1]))?;
    }
    for program in programs {
        let mut command = Command::new(&tool);
        command.args(["sbom", "--output-format", "cyclone_dx_json_1_6"]);
        let bill = output(command.args(["--cargo-package", program]))?;
        let path = out.join(format!("{program}{SUFFIX}"));
        fs::write(&path, bill).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
