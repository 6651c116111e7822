//! That clusters are independent of each other and leave nothing behind.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use netbed::wait_for;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use testbed::{Cluster, bin_dir};

/// A cluster whose owner is a process of its own, the example `cluster`.
struct Owner {
    process: Child,
    directory: PathBuf,
    namespaces: Vec<u64>,
}

impl Owner {
    fn start() -> Result<Self> {
        let program = bin_dir()?.join("examples/cluster");
        let mut process = Command::new(&program)
            .arg("nginx")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = BufReader::new(process.stdout.take().expect("piped above"));
        let mut owner = Self {
            process,
            directory: PathBuf::new(),
            namespaces: Vec::new(),
        };
        for line in output.lines() {
            let line = line?;
            let mut words = line.split(' ');
            match (words.next(), words.next()) {
                (Some("directory"), Some(path)) => owner.directory = path.into(),
                (Some("namespace"), Some(inode)) => owner.namespaces.push(inode.parse()?),
                _ => return Ok(owner),
            }
        }
        anyhow::bail!("the example ended before its cluster was up")
    }

    /// The processes that live in its network namespaces.
    fn inhabitants(&self) -> Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir("/proc")? {
            let namespace = entry?.path().join("ns/net");
            // Most entries are no processes, and a process may end meanwhile.
            let inode = fs::metadata(namespace).map(|metadata| metadata.ino());
            count += usize::from(inode.is_ok_and(|inode| self.namespaces.contains(&inode)));
        }
        Ok(count)
    }

    fn ensure_nothing_remains(mut self) -> Result<()> {
        self.process.wait()?;
        wait_for("every process and file of the cluster to vanish", || {
            Ok(self.inhabitants()? == 0 && !self.directory.exists())
        })
    }
}

fn nothing_remains_after(ending: impl FnOnce(&mut Child) -> Result<()>) {
    let check = || -> Result<()> {
        let mut owner = Owner::start()?;
        // Otherwise the check below would prove nothing.
        assert!(
            owner.inhabitants()? > 3,
            "servers and an encoder run in the namespaces"
        );
        assert!(
            owner.directory.is_dir(),
            "{} is there",
            owner.directory.display()
        );
        ending(&mut owner.process)?;
        owner.ensure_nothing_remains()
    };
    check().unwrap();
}

fn send(process: &Child, signal: Signal) -> Result<()> {
    signal::kill(Pid::from_raw(process.id().try_into()?), signal)?;
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn nothing_remains_of_a_cluster_whose_owner_returns() {
    nothing_remains_after(|owner| {
        drop(owner.stdin.take());
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn nothing_remains_of_a_cluster_whose_owner_panics() {
    nothing_remains_after(|owner| {
        owner.stdin.as_mut().expect("piped").write_all(b"panic\n")?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn nothing_remains_of_a_cluster_whose_owner_is_interrupted() {
    nothing_remains_after(|owner| send(owner, Signal::SIGINT));
}

#[test]
#[ignore = "needs root"]
fn nothing_remains_of_a_cluster_whose_owner_is_killed_outright() {
    nothing_remains_after(|owner| send(owner, Signal::SIGKILL));
}

#[test]
#[ignore = "needs root"]
fn two_clusters_at_once_do_not_meet() {
    let check = || -> Result<()> {
        let [one, other] = [Cluster::builder().start()?, Cluster::builder().start()?];
        one.push(&testbed::Source::Generated)?;
        let viewer = one.client(0).pull(&one.viewing_url())?;
        viewer.wait_for_more(25)?.ensure_rising()?;
        // The same addresses, and yet nobody of the other one noticed.
        assert_eq!(other.origin().peers()?, []);
        assert_eq!(other.edge_serving(other.client(0))?, None);
        Ok(())
    };
    check().unwrap();
}
