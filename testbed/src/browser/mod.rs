//! Chromium without a window, as somebody's browser that plays a page.

mod devtools;

use std::env;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use netbed::{Host, Process, wait_for};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use devtools::{Devtools, Event};

use crate::media::Source;

const PROGRAM: &str = "chromium";

/// What measures in each page.
const PROBE: &str = include_str!("probe.js");

/// The browser of a host, which has one at most. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    process: Process,
    devtools: Mutex<Devtools>,
}

impl Browser {
    /// Whether Chromium is installed. If not, how to get it.
    ///
    /// # Errors
    /// When it is not.
    pub fn ensure_installed() -> Result<()> {
        let path = env::var_os("PATH").unwrap_or_default();
        ensure!(
            env::split_paths(&path).any(|directory| directory.join(PROGRAM).is_file()),
            "`{PROGRAM}` is not installed; Debian's package {PROGRAM} has it, \
             and scripts/setup.sh installs it"
        );
        Ok(())
    }

    /// Starts one, with a profile of its own.
    pub(crate) fn start(host: &Host) -> Result<Self> {
        Self::ensure_installed()?;
        // The protocol's pipes are descriptors 3 and 4.
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >&2"#, "sh", PROGRAM])
            .args(["--remote-debugging-pipe", "--headless", "--no-first-run"])
            // It is root in a namespace, which Chromium's sandbox refuses.
            .arg("--no-sandbox")
            // It is to speak to the page's servers and to nobody else.
            .args(["--disable-background-networking", "--disable-quic"])
            .args(["--disable-component-update", "--disable-sync"])
            .arg("--disable-gpu")
            // The edges' certificate is of their own making.
            .arg("--ignore-certificate-errors")
            .arg("--user-data-dir=chromium.profile");
        let process = host.spawn_with_pipes(PROGRAM, command)?;
        let pipes = process.take_stdin().zip(process.take_stdout());
        let (to_browser, from_browser) = pipes.expect("just started with pipes");
        let browser = Self {
            process,
            devtools: Mutex::new(Devtools::new(to_browser, from_browser)),
        };
        browser.call(None, "Browser.getVersion", json!({}))?;
        Ok(browser)
    }

    /// Opens a page in a window of its own.
    ///
    /// # Errors
    /// When the browser has ended, or does not find the page.
    pub fn open(&self, url: &str) -> Result<Page<'_>> {
        let target = self.call(
            None,
            "Target.createTarget",
            json!({"url": "about:blank", "newWindow": true}),
        )?;
        let session = self.call(
            None,
            "Target.attachToTarget",
            json!({"targetId": target["targetId"], "flatten": true}),
        )?;
        let session = session["sessionId"].as_str().context("no session")?;
        let page = Page {
            browser: self,
            session: session.to_owned(),
        };
        for domain in ["Runtime", "Page", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}))?;
        }
        page.call(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({"source": PROBE}),
        )?;
        let answer = page.call("Page.navigate", json!({"url": url}))?;
        if let Some(error) = answer["errorText"].as_str() {
            bail!("{url}: {error}");
        }
        wait_for(format_args!("{url} to be read"), || {
            page.evaluate::<bool>("document.readyState === 'complete'")
        })?;
        Ok(page)
    }

    fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value> {
        self.devtools()
            .call(session, method, parameters)
            .with_context(|| self.process.log_tail())
    }

    fn devtools(&self) -> MutexGuard<'_, Devtools> {
        self.devtools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The only error is that it has ended already.
        let _ = self.process.kill();
    }
}

/// A page in a browser, which plays a stream in its `<video>`.
#[derive(Debug)]
pub struct Page<'b> {
    browser: &'b Browser,
    session: String,
}

/// How a page's video is doing, as the browser counts it.
#[derive(Clone, Debug, Deserialize)]
pub struct Playback {
    /// The page's own word: `connecting`, `playing`, `waiting`, `stopped`.
    pub state: String,
    /// What the page says to its viewer.
    pub status: String,
    /// Seconds, from the beginning of the present connection.
    pub current_time: f64,
    /// Pictures that were decoded, on all connections.
    pub frames: u64,
    /// Those of them that came too late to be shown.
    pub dropped: u64,
    /// Bytes of sound that were decoded, on all connections.
    pub sound_bytes: u64,
    /// From the stamp of [`Source::Stamped`] to the display, in
    /// milliseconds: of each picture since the last look.
    pub latencies_ms: Vec<u64>,
    /// Pictures without a stamp.
    pub unreadable: u64,
    /// Connections that gave media.
    pub connections: u64,
}

