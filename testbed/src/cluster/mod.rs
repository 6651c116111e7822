//! The whole deployment: switch, director, origin, edges, encoder, clients.

mod builder;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use netbed::{Bed, Host, Process, wait_for};

use crate::client::Client;
use crate::config::{self, VIP};
use crate::director::Director;
use crate::media::{self, Source};
use crate::server::{RTMP_PORT, Server};
use crate::website;
pub use builder::Builder;

/// A running deployment. Dropping it removes everything.
///
/// ```no_run
/// # use testbed::{Cluster, Source};
/// # fn main() -> anyhow::Result<()> {
/// let cluster = Cluster::builder().edges(2).clients(4).start()?;
/// cluster.push(&Source::Generated)?;
/// let viewer = cluster.client(0).pull(&cluster.viewing_url())?;
/// viewer.wait_for_more(25)?.ensure_rising()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    bed: Bed,
    switch: Arc<Host>,
    // What native XDP needs at the switch's end, as long as it is open.
    _peer_program: Option<File>,
    director: Director,
    standby: Option<Director>,
    origin: Server,
    second_origin: Option<Server>,
    edges: Vec<Server>,
    encoder: Arc<Host>,
    clients: Vec<Client>,
    website: Option<Arc<Host>>,
    others: Vec<Arc<Host>>,
}

impl Cluster {
    /// The name that tells it from other clusters.
    #[must_use]
    pub fn name(&self) -> &str {
        self.bed.name()
    }

