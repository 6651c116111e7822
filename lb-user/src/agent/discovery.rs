//! The owner of the servers that sources name and that orders have added.

mod first_readings;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use service_kit::unix_ms;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::capacity;
use super::plan::Plan;
use super::saved::{Saved, SavedAddition, SavedDiscovery};
use super::serve::Agent;
use crate::control::protocol::{ListedSource, Response};
use crate::discovery::{Reading, Source};
use first_readings::Trial;
use lb_config::ConfigError;
use lb_model::config::discovery::MAX_ADDED;
use lb_model::config::{Config, DiscoveredServer, VirtualServer};

/// The sources of the configuration, what each has named last, and the operators'
/// additions.
///
/// Calling contract: [`follow`](Self::follow) a configuration once it is in force. Wait for
/// [`next`](Self::next), give it to [`take`](Self::take), and put what
/// [`complete`](Self::complete) then returns in force, or [`refuse`](Self::refuse) it.
pub(super) struct Discovery {
    sources: HashMap<Source, Followed>,
    readings: mpsc::UnboundedReceiver<Reading>,
    /// Readings that came at the wrong time, before those of `readings`.
    deferred: VecDeque<Reading>,
    /// Given to each source. Held here so that `readings` stays open without any.
    sender: mpsc::UnboundedSender<Reading>,
    /// What an earlier agent has saved, of sources that are not followed yet.
    found_before: Vec<SavedDiscovery>,
    added: Vec<SavedAddition>,
    /// What a reload has found that is not in force yet.
    trial: Option<Trial>,
}

struct Followed {
    _task: AbortOnDropHandle<()>,
    known: Known,
    /// True once it has been read.
    was_read: bool,
}

/// What is known of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    /// The servers that it has named last.
    servers: Vec<DiscoveredServer>,
    /// When it has, in milliseconds since 1970; `None`: an earlier agent has saved them.
    read_ms: Option<u64>,
    /// Why they are not read anew, or not taken.
    error: Option<String>,
    /// The servers that it has named last, if these cannot be servers of its services. After
    /// a reload they may be.
    refused: Option<Vec<DiscoveredServer>>,
}

impl Discovery {
    /// Follows nothing yet; takes up what an earlier agent has saved.
    pub(super) fn new(saved: &Saved) -> Self {
        let (sender, readings) = mpsc::unbounded_channel();
        Self {
            sources: HashMap::new(),
            readings,
            deferred: VecDeque::new(),
            sender,
            found_before: saved.discovered.clone(),
            added: saved.added.clone(),
            trial: None,
        }
    }

    /// Follows the sources of `config`, and no others.
    pub(super) fn follow(&mut self, config: &Config) {
        self.follow_also(config);
        self.follow_only(config);
        self.trial = None;
        self.found_before.clear();
        self.added.retain(|added| {
            let mut services = config.virtual_server.iter();
            services.any(|service| added.is_of(service) && is_open(service))
        });
    }

    /// Follows the sources of `config`, too.
    fn follow_also(&mut self, config: &Config) {
        for source in config.virtual_server.iter().flat_map(sources) {
            if self.sources.contains_key(&source) {
                continue;
            }
            // Also of a source that is followed in another way from now on.
            let servers = self.servers_of(&source).to_vec();
            let followed = Followed {
                _task: source.follow(self.sender.clone()),
                known: Known {
                    servers,
                    ..Known::default()
                },
                was_read: false,
            };
            self.sources.insert(source, followed);
        }
    }

    /// Follows no other sources than those of `config` any more.
    fn follow_only(&mut self, config: &Config) {
        let wanted: Vec<Source> = config.virtual_server.iter().flat_map(sources).collect();
        self.sources.retain(|source, _| wanted.contains(source));
    }

    /// The configuration with the servers that are known.
    pub(super) fn complete(&self, config: &Config) -> Config {
        let given = config;
        let mut config = config.clone();
        for service in &mut config.virtual_server {
            let addresses = given.addresses(service);
            let added = self.added.iter().filter(|added| added.is_of(service));
            let mut all: Vec<DiscoveredServer> = added.map(|it| it.server.clone()).collect();
            for source in sources(service) {
                all.extend_from_slice(self.servers_of(&source));
            }
            service.add_discovered(&addresses, &all);
        }
        config
    }

