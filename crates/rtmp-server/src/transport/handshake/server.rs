//! The server's side.

use std::sync::Arc;

use ::tokio::io::AsyncReadExt;
use ::tokio::net::TcpStream;
use ::tokio::sync::Semaphore;
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::UnbufferedStatus;
use rustls::{ExtractedSecrets, ServerConfig};
use tls_record::{HEADER_BYTES, Role};

use super::{
    HandshakeError, KernelSupport, Side, Tickets, TrafficSecrets, establish, negotiate, read_exact,
    read_fragment,
};
use crate::transport::Transport;

/// The content type of a handshake's records (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    const ROLE: Role = Role::Server;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), rustls::Error> {
        self.dangerous_into_kernel_connection()
    }

    fn tickets(_: KernelConnection<Self::Data>) -> Option<Tickets> {
        None
    }
}

/// A connection after its handshake.
pub(crate) struct Accepted {
    pub(crate) transport: Transport,
    /// The protocol that was agreed upon (ALPN, RFC 7301).
    pub(crate) protocol: Option<Vec<u8>>,
}

/// Performs the handshake with a client on `tcp`. A place in `places` is taken for what needs
/// the CPU, and none while the client is waited for. With `kernel`, the kernel encrypts from
/// here on.
///
/// # Errors
/// The reason why there is no connection; the peer has had its alert.
pub(crate) async fn accept(
    mut tcp: TcpStream,
    config: Arc<ServerConfig>,
    places: &Semaphore,
    kernel: Option<&KernelSupport>,
) -> Result<Accepted, (TcpStream, HandshakeError)> {
    let traffic = Arc::new(TrafficSecrets::default());
    // What rustls knows after the handshake is not for others; its keys are ours then.
    let mut config = ServerConfig::clone(&config);
    config.enable_secret_extraction = true;
    config.key_log = traffic.clone();
    let connection = match handshake(&mut tcp, Arc::new(config), places).await {
        Ok(connection) => connection,
        Err(error) => return Err((tcp, error)),
    };
    let protocol = connection.alpn_protocol().map(<[u8]>::to_vec);
    let suite = connection.negotiated_cipher_suite();
    match establish(&tcp, connection, suite, &traffic, kernel) {
        Ok(encryption) => Ok(Accepted {
            transport: Transport { tcp, encryption },
            protocol,
        }),
        Err(error) => Err((tcp, error)),
    }
}

async fn handshake(
    tcp: &mut TcpStream,
    config: Arc<ServerConfig>,
    places: &Semaphore,
) -> Result<UnbufferedServerConnection, HandshakeError> {
    let incoming = read_first(tcp).await?;
    let mut connection = UnbufferedServerConnection::new(config)?;
    negotiate(tcp, &mut connection, incoming, Some(places)).await?;
    Ok(connection)
}

/// Reads the first record.
async fn read_first(tcp: &mut TcpStream) -> Result<Vec<u8>, HandshakeError> {
    let mut header = [0; HEADER_BYTES];
    if tcp.read(&mut header[..1]).await? == 0 {
        return Err(HandshakeError::Unused);
    }
    if header[0] != HANDSHAKE {
        return Err(match header[0].is_ascii_uppercase() {
            true => HandshakeError::PlainHttp,
            false => HandshakeError::NoTls,
        });
    }
    read_exact(tcp, &mut header[1..]).await?;
    let mut record = Vec::new();
    read_fragment(tcp, header, &mut record).await?;
    Ok(record)
}