    /// Where each host has its directory, with the logs of its programs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.bed.directory()
    }

    pub(crate) fn bed(&self) -> &Bed {
        &self.bed
    }

    /// The balancer.
    #[must_use]
    pub fn director(&self) -> &Director {
        &self.director
    }

    /// The second balancer.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn standby(&self) -> &Director {
        self.standby.as_ref().expect("asked for with `standby`")
    }

    fn directors(&self) -> impl Iterator<Item = &Director> {
        [&self.director].into_iter().chain(&self.standby)
    }

    /// The server that the encoder pushes to.
    #[must_use]
    pub fn origin(&self) -> &Server {
        &self.origin
    }

    /// The second origin.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn second_origin(&self) -> &Server {
        let origin = self.second_origin.as_ref();
        origin.expect("asked for with `second_origin`")
    }

    /// The edges in the order of the configuration.
    #[must_use]
    pub fn edges(&self) -> &[Server] {
        &self.edges
    }

    /// One of the edges.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn edge(&self, index: usize) -> &Server {
        &self.edges[index]
    }

    /// The clients' machines.
    #[must_use]
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// One of the clients' machines.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn client(&self, index: usize) -> &Client {
        &self.clients[index]
    }

    /// The machine that pushes.
    #[must_use]
    pub fn encoder(&self) -> &Host {
        &self.encoder
    }

    /// The machine of that name, whatever its role.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn host(&self, name: &str) -> &Host {
        self.hosts()
            .find(|host| host.name() == name)
            .unwrap_or_else(|| panic!("no host of this cluster is called {name}"))
    }

    /// The switch: it sees every packet, at ports called like the hosts.
    #[must_use]
    pub fn switch(&self) -> &Host {
        &self.switch
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        let origins = [&self.origin].into_iter().chain(&self.second_origin);
        self.edges.iter().chain(origins)
    }

    /// Every machine, the switch first.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let balancers = self.directors().map(Director::host);
        [self.switch.as_ref(), self.encoder.as_ref()]
            .into_iter()
            .chain(balancers)
            .chain(self.servers().map(Server::host))
            .chain(self.clients.iter().map(Client::host))
            .chain(self.website.iter().map(Arc::as_ref))
            .chain(self.others.iter().map(Arc::as_ref))
    }

    /// Where the encoder pushes to.
    #[must_use]
    pub fn publishing_url(&self) -> String {
        format!("rtmp://{}/live/livestream", self.origin.address())
    }

    /// Where viewers pull from: the VIP.
    #[must_use]
    pub fn viewing_url(&self) -> String {
        format!("rtmp://{VIP}/live/livestream")
    }

    /// The page to copy, which plays the stream `live/NAME` from the VIP by `flv`,
    /// `ws-flv` or `hls`. It needs [`Builder::browsers`].
    #[must_use]
    pub fn page_url(&self, name: &str, by: &str) -> String {
        website::page_url("player", name, by)
    }

    /// As [`Cluster::page_url`], with TLS. It needs [`Builder::browsers_by_tls`].
    #[must_use]
    pub fn tls_page_url(&self, name: &str, by: &str) -> String {
        website::page_url("player-tls", name, by)
    }

    /// Starts an encoder that pushes to the origin, and waits until the origin
    /// has accepted its connection.
    ///
    /// # Errors
    /// When ffmpeg cannot be started or does not reach the origin.
    pub fn push(&self, source: &Source) -> Result<Process> {
        self.push_as("livestream", source)
    }

    /// Starts an encoder that pushes the same stream to both origins, until either ends.
    ///
    /// # Errors
    /// When ffmpeg cannot be started.
    pub fn push_to_both(&self, source: &Source) -> Result<Process> {
        let origins = [self.origin(), self.second_origin()];
        let urls = origins.map(|origin| format!("rtmp://{}/live/livestream", origin.address()));
        media::push_to_all(&self.encoder, source, &urls)
    }

    /// Starts an encoder that pushes to the second origin.
    ///
    /// # Errors
    /// When ffmpeg cannot be started.
    pub fn push_to_second(&self, source: &Source) -> Result<Process> {
        let url = format!("rtmp://{}/live/livestream", self.second_origin().address());
        media::push(&self.encoder, source, &url)
    }

    /// As [`Cluster::push`], as the stream `live/NAME`.
    ///
    /// # Errors
    /// As [`Cluster::push`].
    pub fn push_as(&self, name: &str, source: &Source) -> Result<Process> {
        let url = format!("rtmp://{}/live/{name}", self.origin.address());
        let pushing = || -> Result<usize> {
            let peers = self.origin.peers()?.into_iter();
            Ok(peers.filter(|peer| peer.ip() == config::ENCODER).count())
        };
        let before = pushing()?;
        let encoder = media::push(&self.encoder, source, &url)?;
        wait_for("the encoder to reach the origin", || {
            ensure!(encoder.is_running(), "it has ended");
            Ok(pushing()? > before)
        })
        .with_context(|| encoder.log_tail())?;
        Ok(encoder)
    }

    /// The edge that serves `client` by RTMP just now: the one that has established
    /// connections from its address.
    ///
    /// # Errors
    /// When the kernel's tables cannot be read, or several edges serve it.
    pub fn edge_serving(&self, client: &Client) -> Result<Option<usize>> {
        self.edge_serving_at(RTMP_PORT, client)
    }

    /// As [`Cluster::edge_serving`], by connections with a port of the edges.
    ///
    /// # Errors
    /// As [`Cluster::edge_serving`].
    pub fn edge_serving_at(&self, port: u16, client: &Client) -> Result<Option<usize>> {
        let mut serving = Vec::new();
        for (index, edge) in self.edges.iter().enumerate() {
            let mut peers = edge.host().connections(port)?.into_iter();
            if peers.any(|peer| peer.ip() == client.address()) {
                serving.push(index);
            }
        }
        ensure!(
            serving.len() < 2,
            "{} is served by edges {serving:?}",
            client.host().name()
        );
        Ok(serving.first().copied())
    }

    /// What every program of the cluster said last, for a failed test.
    #[must_use]
    pub fn logs(&self) -> String {
        let logs = self.bed.processes().into_iter();
        logs.map(|process| process.log_tail())
            .collect::<Vec<_>>()
            .join("\n")
    }
}
