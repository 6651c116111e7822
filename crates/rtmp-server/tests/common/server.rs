//! Servers that run within the test's process.

use std::net::SocketAddr;
use std::sync::Arc;

use rtmp_server::config::{self, Config, Role, conf};
use rtmp_server::{Protocol, Server, listen};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The configuration of a server of this role.
pub(crate) fn configuration(role: Role, text: &str) -> Config {
    let directives = conf::parse("test.conf", text).unwrap();
    config::build(&directives, role).unwrap().config
}

/// A server that accepts connections.
pub(crate) struct Serving {
    pub(crate) server: Arc<Server>,
    pub(crate) address: SocketAddr,
    /// Where it serves HTTP-FLV, if the configuration has an `http_server`.
    pub(crate) http: Option<SocketAddr>,
    /// The same by HTTPS.
    pub(crate) https: Option<SocketAddr>,
    /// Where it takes RTMPS.
    pub(crate) rtmps: Option<SocketAddr>,
    /// The task that accepts; dropped, it goes on.
    pub(crate) accepting: JoinHandle<()>,
}

/// Starts a server at `address`, within a tokio runtime.
pub(crate) fn serve(address: SocketAddr, role: Role, config: Config) -> Serving {
    let listener = TcpListener::from_std(listen(address).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (http, https, rtmps) = (
        !config.http_listen().is_empty(),
        config.https().is_some(),
        config.rtmps.is_some(),
    );
    let server = Server::start(role, config).unwrap();
    let accepting = tokio::spawn(server.clone().accept(listener, Protocol::Rtmp));
    let accept = |protocol| {
        let listener = TcpListener::from_std(listen(any_port()).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server.clone().accept(listener, protocol));
        address
    };
    let http = http.then(|| accept(Protocol::HttpFlv));
    let https = https.then(|| accept(Protocol::Https));
    let rtmps = rtmps.then(|| accept(Protocol::Rtmps));
    Serving {
        server,
        address,
        http,
        https,
        rtmps,
        accepting,
    }
}

/// Any free port of the loopback interface, for [`serve`].
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
