//! The handshake of a TLS connection, as its server or its client.
//!
//! Records are read one by one, to the byte: what follows the handshake stays in the socket,
//! where the kernel can decrypt it.

mod client;
mod server;

use std::io;
use std::os::fd::AsFd;

use ::tokio::io::{AsyncReadExt, AsyncWriteExt};
use ::tokio::net::TcpStream;
use ::tokio::sync::Semaphore;
use rustls::kernel::KernelConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ExtractedSecrets, ProtocolVersion, SupportedCipherSuite};
use tls_record::{HEADER_BYTES, RecordLayer, Role};

use super::kernel::KernelSupport;
use super::key_limit::KeyLimit;
use super::secrets::{self, TrafficSecrets};
use super::session::Session;
use super::tickets::Tickets;
use super::{Encryption, MAX_RECORD};
pub(crate) use client::connect;
pub(crate) use server::{Accepted, accept};

/// The content types that a record may have (RFC 8446 §5.1).
const CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=23;
/// The most bytes that a peer may send in its handshake.
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

/// One side of a connection, as long as rustls has it.
trait Side: Sized {
    /// What rustls knows of this side.
    type Data;
    const ROLE: Role;

    /// Processes what has come so far.
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Takes its keys.
    ///
    /// # Errors
    /// It has none yet.
    fn into_keys(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), rustls::Error>;

    /// What becomes of the server's tickets.
    fn tickets(connection: KernelConnection<Self::Data>) -> Option<Tickets>;
}

/// What is to be done next.
enum Step {
    Send,
    Read,
    Done,
    Fail(HandshakeError),
}

/// Performs the rest of a handshake, of which `incoming` has come. A place in `places` is taken
/// for what needs the CPU, and none while the peer is waited for.
async fn negotiate(
    tcp: &mut TcpStream,
    side: &mut impl Side,
    mut incoming: Vec<u8>,
    places: Option<&Semaphore>,
) -> Result<(), HandshakeError> {
    let mut outgoing = Vec::new();
    let mut received = incoming.len();
    loop {
        let step = {
            let _place = match places {
                // An error cannot be: nobody closes them.
                Some(places) => places.acquire().await.ok(),
                None => None,
            };
            process(side, &mut incoming, &mut outgoing)
        };
        match step {
            Step::Send => {
                tcp.write_all(&outgoing).await?;
                outgoing.clear();
            }
            Step::Read => {
                received += read_record(tcp, &mut incoming).await?;
                if received > MAX_BYTES {
                    return Err(HandshakeError::TooLong);
                }
            }
            Step::Done => return Ok(()),
            Step::Fail(error) => {
                process(side, &mut incoming, &mut outgoing);
                tcp.write_all(&outgoing).await?;
                return Err(error);
            }
        }
    }
}

/// Processes what has come so far, until there is something else to do.
fn process(side: &mut impl Side, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>) -> Step {
    loop {
        if let Some(step) = step(side, incoming, outgoing) {
            return step;
        }
    }
}

/// Processes once; `None` if there is more to process.
fn step(side: &mut impl Side, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>) -> Option<Step> {
    let UnbufferedStatus { discard, state } = side.process(incoming);
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

/// Reads one record to the end of `incoming`, whose header may have begun there; returns its
/// length.
async fn read_record(tcp: &mut TcpStream, incoming: &mut Vec<u8>) -> Result<usize, HandshakeError> {
    let mut header = [0; HEADER_BYTES];
    read_exact(tcp, &mut header).await?;
    read_fragment(tcp, header, incoming).await
}

/// The same for a record whose header has been read.
async fn read_fragment(
    tcp: &mut TcpStream,
    header: [u8; HEADER_BYTES],
    incoming: &mut Vec<u8>,
) -> Result<usize, HandshakeError> {
    let length = HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
    // Whoever does not speak TLS may say nothing more.
    if !CONTENT_TYPES.contains(&header[0]) || length > MAX_RECORD {
        return Err(HandshakeError::NoTls);
    }
    let start = incoming.len();
    incoming.extend_from_slice(&header);
    incoming.resize(start + length, 0);
    read_exact(tcp, &mut incoming[start + HEADER_BYTES..]).await?;
    Ok(length)
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

/// Who encrypts a connection after its handshake: the kernel, where `kernel` has `suite`, or
/// we. `traffic` are the secrets that `side` has told.
fn establish<S: Side>(
    tcp: &TcpStream,
    side: S,
    suite: Option<SupportedCipherSuite>,
    traffic: &TrafficSecrets,
    kernel: Option<&KernelSupport>,
) -> Result<Encryption, HandshakeError> {
    let has = kernel.zip(suite).is_some_and(|(it, suite)| it.has(suite));
    // Before it gets the keys: if the kernel refuses, we encrypt.
    let prepared = match has {
        true => super::kernel::prepare(tcp).inspect_err(|error| {
            log::debug!("TLS: the kernel refuses a connection, this process encrypts it: {error}");
        }),
        false => Err(io::ErrorKind::Unsupported.into()),
    };
    let (secrets, connection) = side.into_keys()?;
    let suite = connection.negotiated_cipher_suite();
    let version = connection.protocol_version();
    if prepared.is_ok() {
        let kernel = super::kernel::install(tcp.as_fd(), secrets, version, suite)?;
        return Ok(Encryption::Kernel(kernel));
    }
    let unknown = || io::Error::other("a cipher that this program has not");
    let state = secrets::state(S::ROLE, &secrets, traffic, version, suite).ok_or_else(unknown)?;
    let layer = RecordLayer::new(state).map_err(io::Error::other)?;
    let limit = match version {
        ProtocolVersion::TLSv1_2 => KeyLimit::new(suite, secrets.tx.0),
        _ => KeyLimit::none(),
    };
    let session = Session::new(layer, limit, S::tickets(connection));
    Ok(Encryption::User(Box::new(session)))
}