    /// The servers that a source has named last; of one that is not followed yet, those that
    /// the same one has named with other settings, or to an earlier agent.
    fn servers_of(&self, source: &Source) -> &[DiscoveredServer] {
        if let Some(followed) = self.sources.get(source) {
            return &followed.known.servers;
        }
        let name = source.to_string();
        let mut others = self.sources.iter();
        if let Some((_, followed)) = others.find(|(other, _)| other.to_string() == name) {
            return &followed.known.servers;
        }
        let before = self.found_before.iter().find(|saved| saved.source == name);
        before.map_or(&[], |saved| &saved.servers)
    }

    /// `plan`, which is that of `config`, with the servers that are known.
    ///
    /// # Errors
    /// These cannot be servers of such services.
    pub(super) fn complete_plan(&self, config: &Config, plan: Plan) -> Result<Plan, ConfigError> {
        if config
            .virtual_server
            .iter()
            .all(|it| it.max_discovered() == 0)
        {
            return Ok(plan);
        }
        let config = self.complete(config);
        lb_config::check(&config)?;
        let services = Plan::services(&config);
        Ok(Plan { services, ..plan })
    }

    /// Waits for a reading. May be dropped without losing one.
    pub(super) async fn next(&mut self) -> Reading {
        if let Some(reading) = self.deferred.pop_front() {
            return reading;
        }
        let reading = self.readings.recv().await;
        reading.expect("a sender is held here")
    }

    /// Takes a reading; returns the servers that the source named before, if it names
    /// others now. A source that has failed keeps them.
    pub(super) fn take(&mut self, reading: Reading) -> Option<Vec<DiscoveredServer>> {
        let Reading { source, servers } = reading;
        let followed = self.sources.get_mut(&source)?;
        followed.was_read = true;
        let known = &mut followed.known;
        known.refused = None;
        match servers {
            Ok(servers) => {
                if known.error.take().is_some() {
                    log::info!("{source}: can be read again");
                }
                known.read_ms = Some(unix_ms());
                let former = std::mem::replace(&mut known.servers, servers);
                (former != known.servers).then_some(former)
            }
            Err(error) => {
                if known.error.as_ref() != Some(&error) {
                    let count = known.servers.len();
                    log::warn!("{source}: {error}; its {count} server(s) stay as they are");
                }
                known.error = Some(error);
                None
            }
        }
    }

    /// Takes a source's servers back that cannot be put in force.
    fn refuse(&mut self, source: &Source, former: Vec<DiscoveredServer>, error: String) {
        if let Some(followed) = self.sources.get_mut(source) {
            let refused = std::mem::replace(&mut followed.known.servers, former);
            followed.known.refused = Some(refused);
            followed.known.error = Some(error);
        }
    }

    /// Has what a later agent is to know put into `saved`.
    pub(super) fn save(&self, saved: &mut Saved) {
        let known = self
            .sources
            .iter()
            .map(|(source, followed)| SavedDiscovery {
                source: source.to_string(),
                servers: followed.known.servers.clone(),
            });
        saved.discovered = known.chain(self.found_before.iter().cloned()).collect();
        saved.discovered.sort_by(|a, b| a.source.cmp(&b.source));
        saved.added = self.added.clone();
    }

    /// The sources, for operators.
    pub(super) fn listed(&self) -> Vec<ListedSource> {
        let now = unix_ms();
        let sources = self.sources.iter().map(|(source, followed)| {
            let Known {
                servers,
                read_ms,
                error,
                ..
            } = &followed.known;
            ListedSource {
                source: source.to_string(),
                servers: servers.len(),
                age_s: read_ms.map(|read| now.saturating_sub(read) / 1000),
                error: error.clone(),
            }
        });
        let mut sources: Vec<ListedSource> = sources.collect();
        sources.sort_by(|a, b| a.source.cmp(&b.source));
        if !self.added.is_empty() {
            sources.push(ListedSource {
                source: "orders".to_owned(),
                servers: self.added.len(),
                age_s: None,
                error: None,
            });
        }
        sources
    }
}

