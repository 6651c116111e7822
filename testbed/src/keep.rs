//! A cluster that outlives the program that started it.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::binaries;
use crate::cluster::Cluster;
use netbed::Host;

/// How to look around in a kept cluster, and how to end it. Says so when shown.
#[derive(Debug)]
pub struct Kept {
    name: String,
    directory: PathBuf,
    hosts: Vec<String>,
    holder: u32,
    balancer: Option<u32>,
}

impl Cluster {
    /// Leaves the cluster running after this program has ended, with a name for
    /// each network namespace.
    ///
    /// # Errors
    /// When the process that holds it cannot be started, or a name be given.
    pub fn keep(self) -> Result<Kept> {
        // Its standard input is what the cluster's first process waits for the
        // end of: when this one ends, everything does.
        let pipe = self.bed().pipe().context("the cluster is being removed")?;
        let pipe = pipe
            .try_clone_to_owned()
            .context("cannot duplicate a file descriptor")?;
        let mut command = Command::new("sleep");
        command
            .arg("infinity")
            .stdin(pipe)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let holder = self
            .switch()
            .within(move || command.spawn())
            .context("cannot start the process that keeps the cluster")?;
        let mut hosts = Vec::new();
        for host in self.hosts() {
            let name = format!("{}-{}", self.name(), host.name());
            attach(&name, host)?;
            hosts.push(name);
        }
        let kept = Kept {
            name: self.name().to_owned(),
            directory: self.directory().to_owned(),
            hosts,
            holder: holder.id(),
            balancer: self.director().process().ok().map(|process| process.pid()),
        };
        // Not dropped: that would remove it.
        std::mem::forget(self);
        Ok(kept)
    }
}

/// Names a host's network namespace, as `ip netns` knows names.
fn attach(name: &str, host: &Host) -> Result<()> {
    let thread = host.proc_path();
    let id = thread.file_name().expect("the directory of a thread");
    let output = Command::new("ip")
        .args(["netns", "attach", name])
        .arg(id)
        .output()
        .context("cannot start `ip`")?;
    anyhow::ensure!(
        output.status.success(),
        "`ip netns attach {name}` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

impl Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.display();
        writeln!(f, "\nThe cluster stays. Its hosts:")?;
        for host in &self.hosts {
            writeln!(f, "  {host}")?;
        }
        writeln!(f, "Look around, as root, for example:")?;
        writeln!(f, "  ip netns exec {}-edge-1 ss -tn", self.name)?;
        writeln!(
            f,
            "  ip netns exec {}-director ip -s link show eth2",
            self.name
        )?;
        if let (Some(balancer), Ok(program)) = (self.balancer, binaries::program("lb-user")) {
            // Its socket is in the host's own /run, hence the mounts as well.
            writeln!(
                f,
                "  nsenter -t {balancer} -m -n {} list",
                program.display()
            )?;
        }
        writeln!(f, "  tail -f {directory}/*/*.log")?;
        write!(f, "Remove it, as root:\n  kill {}", self.holder)
    }
}
