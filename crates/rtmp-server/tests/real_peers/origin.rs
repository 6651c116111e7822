//! A whole origin for the programs that people use.

use std::net::SocketAddr;

use rtmp_server::config::Role;
use tokio::runtime::Runtime;

use crate::common::server::{any_port, configuration, serve};

/// A running origin; it ends with this.
pub(crate) struct Origin {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Origin {
    pub(crate) fn start() -> Origin {
        let runtime = Runtime::new().unwrap();
        let text = "vhost __defaultVhost__ { publish_normal_timeout 600000; }";
        let config = configuration(Role::Origin, text);
        let within = runtime.enter();
        let address = serve(any_port(), Role::Origin, config).address;
        drop(within);
        Origin {
            address,
            _runtime: runtime,
        }
    }

    /// The URL of what is called `path` there.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }
}
