//! What happens in the demo, and when.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netbed::Process;
use testbed::{Balancer, Browser, Client, Cluster, HealthChecks};

use super::browser::{BrowserViewer, PageViewer};
use super::viewer::ReconnectingViewer;

/// Viewers who come from new addresses once the edge is back.
pub(crate) const NEWCOMERS: u8 = 2;

/// Something worth telling, and when it happened.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Since the demo began.
    pub(crate) at: Duration,
    pub(crate) text: String,
}

/// How far the story has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Everybody watches.
    Peace,
    /// The edge has been killed; the balancer does not know yet.
    Killed { edge: usize },
    /// It is out of rotation.
    Out { edge: usize },
    /// Its program runs again; the balancer does not know yet.
    Restarted { edge: usize },
    /// It is in rotation again, and new viewers have come.
    Back { edge: usize },
}

/// A demo that is being played.
pub(crate) struct Scene<'c> {
    cluster: &'c Cluster,
    encoder: Process,
    viewers: Vec<ReconnectingViewer<'c>>,
    browser: Option<BrowserViewer<'c>>,
    began: Instant,
    length: Duration,
    checks: HealthChecks,
    act: Act,
    /// Which viewers lost their edge, until all of them are served again.
    recovering: Vec<usize>,
    /// Whether the browser did.
    browser_recovering: bool,
    events: Vec<Event>,
    balancer: Balancer,
    traffic: Vec<Rate>,
}

/// The outgoing traffic of an edge.
#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes: u64,
    at: Instant,
    kilobits_per_second: f64,
}

/// A moment of the demo, for drawing.
pub(crate) struct Picture<'s> {
    pub(crate) elapsed: Duration,
    pub(crate) length: Duration,
    pub(crate) xdp: String,
    pub(crate) edges: Vec<EdgeRow>,
    pub(crate) viewers: Vec<ViewerRow>,
    pub(crate) pages: Vec<PageRow>,
    pub(crate) events: &'s [Event],
}

/// An edge as the table shows it.
pub(crate) struct EdgeRow {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) in_rotation: bool,
    pub(crate) state: String,
    pub(crate) viewers: usize,
    pub(crate) connections: u64,
    pub(crate) kilobits_per_second: f64,
}

/// A viewer as the table shows it.
pub(crate) struct ViewerRow {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) edge: Option<String>,
    pub(crate) video: usize,
    pub(crate) audio: usize,
    pub(crate) pictures_per_second: f64,
    pub(crate) watching: bool,
    pub(crate) state: String,
}

/// A page of the browser as the table shows it.
pub(crate) struct PageRow {
    pub(crate) what: &'static str,
    pub(crate) current_time_s: f64,
    pub(crate) frames: u64,
    pub(crate) dropped: u64,
    pub(crate) latency_ms: Option<u64>,
    pub(crate) watching: bool,
    /// What the page says to its viewer.
    pub(crate) status: String,
}

impl<'c> Scene<'c> {
    /// Lets the first viewers in.
    pub(crate) fn open(
        cluster: &'c Cluster,
        encoder: Process,
        viewers: u8,
        length: Duration,
        checks: HealthChecks,
    ) -> Result<Self> {
        let clients = &cluster.clients()[..usize::from(viewers)];
        let viewers = clients
            .iter()
            .map(|client| ReconnectingViewer::start(cluster, client))
            .collect::<Result<_>>()?;
        let idle = Rate {
            bytes: 0,
            at: Instant::now(),
            kilobits_per_second: 0.0,
        };
        Ok(Self {
            cluster,
            encoder,
            viewers,
            browser: None,
            began: Instant::now(),
            length,
            checks,
            act: Act::Peace,
            recovering: Vec::new(),
            browser_recovering: false,
            events: Vec::new(),
            balancer: cluster.director().list()?,
            traffic: vec![idle; cluster.edges().len()],
        })
    }

    /// Lets somebody with a browser in.
    pub(crate) fn show_browser(&mut self, client: &'c Client, browser: &'c Browser) -> Result<()> {
        self.browser = Some(BrowserViewer::start(self.cluster, client, browser)?);
        Ok(())
    }

    /// Since the first viewers came.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Looks at everything and lets happen what is due.
    pub(crate) fn play(&mut self) -> Result<()> {
        ensure!(
            self.encoder.is_running(),
            "the encoder has ended:\n{}",
            self.encoder.log()
        );
        for viewer in &mut self.viewers {
            viewer.look(self.cluster)?;
        }
        if let Some(browser) = &mut self.browser {
            browser.look(self.cluster)?;
        }
        self.balancer = self.cluster.director().list()?;
        self.measure()?;
        self.tell_recovery();
        self.advance()
    }

