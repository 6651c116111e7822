//! A whole origin for the programs that people use.

use std::net::SocketAddr;

use rtmp_server::config::{self, Role, conf};
use rtmp_server::{Server, listen};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A running origin; it ends with this.
pub struct Origin {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Origin {
    pub fn start() -> Origin {
        let runtime = Runtime::new().unwrap();
        let text = "vhost __defaultVhost__ { publish_normal_timeout 600000; }";
        let directives = conf::parse("test.conf", text).unwrap();
        let config = config::build(&directives, Role::Origin).unwrap().config;
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let within = runtime.enter();
        let server = Server::start(Role::Origin, config).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        runtime.spawn(server.accept(listener));
        drop(within);
        Origin {
            address,
            _runtime: runtime,
        }
    }

    /// The URL of what is called `path` there.
    pub fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }
}
