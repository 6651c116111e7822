//! Commands that run no server: they look at one that runs, or end at once.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use service_kit::systemd;

use super::control::{self, UpgradeOptions};
use super::sign::SignOptions;
use super::{EXIT_CONFIGURATION, Options, upgrade};
use crate::config::{Config, Role};
use crate::server::check_certificates;
use crate::top::TopOptions;

/// Rehearses the start of this program in place of another one that runs.
pub(super) fn rehearse(config: &Config) -> ExitCode {
    let checked = check_certificates(config).map_err(anyhow::Error::from);
    match checked.and_then(|()| upgrade::rehearse(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Has a running server become this program.
pub(super) fn ask_for_upgrade(role: Role, options: &UpgradeOptions) -> ExitCode {
    match control::upgrade(role, options) {
        Ok(said) => {
            // An error does not matter: the exit status says the same.
            let _ = writeln!(std::io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            systemd::print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a signed URL.
pub(super) fn print_signed(role: Role, sign: &SignOptions) -> ExitCode {
    let options = Options {
        conf: Some(sign.conf.clone()),
        ..Options::default()
    };
    let config = match options.load(role) {
        Ok(loaded) => loaded.config,
        Err(mistakes) => {
            systemd::print_error(&mistakes.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let printed = sign
        .sign(&config)
        .and_then(|url| writeln!(std::io::stdout(), "{url}").context("cannot print the URL"));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            systemd::print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Shows a running server.
pub(super) fn show_top(role: Role, top: &TopOptions) -> ExitCode {
    let options = Options {
        conf: top.conf.clone(),
        ..Options::default()
    };
    let config = match top.conf.as_ref().map(|_| options.load(role)).transpose() {
        Ok(loaded) => loaded.map(|loaded| loaded.config),
        Err(mistakes) => {
            systemd::print_error(&mistakes.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let shown = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(top.show(config.as_ref())));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            systemd::print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
