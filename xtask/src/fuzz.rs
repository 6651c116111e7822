//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/`, several at once.
//!
//! cargo-fuzz builds them, without a sanitizer: no flag of a nightly compiler is needed then,
//! and what the targets call has no unsafe code. Overflows and assertions are checked.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use comfy_table::{Table, presets};

use crate::cargo::tool;
use crate::command::do_it;

/// Where builds, corpora and logs of fuzzing lie.
const WORK: &str = "target/fuzz";
/// The corpus that is part of the tree.
const CORPUS: &str = "fuzz/corpus";
/// The tool that builds the targets, and its version.
const CARGO_FUZZ: (&str, &str) = ("cargo-fuzz", "^0.13");

/// Run the fuzz targets, each for a number of executions, and say what fell out.
///
/// cargo-fuzz is installed in target/tools if there is none. Inputs that reach new code are
/// kept in target/fuzz/corpus, and are where the next run begins; `--merge` adds to the tree's
/// corpus those that it lacks.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only these targets.
    targets: Vec<String>,
    /// Executions of each target.
    #[arg(long, default_value_t = 10_000_000)]
    runs: u64,
    /// Time limit of each target, in seconds.
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    /// How many targets run at once; all cores unless said.
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Afterwards, add to fuzz/corpus a minimal set of the inputs that reach code which it does
    /// not.
    #[arg(long)]
    merge: bool,
}

/// Runs the targets.
///
/// # Errors
/// They cannot be built or run, or one of them found something.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let programs = build()?;
    let targets = select(&programs, &arguments.targets)?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.unwrap_or(cores).clamp(1, targets.len());
    println!(
        "{} targets, {} executions each, {jobs} at once; logs are in {WORK}",
        targets.len(),
        arguments.runs
    );

    let results = run_all(&targets, &programs, jobs, arguments)?;
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["target", "executions", "per s", "edges", "inputs", "result"]);
    for result in &results {
        table.add_row(result.row());
    }
    println!("{table}");
    let found: Vec<&str> = results
        .iter()
        .filter_map(|result| result.found.as_deref())
        .collect();
    ensure!(
        found.is_empty(),
        "the inputs that fell out:\n  {}\nonce mended, put each into {CORPUS}/TARGET: the tests replay it",
        found.join("\n  ")
    );
    if arguments.merge {
        for target in &targets {
            merge(&programs, target)?;
        }
    }
    Ok(())
}

/// Builds all targets, and says where they are.
fn build() -> anyhow::Result<PathBuf> {
    let cargo_fuzz = cargo_fuzz()?;
    let target_dir = env::current_dir()?.join(WORK).join("build");
    let mut command = Command::new(cargo_fuzz);
    command.args(["fuzz", "build", "--sanitizer", "none", "--target-dir"]);
    do_it(command.arg(&target_dir))?;
    // cargo names the folder after the processor and system that it builds for.
    let built = fs::read_dir(&target_dir)?
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("release"))
        .find(|path| path.join("names").is_file());
    built.with_context(|| format!("no program in {}", target_dir.display()))
}

/// The program cargo-fuzz: the user's own, or the one that is installed for this project.
fn cargo_fuzz() -> anyhow::Result<PathBuf> {
    let own = Command::new(CARGO_FUZZ.0)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    match own.is_ok_and(|status| status.success()) {
        true => Ok(CARGO_FUZZ.0.into()),
        false => tool(CARGO_FUZZ.0, CARGO_FUZZ.1),
    }
}

/// The targets that are to run: those of `wanted`, or all.
fn select(programs: &Path, wanted: &[String]) -> anyhow::Result<Vec<String>> {
    let mut all: Vec<String> = fs::read_dir("fuzz/fuzz_targets")?
        .filter_map(Result::ok)
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .filter(|name| programs.join(name).is_file())
        .collect();
    all.sort();
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("no fuzz target `{unknown}`; there are {}", all.join(", "));
    }
    Ok(match wanted.is_empty() {
        true => all,
        false => wanted.to_vec(),
    })
}

/// Runs `jobs` targets at once until all have run.
fn run_all(
    targets: &[String],
    programs: &Path,
    jobs: usize,
    arguments: &Arguments,
) -> anyhow::Result<Vec<Run>> {
    let waiting: Mutex<VecDeque<&String>> = Mutex::new(targets.iter().collect());
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    };
    thread::scope(|scope| {
        let runners: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| {
                    let mut runs = Vec::new();
                    while let Some(target) = next() {
                        let run = run_target(programs, target, arguments)?;
                        println!("{}", run.line());
                        runs.push(run);
                    }
                    Ok(runs)
                })
            })
            .collect();
        let mut all = Vec::new();
        for runner in runners {
            let runs: anyhow::Result<Vec<Run>> =
                runner.join().unwrap_or_else(|_| bail!("a runner panicked"));
            all.extend(runs?);
        }
        all.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(all)
    })
}

