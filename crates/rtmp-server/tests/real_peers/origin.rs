//! A whole origin for the programs that people use.

use std::net::SocketAddr;
use std::sync::Arc;

use netbed::wait_for;
use rtmp_server::Server;
use rtmp_server::config::Role;
use tokio::runtime::Runtime;

use crate::common::server::{any_port, configuration, serve};

/// A running origin; it ends with this.
pub(crate) struct Origin {
    address: SocketAddr,
    http: SocketAddr,
    https: Option<SocketAddr>,
    rtmps: Option<SocketAddr>,
    server: Arc<Server>,
    _runtime: Runtime,
}

impl Origin {
    pub(crate) fn start() -> Origin {
        Self::with("")
    }

    /// An origin with these directives in its vhost.
    pub(crate) fn with(vhost: &str) -> Origin {
        Self::configured("http_server { enabled on; }", vhost)
    }

    /// An origin with these directives outside of vhosts, `http_server` among them, and
    /// these in its vhost.
    pub(crate) fn configured(globals: &str, vhost: &str) -> Origin {
        let runtime = Runtime::new().unwrap();
        let text = format!(
            "{globals} vhost __defaultVhost__ {{ \
             publish_normal_timeout 600000; http_remux {{ enabled on; }} {vhost} }}"
        );
        let config = configuration(Role::Origin, &text);
        let within = runtime.enter();
        let serving = serve(any_port(), Role::Origin, config);
        drop(within);
        Origin {
            address: serving.address,
            http: serving.http.unwrap(),
            https: serving.https,
            rtmps: serving.rtmps,
            server: serving.server,
            _runtime: runtime,
        }
    }

    /// Waits until a stream is asked for.
    pub(crate) fn wait_for_player(&self) {
        wait_for("a player", || !self.server.streams().is_empty());
    }

    /// True if there is no stream any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.server.streams().is_empty()
    }

    /// Where it takes RTMP.
    pub(crate) fn rtmp(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves HTTP.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// The URL of what is called `path` there.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }

    /// Where it serves HTTPS.
    pub(crate) fn https(&self) -> SocketAddr {
        self.https.unwrap()
    }

    /// Where it takes RTMPS.
    pub(crate) fn rtmps(&self) -> SocketAddr {
        self.rtmps.unwrap()
    }

    /// The URL of the stream called `path` as HLS.
    pub(crate) fn hls(&self, path: &str) -> String {
        format!("http://{}/{path}.m3u8", self.http)
    }

    /// The address of the stream called `path` for HTTP-FLV and WebSocket-FLV, behind
    /// the scheme.
    pub(crate) fn flv(&self, path: &str) -> String {
        format!("{}/{path}.flv", self.http)
    }
}
