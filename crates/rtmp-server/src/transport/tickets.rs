//! The tickets by which a client's later handshakes with a server are shorter (RFC 8446
//! §4.6.1).

use std::fmt;

use rustls::ProtocolVersion;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;

/// What is known of a handshake for as long as the server may give tickets. They are kept
/// where the connections to it have their configuration.
pub(super) struct Tickets(Box<KernelConnection<ClientConnectionData>>);

impl Tickets {
    /// Those of `connection`; `None` if they came within its handshake (TLS 1.2, RFC 5077).
    pub(super) fn new(connection: KernelConnection<ClientConnectionData>) -> Option<Self> {
        let come_later = connection.protocol_version() == ProtocolVersion::TLSv1_3;
        come_later.then(|| Self(Box::new(connection)))
    }

    /// Keeps those in `messages` of the server.
    pub(super) fn keep(&mut self, messages: &[u8]) {
        for ticket in tls_record::tickets(messages) {
            if let Err(error) = self.0.handle_new_session_ticket(ticket) {
                // The connection needs none.
                log::debug!("TLS: a ticket is of no use: {error}");
            }
        }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}