    fn advance(&mut self) -> Result<()> {
        match self.act {
            Act::Peace if self.is_due(25) => {
                // The browser's, if there is one.
                let browsers = self.browser.as_ref().and_then(BrowserViewer::edge);
                let edge = browsers.unwrap_or_else(|| self.busiest_edge());
                let name = self.edge_name(edge);
                self.browser_recovering = browsers.is_some();
                self.recovering = (0..self.viewers.len())
                    .filter(|&viewer| self.viewers[viewer].edge() == Some(edge))
                    .collect();
                self.cluster.edge(edge).kill()?;
                let also = if self.browser_recovering {
                    " and the browser"
                } else {
                    ""
                };
                self.tell(format!(
                    "{name} is killed; it served {}{also}",
                    self.recovering.len()
                ));
                self.act = Act::Killed { edge };
            }
            Act::Killed { edge } if !self.in_rotation(edge)? => {
                self.tell(format!("{} is out of rotation", self.edge_name(edge)));
                self.act = Act::Out { edge };
            }
            Act::Out { edge } if self.is_due(60) && self.is_recovered() => {
                self.cluster.edge(edge).start()?;
                self.tell(format!("{} is started again", self.edge_name(edge)));
                self.act = Act::Restarted { edge };
            }
            Act::Restarted { edge } if self.in_rotation(edge)? => {
                self.tell(format!(
                    "{} is in rotation again; {NEWCOMERS} new viewers come",
                    self.edge_name(edge)
                ));
                let newcomers = self.cluster.clients().iter().skip(self.viewers.len());
                for client in newcomers.take(NEWCOMERS.into()) {
                    self.viewers
                        .push(ReconnectingViewer::start(self.cluster, client)?);
                }
                self.act = Act::Back { edge };
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether so many per cent of the time have passed.
    fn is_due(&self, per_cent: u32) -> bool {
        self.elapsed() * 100 >= self.length * per_cent
    }

    fn in_rotation(&self, edge: usize) -> Result<bool> {
        let address = self.cluster.edge(edge).address();
        let server = self.balancer.server(address);
        Ok(server
            .with_context(|| format!("the balancer does not list {address}"))?
            .is_up())
    }

    fn busiest_edge(&self) -> usize {
        let viewers = |edge| {
            self.viewers
                .iter()
                .filter(|viewer| viewer.edge() == Some(edge))
                .count()
        };
        let edges = 0..self.cluster.edges().len();
        edges
            .max_by_key(|&edge| viewers(edge))
            .expect("at least two edges")
    }

    fn edge_name(&self, edge: usize) -> String {
        self.cluster.edge(edge).host().name().to_owned()
    }

    /// Whether all who lost their edge are served again.
    fn is_recovered(&self) -> bool {
        self.recovering.is_empty() && !self.browser_recovering
    }

    fn tell_recovery(&mut self) {
        if self.is_recovered() {
            return;
        }
        let killed = match self.act {
            Act::Peace => None,
            Act::Killed { edge }
            | Act::Out { edge }
            | Act::Restarted { edge }
            | Act::Back { edge } => Some(edge),
        };
        let is_served = |edge: Option<usize>| edge.is_some() && edge != killed;
        let viewers = &self.viewers;
        let waiting = self.recovering.len();
        self.recovering.retain(|&viewer| {
            let viewer = &viewers[viewer];
            !(viewer.is_watching() && is_served(viewer.edge()))
        });
        if waiting > 0 && self.recovering.is_empty() {
            self.tell("every viewer that lost its edge is served by another".to_owned());
        }
        if self.browser_recovering
            && let Some(browser) = &self.browser
            && browser.is_watching()
            && is_served(browser.edge())
        {
            self.browser_recovering = false;
            self.tell("the browser's pages have connected to another edge".to_owned());
        }
    }

    fn tell(&mut self, text: String) {
        self.events.push(Event {
            at: self.elapsed(),
            text,
        });
    }

    fn measure(&mut self) -> Result<()> {
        for (edge, rate) in self.cluster.edges().iter().zip(&mut self.traffic) {
            let (bytes, now) = (edge.host().counters()?.tx_bytes, Instant::now());
            let seconds = (now - rate.at).as_secs_f64().max(0.001);
            let bits = bytes.saturating_sub(rate.bytes) as f64 * 8.0;
            *rate = Rate {
                bytes,
                at: now,
                kilobits_per_second: bits / seconds / 1000.0,
            };
        }
        Ok(())
    }

    /// The longest pause that the loss of an edge explains: until it is out of
    /// rotation, and as much as a reconnection takes.
    pub(crate) fn recovery_limit(&self) -> Duration {
        const RECONNECTION: Duration = Duration::from_secs(6);
        self.checks.refusal_noticed_within() + RECONNECTION
    }

    /// Everybody who watches.
    pub(crate) fn viewers(&self) -> &[ReconnectingViewer<'c>] {
        &self.viewers
    }

    /// The browser, if one is shown.
    pub(crate) fn browser(&self) -> Option<&BrowserViewer<'c>> {
        self.browser.as_ref()
    }

    /// The deployment.
    pub(crate) fn cluster(&self) -> &'c Cluster {
        self.cluster
    }

    /// What has happened so far.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// The edge that was killed and is in rotation again.
    pub(crate) fn returned_edge(&self) -> Option<usize> {
        match self.act {
            Act::Back { edge } => Some(edge),
            _ => None,
        }
    }

    /// This moment, for drawing.
    pub(crate) fn picture(&self) -> Result<Picture<'_>> {
        let interfaces = self.balancer.interfaces.iter();
        let xdp: Vec<String> = interfaces
            .map(|i| format!("{} on {}", i.xdp_mode, i.name))
            .collect();
        let edges = self.cluster.edges().iter().enumerate();
        Ok(Picture {
            elapsed: self.elapsed(),
            length: self.length,
            xdp: xdp.join(", "),
            edges: edges
                .map(|(index, _)| self.edge_row(index))
                .collect::<Result<_>>()?,
            viewers: self
                .viewers
                .iter()
                .map(|viewer| self.viewer_row(viewer))
                .collect(),
            pages: self
                .browser
                .iter()
                .flat_map(BrowserViewer::pages)
                .map(page_row)
                .collect(),
            events: &self.events,
        })
    }