impl Playback {
    /// Pictures that were shown, on all connections.
    #[must_use]
    pub fn shown(&self) -> u64 {
        self.frames.saturating_sub(self.dropped)
    }
}

impl Page<'_> {
    /// How the video is doing now.
    ///
    /// # Errors
    /// When the browser has ended.
    pub fn playback(&self) -> Result<Playback> {
        self.evaluate("playback()")
    }

    /// Waits until the page plays on what `source` sends: `currentTime` has risen, there was
    /// sound, and so many `frames` more were shown. How many others came too late to be shown
    /// depends on the machine, which decodes and paints without a graphics card.
    ///
    /// # Errors
    /// When it does not happen within [`netbed::TIME_LIMIT`].
    pub fn wait_for_more(&self, source: &Source, frames: u64) -> Result<Playback> {
        let before = self.playback()?;
        let mut last = before.clone();
        wait_for("the page to play on", || {
            let now = self.playback()?;
            last = now.clone();
            let plays = now.state == "playing" && now.current_time > before.current_time;
            let pictures = !source.has_pictures() || now.shown() >= before.shown() + frames;
            let sound = !source.has_sound() || now.sound_bytes > before.sound_bytes;
            Ok((plays && pictures && sound).then_some(now))
        })
        .with_context(|| format!("last: {last:?}\ncomplaints: {:?}", self.complaints()))
    }

    /// Closes it.
    ///
    /// # Errors
    /// When the browser has ended.
    pub fn close(self) -> Result<()> {
        self.call("Page.close", json!({})).map(drop)
    }

    /// What the page's console holds of errors, and exceptions that nobody caught.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut devtools = self.browser.devtools();
        let events = devtools.events(&self.session);
        events.filter_map(complaint).collect()
    }

    /// Makes the window so wide, in CSS pixels, in a system that is light or dark.
    ///
    /// # Errors
    /// When the browser has ended.
    pub fn resize(&self, width: u32, dark: bool) -> Result<()> {
        let metrics = json!({
            "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}))?;
        Ok(())
    }

    /// The page from top to bottom as it looks now, as PNG.
    ///
    /// # Errors
    /// When the browser has ended.
    pub fn screenshot(&self) -> Result<Vec<u8>> {
        let options = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.call("Page.captureScreenshot", options)?;
        let data = answer["data"].as_str().context("no picture")?;
        BASE64.decode(data.as_bytes()).context("not base64")
    }

    /// Waits until a JavaScript expression is true.
    ///
    /// # Errors
    /// When it throws, or is not true within [`netbed::TIME_LIMIT`].
    pub fn wait_until(&self, expression: &str) -> Result<()> {
        wait_for(expression, || self.evaluate::<bool>(expression))
            .with_context(|| format!("complaints: {:?}", self.complaints()))
    }

    /// The value of a JavaScript expression, or of its promise.
    ///
    /// # Errors
    /// When it throws, or gives another type.
    pub fn evaluate<T: DeserializeOwned>(&self, expression: &str) -> Result<T> {
        let answer = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        )?;
        if let Some(exception) = answer.get("exceptionDetails") {
            bail!("{expression}: {exception}");
        }
        let value = answer["result"]["value"].clone();
        serde_json::from_value(value).with_context(|| format!("{expression}: {answer}"))
    }

    fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        self.browser.call(Some(&self.session), method, parameters)
    }
}

/// What an event says, if it is an error.
fn complaint(event: &Event) -> Option<String> {
    let Event {
        method, parameters, ..
    } = event;
    match method.as_str() {
        "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" if parameters["type"] == "error" => {
            Some(parameters["args"].to_string())
        }
        "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
            Some(parameters["entry"]["text"].to_string())
        }
        _ => None,
    }
}
