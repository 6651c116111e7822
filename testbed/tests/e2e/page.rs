//! The pages for operators in Chromium: at an origin that asks for a password, at an edge that
//! does not, at the director.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result};
use netbed::wait_for;
use testbed::{AGENT_HTTP_PORT, Cluster, HTTP_API_PORT, Page, Source};

use crate::on;

/// The name of a stream that is a script where a page takes it for markup.
const HOSTILE: &str = "<svg/onload=document.title=\"hacked\">";

/// Presses the first button with this text below an element.
fn press(page: &Page<'_>, below: &str, text: &str) -> Result<()> {
    let button = format!(
        "[...document.querySelectorAll('{below} button')].find(it => it.textContent === '{text}')"
    );
    page.wait_until(&format!("Boolean({button})"))?;
    page.evaluate::<Option<bool>>(&format!("{button}.click(), null"))?;
    Ok(())
}

/// Chooses a value of a switch.
fn choose(page: &Page<'_>, switch: &str, value: &str) -> Result<()> {
    let script = format!(
        "{{ const it = document.getElementById('{switch}'); it.value = '{value}'; \
         it.dispatchEvent(new Event('change')); null }}"
    );
    page.evaluate::<Option<bool>>(&script).map(drop)
}

/// Writes what a page looks like to a file, where the variable `PICTURES` names a directory:
/// those of `docs/images` are made so.
fn picture(page: &Page<'_>, name: &str, language: &str, width: u32, dark: bool) -> Result<()> {
    let Some(directory) = env::var_os("PICTURES") else {
        return Ok(());
    };
    choose(page, "language", language)?;
    page.resize(width, dark)?;
    let curve = "document.querySelector('polyline').getAttribute('points').split(' ')";
    page.wait_until(&format!("{curve}.length > 9"))?;
    let path = Path::new(&directory).join(format!("{name}.png"));
    fs::write(path, page.screenshot()?)?;
    choose(page, "language", "en")
}

/// Looks at a page as wide as a desk and as a phone, light and dark, in both languages.
fn look_at_all(page: &Page<'_>, words: [(&str, &str); 2]) -> Result<()> {
    for (language, word) in words {
        choose(page, "language", language)?;
        for (width, dark) in [(1280, false), (1280, true), (360, false), (360, true)] {
            page.resize(width, dark)?;
            page.wait_until(&format!("document.body.textContent.includes('{word}')"))?;
            let wide: u32 = page.evaluate("document.documentElement.scrollWidth")?;
            assert!(
                wide <= width,
                "{language}: {wide} px in a window of {width}"
            );
            let back: String = page.evaluate("getComputedStyle(document.body).backgroundColor")?;
            assert_eq!(back == "rgb(15, 20, 27)", dark, "{back}");
        }
    }
    choose(page, "theme", "light")?;
    let back: String = page.evaluate("getComputedStyle(document.body).backgroundColor")?;
    assert_ne!(
        back, "rgb(15, 20, 27)",
        "the switch counts more than the system"
    );
    choose(page, "theme", "auto")?;
    choose(page, "language", "en")
}

