//! The client's side.

use std::sync::Arc;

use ::tokio::net::TcpStream;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::UnbufferedStatus;
use rustls::{ClientConfig, ExtractedSecrets};
use tls_record::Role;

use super::{HandshakeError, Side, Tickets, TrafficSecrets, establish, negotiate};
use crate::transport::Transport;

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    const ROLE: Role = Role::Client;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), rustls::Error> {
        self.dangerous_into_kernel_connection()
    }

    fn tickets(connection: KernelConnection<Self::Data>) -> Option<Tickets> {
        Tickets::new(connection)
    }
}

/// Performs the handshake with the server `name` on `tcp`. We encrypt from here on: servers may
/// take another key, which a kernel cannot follow.
///
/// # Errors
/// The reason why there is no connection; the peer has had its alert.
pub(crate) async fn connect(
    mut tcp: TcpStream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Transport, HandshakeError> {
    let traffic = Arc::new(TrafficSecrets::default());
    // As a server's; what is known of servers' tickets stays one for all connections.
    let mut config = ClientConfig::clone(&config);
    config.enable_secret_extraction = true;
    config.key_log = traffic.clone();
    let mut connection = UnbufferedClientConnection::new(Arc::new(config), name)?;
    negotiate(&mut tcp, &mut connection, Vec::new(), None).await?;
    let suite = connection.negotiated_cipher_suite();
    let encryption = establish(&tcp, connection, suite, &traffic, None)?;
    Ok(Transport { tcp, encryption })
}
