//! One machine of a bed: namespaces, an address, a working directory.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

use crate::namespace::Namespace;
use crate::process::{Log, Process};
use crate::sockets;

/// The interface that every host with a cable has, called as in the deployment.
pub const INTERFACE: &str = "eth2";

/// What an interface has carried since it was made.
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

/// One machine: a network stack, an address, a directory.
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
        bed_directory: &Path,
        pid_namespace: &File,
    ) -> Result<Self> {
        let directory = bed_directory.join(name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let host = Self {
            name: name.to_owned(),
            address,
            directory,
            namespace: Namespace::create(name, pid_namespace)?,
            processes: Mutex::default(),
        };
        host.spare_duplicate_address_detection();
        host.ip_batch("link set lo up\n")?;
        Ok(host)
    }

    /// Lets it use IPv6 addresses of interfaces to come at once.
    ///
    /// Until an address is known to be unique, which takes a second or two, it cannot be
    /// used; and a host cannot ask for a neighbour on behalf of another interface before
    /// its link-local address can. The kernel looks at both settings; hosts without IPv6
    /// have neither.
    fn spare_duplicate_address_detection(&self) {
        self.within(|| {
            for interface in ["all", "default"] {
                let setting = format!("/proc/sys/net/ipv6/conf/{interface}/accept_dad");
                fs::write(setting, "0").ok();
            }
        });
    }

    /// Its name: `director`, `origin`, `edge-1`, `client-1` …
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own address; 0.0.0.0 if it has none.
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

    /// A path by which `ip` finds its network namespace.
    #[must_use]
    pub fn net_path(&self) -> PathBuf {
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

    /// Runs `job` in a thread of its own on its network, but with the file systems and
    /// process ids of the caller. Such a thread may live long, and start others.
    pub fn thread<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = File::open(self.net_path());
        let namespace = namespace.expect("this process has the namespace open");
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may change namespace");
            job()
        })
    }

    /// Starts a program in its directory; what it writes goes to `NAME.log` there.
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
        command: Command,
        output: Option<File>,
    ) -> Result<Process> {
        self.spawn_logged(name, command, Stdio::null(), output.map(Stdio::from))
    }

    /// As [`Host::spawn`], with pipes as standard input and output.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn_with_pipes(&self, name: &str, command: Command) -> Result<Process> {
        self.spawn_logged(name, command, Stdio::piped(), Some(Stdio::piped()))
    }

    fn spawn_logged(
        &self,
        name: &str,
        mut command: Command,
        input: Stdio,
        output: Option<Stdio>,
    ) -> Result<Process> {
        let log_path = self.directory.join(format!("{name}.log"));
        // Appended to, so that a restarted program's log holds its whole life.
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        let output = match output {
            Some(output) => output,
            None => log
                .try_clone()
                .context("cannot duplicate a file descriptor")?
                .into(),
        };
        let begin = log.metadata().map_or(0, |metadata| metadata.len() as usize);
        command
            .current_dir(&self.directory)
            .stdin(input)
            .stdout(output)
            .stderr(log);
        let log = Log {
            path: log_path,
            begin,
        };
        self.start(name, command, Some(log))
    }

    /// Starts a program whose directory and streams are as `command` has them.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn_with_streams(&self, command: Command) -> Result<Process> {
        let name = command.get_program().to_string_lossy().into_owned();
        self.start(&name, command, None)
    }

    fn start(&self, name: &str, mut command: Command, log: Option<Log>) -> Result<Process> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.process_group(0);
        let child = self
            .namespace
            .run(move || command.spawn())
            .with_context(|| format!("cannot start `{program}` on {}", self.name))?;
        let process = Process::new(format!("{name} on {}", self.name), log, child);
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

    /// Runs lines of `ip -batch`: `link set lo up`.
    ///
    /// # Errors
    /// When `ip` fails; the message holds what it wrote, and the lines.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .within(move || command.spawn())
            .context("cannot start `ip` (Debian's package iproute2)")?;
        child
            .stdin
            .take()
            .expect("piped above")
            .write_all(lines.as_bytes())
            .context("cannot write to `ip`")?;
        let output = child.wait_with_output().context("cannot wait for `ip`")?;
        ensure!(
            output.status.success(),
            "`ip` failed on {}:\n{}commands were:\n{lines}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Writes a kernel setting: `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// When there is no such setting, or the kernel refuses the value.
    pub fn set_sysctl(&self, name: &str, value: &'static str) -> Result<()> {
        let path = Path::new("/proc/sys").join(name);
        let shown = path.display().to_string();
        self.within(move || fs::write(path, value))
            .with_context(|| format!("cannot set {shown} on {}", self.name))
    }

    /// What [`INTERFACE`] has carried so far.
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

    /// True if a program listens on a TCP port.
    ///
    /// # Errors
    /// When the kernel's table cannot be read.
    pub fn listens(&self, port: u16) -> Result<bool> {
        Ok(self.within(sockets::listening)?.contains(&port))
    }

    /// Takes [`INTERFACE`] down: cut off, with every program still running.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut_off(&self) -> Result<()> {
        self.sh(&format!("ip link set {INTERFACE} down")).map(drop)
    }

    /// Brings [`INTERFACE`] up again after [`Host::cut_off`].
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn reconnect(&self) -> Result<()> {
        self.sh(&format!("ip link set {INTERFACE} up")).map(drop)
    }

    /// True if `address` is one of its own.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn has_address(&self, address: impl Into<IpAddr>) -> Result<bool> {
        let needle = format!(" {}/", address.into());
        Ok(self.sh("ip -oneline address show")?.contains(&needle))
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
