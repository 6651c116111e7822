//! Bills of materials: which libraries, of which versions and licences, are in a program.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::cargo::tool;
use crate::command::output;

/// The tool that writes them, and its version.
const TOOL: (&str, &str) = ("cargo-sbom", "0.10.0");

/// Ending of the files' names.
pub(super) const SUFFIX: &str = ".cdx.json";

/// Writes `PROGRAM.cdx.json` (CycloneDX 1.6) for each program.
pub(super) fn write_all(programs: &[&str], out: &Path) -> anyhow::Result<()> {
    let tool = tool(TOOL.0, TOOL.1)?;
    for program in programs {
        let mut command = Command::new(&tool);
        command.args(["sbom", "--output-format", "cyclone_dx_json_1_6"]);
        let bill = output(command.args(["--cargo-package", program]))?;
        let path = out.join(format!("{program}{SUFFIX}"));
        fs::write(&path, bill).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
