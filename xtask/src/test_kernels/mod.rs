//! `cargo xtask test-kernels`: the packet tests, and those of TLS in the kernel, on the
//! kernels that Debian 12 ships, in a virtual machine. Needs no root.

pub(crate) mod image;
pub(crate) mod machine;
pub(crate) mod package;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use image::Step;
use machine::{Clock, Outcome};
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
pub(crate) enum Series {
    /// What Debian 12 came with.
    #[value(name = "6.1")]
    Stable,
    /// What its backports bring.
    #[value(name = "6.12")]
    Backports,
}

impl Series {
    pub(crate) fn name(self) -> &'static str {
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
pub(crate) struct Missing(String);

/// The test programs that are run; no two of the workspace share a name.
const TESTS: [&str; 5] = ["packets", "attach", "pins", "second_chance", "kernel_tls"];
/// The package that has tests within its library which are run, too.
const LIBRARY: &str = "rtmp-server";
/// Name of those tests as a program, and part of their own names.
const LIBRARY_TESTS: &str = "a_key_of_the_kernel";

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
    let kernels = kernels(&series, arguments.refresh)?;
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

/// The kernels that can be booted; of the others, it says why not.
pub(crate) fn kernels(series: &[Series], refresh: bool) -> anyhow::Result<Vec<Kernel>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace");
    let skip = |series: &Series, why: &str| println!("SKIPPED: Linux {}: {why}", series.name());
    let mut kernels = Vec::new();
    if let Some(Missing(why)) = machine::missing().or_else(image::missing) {
        series.iter().for_each(|series| skip(series, &why));
        return Ok(kernels);
    }
    for series in series {
        let place = workspace.join("target/kernels").join(series.name());
        match package::kernel(&place, series.source(), refresh)? {
            Ok(kernel) => kernels.push(kernel),
            Err(Missing(why)) => skip(series, &why),
        }
    }
    Ok(kernels)
}

/// Runs the tests on `kernel`, tells of them, and says whether all passed.
fn test(kernel: &Kernel, programs: &[(String, PathBuf)]) -> anyhow::Result<bool> {
    println!("booting Linux {} in qemu", kernel.release);
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let step = |(name, _): &(String, PathBuf)| {
        let only = if name == LIBRARY_TESTS {
            LIBRARY_TESTS
        } else {
            ""
        };
        Step {
            name: name.clone(),
            commands: format!("{name} --include-ignored {only}"),
        }
    };
    let steps: Vec<Step> = programs.iter().map(step).collect();
    let image = image::build(directory.path(), kernel, programs, &steps)?;
    let mut all_passed = true;
    let names = steps.iter().map(|step| step.name.as_str()).collect();
    machine::run(kernel, &image, Clock::Host, names, |outcome| {
        all_passed &= outcome.status == 0;
        print(&kernel.release, &outcome);
    })?;
    Ok(all_passed)
}

/// What was skipped and the result; everything, where something failed.
fn print(release: &str, outcome: &Outcome) {
    let Outcome {
        step: test,
        output,
        status,
        duration,
    } = outcome;
    let mut text = format!("Linux {release}: {test}, {} s\n", duration.as_secs());
    for line in output.lines() {
        // On one processor, the line of a test begins before the test does.
        let is_wanted = line.starts_with("test result") || line.contains("SKIPPED: ");
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
    let tests: Vec<_> = TESTS.into_iter().filter(|test| is_wanted(test)).collect();
    let mut programs = Vec::new();
    if !tests.is_empty() {
        // Of the workspace, since with a package's own features others would be built anew.
        let named = tests.iter().flat_map(|test| ["--test", test]);
        let arguments = ["--workspace"].into_iter().chain(named);
        let messages = cargo_test(&arguments.collect::<Vec<_>>())?;
        for test in tests {
            programs.push((test.to_owned(), executable(&messages, test)?));
        }
    }
    if is_wanted(LIBRARY_TESTS) {
        let messages = cargo_test(&["--package", LIBRARY, "--lib"])?;
        let program = executable(&messages, &LIBRARY.replace('-', "_"))?;
        programs.push((LIBRARY_TESTS.to_owned(), program));
    }
    Ok(programs)
}

/// Builds tests; what cargo says of them.
fn cargo_test(which: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    command.args(which).stderr(std::process::Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    Ok(output.stdout)
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
