//! The first readings of sources, at a start and at a reload that names new ones.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, timeout_at};

use super::{Discovery, Known, sources};
use crate::agent::plan::Plan;
use crate::agent::serve::Agent;
use crate::discovery::{Reading, Source};
use lb_model::config::{Config, DiscoveredServer};

/// Time limit for the first reading of all sources at a start.
const START_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit for the first reading of sources that a reload names.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(3);

/// A source that names other servers than before, and those of before.
type Changed = (Source, Vec<DiscoveredServer>);

/// A reload that may still be refused.
pub(super) struct Trial {
    /// What was known of the sources before.
    known: HashMap<Source, Known>,
    /// The readings since.
    readings: Vec<Reading>,
}

impl Discovery {
    /// Takes first readings until each source has been read once, or `deadline` has come;
    /// further ones wait. Returns which sources name other servers now.
    pub(super) async fn read_all(&mut self, deadline: Instant) -> Vec<Changed> {
        let mut changed = Vec::new();
        let mut further = Vec::new();
        while self.sources.values().any(|followed| !followed.was_read) {
            let Ok(reading) = timeout_at(deadline, self.next()).await else {
                break;
            };
            let source = reading.source.clone();
            match self.sources.get(&source) {
                Some(followed) if !followed.was_read => {
                    if let Some(trial) = &mut self.trial {
                        trial.readings.push(reading.clone());
                    }
                    changed.extend(self.take(reading).map(|former| (source, former)));
                }
                Some(_) => further.push(reading),
                None => {}
            }
        }
        for reading in further.into_iter().rev() {
            self.deferred.push_front(reading);
        }
        changed
    }

    /// Follows the sources of `config`, too, and reads new ones, until [`follow`](Self::follow)
    /// or [`undo`](Self::undo) decides. Returns which sources name other servers than are in
    /// force.
    ///
    /// # Errors
    /// Nobody has ever told the servers of a new source.
    pub(super) async fn try_out(
        &mut self,
        config: &Config,
        deadline: Instant,
    ) -> anyhow::Result<Vec<Changed>> {
        let known = self.sources.iter();
        let known: HashMap<Source, Known> = known
            .map(|(source, followed)| (source.clone(), followed.known.clone()))
            .collect();
        let is_new = |source: &Source| !known.contains_key(source);
        self.trial = Some(Trial {
            known: known.clone(),
            readings: Vec::new(),
        });
        self.follow_also(config);
        let mut changed = self.read_all(deadline).await;
        for (source, followed) in &self.sources {
            let now = &followed.known;
            if is_new(source) && now.read_ms.is_none() && now.servers.is_empty() {
                let reason = now.error.as_deref().unwrap_or("no answer yet");
                bail!(
                    "`discover` names a new source that cannot be read, so that its services \
                     would be without its servers: {source}: {reason}"
                );
            }
        }
        // Nothing to go back to.
        changed.retain(|(source, former)| !is_new(source) || !former.is_empty());
        changed.extend(self.try_refused_again());
        Ok(changed)
    }

    /// Takes the lists that were refused with another configuration for the servers.
    fn try_refused_again(&mut self) -> Vec<Changed> {
        let sources = self.sources.iter_mut();
        let changed = sources.filter_map(|(source, followed)| {
            let known = &mut followed.known;
            let refused = known.refused.take()?;
            known.error = None;
            Some((
                source.clone(),
                std::mem::replace(&mut known.servers, refused),
            ))
        });
        changed.collect()
    }

    /// After a reload that was refused: all is as before, with the sources of `config`, and
    /// what was read meanwhile is yet to be taken.
    pub(in crate::agent) fn undo(&mut self, config: &Config) {
        let Some(Trial { known, readings }) = self.trial.take() else {
            return;
        };
        for (source, known) in known {
            if let Some(followed) = self.sources.get_mut(&source) {
                followed.known = known;
            }
        }
        for reading in readings.into_iter().rev() {
            self.deferred.push_front(reading);
        }
        self.follow_only(config);
    }

    /// Gives a source other servers; returns those that it had.
    fn exchange(
        &mut self,
        source: &Source,
        servers: Vec<DiscoveredServer>,
    ) -> Vec<DiscoveredServer> {
        match self.sources.get_mut(source) {
            Some(followed) => std::mem::replace(&mut followed.known.servers, servers),
            None => Vec::new(),
        }
    }
}

impl Agent {
    /// Follows the sources of `config`, and waits for their first readings within reason.
    /// Returns `plan` with the servers that are known then: of a source that names servers
    /// which cannot be, those that it has named to an earlier agent.
    pub(in crate::agent) async fn discover(&mut self, config: &Config, plan: Plan) -> Plan {
        self.discovery.follow(config);
        let deadline = Instant::now() + START_TIMEOUT;
        let changed = self.discovery.read_all(deadline).await;
        for error in self.settle(config, &plan, &changed) {
            log::error!("the servers of a source cannot be used: {error}");
        }
        match self.with_discovered(config, plan.clone()) {
            Ok(plan) => plan,
            Err(error) => {
                log::error!("the servers that were discovered cannot be used: {error:#}");
                plan
            }
        }
    }

    /// `plan`, which is that of `config`, with the servers that sources name, once new ones
    /// have been read. All of it is undone by [`Discovery::undo`].
    ///
    /// # Errors
    /// A new source cannot be read, or names servers that cannot be; a source that is known
    /// has none that can be.
    pub(in crate::agent) async fn discover_anew(
        &mut self,
        config: &Config,
        plan: Plan,
    ) -> anyhow::Result<Plan> {
        let deadline = Instant::now() + RELOAD_TIMEOUT;
        let changed = self.discovery.try_out(config, deadline).await?;
        let unusable = self.settle(config, &plan, &changed);
        if !unusable.is_empty() {
            bail!("{}", unusable.join("; "));
        }
        self.with_discovered(config, plan)
    }

    /// Sees to it that the sources name servers that can be in force together: a source that
    /// does not goes back to its former ones. Returns what is wrong with those that cannot,
    /// and have none then.
    fn settle(&mut self, config: &Config, plan: &Plan, changed: &[Changed]) -> Vec<String> {
        if self.with_discovered(config, plan.clone()).is_ok() {
            return Vec::new();
        }
        let all: BTreeSet<Source> = config.virtual_server.iter().flat_map(sources).collect();
        let all: Vec<Changed> = all
            .into_iter()
            .map(|source| {
                let servers = self.discovery.exchange(&source, Vec::new());
                (source, servers)
            })
            .collect();
        if let Err(error) = self.with_discovered(config, plan.clone()) {
            // No source is to blame: orders are.
            for (source, servers) in all {
                self.discovery.exchange(&source, servers);
            }
            return vec![format!("{error:#}")];
        }
        let mut unusable = Vec::new();
        // One after the other, so that each is judged by itself.
        for (source, servers) in all {
            self.discovery.exchange(&source, servers);
            let Err(error) = self.with_discovered(config, plan.clone()) else {
                continue;
            };
            let error = format!("{error:#}");
            let former = changed.iter().find(|(changed, _)| *changed == source);
            let former = former.map(|(_, former)| former.clone());
            let has_former = former.is_some();
            let former = former.unwrap_or_default();
            self.discovery.refuse(&source, former, error.clone());
            if has_former && self.with_discovered(config, plan.clone()).is_ok() {
                log::error!("{source}: its servers stay as they are: {error}");
            } else {
                self.discovery.exchange(&source, Vec::new());
                unusable.push(format!("{source}: {error}"));
            }
        }
        unusable
    }
}
