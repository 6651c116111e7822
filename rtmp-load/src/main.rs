//! The command line of the load generator.

use std::process::ExitCode;

use clap::Parser;
use rtmp_load::{
    options::Options,
    run::{RunError, run},
};

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
            println!("{text}");
            ExitCode::from(if report.is_healthy() { 0 } else { 1 })
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
