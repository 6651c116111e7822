//! One machine of the cluster: namespaces, an address, a working directory.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::namespace::Namespace;
use crate::process::Process;
use crate::sockets;

/// The interface that every host of the deployment has.
pub const INTERFACE: &str = "eth2";

/// What an interface has carried since the cluster was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received, with Ethernet headers.
    pub rx_bytes: u64,
    /// Packets received. One may be far larger than the MTU (segmentation
    /// offload works between namespaces).
    pub rx_packets: u64,
    /// Bytes sent, with Ethernet headers.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

/// One machine of the cluster.
#[derive(Debug)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    directory: PathBuf,
    namespace: Namespace,
    processes: Mutex<Vec<Process>>,
}

impl Host {
    pub(crate) fn create(
        name: &str,
        address: Ipv4Addr,
        cluster_directory: &Path,
        pid_namespace: &File,
    ) -> Result<Self> {
        let directory = cluster_directory.join(name);
        // The deployment's files write to `objs/`, as SRS has it.
        fs::create_dir_all(directory.join("objs"))
            .with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self {
            name: name.to_owned(),
            address,
            directory,
            namespace: Namespace::create(name, pid_namespace)?,
            processes: Mutex::default(),
        })
    }

    /// Its name: `director`, `origin`, `edge-1`, `client-1` …
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own address (not the VIP).
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where its programs are started and its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A directory of `/proc` by whose `ns/` its namespaces can be entered.
    #[must_use]
    pub fn proc_path(&self) -> PathBuf {
        self.namespace.proc_path()
    }

    /// The inode that names its network namespace, as in
    /// `readlink /proc/PID/ns/net`.
    ///
    /// # Errors
    /// When `/proc` is not readable.
    pub fn network_namespace(&self) -> Result<u64> {
        let path = self.proc_path().join("ns/net");
        let metadata = fs::metadata(&path);
        Ok(metadata
            .with_context(|| format!("cannot read {}", path.display()))?
            .ino())
    }

    pub(crate) fn net_path(&self) -> PathBuf {
        self.namespace.net_path()
    }

    /// Writes a file into its directory and returns the path.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Runs `job` in its namespaces: sockets opened there are this host's.
    ///
    /// Jobs of a host wait for each other, so that a long one belongs elsewhere
    /// once it has its socket. A job cannot start threads.
    pub fn within<T, F>(&self, job: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.namespace.run(job)
    }

    /// Starts a program in its directory; the output goes to `NAME.log` there.
    /// Standard output may have been directed elsewhere already.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        self.spawn_with_output(name, command, None)
    }

    /// As [`Host::spawn`], with the standard output in a file of its own.
    ///
    /// # Errors
    /// When the program cannot be started or the file not be written.
    pub fn spawn_with_output(
        &self,
        name: &str,
        mut command: Command,
        output: Option<File>,
    ) -> Result<Process> {
        let log_path = self.directory.join(format!("{name}.log"));
        // Appended to, so that a restarted program's log holds its whole life.
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        let output = match output {
            Some(file) => file,
            None => log
                .try_clone()
                .context("cannot duplicate a file descriptor")?,
        };
        command
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(log)
            .process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = self
            .namespace
            .run(move || command.spawn())
            .with_context(|| format!("cannot start `{program}` on {}", self.name))?;
        let process = Process::new(format!("{} on {}", name, self.name), log_path, child);
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(process.clone());
        Ok(process)
    }

    /// Runs a program to its end and returns its output and status.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, mut command: Command) -> Result<Output> {
        command
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let line = format!("{command:?}");
        let child = self
            .namespace
            .run(move || command.spawn())
            .with_context(|| format!("cannot start {line} on {}", self.name))?;
        child
            .wait_with_output()
            .with_context(|| format!("cannot wait for {line}"))
    }

    /// Runs a program to its end and returns what it wrote to standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the message holds what it wrote.
    pub fn run(&self, command: Command) -> Result<String> {
        let line = format!("{command:?}");
        let output = self.output(command)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{line} on {}: {}\n{stderr}{stdout}",
                self.name,
                output.status
            );
        }
        Ok(stdout)
    }

    /// [`Host::run`] for a line of words without blanks inside: `ip address show`.
    ///
    /// # Errors
    /// As [`Host::run`].
    pub fn sh(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().context("an empty command")?);
        command.args(words);
        self.run(command)
    }

    /// What its interface has carried so far.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn counters(&self) -> Result<Counters> {
        self.within(|| interface_counters(INTERFACE))
            .with_context(|| format!("no counters of {INTERFACE} on {}", self.name))
    }

    /// The remote ends of the TCP connections established with `local_port`.
    ///
    /// # Errors
    /// When the kernel's table cannot be read.
    pub fn connections(&self, local_port: u16) -> Result<Vec<SocketAddr>> {
        let table = self.within(sockets::established)?;
        Ok(table
            .into_iter()
            .filter(|c| c.local.port() == local_port)
            .map(|c| c.remote)
            .collect())
    }

    /// Whether a program listens on a TCP port.
    ///
    /// # Errors
    /// When the kernel's table cannot be read.
    pub fn listens(&self, port: u16) -> Result<bool> {
        Ok(self.within(sockets::listening)?.contains(&port))
    }

    /// Takes its interface down: cut off, with every program still running.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut_off(&self) -> Result<()> {
        self.sh(&format!("ip link set {INTERFACE} down")).map(drop)
    }

    /// Brings its interface up again after [`Host::cut_off`].
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn reconnect(&self) -> Result<()> {
        self.sh(&format!("ip link set {INTERFACE} up")).map(drop)
    }

    /// Whether `address` is one of its own.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn has_address(&self, address: Ipv4Addr) -> Result<bool> {
        let needle = format!(" {address}/");
        Ok(self.sh("ip -4 -oneline address show")?.contains(&needle))
    }

    /// Every program that was started on it, in order.
    pub(crate) fn processes(&self) -> Vec<Process> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn interface_counters(interface: &str) -> Result<Counters> {
    let read = |name: &str| -> Result<u64> {
        let path = format!("/sys/class/net/{interface}/statistics/{name}");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        text.trim()
            .parse()
            .with_context(|| format!("{path} holds no number: {text}"))
    };
    Ok(Counters {
        rx_bytes: read("rx_bytes")?,
        rx_packets: read("rx_packets")?,
        tx_bytes: read("tx_bytes")?,
        tx_packets: read("tx_packets")?,
    })
}
