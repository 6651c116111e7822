//! The origin and the edges: hosts with an RTMP server on them.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::binaries;
use crate::config::ORIGIN;
use crate::program::Program;
use netbed::Host;
use netbed::Process;
use netbed::wait_for;

/// The port of RTMP, and of the deployment's virtual service.
pub const RTMP_PORT: u16 = 1935;

/// The port at which edges serve browsers, where they do.
pub const HTTP_PORT: u16 = 8080;

/// The port of their HTTP API and of the page for operators, where there is one.
pub const HTTP_API_PORT: u16 = 1985;

/// The port at which they serve HTTPS, where they do.
pub(crate) const HTTPS_PORT: u16 = 8443;

/// Which programs serve as origin and as edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerKind {
    /// Our own `rtmp-origin` and `rtmp-edge`, with the deployment's files.
    #[default]
    Millrace,
    /// nginx with `libnginx-mod-rtmp`, to compare and to test against.
    NginxRtmp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Origin,
    Edge,
}

impl Role {
    /// Our program for it, and the file of its configuration.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Origin => ("rtmp-origin", "origin.conf"),
            Self::Edge => ("rtmp-edge", "edge.conf"),
        }
    }
}

/// A host with an RTMP server.
#[derive(Debug)]
pub struct Server {
    program: Program,
    role: Role,
    kind: ServerKind,
    /// Of our program.
    config: String,
}

impl Server {
    pub(crate) fn new(host: Arc<Host>, role: Role, kind: ServerKind, config: String) -> Self {
        Self {
            program: Program::new(host, "server"),
            role,
            kind,
            config,
        }
    }

    pub(crate) fn is_edge(&self) -> bool {
        self.role == Role::Edge
    }

    /// The machine that it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.program.host()
    }

    /// The machine's own address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.host().address()
    }

    /// The running program, or the one that ran last.
    ///
    /// # Errors
    /// When it was never started.
    pub fn process(&self) -> Result<Process> {
        self.program.process()
    }

    /// Starts the program and waits until it listens.
    ///
    /// # Errors
    /// When it ends or does not listen; the message holds what it said.
    pub fn start(&self) -> Result<()> {
        self.start_as(self.kind)
    }

    /// As [`Server::start`], another program than the cluster began with.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_as(&self, kind: ServerKind) -> Result<()> {
        let (name, command) = match kind {
            ServerKind::Millrace => self.millrace()?,
            ServerKind::NginxRtmp => self.nginx()?,
        };
        let process = self.program.start(name, command)?;
        let what = format!("{} to listen on port {RTMP_PORT}", process.name());
        wait_for(what, || {
            ensure!(process.is_running(), "it has ended");
            self.host().listens(RTMP_PORT)
        })
        .with_context(|| process.log_tail())
    }

    fn millrace(&self) -> Result<(&'static str, Command)> {
        let (name, file) = self.role.program();
        self.host().write_file(file, &self.config)?;
        let mut command = Command::new(binaries::program(name)?);
        command.args(["-c", file]);
        Ok((name, command))
    }

    fn nginx(&self) -> Result<(&'static str, Command)> {
        let origin = match self.role {
            Role::Origin => None,
            Role::Edge => Some(ORIGIN),
        };
        let path = self.host().write_file("nginx.conf", nginx_config(origin))?;
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(self.host().directory())
            .arg("-c")
            .arg(path);
        Ok(("nginx", command))
    }

    /// Kills the program: its machine lives on and refuses connections.
    ///
    /// # Errors
    /// When it was never started.
    pub fn kill(&self) -> Result<()> {
        self.program.kill()
    }

    /// Ends the program with SIGTERM, as `systemctl stop` does.
    ///
    /// # Errors
    /// When it does not end, or not with status 0.
    pub fn stop(&self) -> Result<()> {
        self.program.stop()
    }

    /// Has our program become the installed one, with its connections.
    ///
    /// # Errors
    /// When it does not take over; the message holds the reason.
    pub fn upgrade(&self) -> Result<()> {
        let (name, _) = self.role.program();
        let mut command = Command::new(binaries::program(name)?);
        // It is the only one here, and its own number is that of the bed's namespace.
        command.arg("upgrade");
        self.host().run(command).map(drop)
    }

    /// The addresses that have an RTMP connection to it: viewers, and for the
    /// origin also publishers and edges. Health checks may flash up.
    ///
    /// # Errors
    /// When the kernel's table cannot be read.
    pub fn peers(&self) -> Result<Vec<SocketAddr>> {
        self.host().connections(RTMP_PORT)
    }
}

/// nginx as an origin, or as an edge that pulls from `origin`.
fn nginx_config(origin: Option<Ipv4Addr>) -> String {
    let pull = origin.map_or(String::new(), |origin| {
        format!("      pull rtmp://{origin}:{RTMP_PORT} live=1;\n")
    });
    format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
         user root;\ndaemon off;\nworker_processes 1;\n\
         pid objs/nginx.pid;\nerror_log objs/nginx.log;\n\
         events {{ worker_connections 4096; }}\n\
         rtmp {{\n  server {{\n    listen {RTMP_PORT};\n    application live {{\n      live on;\n\
         {pull}    }}\n  }}\n}}\n"
    )
}
