//! The handshake of a TLS server.
//!
//! Records are read one by one, to the byte: what follows the handshake stays in the socket,
//! where the kernel can decrypt it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use ::tokio::io::{AsyncReadExt, AsyncWriteExt};
use ::tokio::net::TcpStream;
use ::tokio::sync::Semaphore;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ProtocolVersion, ServerConfig};
use tls_record::{HEADER_BYTES, RecordLayer};

use super::kernel::KernelSupport;
use super::key_limit::KeyLimit;
use super::secrets::{self, TrafficSecrets};
use super::session::Session;
use super::{Encryption, MAX_RECORD, Transport};

/// The content type of a handshake's records (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// The most bytes that a client may send in its handshake.
const MAX_BYTES: usize = 64 * 1024;

/// Reason why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The peer has closed before it sent anything, as health checks do.
    #[error("closed by the peer")]
    Unused,
    /// The peer has closed within the handshake.
    #[error("closed by the peer within the handshake")]
    Closed,
    /// The peer does not speak TLS, but HTTP.
    #[error("it speaks HTTP without TLS")]
    PlainHttp,
    /// The peer does not speak TLS.
    #[error("it does not speak TLS")]
    NoTls,
    /// The peer's handshake never ends.
    #[error("more than {MAX_BYTES} bytes of handshake")]
    TooLong,
    /// What was sent is wrong, or no version, cipher or certificate is agreed upon.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The connection is lost.
    #[error("{0}")]
    Lost(#[from] io::Error),
}

/// A connection after its handshake.
pub(crate) struct Accepted {
    pub(crate) transport: Transport,
    /// The protocol that was agreed upon (ALPN, RFC 7301).
    pub(crate) protocol: Option<Vec<u8>>,
}

/// What is to be done next.
enum Step {
    Send,
    Read,
    Done,
    Fail(HandshakeError),
}

/// Performs the handshake on `tcp`. A place in `places` is taken for what needs the CPU, and
/// none while the client is waited for. With `kernel`, the kernel encrypts from here on.
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
    let connection = match negotiate(&mut tcp, Arc::new(config), places).await {
        Ok(connection) => connection,
        Err(error) => return Err((tcp, error)),
    };
    let protocol = connection.alpn_protocol().map(<[u8]>::to_vec);
    match establish(&tcp, connection, &traffic, kernel) {
        Ok(encryption) => Ok(Accepted {
            transport: Transport { tcp, encryption },
            protocol,
        }),
        Err(error) => Err((tcp, error)),
    }
}

/// Who encrypts a connection after its handshake.
fn establish(
    tcp: &TcpStream,
    connection: UnbufferedServerConnection,
    traffic: &TrafficSecrets,
    kernel: Option<&KernelSupport>,
) -> Result<Encryption, HandshakeError> {
    let suite = connection.negotiated_cipher_suite();
    let has = kernel.zip(suite).is_some_and(|(it, suite)| it.has(suite));
    // Before it gets the keys: if the kernel refuses, we encrypt.
    let prepared = match has {
        true => super::kernel::prepare(tcp).inspect_err(|error| {
            log::debug!("TLS: the kernel refuses a connection, this process encrypts it: {error}");
        }),
        false => Err(io::ErrorKind::Unsupported.into()),
    };
    let (secrets, connection) = connection.dangerous_into_kernel_connection()?;
    let suite = connection.negotiated_cipher_suite();
    let version = connection.protocol_version();
    if prepared.is_ok() {
        let kernel = super::kernel::install(tcp.as_fd(), secrets, version, suite)?;
        return Ok(Encryption::Kernel(kernel));
    }
    let unknown = || io::Error::other("a cipher that this program has not");
    let state = secrets::state(&secrets, traffic, version, suite).ok_or_else(unknown)?;
    let layer = RecordLayer::new(state).map_err(io::Error::other)?;
    let limit = match version {
        ProtocolVersion::TLSv1_2 => KeyLimit::new(suite, secrets.tx.0),
        _ => KeyLimit::none(),
    };
    Ok(Encryption::User(Box::new(Session::new(layer, limit))))
}

