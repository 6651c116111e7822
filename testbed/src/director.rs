//! The balancer's machine.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};

use crate::balancer::Balancer;
use crate::binaries;
use crate::program::Program;
use netbed::Host;
use netbed::Process;
use netbed::wait_for;

/// The port at which the agent shows its metrics and the page for operators, where it does.
pub const AGENT_HTTP_PORT: u16 = 9101;

/// The file with the user and the password that the page asks for.
const AUTH_FILE: &str = "http.auth";

const CONFIG_FILE: &str = "keepalived.conf";

/// How XDP runs on the director's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the kernel's generic path. Works on veth as it is.
    #[default]
    Generic,
    /// In the driver. On veth it needs a program at the other end of the cable
    /// and senders that compute their checksums themselves.
    Native,
}

/// What the programs show operators over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OperatorHttp {
    /// Nothing.
    #[default]
    Off,
    /// Metrics, API and page.
    Open,
    /// The same; the origin and the directors ask for a password and take orders.
    WithPassword,
}

/// The machine that spreads viewers over edges.
#[derive(Debug)]
pub struct Director {
    program: Program,
    config: String,
    xdp_mode: XdpMode,
    http: OperatorHttp,
}

impl Director {
    pub(crate) fn new(
        host: Arc<Host>,
        config: String,
        xdp_mode: XdpMode,
        http: OperatorHttp,
    ) -> Self {
        Self {
            program: Program::new(host, "balancer"),
            config,
            xdp_mode,
            http,
        }
    }

    /// The machine itself.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.program.host()
    }

    /// The running balancer, or the one that ran last.
    ///
    /// # Errors
    /// When it was never started.
    pub fn process(&self) -> Result<Process> {
        self.program.process()
    }

    /// Starts the balancer and returns at once.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn start(&self) -> Result<()> {
        let mode = match self.xdp_mode {
            XdpMode::Generic => "generic",
            XdpMode::Native => "native",
        };
        self.host().write_file(CONFIG_FILE, &self.config)?;
        let mut command = Command::new(binaries::program("lb-user")?);
        command.args(["run", "-c", CONFIG_FILE, "--xdp-mode", mode]);
        if self.http != OperatorHttp::Off {
            let address = SocketAddrV4::new(self.host().address(), AGENT_HTTP_PORT);
            command.args(["--http", &address.to_string()]);
        }
        if self.http == OperatorHttp::WithPassword {
            let auth = self.host().write_file(AUTH_FILE, "admin:secret\n")?;
            fs::set_permissions(auth, Permissions::from_mode(0o600))?;
            command.args(["--http-auth", AUTH_FILE]);
        }
        self.program.start("lb-user", command).map(drop)
    }

    /// Waits until XDP is attached, the virtual addresses are held and every
    /// real server is in rotation.
    ///
    /// # Errors
    /// When it does not happen; the message holds what the balancer said.
    pub fn wait_until_ready(&self) -> Result<Balancer> {
        self.wait_until(Balancer::is_ready)
    }

    /// As [`Director::wait_until_ready`], but it need not hold the addresses.
    ///
    /// # Errors
    /// When it does not happen; the message holds what the balancer said.
    pub fn wait_until_able(&self) -> Result<Balancer> {
        self.wait_until(Balancer::is_able)
    }

    fn wait_until(&self, condition: fn(&Balancer) -> bool) -> Result<Balancer> {
        let process = self.process()?;
        let mut last = anyhow!("it was never asked");
        let ready = wait_for("the balancer to have every edge in rotation", || {
            ensure!(process.is_running(), "the balancer has ended");
            match self.list() {
                Ok(balancer) if condition(&balancer) => return Ok(Some(balancer)),
                Ok(balancer) => last = anyhow!("it says {balancer:#?}"),
                // It does not listen yet.
                Err(error) => last = error,
            }
            Ok(None)
        });
        ready
            .with_context(|| format!("{last:#}"))
            .with_context(|| process.log_tail())
    }

    /// What `lb-user list --json` says.
    ///
    /// # Errors
    /// When the balancer does not run, or says something else.
    pub fn list(&self) -> Result<Balancer> {
        let mut command = Command::new(binaries::program("lb-user")?);
        command.args(["list", "--json"]);
        let text = self.host().run(command)?;
        serde_json::from_str(&text).with_context(|| format!("`lb-user list --json` said:\n{text}"))
    }

    /// Waits until the server at `address` is in rotation, or is not.
    ///
    /// # Errors
    /// When that does not happen in [`netbed::TIME_LIMIT`].
    pub fn wait_for_server(&self, address: Ipv4Addr, up: bool) -> Result<()> {
        let change = if up {
            "come into rotation"
        } else {
            "leave the rotation"
        };
        wait_for(format_args!("{address} to {change}"), || {
            let balancer = self.list()?;
            let server = balancer.server(address);
            Ok(server
                .with_context(|| format!("{address} is not listed"))?
                .is_up()
                == up)
        })
        .with_context(|| {
            self.process()
                .map_or_else(|e| e.to_string(), |p| p.log_tail())
        })
    }

    /// Kills the balancer outright, as `kill -9` does.
    ///
    /// # Errors
    /// When it was never started.
    pub fn kill(&self) -> Result<()> {
        self.program.kill()
    }

    /// Runs `lb-user` with `words` on the director; returns what it prints.
    ///
    /// # Errors
    /// When it ends with another status than 0.
    pub fn order(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(binaries::program("lb-user")?);
        command.args(words);
        self.host().run(command)
    }

    /// Ends the balancer with SIGTERM, as `systemctl stop` does.
    ///
    /// # Errors
    /// When it does not end, or not with status 0.
    pub fn stop(&self) -> Result<()> {
        self.program.stop()
    }
}
