//! The HTTP API, asked as an operator's script would.

use rtmp_server::serve_http_api;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{TestServer, keyframe, until};

struct Api {
    address: std::net::SocketAddr,
}

impl Api {
    async fn of(running: &TestServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_http_api(listener, running.server.clone()));
        Self { address }
    }

    /// The status and the body of the answer.
    async fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path).await;
        assert_eq!((status, &body["code"]), (200, &json!(0)), "{path}: {body}");
        body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_clients_are_listed_and_clients_can_be_kicked() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;

    let streams = api.get("/api/v1/streams").await;
    let stream = &streams["streams"][0];
    assert_eq!(stream["name"], "s");
    assert_eq!(stream["app"], "live");
    assert_eq!(stream["vhost"], "__defaultVhost__");
    assert_eq!(stream["clients"], 1);
    assert_eq!(stream["publish"], json!({ "active": true, "count": 1 }));
    assert_eq!(stream["recv_messages"], 1);

    let clients = api.get("/api/v1/clients").await;
    let types: Vec<&str> = clients["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["publish", "play"]);
    let client = &clients["clients"][1];
    assert_eq!(
        (&client["ip"], &client["name"]),
        (&json!("127.0.0.1"), &json!("s"))
    );
    assert!(client["send_bytes"].as_u64().unwrap() > 0);

    let path = format!("/api/v1/clients/{}", client["id"]);
    assert_eq!(api.get(&path).await["client"]["type"], "play");
    assert_eq!(api.ask("DELETE", &path).await.0, 200);
    player.closed().await;
    until(|| origin.server.clients().count() == 1).await;
    let (status, _) = api.ask("DELETE", &path).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_summaries_and_vhosts_answer() {
    let origin = TestServer::origin("queue_length 7;");
    let api = Api::of(&origin).await;
    let versions = api.get("/api/v1/versions").await;
    assert_eq!(versions["data"]["version"], env!("CARGO_PKG_VERSION"));
    let summaries = api.get("/api/v1/summaries").await;
    assert_eq!(summaries["data"]["role"], "origin");
    assert_eq!(summaries["data"]["connections"], 0);
    let vhosts = api.get("/api/v1/vhosts").await;
    assert_eq!(vhosts["vhosts"][0]["name"], "__defaultVhost__");
    assert_eq!(vhosts["vhosts"][0]["settings"]["queue_length"]["secs"], 7);
    assert_eq!(api.ask("GET", "/api/v1/nothing").await.0, 404);
}
