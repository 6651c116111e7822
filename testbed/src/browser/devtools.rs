//! Chromium's DevTools protocol over a pair of pipes (`--remote-debugging-pipe`): JSON
//! messages, each ended by a zero byte.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result, bail};
use netbed::TIME_LIMIT;
use serde_json::{Value, json};

/// A connection to a browser.
#[derive(Debug)]
pub(crate) struct Devtools {
    to_browser: ChildStdin,
    from_browser: Receiver<Value>,
    last_id: u64,
    /// What the browser has said unasked.
    events: Vec<Event>,
}

/// What a browser says unasked.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The session of the page that it is about.
    pub(crate) session: Option<String>,
    /// `Runtime.exceptionThrown`
    pub(crate) method: String,
    pub(crate) parameters: Value,
}

impl Devtools {
    pub(crate) fn new(to_browser: ChildStdin, from_browser: ChildStdout) -> Self {
        let (sender, receiver) = mpsc::channel();
        // A thread of its own, so that waiting for an answer has a limit. It ends with the
        // browser, or with the receiver.
        thread::spawn(move || {
            let mut reader = BufReader::new(from_browser);
            let mut message = Vec::new();
            while reader
                .read_until(0, &mut message)
                .is_ok_and(|read| read > 0)
            {
                let text = message.strip_suffix(&[0]).unwrap_or(&message);
                let Ok(value) = serde_json::from_slice(text) else {
                    break;
                };
                if sender.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        Self {
            to_browser,
            from_browser: receiver,
            last_id: 0,
            events: Vec::new(),
        }
    }

    /// Calls a method, of a page's session or of the browser, and returns its result.
    pub(crate) fn call(
        &mut self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> Result<Value> {
        self.last_id += 1;
        let mut request = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(session) = session {
            request["sessionId"] = session.into();
        }
        let mut bytes = serde_json::to_vec(&request)?;
        bytes.push(0);
        self.to_browser
            .write_all(&bytes)
            .context("the browser has ended")?;
        loop {
            let mut message = self
                .from_browser
                .recv_timeout(TIME_LIMIT)
                .with_context(|| format!("the browser does not answer {method}"))?;
            if message["id"] == self.last_id {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(message["result"].take());
            }
            self.note(message);
        }
    }

    /// The events of a page so far.
    pub(crate) fn events(&mut self, session: &str) -> impl Iterator<Item = &Event> {
        while let Ok(message) = self.from_browser.try_recv() {
            self.note(message);
        }
        let events = self.events.iter();
        events.filter(move |event| event.session.as_deref() == Some(session))
    }

    fn note(&mut self, mut message: Value) {
        if let Some(method) = message["method"].as_str() {
            self.events.push(Event {
                session: message["sessionId"].as_str().map(str::to_owned),
                method: method.to_owned(),
                parameters: message["params"].take(),
            });
        }
    }
}
