//! The command line's end of the control socket.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::error::Error;
use super::protocol::{Request, Response};

/// A connection to an agent.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the agent that listens on `path`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(path: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| Error::Connect {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            path: path.to_owned(),
            stream: BufReader::new(stream),
        })
    }

    /// The agent's process id, if it can be seen from here.
    pub fn agent(&self) -> Option<i32> {
        self.stream.get_ref().peer_cred().ok()?.pid()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send(&mut self, request: &Request) -> Result<(), Error> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        let written = self.stream.write_all(line.as_bytes()).await;
        written.map_err(|source| Error::Broken {
            path: self.path.clone(),
            source,
        })
    }

    /// Waits for the next answer; `None` once the agent has gone.
    ///
    /// # Errors
    /// The connection is broken, or the answer is none.
    pub async fn receive(&mut self) -> Result<Option<Response>, Error> {
        let mut answer = String::new();
        let read = self.stream.read_line(&mut answer).await;
        match read.map_err(|source| Error::Broken {
            path: self.path.clone(),
            source,
        })? {
            0 => Ok(None),
            _ => Ok(Some(serde_json::from_str(&answer)?)),
        }
    }
}

/// Sends one request to the agent that listens on `path`, and waits for the answer.
///
/// # Errors
/// Nobody listens there, or the answer is none.
pub async fn request(path: &Path, request: &Request) -> Result<Response, Error> {
    let mut client = Client::connect(path).await?;
    client.send(request).await?;
    client.receive().await?.ok_or_else(|| Error::Broken {
        path: path.to_owned(),
        source: io::ErrorKind::UnexpectedEof.into(),
    })
}