#[test]
#[ignore = "needs root"]
fn the_page_of_an_origin_plays_and_dismisses_with_the_password_alone() {
    on(Cluster::builder().clients(1).edges(1).pages(), |cluster| {
        cluster.push(&Source::Generated)?;
        let client = cluster.client(0);
        let origin = cluster.origin().address();
        let viewer = client.pull(&format!("rtmp://{origin}/live/livestream"))?;
        viewer.wait_for_more(5)?;
        let edge = cluster.edge(0).address();
        let at_edge = client.pull(&format!("rtmp://{edge}/live/livestream"))?;
        at_edge.wait_for_more(5)?;
        let browser = client.browser()?;
        let page = browser.open(&format!("http://admin:secret@{origin}:{HTTP_API_PORT}/"))?;
        page.wait_until(&format!(
            "document.getElementById('relays').textContent.includes('{edge}:')"
        ))?;
        press(&page, "#streams", "live/livestream")?;
        page.wait_for_more(&Source::Generated, 25)?;
        press(&page, "#streams", "Connections")?;
        let theirs = format!("'{}:'", client.address());
        let viewers = format!(
            "[...document.querySelectorAll('#clients tr')].filter(it => \
             it.textContent.includes({theirs}) && it.textContent.includes('rtmp'))"
        );
        page.wait_until(&format!("{viewers}.length === 1"))?;
        press(&page, "main", "Look now")?;
        page.wait_until("document.querySelectorAll('#slowest tbody tr').length > 0")?;
        picture(&page, "page-origin", "en", 1180, false)?;
        picture(&page, "page-origin-phone", "zh", 360, true)?;
        look_at_all(&page, [("en", "Slowest viewers"), ("zh", "最慢的观众")])?;

        cluster.push_as(HOSTILE, &Source::Generated)?;
        page.wait_until("document.querySelectorAll('#streams tbody tr').length === 2")?;
        let hostile = format!("live/{HOSTILE}");
        press(&page, "#streams", &hostile)?;
        page.wait_until(&format!(
            "document.getElementById('player-name').textContent === '{hostile}'"
        ))?;
        page.wait_for_more(&Source::Generated, 25)?;
        choose(&page, "player-by", "hls")?;
        page.wait_for_more(&Source::Generated, 25)?;
        page.wait_until("document.querySelectorAll('#events li').length >= 2")?;
        let markup: u32 = page.evaluate("document.querySelectorAll('main table svg').length")?;
        assert_eq!(markup, 0, "a stream's name is text");
        let title: String = page.evaluate("document.title")?;
        assert!(title.ends_with("Millrace origin"), "{title}");

        let alone =
            "fetch(location.origin + '/api/v1/clients/1', {method: 'DELETE', credentials: 'omit'})";
        let status: u32 = page.evaluate(&format!("{alone}.then(it => it.status)"))?;
        assert_eq!(status, 401, "nobody is dismissed without the password");
        assert!(viewer.process().is_running());
        page.evaluate::<Option<bool>>(&format!(
            "{viewers}[0].querySelector('.danger').click(), null"
        ))?;
        press(&page, "dialog", "Dismiss")?;
        wait_for("the viewer to be dismissed", || {
            Ok(!viewer.process().is_running())
        })?;
        page.wait_until("document.getElementById('events').textContent.includes('is dismissed')")?;
        let complaints = page.complaints().into_iter();
        // The one that was provoked.
        let complaints: Vec<_> = complaints.filter(|it| !it.contains("401")).collect();
        assert_eq!(complaints, [""; 0]);
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn the_page_of_an_edge_tells_where_streams_come_from_and_dismisses_nobody() {
    on(Cluster::builder().clients(1).edges(1).pages(), |cluster| {
        cluster.push(&Source::Generated)?;
        let client = cluster.client(0);
        let edge = cluster.edge(0).address();
        let viewer = client.pull(&format!("rtmp://{edge}/live/livestream"))?;
        viewer.wait_for_more(5)?;
        let browser = client.browser()?;
        let page = browser.open(&format!("http://{edge}:{HTTP_API_PORT}/"))?;
        let origin = cluster.origin().address();
        page.wait_until(&format!(
            "document.getElementById('streams').textContent.includes('from {origin}')"
        ))?;
        page.wait_until("document.getElementById('events').textContent.includes('pull')")?;
        press(&page, "#streams", "Connections")?;
        page.wait_until("document.querySelectorAll('#clients tbody tr').length === 1")?;
        let buttons: u32 = page.evaluate("document.querySelectorAll('#clients button').length")?;
        assert_eq!(
            buttons, 0,
            "without a password, nobody is dismissed by a click"
        );
        press(&page, "#streams", "Play")?;
        page.wait_for_more(&Source::Generated, 25)?;
        assert_eq!(page.complaints(), [""; 0]);
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn the_page_of_the_director_shows_the_cluster_and_takes_orders() {
    on(Cluster::builder().clients(1).pages(), |cluster| {
        cluster.push(&Source::Generated)?;
        let viewer = cluster.client(0).pull(&cluster.viewing_url())?;
        viewer.wait_for_more(5)?;
        let director = cluster.director();
        let browser = cluster.client(0).browser()?;
        let address = director.host().address();
        let page = browser.open(&format!("http://admin:secret@{address}:{AGENT_HTTP_PORT}/"))?;
        let row = "document.querySelector('#services tbody tr')";
        page.wait_until(&format!("Boolean({row}?.textContent.includes('up'))"))?;
        page.wait_until("document.getElementById('addresses').textContent.includes('master')")?;
        look_at_all(&page, [("en", "Real server"), ("zh", "真实服务器")])?;
        let first: String = page.evaluate(&format!("{row}.querySelector('b').textContent"))?;
        let state = || -> Result<(u32, String)> {
            let listed = director.list()?;
            let server = listed.services[0].servers.iter();
            let server = server.clone().find(|it| it.address.to_string() == first);
            let server = server.context("the page's first server")?;
            Ok((server.weight, server.state.clone()))
        };
        press(&page, "#services tr", "Drain")?;
        press(&page, "dialog", "Drain")?;
        wait_for("the server to be drained", || {
            Ok(state()? == (0, "quiesced".to_owned()))
        })?;
        page.wait_until("document.getElementById('events').textContent.includes('drained by')")?;
        press(&page, "#services tr", "As configured")?;
        press(&page, "dialog", "As configured")?;
        wait_for("the server to be as configured", || {
            Ok(state()? == (1, "up".to_owned()))
        })?;
        press(&page, "#services tr", "Weight …")?;
        page.evaluate::<Option<bool>>("document.querySelector('dialog input').value = '7', null")?;
        press(&page, "dialog", "Set")?;
        wait_for("the server to have the weight", || Ok(state()?.0 == 7))?;
        assert_eq!(page.complaints(), [""; 0]);

        let order = "fetch(location.origin + '/api/v1/orders', {method: 'POST', credentials: 'omit', \
                     headers: {'Content-Type': 'application/json'}, body: '{}'})";
        let status: u32 = page.evaluate(&format!("{order}.then(it => it.status)"))?;
        assert_eq!(status, 401);
        cluster.edge(0).kill()?;
        cluster
            .director()
            .wait_for_server(cluster.edge(0).address(), false)?;
        page.wait_until("document.getElementById('services').textContent.includes('down')")?;
        picture(&page, "page-director", "en", 1180, false)?;
        picture(&page, "page-director-phone", "zh", 360, true)?;
        Ok(())
    });
}