/// The sources of a service.
fn sources(service: &VirtualServer) -> impl Iterator<Item = Source> {
    service.discover.iter().filter_map(Source::new)
}

/// True if orders may add servers to a service: it says what they are like.
fn is_open(service: &VirtualServer) -> bool {
    service.real_server_template.is_some()
}

impl Agent {
    /// `plan`, which is that of `config`, with the servers that are known.
    ///
    /// # Errors
    /// These cannot be servers of such services, or are too many.
    pub(super) fn with_discovered(&self, config: &Config, plan: Plan) -> anyhow::Result<Plan> {
        let plan = self.discovery.complete_plan(config, plan)?;
        capacity::admit(&plan, &self.options.tables)?;
        Ok(plan)
    }

    /// Has the data plane and the checks follow a source.
    pub(super) fn on_reading(&mut self, reading: Reading) {
        let source = reading.source.clone();
        let Some(former) = self.discovery.take(reading) else {
            return;
        };
        match self.put_discovered_in_force() {
            Ok(()) => {
                let message = format!("{source}: its servers have changed");
                log::info!("{message}");
                self.operators.inform(message);
            }
            Err(error) => {
                let message = format!("{source}: its servers stay as they are: {error:#}");
                log::error!("{message}");
                self.discovery.refuse(&source, former, format!("{error:#}"));
                self.operators.publish(message);
            }
        }
    }

    fn put_discovered_in_force(&mut self) -> anyhow::Result<()> {
        let plan = self.checks.state().plan().clone();
        let plan = self.with_discovered(self.operators.config(), plan)?;
        self.commit_plan(plan, false)
    }

    /// Adds a server to a service, or to all that take such orders, or gives it another
    /// weight.
    pub(super) fn on_add_server(
        &mut self,
        server: DiscoveredServer,
        service: Option<SocketAddr>,
    ) -> Response {
        let config = self.operators.config();
        let is_meant = |it: &&VirtualServer| {
            let addresses = config.addresses(it);
            is_open(it) && service.is_none_or(|service| addresses.contains(&service))
        };
        let services: Vec<String> = config
            .virtual_server
            .iter()
            .filter(is_meant)
            .map(|it| it.address.to_string())
            .collect();
        if services.is_empty() {
            return Response::Refused(
                "no such virtual_server has a real_server_template, which says what a server is \
                 like"
                    .to_owned(),
            );
        }
        let mut added = self.discovery.added.clone();
        for service in &services {
            added.retain(|it| it.service != *service || !it.is_at(&server));
            added.push(SavedAddition {
                service: service.clone(),
                server: server.clone(),
            });
            let count = added.iter().filter(|it| it.service == *service).count();
            if count > MAX_ADDED as usize {
                return Response::Refused(format!(
                    "virtual_server {service} has {MAX_ADDED} servers by orders already; \
                     `lb-user server remove` takes one back, and a file may name more"
                ));
            }
        }
        let message = format!("{} added to {}", server.address, services.join(", "));
        self.change_additions(added, message)
    }

    /// Takes an addition back.
    pub(super) fn on_remove_server(&mut self, address: IpAddr, port: Option<u16>) -> Response {
        let mut added = self.discovery.added.clone();
        added.retain(|it| it.server.address != address || port.is_some() && port != it.server.port);
        if added == self.discovery.added {
            return Response::Refused(format!(
                "no order has added {address}; `lb-user drain` and `disable` concern servers of \
                 the file and of sources"
            ));
        }
        self.change_additions(added, format!("{address} removed"))
    }

    fn change_additions(&mut self, added: Vec<SavedAddition>, message: String) -> Response {
        let former = std::mem::replace(&mut self.discovery.added, added);
        match self.put_discovered_in_force() {
            Ok(()) => {
                log::info!("{message}");
                self.operators.inform(message.clone());
                self.save();
                Response::Done(vec![message])
            }
            Err(error) => {
                self.discovery.added = former;
                Response::Refused(format!("{error:#}"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