async fn negotiate(
    tcp: &mut TcpStream,
    config: Arc<ServerConfig>,
    places: &Semaphore,
) -> Result<UnbufferedServerConnection, HandshakeError> {
    let mut incoming = Vec::new();
    let mut outgoing = Vec::new();
    let mut received = read_record(tcp, &mut incoming, true).await?;
    let mut connection = UnbufferedServerConnection::new(config)?;
    loop {
        let step = {
            // An error cannot be: nobody closes `places`.
            let _place = places.acquire().await;
            process(&mut connection, &mut incoming, &mut outgoing)
        };
        match step {
            Step::Send => {
                tcp.write_all(&outgoing).await?;
                outgoing.clear();
            }
            Step::Read => {
                received += read_record(tcp, &mut incoming, false).await?;
                if received > MAX_BYTES {
                    return Err(HandshakeError::TooLong);
                }
            }
            Step::Done => return Ok(connection),
            Step::Fail(error) => {
                process(&mut connection, &mut incoming, &mut outgoing);
                tcp.write_all(&outgoing).await?;
                return Err(error);
            }
        }
    }
}

/// Processes what has come so far, until there is something else to do.
fn process(
    connection: &mut UnbufferedServerConnection,
    incoming: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
) -> Step {
    loop {
        if let Some(step) = step(connection, incoming, outgoing) {
            return step;
        }
    }
}

/// Processes once; `None` if there is more to process.
fn step(
    connection: &mut UnbufferedServerConnection,
    incoming: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
) -> Option<Step> {
    let UnbufferedStatus { discard, state } = connection.process_tls_records(incoming);
    let step = match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => match encode(&mut data, outgoing) {
            Ok(()) => None,
            Err(error) => Some(Step::Fail(error.into())),
        },
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Some(Step::Send)
        }
        Ok(ConnectionState::BlockedHandshake) => Some(Step::Read),
        Ok(ConnectionState::WriteTraffic(_)) => Some(Step::Done),
        Ok(_) => Some(Step::Fail(HandshakeError::Closed)),
        Err(error) => Some(Step::Fail(error.into())),
    };
    incoming.drain(..discard);
    step
}

/// Reads one record to the end of `incoming`; returns its length.
async fn read_record(
    tcp: &mut TcpStream,
    incoming: &mut Vec<u8>,
    first: bool,
) -> Result<usize, HandshakeError> {
    let start = incoming.len();
    let mut header = [0; HEADER_BYTES];
    if first && tcp.read(&mut header[..1]).await? == 0 {
        return Err(HandshakeError::Unused);
    }
    if first && header[0] != HANDSHAKE {
        return Err(match header[0].is_ascii_uppercase() {
            true => HandshakeError::PlainHttp,
            false => HandshakeError::NoTls,
        });
    }
    read_exact(tcp, &mut header[usize::from(first)..]).await?;
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if HEADER_BYTES + length > MAX_RECORD {
        return Err(HandshakeError::NoTls);
    }
    incoming.extend_from_slice(&header);
    incoming.resize(start + HEADER_BYTES + length, 0);
    read_exact(tcp, &mut incoming[start + HEADER_BYTES..]).await?;
    Ok(HEADER_BYTES + length)
}

async fn read_exact(tcp: &mut TcpStream, bytes: &mut [u8]) -> Result<(), HandshakeError> {
    match tcp.read_exact(bytes).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(HandshakeError::Closed),
        read => read.map(drop).map_err(HandshakeError::Lost),
    }
}

/// Appends a record of the handshake to `out`.
fn encode<D>(data: &mut EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        data.encode(&mut [])
    else {
        return Ok(());
    };
    out.resize(start + required_size, 0);
    let encoded = data.encode(&mut out[start..]);
    encoded.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(())
}
