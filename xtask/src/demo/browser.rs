//! Somebody's browser, with a page for each protocol.

use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::{Browser, Client, Cluster, HTTP_PORT, Page, Playback};

/// What the page is told to play by, and the library that it does it with.
const PROTOCOLS: [(&str, &str); 2] = [
    ("flv", "HTTP-FLV by mpegts.js"),
    ("hls", "LL-HLS by hls.js"),
];

/// A browser whose pages connect again by themselves.
pub(crate) struct BrowserViewer<'c> {
    client: &'c Client,
    pages: Vec<PageViewer<'c>>,
    edge: Option<usize>,
}

/// One page.
pub(crate) struct PageViewer<'c> {
    what: &'static str,
    page: Page<'c>,
    playback: Playback,
    /// Of every picture so far.
    latencies_ms: Vec<u64>,
    newest_picture: Instant,
    longest_pause: Duration,
}

impl<'c> BrowserViewer<'c> {
    /// Opens the pages.
    pub(crate) fn start(
        cluster: &Cluster,
        client: &'c Client,
        browser: &'c Browser,
    ) -> Result<Self> {
        let pages = PROTOCOLS.map(|(by, what)| {
            let page = browser.open(&cluster.page_url("livestream", by))?;
            PageViewer::new(what, page)
        });
        Ok(Self {
            client,
            pages: pages.into_iter().collect::<Result<_>>()?,
            edge: None,
        })
    }

    /// Looks at what the pages have played.
    pub(crate) fn look(&mut self, cluster: &Cluster) -> Result<()> {
        for page in &mut self.pages {
            page.look()?;
        }
        self.edge = cluster.edge_serving_at(HTTP_PORT, self.client)?;
        Ok(())
    }

    /// The edge that serves it now.
    pub(crate) fn edge(&self) -> Option<usize> {
        self.edge
    }

    /// Its pages, one for each protocol.
    pub(crate) fn pages(&self) -> &[PageViewer<'c>] {
        &self.pages
    }

    /// Whether every page plays.
    pub(crate) fn is_watching(&self) -> bool {
        self.pages.iter().all(PageViewer::is_watching)
    }
}

impl<'c> PageViewer<'c> {
    fn new(what: &'static str, page: Page<'c>) -> Result<Self> {
        Ok(Self {
            what,
            playback: page.playback()?,
            page,
            latencies_ms: Vec::new(),
            newest_picture: Instant::now(),
            longest_pause: Duration::ZERO,
        })
    }

    fn look(&mut self) -> Result<()> {
        let playback = self.page.playback()?;
        self.latencies_ms.extend(&playback.latencies_ms);
        if playback.frames > self.playback.frames {
            self.longest_pause = self.longest_pause();
            self.newest_picture = Instant::now();
        }
        self.playback = playback;
        Ok(())
    }

    /// Protocol and library.
    pub(crate) fn what(&self) -> &'static str {
        self.what
    }

    /// How its video is doing.
    pub(crate) fn playback(&self) -> &Playback {
        &self.playback
    }

    /// Whether it plays.
    pub(crate) fn is_watching(&self) -> bool {
        self.playback.state == "playing"
    }

    /// How far each picture was behind the publisher, the newest last; none where that
    /// sends no stamps.
    pub(crate) fn latencies_ms(&self) -> &[u64] {
        &self.latencies_ms
    }

    /// The longest time between two looks that showed new pictures.
    pub(crate) fn longest_pause(&self) -> Duration {
        self.longest_pause.max(self.since_last_picture())
    }

    /// How long ago the last picture was seen to arrive.
    pub(crate) fn since_last_picture(&self) -> Duration {
        self.newest_picture.elapsed()
    }
}
