//! The command line, and the loop behind it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use clap::Parser;
use lb_dataplane::second_chance::SecondChance;
use lb_model::Tables;
use net_types::MacAddress;
use nix::net::if_::if_nametoindex;
use service_kit::systemd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::fetch::{self, Director, News};
use crate::order::Told;
use crate::{http, order};

const EXAMPLES: &str = "\
Example:
  millrace-second-chance --interface eth2 --director 10.0.0.1:9101 --director 10.0.0.2:9101

Each director serves its tables with `lb-user run --http ADDRESS:9101`.
Exit status: 0 stopped by a signal; 1 the system refused; 2 an error on the command line.";

/// The version of the program: with the revision, where `cargo xtask dist` builds it.
const VERSION: &str = match option_env!("MILLRACE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// On a real server behind several directors: passes packets of connections that are
/// another server's on to that server, until SIGTERM.
#[derive(Debug, Parser)]
#[command(name = "millrace-second-chance", version = VERSION, after_help = EXAMPLES)]
pub struct Options {
    /// Where the directors' packets arrive
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// Host and port of a director's HTTP; once for each
    #[arg(long = "director", value_name = "HOST:PORT", required = true)]
    directors: Vec<String>,
    /// A file with one line, USER:PASSWORD, if the directors ask for them (`--http-auth`)
    #[arg(long, value_name = "FILE")]
    auth: Option<PathBuf>,
    /// Serve metrics over HTTP here
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Room for so many places of the tables of all services; each takes 8 bytes
    #[arg(long, default_value_t = 1 << 18, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    places: u32,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let options = Options::parse();
    let filter = env_logger::Env::default().default_filter_or("info");
    env_logger::Builder::from_env(filter).init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(run(options)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            systemd::print_error(&format!("millrace-second-chance: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let own = mac_address(&options.interface)?;
    let password = options.auth.as_deref().map(read_password).transpose()?;
    let mut data_plane = SecondChance::load(options.places)?;
    data_plane.attach(&options.interface)?;
    log::info!("{} ({own}): attached to the ingress", options.interface);
    let data_plane = Arc::new(Mutex::new(data_plane));
    let names = options.directors.iter().cloned();
    let directors = Arc::new(Mutex::new(names.map(|name| (name, false)).collect()));
    if let Some(address) = options.http {
        let shown = http::Shown {
            data_plane: Arc::clone(&data_plane),
            directors: Arc::clone(&directors),
        };
        http::start(address, shown).await?;
    }
    let (sender, mut news) = mpsc::channel(16);
    for (number, authority) in options.directors.into_iter().enumerate() {
        let director = Director {
            authority,
            password: password.clone(),
        };
        tokio::spawn(fetch::follow(number, director, sender.clone()));
    }
    systemd::ready("waiting for the directors' tables");
    let mut known = Known {
        own,
        data_plane,
        directors,
        tables: BTreeMap::new(),
        last: None,
    };
    loop {
        tokio::select! {
            Some(first) = news.recv() => {
                known.take(first);
                // Whatever else has come meanwhile is worked out along with it.
                while let Ok(more) = news.try_recv() {
                    known.take(more);
                }
                known.apply();
            }
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        }
    }
    log::info!("stopping: nothing is passed on any more");
    Ok(())
}

/// What is known of the directors.
struct Known {
    own: MacAddress,
    data_plane: Arc<Mutex<SecondChance>>,
    directors: Arc<Mutex<Vec<(String, bool)>>>,
    /// The last tables of each; of one that does not answer the generations still count.
    tables: BTreeMap<usize, Tables>,
    /// The one that has answered last, where none does any more: its servers count.
    last: Option<usize>,
}

impl Known {
    fn take(&mut self, (number, tables): News) {
        let mut directors = lock(&self.directors);
        directors[number].1 = tables.is_some();
        let some_answer = directors.iter().any(|(_, answers)| *answers);
        if some_answer {
            self.last = None;
        } else if self.last.is_none() && self.tables.contains_key(&number) {
            self.last = Some(number);
        }
        if let Some(tables) = tables {
            self.tables.insert(number, tables);
        }
    }

    /// What all directors tell, and which of them know the servers of now.
    fn told(&self) -> Vec<Told<'_>> {
        let directors = lock(&self.directors);
        let told = self.tables.iter().map(|(number, tables)| Told {
            tables,
            is_current: directors[*number].1 || self.last == Some(*number),
        });
        told.collect()
    }

    fn apply(&self) {
        let hops = order::hops(self.own, self.told());
        let services = hops.len();
        let changing = hops.iter().flat_map(|service| &service.places);
        let places = changing.filter(|it| it.from_director.is_some()).count();
        match lock(&self.data_plane).apply(&hops) {
            Ok(()) => {
                let line = format!(
                    "{services} service(s), {} director(s); another server may have the \
                     connections of {places} place(s)",
                    self.tables.len()
                );
                log::info!("tables: {line}");
                systemd::status(&line);
            }
            Err(error) => log::error!("the tables cannot be followed: {error}"),
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The MAC address of an interface.
fn mac_address(interface: &str) -> anyhow::Result<MacAddress> {
    ensure!(
        if_nametoindex(interface).is_ok(),
        "there is no network interface {interface}; `ip link` shows those that exist"
    );
    let address = lb_dataplane::mac_address(interface);
    let address = address.context("cannot read the list of interfaces")?;
    address
        .filter(|address| *address != MacAddress([0; 6]))
        .with_context(|| format!("{interface} has no MAC address"))
}

/// Reads `USER:PASSWORD`.
fn read_password(path: &Path) -> anyhow::Result<String> {
    let place = || format!("--auth {}", path.display());
    let mode = fs::metadata(path).with_context(place)?.mode();
    ensure!(
        mode & 0o007 == 0,
        "{}: others may open it; chmod 600 keeps the password secret",
        place()
    );
    let text = fs::read_to_string(path).with_context(place)?;
    let line = text.trim_end_matches(['\r', '\n']);
    ensure!(
        line.contains(':') && !line.contains('\n'),
        "{}: it holds one line, USER:PASSWORD",
        place()
    );
    Ok(line.to_owned())
}

/// For the man page and the completions.
pub fn command() -> clap::Command {
    <Options as clap::CommandFactory>::command()
}
