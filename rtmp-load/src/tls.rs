//! TLS of a connection, for `rtmps`, `https` and `wss`. Certificates are not
//! verified: a load is made for servers that are known.

use std::{
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use socket2::Socket;

/// What all connections to one server begin with.
#[derive(Debug)]
pub(crate) struct TlsServer {
    configuration: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsServer {
    /// A server of this name or address; `None` if it is neither.
    pub(crate) fn new(host: &str) -> Option<Self> {
        let provider = Arc::new(ring::default_provider());
        let configuration = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Some(Self {
            configuration: Arc::new(configuration),
            name: ServerName::try_from(host.to_owned()).ok()?,
        })
    }

    /// Begins on a fresh connection.
    ///
    /// # Errors
    /// If no handshake can be made.
    pub(crate) fn connect(&self) -> Result<Tls, Error> {
        let configuration = Arc::clone(&self.configuration);
        let connection = ClientConnection::new(configuration, self.name.clone())?;
        Ok(Tls(Box::new(connection)))
    }
}

/// The TLS of one connection.
#[derive(Debug)]
pub(crate) struct Tls(Box<ClientConnection>);

impl Tls {
    /// Reads what the server sent, deciphered, as `read(2)` would.
    ///
    /// # Errors
    /// If the socket has nothing (`WouldBlock`) or sends no TLS.
    pub(crate) fn read(&mut self, socket: &mut Socket, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if self.0.read_tls(socket)? == 0 {
                return Ok(0);
            }
            let processed = self.0.process_new_packets();
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Enciphers all of `outbox`, and sends as much as the socket takes.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(crate) fn write(&mut self, socket: &mut Socket, outbox: &mut Vec<u8>) -> io::Result<()> {
        self.0.writer().write_all(outbox)?;
        outbox.clear();
        while self.0.wants_write() {
            match self.0.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// True if the socket has not taken everything.
    pub(crate) fn wants_write(&self) -> bool {
        self.0.wants_write()
    }
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
