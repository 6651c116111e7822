//! A client of the HTTP API.

use std::net::SocketAddr;

use rtmp_server::serve_http_api;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::TestServer;

/// The HTTP API of a server.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers, whose names are in small letters.
    pub(crate) head: String,
    pub(crate) body: String,
    /// The body, if it is JSON.
    pub(crate) json: Value,
}

impl Answer {
    /// The status, and the `code` of the body.
    pub(crate) fn code(&self) -> (u16, u64) {
        let code = self.json["code"].as_u64();
        (self.status, code.expect("the answer has a code"))
    }
}

impl Api {
    pub(crate) async fn of(running: &TestServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_http_api(listener, running.server.clone()));
        Self { address }
    }

    /// Asks without a header of its own.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> Answer {
        self.ask_with(method, path, "").await
    }

    /// Asks with `headers`, each with its end of line.
    pub(crate) async fn ask_with(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        // HTTP/1.0 has no chunks.
        let request = format!("{method} {path} HTTP/1.0\r\nHost: x\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            json: serde_json::from_str(body).unwrap_or(Value::Null),
            body: body.to_owned(),
        }
    }

    /// Asks with `GET`, and expects success.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path).await;
        assert_eq!(answer.code(), (200, 0), "{path}: {}", answer.body);
        answer.json
    }
}
