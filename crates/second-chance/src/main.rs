//! The command line of the second chance.

use std::process::ExitCode;

fn main() -> ExitCode {
    second_chance::cli::main()
}
