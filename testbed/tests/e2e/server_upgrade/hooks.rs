//! Notifications of hooks that an upgrade finds undelivered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use netbed::local::push;
use netbed::wait_for;
use serde_json::Value;

use super::{Scratch, Server};

/// A web server that does not answer the first hooks.
pub(super) struct HookServer {
    pub(super) address: SocketAddr,
    posted: Arc<Mutex<Vec<Value>>>,
}

impl HookServer {
    /// One that leaves the first `unanswered` ones without an answer.
    pub(super) fn start(unanswered: usize) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let posted = Arc::<Mutex<Vec<Value>>>::default();
        let ours = posted.clone();
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            let mut left = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let Some(event) = read_event(&mut stream) else {
                    continue;
                };
                ours.lock().expect("no panic").push(event);
                if left.len() < unanswered {
                    left.push(stream);
                    continue;
                }
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0";
                // Whoever has gone does not matter.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Ok(Self { address, posted })
    }

    pub(super) fn posted(&self) -> Vec<Value> {
        self.posted.lock().expect("no panic").clone()
    }
}

/// The JSON of a request.
fn read_event(stream: &mut TcpStream) -> Option<Value> {
    let mut text = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|&count| count > 0)?;
        text.extend_from_slice(&buffer[..count]);
        let request = std::str::from_utf8(&text).ok()?;
        let event = request
            .split_once("\r\n\r\n")
            .map(|(_, body)| serde_json::from_str(body));
        if let Some(Ok(event)) = event {
            return Some(event);
        }
    }
}

#[test]
fn a_hook_without_an_answer_is_posted_again_by_the_program_after() -> Result<()> {
    let scratch = Scratch::new("hooks")?;
    let hooks = HookServer::start(1)?;
    let files = scratch.0.join("recordings");
    let directives = format!(
        "hls_fragment 1; }} \
         dvr {{ enabled on; dvr_plan session; dvr_path {}/[stream].[timestamp].flv; }} \
         http_hooks {{ enabled on; on_dvr http://{}/dvr?key=secret;",
        files.display(),
        hooks.address,
    );
    let origin = Server::start("rtmp-origin", &scratch.0, &directives, &[])?;
    let publisher = push(&format!("rtmp://{}/live/s", origin.rtmp));
    wait_for("a recording", || {
        Ok(files
            .read_dir()
            .is_ok_and(|mut files| files.next().is_some()))
    })?;
    ensure!(hooks.posted().is_empty(), "{:?}", hooks.posted());
    // The recording ends.
    drop(publisher);
    wait_for("the hook", || Ok(!hooks.posted().is_empty()))?;
    let (done, said) = origin.upgrade()?;
    ensure!(done, "{said}\n{}", origin.log());
    wait_for("the hook to be posted again", || {
        Ok(hooks.posted().len() >= 2)
    })?;
    let posted = hooks.posted();
    let file = posted[0]["file"].as_str().context("a file")?;
    ensure!(
        posted[1]["action"] == "on_dvr" && posted[1]["file"] == file,
        "{posted:?}"
    );
    Ok(())
}
