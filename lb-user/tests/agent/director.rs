//! A director whose agents come and go.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Output;

use netbed::local::ChildGuard;
use serde_json::Value;

use super::*;

/// Where agents pin, on the director.
const PINS: &str = "/sys/fs/bpf/millrace";

/// A director whose agents pin in its BPF file system.
pub(crate) struct Director<'a> {
    network: &'a Network,
    directory: TempDir,
}

impl<'a> Director<'a> {
    pub(crate) fn new(network: &'a Network, configuration: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let director = Self { network, directory };
        director.configure(configuration);
        director
    }

    pub(crate) fn configure(&self, configuration: &str) {
        fs::write(self.path("keepalived.conf"), configuration).expect("the file is written");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// [`PINS`], as this process sees it.
    pub(crate) fn pins(&self) -> PathBuf {
        let root = self.network.on("director").proc_path().join("root");
        root.join(PINS.trim_start_matches('/'))
    }

    fn program_with(&self, program: &OsStr, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words);
        command.arg("--socket").arg(self.path("agent.sock"));
        command
    }

    fn command(&self, words: &[&str]) -> Command {
        self.program_with(env!("CARGO_BIN_EXE_lb-user").as_ref(), words)
    }

    /// Runs a command of lb-user to its end. It reaches the agent by its socket, and
    /// finds it in this machine's `/proc`: a program on the host would not.
    pub(crate) fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("lb-user exists")
    }

    /// As [`Self::output`], without waiting for its end.
    pub(crate) fn start_command(&self, words: &[&str]) -> ChildGuard {
        let mut command = self.command(words);
        ChildGuard::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()))
    }

    /// Runs `lb-user stop` on the host, where it removes what no agent holds.
    pub(crate) fn stop(&self) -> Output {
        let command = self.command(&["stop", "--pins", PINS]);
        let output = self.network.on("director").output(command);
        output.expect("lb-user exists")
    }

    /// Starts an agent and returns at once. Its log is in `log`.
    pub(crate) fn start(&self, more: &[&str]) -> Process {
        self.start_program(env!("CARGO_BIN_EXE_lb-user").as_ref(), more)
    }

    /// As [`Self::start`], with another program.
    pub(crate) fn start_program(&self, program: &OsStr, more: &[&str]) -> Process {
        let mut command = self.program_with(program, &["run"]);
        command
            .arg("-c")
            .arg(self.path("keepalived.conf"))
            .args(["--pins", PINS])
            .args(more);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"));
        command.stderr(log.expect("a log"));
        self.network.start("director", command)
    }

    /// Starts an agent and waits until it holds its address and all its servers
    /// are up.
    pub(crate) fn start_up(&self) -> Process {
        let agent = self.start(&[]);
        self.wait_until_ready();
        agent
    }

    pub(crate) fn wait_until_ready(&self) {
        wait_for("the agent to be ready", || {
            let list = self.list()?;
            let is_up = |server: &Value| server["state"] == "up";
            let servers = list["services"][0]["servers"].as_array()?.clone();
            (list["virtual_addresses"][0]["held"] == true && servers.iter().all(is_up))
                .then_some(())
        });
    }

    pub(crate) fn list(&self) -> Option<Value> {
        let output = self.output(&["list", "--json"]);
        let text = output.status.success().then_some(output.stdout)?;
        Some(serde_json::from_slice(&text).expect("JSON"))
    }

    pub(crate) fn states(&self) -> Vec<String> {
        let list = self.list().unwrap_or_default();
        let servers = list["services"][0]["servers"].as_array().cloned();
        let state = |server: &Value| server["state"].as_str().unwrap_or_default().to_owned();
        servers.unwrap_or_default().iter().map(state).collect()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn interface(&self) -> String {
        self.network
            .stdout("director", &["ip", "addr", "show", "eth2"])
    }

    /// The program on the director's interface.
    pub(crate) fn program(&self) -> Option<String> {
        let shown = self
            .network
            .stdout("director", &["ip", "-d", "link", "show", "eth2"]);
        let mut words = shown.split_whitespace();
        words.find(|word| word.starts_with("prog/xdp"))?;
        words.find(|word| *word == "id")?;
        words.next().map(str::to_owned)
    }

    /// The names of its files, in order.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("readable");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("readable").file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn check_that_nothing_is_left(&self) {
        assert_eq!(self.program(), None, "{}", self.interface());
        assert!(!self.interface().contains(VIP), "{}", self.interface());
        assert!(!self.pins().exists(), "something is pinned");
        assert_eq!(self.files(), ["keepalived.conf", "log"]);
    }
}

impl Drop for Director<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agents said:\n{}", self.log());
        }
    }
}
