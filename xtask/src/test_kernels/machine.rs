//! The virtual machine: qemu, emulating every instruction, so that it works
//! where there is no virtualisation.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::package::Kernel;
use super::{Missing, image};

/// How long the machine may be silent; a test says nothing while it runs.
const PATIENCE: Duration = Duration::from_secs(300);

const QEMU: &str = "qemu-system-x86_64";

/// What a step has come to.
pub(crate) struct Outcome {
    /// The step's name.
    pub(crate) step: String,
    /// Everything that it printed.
    pub(crate) output: String,
    /// Its exit status.
    pub(crate) status: i32,
    /// How long it took.
    pub(crate) duration: Duration,
}

/// Says what is missing to run a machine.
pub(crate) fn missing() -> Option<Missing> {
    if cfg!(not(target_arch = "x86_64")) {
        return Some(Missing(
            "the tests are built for this machine, the kernels for x86-64".to_owned(),
        ));
    }
    image::find(QEMU).is_none().then(|| {
        Missing(format!(
            "{QEMU} is not here (Debian's package qemu-system-x86)"
        ))
    })
}

/// The time of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// That of this machine.
    Host,
    /// A nanosecond passes with each instruction, so that what takes CPU time there says how
    /// many instructions it took.
    Instructions,
}

impl Clock {
    /// Arguments of qemu.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Host => &[],
            Self::Instructions => &["-icount", "shift=0,sleep=off"],
        }
    }
}

/// Boots `kernel` with `image`, and passes on what its steps come to.
///
/// # Errors
/// If the machine ends, or falls silent, before each of `steps` has.
pub(crate) fn run(
    kernel: &Kernel,
    image: &Path,
    clock: Clock,
    mut steps: Vec<&str>,
    mut report: impl FnMut(Outcome),
) -> anyhow::Result<()> {
    let console = image.with_extension("console");
    let mut machine = Machine::boot(kernel, image, clock, &console)?;
    let lines = machine.lines();
    let mut step = String::new();
    let mut output = String::new();
    let mut began = Instant::now();
    loop {
        let line = match lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) if steps.is_empty() => return Ok(()),
            Err(error) => {
                let what = match error {
                    RecvTimeoutError::Disconnected => "ended too soon",
                    RecvTimeoutError::Timeout => "fell silent",
                };
                drop(machine);
                let said = fs::read(&console).unwrap_or_default();
                bail!(
                    "Linux {} {what}; the last of its steps' output:\n{output}\nits console:\n{}",
                    kernel.release,
                    String::from_utf8_lossy(&said)
                );
            }
        };
        if let Some(name) = line.strip_prefix("@ begin ") {
            name.clone_into(&mut step);
            output.clear();
            began = Instant::now();
        } else if let Some(status) = line.strip_prefix("@ end ") {
            steps.retain(|name| *name != step);
            report(Outcome {
                step: step.clone(),
                output: std::mem::take(&mut output),
                status: status
                    .parse()
                    .context("the machine's init tells no status")?,
                duration: began.elapsed(),
            });
        } else {
            output.push_str(&line);
            output.push('\n');
        }
    }
}

/// A machine that is switched off with this.
struct Machine(Child);

impl Machine {
    fn boot(kernel: &Kernel, image: &Path, clock: Clock, console: &Path) -> anyhow::Result<Self> {
        let child = Command::new(QEMU)
            .args(["-accel", "tcg", "-cpu", "max", "-m", "1G"])
            .args(clock.arguments())
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(image)
            .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {QEMU}"))?;
        Ok(Self(child))
    }

    /// What comes over its second serial line; the end, when it is off.
    fn lines(&mut self) -> mpsc::Receiver<String> {
        let output = self.0.stdout.take().expect("it is piped, and taken once");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                if sender.send(line.trim_end_matches('\r').to_owned()).is_err() {
                    return;
                }
            }
        });
        receiver
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
