//! `top`: streams and viewers of a running server, live, over its HTTP API.

mod client;
mod screen;

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use service_kit::Credentials;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::config::{Config, HttpApi};
use client::ApiClient;
use screen::{Sample, TopScreen, Update};

/// Width of the lines where there is no terminal.
const PLAIN_WIDTH: u16 = 120;

/// Shows streams and viewers of a running server, live
///
/// It asks the server's HTTP API. Without a terminal everything is printed again and again.
#[derive(Debug, Clone, Args)]
pub(crate) struct TopOptions {
    /// Configuration that has the address of `http_api` and its password
    #[arg(
        short = 'c',
        long = "conf",
        value_name = "FILE",
        conflicts_with = "url"
    )]
    pub(crate) conf: Option<PathBuf>,

    /// The HTTP API, by http:// or https:// [default: http://127.0.0.1:1985]
    #[arg(value_name = "URL")]
    url: Option<String>,

    /// User of the HTTP API
    #[arg(long, value_name = "NAME", requires = "password_file")]
    username: Option<String>,

    /// File with the user's password
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,

    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=3_600))]
    interval: u32,

    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Show everything once, and exit
    #[arg(long)]
    once: bool,
}

impl TopOptions {
    /// Shows the server until `q`, Ctrl-C or a signal; `config` is that of `conf`.
    ///
    /// # Errors
    /// The API does not answer at first, or the terminal cannot be drawn on.
    pub(crate) async fn show(&self, config: Option<&Config>) -> anyhow::Result<()> {
        let client = self.client(config)?;
        let interval = Duration::from_secs(self.interval.into());
        let sample = client.sample().await?;
        if self.json || self.once || !terminal_kit::has_terminal() {
            return self.print(&client, sample, interval).await;
        }
        let (sender, updates) = mpsc::channel(4);
        tokio::spawn(poll(client, interval, sender));
        let shown = terminal_kit::run(TopScreen::new(sample), updates).await;
        shown.context("cannot draw on this terminal")
    }

    /// Prints everything once, or at each interval.
    async fn print(
        &self,
        client: &ApiClient,
        sample: Sample,
        interval: Duration,
    ) -> anyhow::Result<()> {
        let mut screen = TopScreen::new(sample);
        loop {
            let text = match self.json {
                true => serde_json::to_string(screen.sample())?,
                false => terminal_kit::plain(&mut screen, PLAIN_WIDTH)?,
            };
            writeln!(io::stdout(), "{}", text.trim_end())?;
            if self.once {
                return Ok(());
            }
            sleep(interval).await;
            screen.add(client.sample().await?);
        }
    }

    fn client(&self, config: Option<&Config>) -> anyhow::Result<ApiClient> {
        let api = match (config, &self.conf) {
            (Some(config), Some(file)) => {
                let api = config.http_api.as_ref();
                Some(api.with_context(|| {
                    format!("{} has no `http_api {{ enabled on; }}`", file.display())
                })?)
            }
            _ => None,
        };
        let url = match (&self.url, api) {
            (Some(url), _) => url.clone(),
            (None, Some(api)) => format!("http://{}", reachable(api)),
            (None, None) => "http://127.0.0.1:1985".to_owned(),
        };
        ApiClient::new(&url, self.auth(api)?)
    }

    fn auth(&self, api: Option<&HttpApi>) -> anyhow::Result<Option<Credentials>> {
        let (Some(username), Some(file)) = (&self.username, &self.password_file) else {
            return Ok(api.and_then(|api| api.auth.clone()));
        };
        let password = fs::read_to_string(file)
            .map_err(|error| anyhow!("cannot read the password in {}: {error}", file.display()))?;
        Ok(Some(Credentials {
            username: username.clone(),
            password: password.trim_end_matches(['\r', '\n']).to_owned(),
        }))
    }
}

/// The address by which a process on this machine reaches the API.
fn reachable(api: &HttpApi) -> SocketAddr {
    let mut address = api.listen;
    if address.ip().is_unspecified() {
        // Also with IPv6, which takes IPv4 too.
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    address
}

/// Keeps asking the server how things are.
async fn poll(client: ApiClient, interval: Duration, sender: mpsc::Sender<Update>) {
    loop {
        sleep(interval).await;
        let update = match client.sample().await {
            Ok(sample) => Update::Sample(Box::new(sample)),
            Err(error) => Update::Unreachable(format!("{error:#}")),
        };
        if sender.send(update).await.is_err() {
            return;
        }
    }
}
