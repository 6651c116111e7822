//! The command line.

mod arguments;
mod check;
mod convert;
mod entries;
mod events;
mod list;
mod log_lines;
mod order;
mod process;
mod protection;
mod response;
mod server;
mod stop;
mod tables;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use service_kit::{systemd, with_causes};
use tokio::runtime::Builder;

use crate::agent::{self, RunOptions, UsageError};
use crate::control;
use crate::control::protocol::{Order, Request, Response};
use arguments::{Cli, Command, SocketArgument};

/// Exit status of an error in the configuration or on the command line; clap's
/// own errors have it, too.
const EXIT_USAGE_ERROR: u8 = 2;

/// The command line.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            systemd::print_error(&with_causes(error.as_ref()));
            if error.is::<lb_config::ConfigError>() || error.is::<UsageError>() {
                ExitCode::from(EXIT_USAGE_ERROR)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    // Everything waits for the network or the kernel: one thread is plenty, and
    // events are handled in the order in which they come.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Run(arguments) => {
            let is_rehearsal = arguments.rehearse;
            let options = RunOptions {
                config_id: arguments.config.id(),
                config: arguments.config.file,
                interfaces: arguments.interface,
                mode: arguments.xdp_mode.into(),
                socket: arguments.socket.path,
                http: arguments.http,
                http_auth: arguments.http_auth,
                pins: arguments.pins.directory(),
                tables: tables::with(&arguments.tables),
            };
            if is_rehearsal {
                runtime.block_on(agent::rehearse(&options))?;
                writeln!(io::stdout(), "an agent would start with this")?;
                return Ok(());
            }
            log_lines::start();
            let outcome = runtime.block_on(agent::run(options));
            // A look-up whose resolver does not answer must not hold up the end.
            runtime.shutdown_background();
            outcome
        }
        Command::Check { config, json } => {
            runtime.block_on(check::check(&config.file, &config.id(), json))
        }
        Command::Convert { config } => convert::convert(&config.file, &config.id()),
        Command::Schema => convert::schema(),
        Command::List {
            socket,
            reasons,
            entries,
            json,
        } => {
            if let Some(request) = entries.request() {
                return runtime.block_on(entries::print(&socket.path, &request, json));
            }
            let response = runtime.block_on(control::request(&socket.path, &Request::List))?;
            let Response::Listing(listing) = response else {
                return response::finish(response);
            };
            let text = if json {
                serde_json::to_string_pretty(&listing)? + "\n"
            } else if reasons {
                list::reasons(&listing)
            } else {
                list::table(&listing)
            };
            io::stdout().write_all(text.as_bytes())?;
            Ok(())
        }
        Command::Drain {
            server,
            drop_templates,
            wait,
            socket,
        } => {
            let order = if drop_templates {
                Order::DrainedOfTemplates
            } else {
                Order::Drained
            };
            runtime.block_on(order::give(&socket.path, &server.name, Some(order)))?;
            if wait {
                runtime.block_on(order::wait_until_drained(&socket.path, &server.name))?;
            }
            Ok(())
        }
        Command::Disable { server, socket } => runtime.block_on(order::give(
            &socket.path,
            &server.name,
            Some(Order::Disabled),
        )),
        Command::Weight {
            server,
            weight,
            socket,
        } => {
            let order = Some(Order::Weight(weight));
            runtime.block_on(order::give(&socket.path, &server.name, order))
        }
        Command::Undrain { server, socket } => {
            runtime.block_on(order::give(&socket.path, &server.name, None))
        }
        Command::Deny(command) => runtime.block_on(command.execute()),
        Command::Server(command) => runtime.block_on(command.execute()),
        Command::Limit(arguments) => runtime.block_on(arguments.execute()),
        Command::Validate(arguments) => runtime.block_on(arguments.execute()),
        Command::Events { socket, json } => runtime.block_on(events::follow(&socket.path, json)),
        Command::Watch { socket, options } => runtime.block_on(watch::watch(&socket.path, options)),
        Command::Reload { socket } => {
            response::finish(runtime.block_on(control::request(&socket.path, &Request::Reload))?)
        }
        Command::Upgrade { socket } => runtime.block_on(stop::upgrade(&socket.path)),
        Command::Stop { socket, pins } => {
            runtime.block_on(stop::stop(&socket.path, pins.directory().as_deref()))
        }
    }
}

/// True if the reader of our output has gone, as with `| head`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
