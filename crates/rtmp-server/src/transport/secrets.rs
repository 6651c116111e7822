//! What rustls gives away of a connection after its handshake.

use std::sync::OnceLock;

use rustls::{
    CipherSuite, ConnectionTrafficSecrets, ExtractedSecrets, KeyLog, ProtocolVersion,
    SupportedCipherSuite,
};
use tls_record::{Cipher, DirectionState, Role, Secret, State, Version};

use super::key_limit::max_records;

/// The traffic secrets of a connection by TLS 1.3 (RFC 8446 §7.1), which rustls tells whoever
/// logs keys. The keys that it gives away later are made of them, and so are those that follow.
#[derive(Debug, Default)]
pub(super) struct TrafficSecrets {
    client: OnceLock<Secret>,
    server: OnceLock<Secret>,
}

impl TrafficSecrets {
    fn place(&self, label: &str) -> Option<&OnceLock<Secret>> {
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => Some(&self.client),
            "SERVER_TRAFFIC_SECRET_0" => Some(&self.server),
            _ => None,
        }
    }
}

impl KeyLog for TrafficSecrets {
    fn will_log(&self, label: &str) -> bool {
        self.place(label).is_some()
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if let Some(place) = self.place(label) {
            // A connection has one handshake.
            let _ = place.set(Secret::traffic(secret));
        }
    }
}

/// What the record layer of the side `role` goes on with: of TLS 1.3 that of `traffic`, of TLS 1.2 that of
/// `extracted`. `None` if the cipher is an unknown one.
pub(super) fn state(
    role: Role,
    extracted: &ExtractedSecrets,
    traffic: &TrafficSecrets,
    version: ProtocolVersion,
    suite: SupportedCipherSuite,
) -> Option<State> {
    let is_tls13 = version == ProtocolVersion::TLSv1_3;
    let direction = |traffic: &OnceLock<Secret>, (number, secrets): &(u64, _)| {
        let secret = match is_tls13 {
            true => traffic.get()?.clone(),
            false => {
                let (key, nonce) = key_and_nonce(secrets)?;
                Secret::key(key, &nonce)
            }
        };
        let number = *number;
        Some(DirectionState { secret, number })
    };
    let version = match is_tls13 {
        true => Version::Tls13,
        false => Version::Tls12,
    };
    let (ours, theirs) = match role {
        Role::Server => (&traffic.server, &traffic.client),
        Role::Client => (&traffic.client, &traffic.server),
    };
    let write = direction(ours, &extracted.tx)?;
    let read = direction(theirs, &extracted.rx)?;
    let (cipher, limit) = (cipher(suite)?, max_records(suite));
    Some(State::new(role, version, cipher, [write, read], limit))
}

/// The cipher of `suite`; `None` if it is an unknown one.
pub(super) fn cipher(suite: SupportedCipherSuite) -> Option<Cipher> {
    use CipherSuite as Suite;
    Some(match suite.suite() {
        Suite::TLS13_AES_128_GCM_SHA256
        | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Cipher::Aes128Gcm,
        Suite::TLS13_AES_256_GCM_SHA384
        | Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Cipher::Aes256Gcm,
        Suite::TLS13_CHACHA20_POLY1305_SHA256
        | Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Cipher::Chacha20Poly1305,
        _ => return None,
    })
}

/// Key and nonce of one direction.
pub(super) fn key_and_nonce(secrets: &ConnectionTrafficSecrets) -> Option<(&[u8], [u8; 12])> {
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
    else {
        return None;
    };
    Some((key.as_ref(), iv.as_ref().try_into().ok()?))
}
