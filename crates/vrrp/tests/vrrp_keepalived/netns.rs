//! Two directors and a third host on one switch, each in a network namespace
//! of its own; all of it is gone when the value is dropped.

use std::fmt::Debug;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long a condition may take to come true; only a failing test takes it.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Namespaces of one process are told apart by this.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Interface of every host.
pub const INTERFACE: &str = "eth0";

/// One of the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Where our side runs: 172.16.1.208.
    Ours,
    /// Where keepalived runs: 172.16.1.209.
    Theirs,
    /// Who asks for the virtual address: 172.16.1.50.
    Third,
}

impl Host {
    const ALL: [Self; 3] = [Self::Ours, Self::Theirs, Self::Third];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
            Self::Third => "third",
        }
    }

    /// Its IPv4 address.
    pub fn address(self) -> &'static str {
        match self {
            Self::Ours => "172.16.1.208",
            Self::Theirs => "172.16.1.209",
            Self::Third => "172.16.1.50",
        }
    }
}

/// The network.
pub struct Network {
    prefix: String,
    directory: TempDir,
}

impl Network {
    /// Lays the network out; `None`, said aloud, where that is not possible.
    pub fn lay_out() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: network namespaces need root");
            return None;
        }
        if Command::new("keepalived")
            .arg("--version")
            .output()
            .is_err()
        {
            println!("SKIPPED: keepalived is not installed");
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            prefix: format!("vrrp-{}-{count}", std::process::id()),
            directory: tempfile::tempdir().expect("a directory"),
        };
        network.ip(&format!("netns add {}-switch", network.prefix));
        network.ip_in("switch", "link add br0 type bridge stp_state 0");
        network.ip_in("switch", "link set br0 up");
        for host in Host::ALL {
            network.plug_in(host);
        }
        // Link-local addresses are not usable before the kernel has looked
        // for duplicates.
        for host in Host::ALL {
            wait_for("addresses free of duplicates", || {
                let addresses = network.run(host, &["ip", "-6", "addr", "show", "dev", INTERFACE]);
                (addresses.contains("fe80") && !addresses.contains("tentative")).then_some(())
            });
        }
        Some(network)
    }

    fn plug_in(&self, host: Host) {
        let Self { prefix, .. } = self;
        let name = host.name();
        self.ip(&format!("netns add {prefix}-{name}"));
        self.ip_in(name, "link set lo up");
        self.connect(host);
    }

    fn connect(&self, host: Host) {
        let Self { prefix, .. } = self;
        let name = host.name();
        self.ip(&format!(
            "link add {name} netns {prefix}-switch type veth peer name {INTERFACE} netns \
             {prefix}-{name}"
        ));
        self.ip_in("switch", &format!("link set {name} master br0 up"));
        self.ip_in(
            name,
            &format!("addr add {}/24 dev {INTERFACE}", host.address()),
        );
        self.ip_in(name, &format!("link set {INTERFACE} up"));
    }

    /// Plugs a host in with a new interface, its old one having been deleted.
    pub fn plug_in_again(&self, host: Host) {
        self.connect(host);
    }

    fn ip(&self, arguments: &str) {
        run(Command::new("ip").args(arguments.split_whitespace()));
    }

    fn ip_in(&self, name: &str, arguments: &str) {
        self.ip(&format!("-n {}-{name} {arguments}", self.prefix));
    }

    /// Runs `ip` on a host.
    pub fn ip_on(&self, host: Host, arguments: &str) {
        self.ip_in(host.name(), arguments);
    }

    /// Cuts a host off: its cable stays plugged in, nothing comes through.
    pub fn cut(&self, host: Host) {
        self.ip_in("switch", &format!("link set {} nomaster", host.name()));
    }

    /// Ends a [`cut`](Self::cut).
    pub fn mend(&self, host: Host) {
        self.ip_in("switch", &format!("link set {} master br0", host.name()));
    }

    fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.prefix, host.name())
    }

    fn command(&self, host: Host, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(host)])
            .args(words);
        command
    }

    /// Runs a command on a host; returns what it prints.
    pub fn run(&self, host: Host, words: &[&str]) -> String {
        run(&mut self.command(host, words))
    }

    /// Whether a host holds an address.
    pub fn holds(&self, host: Host, address: &str) -> bool {
        let shown = self.run(host, &["ip", "-o", "addr", "show", "dev", INTERFACE]);
        shown
            .split_whitespace()
            .any(|word| word.split('/').next() == Some(address))
    }

    /// Waits until exactly this host holds an address, and the third host's
    /// packets to it go there.
    pub fn wait_for_holder(&self, host: Host, address: &str) {
        wait_for(&format!("{address} on {host:?} alone"), || {
            let others = [Host::Ours, Host::Theirs]
                .into_iter()
                .filter(|other| *other != host);
            let alone = others.into_iter().all(|other| !self.holds(other, address));
            (alone && self.holds(host, address)).then_some(())
        });
        let link = self.run(
            host,
            &["cat", &format!("/sys/class/net/{INTERFACE}/address")],
        );
        wait_for(
            &format!("{address} known to the third host as {}", link.trim()),
            || {
                let known = self.run(Host::Third, &["ip", "neigh", "show", address]);
                known.contains(link.trim()).then_some(())
            },
        );
    }

    /// Makes the third host learn an address, so that announcements change what
    /// it knows.
    pub fn third_host_asks_for(&self, address: &str) {
        let ping = ["ping", "-c", "1", "-W", "1", address];
        wait_for(&format!("an answer from {address}"), || {
            let status = self
                .command(Host::Third, &ping)
                .stdout(Stdio::null())
                .status();
            status.expect("ping runs").success().then_some(())
        });
    }

    /// Has the third host ask an address every few milliseconds while `events`
    /// happen; returns the longest time without an answer, and what they
    /// bring. Asks for a moment before and after.
    pub fn longest_silence<T>(&self, address: &str, events: impl FnOnce() -> T) -> (Duration, T) {
        const MOMENT: Duration = Duration::from_millis(200);
        let mut ping = self.command(Host::Third, &["ping", "-D", "-n", "-i", "0.005", address]);
        let child = ping.stdout(Stdio::piped()).spawn().expect("ping starts");
        thread::sleep(MOMENT);
        let result = events();
        thread::sleep(MOMENT);
        signal(&child, Signal::SIGINT);
        let output = child.wait_with_output().expect("ping ends").stdout;
        // [1700000000.123456] 64 bytes from …
        let answers: Vec<f64> = String::from_utf8_lossy(&output)
            .lines()
            .filter(|line| line.contains("bytes from"))
            .filter_map(|line| line.strip_prefix('[')?.split(']').next()?.parse().ok())
            .collect();
        let longest = answers
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .fold(0.0, f64::max);
        (Duration::from_secs_f64(longest), result)
    }

    /// Runs `work` in a thread that is on a host.
    pub fn on<T: Send + 'static>(
        &self,
        host: Host,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(host)));
        let namespace = namespace.expect("the namespace is there");
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may change namespace");
            work()
        })
    }

    /// Starts keepalived on a host.
    pub fn keepalived(&self, host: Host, configuration: &str) -> Keepalived {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = |what| {
            self.directory
                .path()
                .join(format!("keepalived-{number}.{what}"))
        };
        let file = path("conf");
        fs::write(&file, configuration).expect("the configuration is written");
        let log = path("log");
        let output = File::create(&log).expect("the log is created");
        let error = output.try_clone().expect("a second handle");
        let mut command = Command::new("keepalived");
        command
            .args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"])
            .arg("--use-file")
            .arg(&file)
            .arg("--pid")
            .arg(path("pid"))
            .arg("--vrrp_pid")
            .arg(path("vrrp_pid"))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(error);
        // Entered here, not by `ip netns exec`, so that signals reach keepalived.
        let child = self
            .on(host, move || command.spawn())
            .join()
            .expect("the thread ends");
        Keepalived {
            child: child.expect("keepalived starts"),
            log,
        }
    }

    /// Starts to write down everything that the third host sees.
    pub fn capture(&self) -> Capture {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = self.directory.path().join(format!("{number}.pcap"));
        let mut command = Command::new("tcpdump");
        command
            .args(["-i", INTERFACE, "--immediate-mode", "-U", "-w"])
            .arg(&file)
            .args(["-Z", "root"])
            .arg("ip proto 112 or ip6 proto 112 or arp or icmp6")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = self
            .on(Host::Third, move || command.spawn())
            .join()
            .expect("the thread ends");
        let capture = Capture {
            child: child.expect("tcpdump starts"),
            file,
        };
        wait_for("tcpdump", || capture.file.exists().then_some(()));
        capture
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in Host::ALL.map(Host::name).into_iter().chain(["switch"]) {
            let namespace = format!("{}-{name}", self.prefix);
            // Half of a network that could not be laid out may be missing.
            let _ = Command::new("ip")
                .args(["netns", "del", &namespace])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// A running keepalived.
pub struct Keepalived {
    child: Child,
    log: PathBuf,
}

impl Keepalived {
    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log can be read")
    }

    /// Waits until it has logged something.
    pub fn wait_for_log(&self, what: &str) {
        wait_for(&format!("`{what}` in keepalived's log"), || {
            self.log().contains(what).then_some(())
        });
    }

    /// Stops it as its service manager would.
    pub fn stop(mut self) {
        signal(&self.child, Signal::SIGTERM);
        self.child.wait().expect("keepalived ends");
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("keepalived's log:\n{}", self.log());
        }
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(&self.child, Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// A running tcpdump.
pub struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// The Ethernet frames so far (pcap-savefile(5)).
    pub fn frames(&self) -> Vec<Vec<u8>> {
        const FILE_HEADER_BYTES: usize = 24;
        const PACKET_HEADER_BYTES: usize = 16;
        let bytes = fs::read(&self.file).expect("the capture can be read");
        let mut rest = bytes.get(FILE_HEADER_BYTES..).unwrap_or_default();
        let mut frames = Vec::new();
        while let Some((header, behind)) = rest.split_at_checked(PACKET_HEADER_BYTES) {
            let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
            let Some((frame, behind)) = behind.split_at_checked(length as usize) else {
                break;
            };
            frames.push(frame.to_vec());
            rest = behind;
        }
        frames
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        signal(&self.child, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a pid is an i32");
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(pid), signal);
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until `condition` brings something.
pub fn wait_for<T: Debug>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain for {what}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}
