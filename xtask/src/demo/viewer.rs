//! A viewer who reconnects: what somebody before a player does when it stops.

use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::{Client, Cluster, Frames, Viewer};

/// How long a viewer waits before they press *play* again.
const BEFORE_RETRY: Duration = Duration::from_millis(500);

/// One viewer, through all the connections that they needed.
pub(crate) struct ReconnectingViewer<'c> {
    client: &'c Client,
    connection: Option<Viewer>,
    ended_at: Instant,
    /// What earlier connections decoded.
    earlier: Counts,
    /// What the present connection has decoded.
    current: Counts,
    /// Connections that gave at least one picture.
    sessions: usize,
    retries: usize,
    /// The first thing that was wrong with the timestamps.
    disorder: Option<String>,
    newest_picture: Option<Instant>,
    longest_pause: Duration,
    pictures_per_second: f64,
    counted_at: Instant,
    edge: Option<usize>,
    edges: Vec<usize>,
}

/// Decoded frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) video: usize,
    pub(crate) audio: usize,
}

impl<'c> ReconnectingViewer<'c> {
    /// Connects and plays.
    pub(crate) fn start(cluster: &Cluster, client: &'c Client) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            client,
            connection: Some(client.pull(&cluster.viewing_url())?),
            ended_at: now,
            earlier: Counts::default(),
            current: Counts::default(),
            sessions: 0,
            retries: 0,
            disorder: None,
            newest_picture: None,
            longest_pause: Duration::ZERO,
            pictures_per_second: 0.0,
            counted_at: now,
            edge: None,
            edges: Vec::new(),
        })
    }

    /// Looks at what has been decoded, and presses *play* again where needed.
    pub(crate) fn look(&mut self, cluster: &Cluster) -> Result<()> {
        let Some(viewer) = &self.connection else {
            if self.ended_at.elapsed() >= BEFORE_RETRY {
                self.retries += 1;
                self.connection = Some(self.client.pull(&cluster.viewing_url())?);
            }
            return Ok(());
        };
        // Looked at first: after its end nothing is added to the list.
        let running = viewer.process().is_running();
        let frames = viewer.frames()?;
        self.count(&frames);
        self.edge = cluster.edge_serving(self.client)?;
        if let Some(edge) = self.edge
            && self.current.video > 0
            && self.edges.last() != Some(&edge)
        {
            self.edges.push(edge);
        }
        if !running {
            self.end_connection();
        }
        Ok(())
    }

    fn count(&mut self, frames: &Frames) {
        let now = Instant::now();
        let counts = Counts {
            video: frames.video.len(),
            audio: frames.audio.len(),
        };
        let fresh = counts.video - self.current.video;
        if fresh > 0 {
            if self.current.video == 0 {
                self.sessions += 1;
            }
            if let Some(newest) = self.newest_picture {
                self.longest_pause = self.longest_pause.max(now - newest);
            }
            self.newest_picture = Some(now);
        }
        let seconds = (now - self.counted_at).as_secs_f64();
        self.pictures_per_second = fresh as f64 / seconds.max(0.001);
        self.counted_at = now;
        self.current = counts;
        if counts.video > 0
            && counts.audio > 0
            && self.disorder.is_none()
            && let Err(error) = frames.ensure_rising()
        {
            self.disorder = Some(error.to_string());
        }
    }

    fn end_connection(&mut self) {
        self.earlier = self.total();
        self.current = Counts::default();
        self.connection = None;
        self.edge = None;
        self.pictures_per_second = 0.0;
        self.ended_at = Instant::now();
    }

    /// Everything decoded so far.
    pub(crate) fn total(&self) -> Counts {
        Counts {
            video: self.earlier.video + self.current.video,
            audio: self.earlier.audio + self.current.audio,
        }
    }

    /// The machine that it is on.
    pub(crate) fn client(&self) -> &'c Client {
        self.client
    }

    /// The edge that serves it now.
    pub(crate) fn edge(&self) -> Option<usize> {
        self.edge
    }

    /// Every edge that has served it, in order.
    pub(crate) fn edges(&self) -> &[usize] {
        &self.edges
    }

    /// Connections that gave video.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions
    }

    /// How often it had to press *play* again.
    pub(crate) fn retries(&self) -> usize {
        self.retries
    }

    /// What was wrong with the timestamps, if anything.
    pub(crate) fn disorder(&self) -> Option<&str> {
        self.disorder.as_deref()
    }

    /// The longest time between two looks that showed new pictures.
    pub(crate) fn longest_pause(&self) -> Duration {
        let now = self
            .newest_picture
            .map_or(Duration::ZERO, |newest| newest.elapsed());
        self.longest_pause.max(now)
    }

    /// How long ago the last picture was seen to arrive.
    pub(crate) fn since_last_picture(&self) -> Option<Duration> {
        self.newest_picture.map(|newest| newest.elapsed())
    }

    /// Pictures per second since the last look.
    pub(crate) fn pictures_per_second(&self) -> f64 {
        self.pictures_per_second
    }

    /// Whether pictures are arriving on the present connection.
    pub(crate) fn is_watching(&self) -> bool {
        self.connection.is_some() && self.current.video > 0
    }
}
