//! The command line of the load generator.

#![warn(unreachable_pub)]
use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use rtmp_load::{Options, RunError, run};

fn main() -> ExitCode {
    env_logger::init();
    let options = Options::parse();
    match run(&options) {
        Ok(report) => {
            let text = if options.json {
                report.to_json()
            } else {
                report.to_string()
            };
            let healthy = report.is_healthy();
            match writeln!(io::stdout(), "{text}") {
                // Whoever has stopped reading wants no more of it.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    eprintln!("rtmp-load: the report cannot be written: {error}");
                    ExitCode::FAILURE
                }
                _ => ExitCode::from(if healthy { 0 } else { 1 }),
            }
        }
        Err(error) => {
            eprintln!("rtmp-load: {error}");
            ExitCode::from(if matches!(error, RunError::Plan(_)) {
                2
            } else {
                1
            })
        }
    }
}