/// The corpus of a target that grows from run to run.
fn growing_corpus(target: &str) -> PathBuf {
    Path::new(WORK).join("corpus").join(target)
}

fn run_target(programs: &Path, target: &str, arguments: &Arguments) -> anyhow::Result<Run> {
    let corpus = growing_corpus(target);
    let artifacts = Path::new(WORK).join("artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder)?;
    }
    let log = Path::new(WORK).join(format!("{target}.log"));
    let mut command = Command::new(programs.join(target));
    command
        .arg(format!("-runs={}", arguments.runs))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        // An input that takes seconds is a fault, too.
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .args([&corpus, &Path::new(CORPUS).join(target)]);
    if let Some(limit) = arguments.limit {
        command.arg(format!("-max_total_time={limit}"));
    }
    let began = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .status()
        .with_context(|| format!("cannot start {target}"))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    Run::read(target, &text, status.success(), began.elapsed())
        .with_context(|| format!("{target} ended before it ran: see {}", log.display()))
}

/// Adds to the tree's corpus what reaches code that it does not.
fn merge(programs: &Path, target: &str) -> anyhow::Result<()> {
    let log = Path::new(WORK).join(format!("{target}.merge.log"));
    let status = Command::new(programs.join(target))
        .arg("-merge=1")
        .arg(Path::new(CORPUS).join(target))
        .arg(growing_corpus(target))
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .status()?;
    ensure!(
        status.success(),
        "{target} could not merge its corpora: see {}",
        log.display()
    );
    Ok(())
}

/// What a run of a target has told.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    target: String,
    executions: u64,
    /// Edges of the control flow that were reached.
    edges: u64,
    /// Inputs that were new to both corpora.
    inputs: u64,
    took: Duration,
    /// Where the input lies that it failed with.
    found: Option<String>,
}

impl Run {
    /// Reads what libFuzzer has written. `None` if it did not come as far as its first
    /// execution.
    fn read(target: &str, log: &str, succeeded: bool, took: Duration) -> Option<Self> {
        let number_after = |word: &str| {
            let after = log.rsplit_once(word)?.1.trim_start();
            let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        let path = log
            .rsplit_once("Test unit written to ")
            .map(|(_, after)| after.lines().next().unwrap_or_default().to_owned());
        let found = match succeeded {
            true => None,
            false => Some(path.unwrap_or_else(|| format!("{target}: no input was written"))),
        };
        Some(Self {
            target: target.to_owned(),
            executions: number_after("stat::number_of_executed_units:")?,
            edges: number_after(" cov: ")?,
            inputs: number_after("stat::new_units_added:")?,
            took,
            found,
        })
    }

    fn per_second(&self) -> u64 {
        self.executions / self.took.as_secs().max(1)
    }

    fn line(&self) -> String {
        let outcome = match &self.found {
            None => "nothing fell out".to_owned(),
            Some(path) => format!("FAILED: {path}"),
        };
        format!(
            "{}: {} executions in {} s, {outcome}",
            self.target,
            self.executions,
            self.took.as_secs()
        )
    }

    fn row(&self) -> [String; 6] {
        [
            self.target.clone(),
            self.executions.to_string(),
            self.per_second().to_string(),
            self.edges.to_string(),
            self.inputs.to_string(),
            match self.found {
                None => "nothing".to_owned(),
                Some(_) => "FAILED".to_owned(),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATISTICS: &str = "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb
#4194304\tpulse  cov: 301 ft: 912 corp: 90/2kb lim: 4096 exec/s: 90000 rss: 61Mb
#10000000\tDONE   cov: 303 ft: 921 corp: 91/2kb lim: 4096 exec/s: 91000 rss: 63Mb
stat::number_of_executed_units: 10000000
stat::average_exec_per_sec:     91000
stat::new_units_added:          91
";

    #[test]
    fn a_run_is_read_from_what_libfuzzer_writes() {
        let run = Run::read("names", STATISTICS, true, Duration::from_secs(100))
            .expect("the log is complete");
        assert_eq!(
            (run.executions, run.edges, run.inputs),
            (10_000_000, 303, 91)
        );
        assert_eq!(run.per_second(), 100_000);
        assert_eq!(run.found, None);
    }

    #[test]
    fn what_fell_out_is_named() {
        let log = format!(
            "artifact_prefix='a/'; Test unit written to a/crash-12\nBase64: AA==\n{STATISTICS}"
        );
        let run = Run::read("names", &log, false, Duration::ZERO).expect("the log is complete");
        assert_eq!(run.found.as_deref(), Some("a/crash-12"));
    }

    #[test]
    fn a_program_that_did_not_run_is_an_error() {
        assert_eq!(Run::read("names", "usage:", false, Duration::ZERO), None);
    }
}
