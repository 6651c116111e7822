//! The project's own origin to run the load generator against.

use std::net::SocketAddr;

use rtmp_server::{
    Protocol, Server,
    config::{self, Role, conf},
    listen,
};
use tokio::{net::TcpListener, runtime::Runtime};

/// An origin within the test's process.
pub(crate) struct Origin {
    /// Where it speaks RTMP.
    pub(crate) rtmp: SocketAddr,
    /// Where it speaks HTTP.
    pub(crate) http: SocketAddr,
    _runtime: Runtime,
}

impl Origin {
    /// Starts one with these directives in its default vhost.
    pub(crate) fn start(vhost: &str) -> Self {
        let text = format!(
            "http_server {{ enabled on; listen 8080; }}
             vhost __defaultVhost__ {{ http_remux {{ enabled on; }} {vhost} }}"
        );
        let directives = conf::parse("test.conf", &text).unwrap();
        let config = config::build(&directives, Role::Origin).unwrap().config;
        let runtime = Runtime::new().unwrap();
        let (rtmp, http) = runtime.block_on(async {
            let server = Server::start(Role::Origin, config).unwrap();
            let accept = |protocol| {
                let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
                let listener = TcpListener::from_std(listen(any_port).unwrap()).unwrap();
                let address = listener.local_addr().unwrap();
                tokio::spawn(server.clone().accept(listener, protocol));
                address
            };
            (accept(Protocol::Rtmp), accept(Protocol::HttpFlv))
        });
        Self {
            rtmp,
            http,
            _runtime: runtime,
        }
    }

    /// The address under which a stream is published.
    pub(crate) fn publish_url(&self, stream: &str) -> String {
        format!("rtmp://{}/live/{stream}", self.rtmp)
    }
}
