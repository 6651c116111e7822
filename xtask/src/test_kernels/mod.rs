//! `cargo xtask test-kernels`: the packet tests, and those of TLS in the kernel, on the
//! kernels that Debian 12 ships, in a virtual machine. Needs no root.

mod image;
mod machine;
mod package;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use machine::Outcome;
use package::Kernel;

/// Run the packet tests, and those of TLS in the kernel, on Debian 12's kernels, in qemu.
///
/// A kernel's package is fetched once with apt-get and unpacked to
/// target/kernels, not installed. What is missing is said in a line that begins
/// with SKIPPED.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only these kernels.
    #[arg(value_enum)]
    kernels: Vec<Series>,
    /// Fetch the newest packages, even where there are some.
    #[arg(long)]
    refresh: bool,
    /// Only this test program.
    #[arg(long, value_name = "NAME")]
    test: Option<String>,
}

/// A kernel that Debian 12 offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Series {
    /// What Debian 12 came with.
    #[value(name = "6.1")]
    Stable,
    /// What its backports bring.
    #[value(name = "6.12")]
    Backports,
}

impl Series {
    fn name(self) -> &'static str {
        match self {
            Self::Stable => "6.1",
            Self::Backports => "6.12",
        }
    }

    /// Where apt finds it (sources.list(5)), the smallest index that has it.
    fn source(self) -> &'static str {
        match self {
            Self::Stable => "http://deb.debian.org/debian-security bookworm-security main",
            Self::Backports => "http://deb.debian.org/debian bookworm-backports main",
        }
    }
}

/// Why nothing could be tried.
#[derive(Debug)]
struct Missing(String);

/// The test programs that are run, each with its package.
const TESTS: [(&str, &str); 4] = [
    ("lb-dataplane", "packets"),
    ("lb-dataplane", "attach"),
    ("lb-dataplane", "pins"),
    ("rtmp-server", "kernel_tls"),
];

/// Runs the tests on every kernel that was asked for.
///
/// # Errors
/// If they could not be built or the machine could not be made.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let series = if arguments.kernels.is_empty() {
        Series::value_variants().to_vec()
    } else {
        arguments.kernels.clone()
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace");
    let skip = |series: Series, why: &str| println!("SKIPPED: Linux {}: {why}", series.name());
    if let Some(Missing(why)) = machine::missing().or_else(image::missing) {
        for series in series {
            skip(series, &why);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut kernels = Vec::new();
    for series in series {
        let place = workspace.join("target/kernels").join(series.name());
        match package::kernel(&place, series.source(), arguments.refresh)? {
            Ok(kernel) => kernels.push(kernel),
            Err(Missing(why)) => skip(series, &why),
        }
    }
    if kernels.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let only = arguments.test.as_deref();
    let programs = build_tests(|test| only.is_none_or(|only| only == test))?;
    if programs.is_empty() {
        bail!("there is no such test program: see `TESTS` in xtask");
    }
    // A machine keeps one CPU busy: all at once.
    let outcomes = thread::scope(|scope| {
        let machines: Vec<_> = kernels
            .iter()
            .map(|kernel| scope.spawn(|| test(kernel, &programs)))
            .collect();
        machines
            .into_iter()
            .map(|machine| machine.join().expect("a machine's thread does not panic"))
            .collect::<anyhow::Result<Vec<bool>>>()
    })?;
    Ok(if outcomes.iter().all(|passed| *passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the tests on `kernel`, tells of them, and says whether all passed.
fn test(kernel: &Kernel, programs: &[(String, PathBuf)]) -> anyhow::Result<bool> {
    println!("booting Linux {} in qemu", kernel.release);
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let image = image::build(directory.path(), kernel, programs)?;
    let mut all_passed = true;
    let names = programs.iter().map(|(name, _)| name.as_str()).collect();
    machine::run(kernel, &image, names, |outcome| {
        all_passed &= outcome.status == 0;
        print(&kernel.release, &outcome);
    })?;
    Ok(all_passed)
}

/// What was skipped and the result; everything, where something failed.
fn print(release: &str, outcome: &Outcome) {
    let Outcome {
        test,
        output,
        status,
        duration,
    } = outcome;
    let mut text = format!("Linux {release}: {test}, {} s\n", duration.as_secs());
    for line in output.lines() {
        let is_wanted = line.starts_with("test result") || line.starts_with("SKIPPED");
        if *status != 0 || is_wanted {
            text.push_str(line);
            text.push('\n');
        }
    }
    if *status != 0 {
        text += &format!("Linux {release}: {test} failed (status {status})\n");
    }
    // In one piece, since machines run side by side.
    print!("{text}");
}

/// Names and paths of the tests' programs.
fn build_tests(is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let tests = || TESTS.into_iter().filter(|(_, test)| is_wanted(test));
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    for (package, test) in tests() {
        command.args(["--package", package, "--test", test]);
    }
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    tests()
        .map(|(_, test)| Ok((test.to_owned(), executable(&output.stdout, test)?)))
        .collect()
}

/// The program that cargo's messages name for a test.
fn executable(messages: &[u8], test: &str) -> anyhow::Result<PathBuf> {
    serde_json::Deserializer::from_slice(messages)
        .into_iter::<serde_json::Value>()
        .filter_map(Result::ok)
        .filter(|message| message["target"]["name"] == test && message["profile"]["test"] == true)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo names no program of the test {test}"))
}
