//! The agent's answer to a command.

use std::io::{self, Write};

use crate::control::protocol::Response;

/// Prints the answer to a command that has no other result.
///
/// # Errors
/// The agent has refused it, or standard output is closed.
pub(super) fn finish(response: Response) -> anyhow::Result<()> {
    match response {
        Response::Done(lines) => {
            for line in lines {
                writeln!(io::stdout(), "{line}")?;
            }
            Ok(())
        }
        Response::Refused(reason) => anyhow::bail!("{reason}"),
        _ => anyhow::bail!("the agent sent an unexpected answer"),
    }
}