    fn edge_row(&self, index: usize) -> Result<EdgeRow> {
        let edge = self.cluster.edge(index);
        let server = self
            .balancer
            .server(edge.address())
            .context("an edge is not listed")?;
        let state = match (server.is_up(), edge.process()?.is_running()) {
            (true, true) => "in rotation".to_owned(),
            (true, false) => "killed, not noticed yet".to_owned(),
            (false, false) => "out of rotation".to_owned(),
            (false, true) => "runs, not noticed yet".to_owned(),
        };
        Ok(EdgeRow {
            name: edge.host().name().to_owned(),
            address: edge.address().to_string(),
            in_rotation: server.is_up() && edge.process()?.is_running(),
            state,
            viewers: self
                .viewers
                .iter()
                .filter(|viewer| viewer.edge() == Some(index))
                .count(),
            connections: server.counters.connections,
            kilobits_per_second: self.traffic[index].kilobits_per_second,
        })
    }

    fn viewer_row(&self, viewer: &ReconnectingViewer<'_>) -> ViewerRow {
        const NOTICEABLE: Duration = Duration::from_secs(3);
        let counts = viewer.total();
        let paused = viewer
            .since_last_picture()
            .filter(|pause| *pause >= NOTICEABLE);
        let state = match (viewer.is_watching(), paused) {
            (_, Some(pause)) => format!("no picture for {} s", pause.as_secs()),
            (true, None) => "watching".to_owned(),
            (false, None) => "connecting".to_owned(),
        };
        ViewerRow {
            name: viewer.client().host().name().to_owned(),
            address: viewer.client().address().to_string(),
            edge: viewer.edge().map(|edge| self.edge_name(edge)),
            video: counts.video,
            audio: counts.audio,
            pictures_per_second: viewer.pictures_per_second(),
            watching: viewer.is_watching() && paused.is_none(),
            state,
        }
    }
}

fn page_row(page: &PageViewer<'_>) -> PageRow {
    let playback = page.playback();
    PageRow {
        what: page.what(),
        current_time_s: playback.current_time,
        frames: playback.frames,
        dropped: playback.dropped,
        latency_ms: page.latencies_ms().last().copied(),
        watching: page.is_watching(),
        status: playback.status.clone(),
    }
}
