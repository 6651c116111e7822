//! HLS over TLS: by HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use netbed::TIME_LIMIT;

use super::client::{HlsClient, beside};
use super::{PLAYLIST, publisher};
use crate::tls_support::{TlsServer, connect};

/// A connection by either protocol.
enum Connection {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    async fn open(origin: &TlsServer, protocol: &str) -> Self {
        let mut config = origin.authority.client();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = connect(origin.https(), "localhost", config).await.unwrap();
        let io = TokioIo::new(stream);
        if protocol == "h2" {
            let executor = TokioExecutor::new();
            let made = http2::Builder::new(executor).handshake(io).await;
            let (requests, connection) = made.unwrap();
            tokio::spawn(connection);
            Self::Http2(requests)
        } else {
            let (requests, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            Self::Http1(requests)
        }
    }

    /// The body of a good answer.
    async fn fetch(&mut self, target: &str) -> Bytes {
        let answer = async {
            let response = match self {
                Self::Http1(requests) => {
                    // hyper takes a request only once it has seen the end of the last answer.
                    requests.ready().await.unwrap();
                    let request = Request::get(target).header("Host", "localhost");
                    requests
                        .send_request(request.body(Empty::new()).unwrap())
                        .await
                }
                Self::Http2(requests) => {
                    let request = Request::get(format!("https://localhost{target}"));
                    requests
                        .send_request(request.body(Empty::new()).unwrap())
                        .await
                }
            };
            let response = response.unwrap();
            assert_eq!(response.status(), 200, "{target}: {response:?}");
            response.into_body().collect().await.unwrap().to_bytes()
        };
        let answer = tokio::time::timeout(TIME_LIMIT, answer).await;
        answer.expect("no answer")
    }
}

/// The last line of a playlist.
fn last_uri(playlist: &Bytes) -> String {
    let text = std::str::from_utf8(playlist).unwrap();
    let uri = text.lines().rfind(|line| !line.starts_with('#'));
    beside(PLAYLIST, uri.expect("a URI"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_gets_the_same_bytes_encrypted() {
    let origin = TlsServer::origin("", "hls { enabled on; hls_fragment 2; }");
    let _publisher = publisher(&origin.server, 9).await;
    let mut plain = HlsClient::connect(origin.server.http.unwrap()).await;
    for protocol in ["http/1.1", "h2"] {
        let mut connection = Connection::open(&origin, protocol).await;
        let media = last_uri(&connection.fetch(PLAYLIST).await);
        let playlist = connection.fetch(&media).await;
        let segment = last_uri(&playlist);
        let body = connection.fetch(&segment).await;
        assert!(body.len() > 10_000, "{protocol}: {} bytes", body.len());
        assert_eq!(body, plain.fetch(&segment).await.body, "{protocol}");
    }
}
