//! Chromium with the page to copy (`examples/player/player.html`), through every part of the
//! deployment. The page comes from another machine than the streams.

use anyhow::Result;
use netbed::wait_for;
use testbed::{Cluster, HLS_FMP4_VHOST, HLS_TS_VHOST, HTTP_PORT, Page, Source};

use crate::on;

#[test]
#[ignore = "needs root"]
fn a_browser_plays_pictures_and_sound_or_either_by_flv_and_websocket_flv() {
    on(Cluster::builder().clients(1).browsers(), |cluster| {
        let sources = [
            ("both", Source::Stamped),
            ("pictures", Source::Silent),
            ("sound", Source::SoundOnly),
        ];
        for (name, source) in &sources {
            cluster.push_as(name, source)?;
        }
        let [both, pictures, sound] = &sources;
        let browser = cluster.client(0).browser()?;
        let pages = [
            (both, "flv"),
            (both, "ws-flv"),
            (pictures, "flv"),
            (sound, "flv"),
        ]
        .into_iter()
        .map(|((name, source), by)| Ok((browser.open(&cluster.page_url(name, by))?, source)))
        .collect::<Result<Vec<_>>>()?;
        for (page, source) in &pages {
            page.wait_for_more(source, 50)?;
        }
        for (page, _) in &pages {
            assert_eq!(page.complaints(), [""; 0]);
        }
        let stamped = pages[0].0.playback()?;
        assert_eq!(stamped.unreadable, 0, "every picture has its stamp");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_browser_plays_hls_of_both_containers_and_by_parts() {
    on(Cluster::builder().clients(1).browsers(), |cluster| {
        cluster.push(&Source::Stamped)?;
        let browser = cluster.client(0).browser()?;
        let by_parts = cluster.page_url("livestream", "hls");
        let pages = ["", HLS_TS_VHOST, HLS_FMP4_VHOST]
            .into_iter()
            .map(|vhost| browser.open(&format!("{by_parts}&vhost={vhost}")))
            .collect::<Result<Vec<_>>>()?;
        for page in &pages {
            page.wait_for_more(&Source::Stamped, 50)?;
        }
        for page in &pages {
            assert_eq!(page.complaints(), [""; 0]);
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_browser_plays_by_https_and_wss() {
    on(Cluster::builder().clients(1).browsers_by_tls(), |cluster| {
        cluster.push(&Source::Generated)?;
        let browser = cluster.client(0).browser()?;
        let pages = ["flv", "ws-flv", "hls"]
            .into_iter()
            .map(|by| browser.open(&cluster.tls_page_url("livestream", by)))
            .collect::<Result<Vec<_>>>()?;
        for page in &pages {
            page.wait_for_more(&Source::Generated, 50)?;
        }
        for page in &pages {
            assert_eq!(page.complaints(), [""; 0]);
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_page_whose_edge_dies_plays_on_from_the_other() {
    on(Cluster::builder().clients(1).browsers(), |cluster| {
        cluster.push(&Source::Generated)?;
        let client = cluster.client(0);
        let browser = client.browser()?;
        let pages = ["flv", "ws-flv", "hls"]
            .into_iter()
            .map(|by| browser.open(&cluster.page_url("livestream", by)))
            .collect::<Result<Vec<Page<'_>>>>()?;
        for page in &pages {
            page.wait_for_more(&Source::Generated, 25)?;
        }
        let serving = || cluster.edge_serving_at(HTTP_PORT, client);
        let killed = wait_for("an edge to serve the pages", serving)?;
        cluster.edge(killed).kill()?;
        wait_for("the other edge to serve them", || {
            Ok(serving()? == Some(1 - killed))
        })?;
        for page in &pages {
            // More than a page has buffered.
            page.wait_for_more(&Source::Generated, 100)?;
        }
        Ok(())
    });
}
