//! `lb-user deny`, `limit`, `validate`: orders about floods.

use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;

use super::SocketArgument;
use super::response::finish;
use crate::control;
use crate::control::protocol::{ListedDenial, RateOrder, Request, Response};
use lb_dataplane::ConnectionRate;
use lb_model::config::SynValidation;
use lb_model::config::bounds::CONNECTION_RATE;
use net_types::Network;

/// An order about the deny list.
#[derive(Debug, Subcommand)]
pub(super) enum DenyCommand {
    /// Drop a network's packets to services, and end its connections
    Add {
        /// The network
        #[arg(value_name = "ADDRESS[/LENGTH]")]
        network: Network,
        /// Only for so long, such as 90s, 10m or 2h
        #[arg(long, value_name = "TIME", value_parser = time)]
        timeout: Option<Duration>,
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Take an order to deny a network back
    Remove {
        /// The network
        #[arg(value_name = "ADDRESS[/LENGTH]")]
        network: Network,
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Show the networks that are denied
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: SocketArgument,
    },
}

impl DenyCommand {
    /// Has the agent do it.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub(super) async fn execute(self) -> anyhow::Result<()> {
        match self {
            Self::Add {
                network,
                timeout,
                socket,
            } => {
                let timeout_s = timeout.map(|timeout| timeout.as_secs().max(1));
                let request = Request::Deny { network, timeout_s };
                finish(control::request(&socket.path, &request).await?)
            }
            Self::Remove { network, socket } => {
                finish(control::request(&socket.path, &Request::Allow { network }).await?)
            }
            Self::List { json, socket } => list(&socket.path, json).await,
        }
    }
}

async fn list(socket: &Path, json: bool) -> anyhow::Result<()> {
    let response = control::request(socket, &Request::Denials).await?;
    let Response::Denials(denials) = response else {
        return finish(response);
    };
    let text = if json {
        serde_json::to_string_pretty(&denials)?
    } else {
        table(&denials)
    };
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

fn table(denials: &[ListedDenial]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["Network", "By", "Seconds left"]);
    for denial in denials {
        let by = if denial.by_file { "file" } else { "order" };
        let left = denial.remaining_s.map(|left| left.to_string());
        table.add_row([
            denial.network.to_string(),
            by.to_owned(),
            left.unwrap_or_default(),
        ]);
    }
    table.trim_fmt()
}

/// A time span: a number of seconds, or as `jiff` reads it.
fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let friendly = || {
        let span = text.parse::<jiff::SignedDuration>().ok()?;
        span.try_into().ok()
    };
    seconds
        .or_else(friendly)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "expected a time such as 90s, 10m or 2h".to_owned())
}

/// A limit of new connections.
#[derive(Debug, Args)]
pub(super) struct LimitArguments {
    /// New connections per second of a /24 (IPv4) or /64 (IPv6); `off` for no limit;
    /// `default` for as configured
    #[arg(value_name = "RATE|off|default")]
    rate: RateWord,
    /// New connections of such a network at once [default: RATE]
    #[arg(long, value_name = "CONNECTIONS")]
    burst: Option<NonZeroU32>,
    #[command(flatten)]
    socket: SocketArgument,
}

#[derive(Debug, Clone, Copy)]
enum RateWord {
    PerSecond(NonZeroU32),
    Off,
    Default,
}

impl FromStr for RateWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "default" => Ok(Self::Default),
            _ => text
                .parse()
                .ok()
                .filter(|rate: &NonZeroU32| rate.get() <= *CONNECTION_RATE.end())
                .map(Self::PerSecond)
                .ok_or_else(|| "expected a number of connections, `off` or `default`".to_owned()),
        }
    }
}

impl LimitArguments {
    /// Has the agent do it.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub(super) async fn execute(self) -> anyhow::Result<()> {
        let order = match self.rate {
            RateWord::Default => None,
            RateWord::Off => Some(RateOrder::Off),
            RateWord::PerSecond(per_second) => Some(RateOrder::Limit(ConnectionRate {
                per_second,
                burst: self.burst.unwrap_or(per_second),
            })),
        };
        let request = Request::LimitConnections { order };
        finish(control::request(&self.socket.path, &request).await?)
    }
}

/// A mode of validation.
#[derive(Debug, Args)]
pub(super) struct ValidateArguments {
    /// `off`, `automatic`, `always`; `default` for as configured
    #[arg(value_name = "MODE")]
    mode: ModeWord,
    #[command(flatten)]
    socket: SocketArgument,
}

#[derive(Debug, Clone, Copy)]
struct ModeWord(Option<SynValidation>);

impl FromStr for ModeWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self(None));
        }
        let mut names = SynValidation::NAMES.into_iter();
        names
            .find(|(name, _)| *name == text)
            .map(|(_, mode)| Self(Some(mode)))
            .ok_or_else(|| "expected `off`, `automatic`, `always` or `default`".to_owned())
    }
}

impl ValidateArguments {
    /// Has the agent do it.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub(super) async fn execute(self) -> anyhow::Result<()> {
        let request = Request::ValidateSources { order: self.mode.0 };
        finish(control::request(&self.socket.path, &request).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["0", "-1m", "soon", ""] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
