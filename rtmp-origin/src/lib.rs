//! The RTMP origin: takes publishers, serves players and edges.

use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser};
use rtmp_server::config::Role;
use rtmp_server::{Options, run};

/// Its version: with the revision, where `cargo xtask dist` builds it.
const VERSION: &str = match option_env!("MILLRACE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// The RTMP origin: takes publishers, serves players and edges.
#[derive(Debug, Parser)]
#[command(
    name = "rtmp-origin",
    version = VERSION,
    after_help = "Examples:
  rtmp-origin                          take RTMP on port 1935
  rtmp-origin -c origin.conf           as an SRS configuration says
  rtmp-origin -t -c origin.conf        only check it
  rtmp-origin sign -c origin.conf rtmp://HOST/live/livestream
  rtmp-origin top -c origin.conf       streams and viewers of one that runs
  rtmp-origin upgrade                the running one becomes this program
  rtmp-origin --listen 19350 --min-latency on --http-api 127.0.0.1:1985

Signals:
  SIGTERM  stop           SIGHUP   reload the configuration
  SIGQUIT  drain, stop    SIGUSR1  open the log file anew
  SIGUSR2  become the installed program, while everybody stays connected

Exit status: 0 after a stop, 1 if it could not run, 2 if the configuration is wrong."
)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// Its command line.
#[must_use]
pub fn command() -> Command {
    Arguments::command()
}

/// Runs the server, as the command line says, until it is stopped.
#[must_use]
pub fn main() -> ExitCode {
    run(Role::Origin, &Arguments::parse().options)
}
