//! `lb-user server`: orders that add real servers, and take them back.

use std::net::SocketAddr;

use clap::Subcommand;

use super::SocketArgument;
use super::response::finish;
use crate::control;
use crate::control::protocol::Request;
use crate::control::selection::Endpoint;
use lb_model::config::DiscoveredServer;

/// An order about the servers of services.
#[derive(Debug, Subcommand)]
pub(super) enum ServerCommand {
    /// Add a server to services, or give one that was added another weight
    ///
    /// It is what the service's real_server_template says, and stays until it is removed
    /// again: also over a restart, not over a reboot.
    Add {
        /// Address, and port unless it is the service's
        #[arg(value_name = "ADDRESS[:PORT]")]
        server: Endpoint,
        /// Only to this service; otherwise to all with a real_server_template
        #[arg(long, value_name = "ADDRESS:PORT")]
        service: Option<SocketAddr>,
        /// The share of new connections; otherwise the template's
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=65535))]
        weight: Option<u32>,
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Take a server out again that was added
    Remove {
        /// Address, and port if it was added with several
        #[arg(value_name = "ADDRESS[:PORT]")]
        server: Endpoint,
        #[command(flatten)]
        socket: SocketArgument,
    },
}

impl ServerCommand {
    /// Has the agent do it.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub(super) async fn execute(self) -> anyhow::Result<()> {
        let (socket, request) = match self {
            Self::Add {
                server,
                service,
                weight,
                socket,
            } => {
                let (address, port) = server.parts();
                let server = DiscoveredServer {
                    address,
                    port,
                    weight,
                };
                (socket, Request::AddServer { server, service })
            }
            Self::Remove { server, socket } => {
                let (address, port) = server.parts();
                (socket, Request::RemoveServer { address, port })
            }
        };
        finish(control::request(&socket.path, &request).await?)
    }
}
