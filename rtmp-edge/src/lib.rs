//! The RTMP edge: pulls each stream once from its origin and serves it to many.

use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser};
use rtmp_server::config::Role;
use rtmp_server::{Options, run};

/// Its version: with the revision, where `cargo xtask dist` builds it.
const VERSION: &str = match option_env!("MILLRACE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// The RTMP edge: pulls each stream once from its origin and serves it to many.
#[derive(Debug, Parser)]
#[command(
    name = "rtmp-edge",
    version = VERSION,
    after_help = "Examples:
  rtmp-edge --origin 172.16.1.228      pull from there, serve on port 1935
  rtmp-edge -c edge.conf               as an SRS configuration says
  rtmp-edge -t -c edge.conf            only check it
  rtmp-edge sign -c edge.conf rtmp://HOST/live/livestream
  rtmp-edge top -c edge.conf           streams and viewers of one that runs
  rtmp-edge upgrade                  the running one becomes this program
  rtmp-edge --listen 19350 --origin a:1935 --origin b:1935

Signals:
  SIGTERM  stop           SIGHUP   reload the configuration
  SIGQUIT  drain, stop    SIGUSR1  open the log file anew
  SIGUSR2  become the installed program, while everybody stays connected

Exit status: 0 after a stop, 1 if it could not run, 2 if the configuration is wrong."
)]
struct Arguments {
    /// Pull streams from here; may be repeated, and is tried in turn
    #[arg(short, long, value_name = "HOST[:PORT]")]
    origin: Vec<String>,

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
    let Arguments {
        origin,
        mut options,
    } = Arguments::parse();
    options.origins = origin;
    run(Role::Edge, &options)
}
