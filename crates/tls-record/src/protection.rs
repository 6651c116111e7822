//! Protection of the records of one direction.

use std::fmt;
use std::ops::Range;

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::content_type::APPLICATION_DATA;
use crate::{HEADER_BYTES, MAX_FRAGMENT, RecordError};

/// Bytes of a nonce.
const NONCE_BYTES: usize = 12;
/// Bytes of a nonce that travel with each record (TLS 1.2 with AES-GCM, RFC 5288 §3).
const EXPLICIT_NONCE_BYTES: usize = 8;
/// Bytes that a cipher adds.
const TAG_BYTES: usize = 16;
/// The most bytes of a key.
const MAX_KEY_BYTES: usize = 32;
/// The version in a record's header, that of TLS 1.2 for TLS 1.3 as well (RFC 8446 §5.1).
const HEADER_VERSION: [u8; 2] = [3, 3];

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// 1.2 (RFC 5246).
    Tls12,
    /// 1.3 (RFC 8446).
    Tls13,
}

/// A cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-GCM with a key of 128 bits; SHA-256 in TLS 1.3.
    Aes128Gcm,
    /// AES-GCM with a key of 256 bits; SHA-384 in TLS 1.3.
    Aes256Gcm,
    /// ChaCha20 and Poly1305; SHA-256 in TLS 1.3.
    Chacha20Poly1305,
}

impl Cipher {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::Chacha20Poly1305];

    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::Chacha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    /// The hash function of the suite of TLS 1.3 (RFC 8446 §B.4).
    fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128Gcm | Self::Chacha20Poly1305 => hkdf::HKDF_SHA256,
            Self::Aes256Gcm => hkdf::HKDF_SHA384,
        }
    }
}

/// What the keys of one direction are made of. Overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A traffic secret of TLS 1.3 (RFC 8446 §7.1).
    #[must_use]
    pub fn traffic(secret: &[u8]) -> Self {
        Self(Zeroizing::new(secret.to_vec()))
    }

    /// A key of TLS 1.2, and its nonce, by which the number of each record is masked: with
    /// AES-GCM, 4 bytes of salt and the first explicit nonce; with ChaCha20, RFC 7905's.
    #[must_use]
    pub fn key(key: &[u8], nonce: &[u8; NONCE_BYTES]) -> Self {
        Self(Zeroizing::new([key, nonce].concat()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// One direction of a connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DirectionState {
    /// What its keys are made of.
    pub secret: Secret,
    /// The number of its next record since it has this secret (RFC 8446 §5.3).
    pub number: u64,
}

/// A secret has not the length that its cipher wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret of TLS has not the length that its cipher wants")]
pub struct BadSecret;

/// The records of one direction: their key, and the number of the next one.
pub(crate) struct Protection {
    version: Version,
    cipher: Cipher,
    secret: Secret,
    key: LessSafeKey,
    nonce: [u8; NONCE_BYTES],
    pub(crate) number: u64,
}

impl Protection {
    /// # Errors
    /// The secret is none of the cipher's.
    pub(crate) fn new(
        version: Version,
        cipher: Cipher,
        direction: DirectionState,
    ) -> Result<Self, BadSecret> {
        let DirectionState { secret, number } = direction;
        let algorithm = cipher.algorithm();
        let mut key = Zeroizing::new([0; MAX_KEY_BYTES]);
        let key = &mut key[..algorithm.key_len()];
        let mut nonce = [0; NONCE_BYTES];
        match version {
            Version::Tls13 => {
                let prk = prk(cipher, &secret)?;
                expand_label(&prk, b"key", key)?;
                expand_label(&prk, b"iv", &mut nonce)?;
            }
            Version::Tls12 if secret.0.len() == key.len() + NONCE_BYTES => {
                let (its_key, its_nonce) = secret.0.split_at(key.len());
                key.copy_from_slice(its_key);
                nonce.copy_from_slice(its_nonce);
            }
            Version::Tls12 => return Err(BadSecret),
        }
        let key = UnboundKey::new(algorithm, key).map_err(|_| BadSecret)?;
        Ok(Self {
            version,
            cipher,
            secret,
            key: LessSafeKey::new(key),
            nonce,
            number,
        })
    }

    /// What is to be known to go on with it.
    pub(crate) fn state(&self) -> DirectionState {
        DirectionState {
            secret: self.secret.clone(),
            number: self.number,
        }
    }

    /// Takes the next key of TLS 1.3 (RFC 8446 §7.2).
    ///
    /// # Errors
    /// There are none in TLS 1.2.
    pub(crate) fn renew(&mut self) -> Result<(), BadSecret> {
        let mut next = Zeroizing::new(vec![0; self.secret.0.len()]);
        expand_label(&prk(self.cipher, &self.secret)?, b"traffic upd", &mut next)?;
        let next = DirectionState {
            secret: Secret(next),
            number: 0,
        };
        *self = Self::new(self.version, self.cipher, next)?;
        Ok(())
    }

    fn has_explicit_nonce(&self) -> bool {
        self.version == Version::Tls12 && self.cipher != Cipher::Chacha20Poly1305
    }

    /// Bytes of a record before its payload.
    pub(crate) fn prefix(&self) -> usize {
        match self.has_explicit_nonce() {
            true => HEADER_BYTES + EXPLICIT_NONCE_BYTES,
            false => HEADER_BYTES,
        }
    }

    /// Bytes of a record after its payload.
    pub(crate) fn suffix(&self) -> usize {
        match self.version {
            Version::Tls12 => TAG_BYTES,
            // The content type (RFC 8446 §5.2).
            Version::Tls13 => 1 + TAG_BYTES,
        }
    }

    /// The nonce of record `number`: RFC 8446 §5.3, RFC 7905 §2; where half of it travels
    /// with the record, it is made alike, so that none comes twice.
    fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = self.nonce;
        let number = self.number.to_be_bytes();
        let masked = &mut nonce[NONCE_BYTES - number.len()..];
        masked.iter_mut().zip(number).for_each(|(it, by)| *it ^= by);
        nonce
    }

    /// What a record's tag covers beside its payload (RFC 8446 §5.2, RFC 5246 §6.2.3.3).
    fn additional_data(&self, header: [u8; HEADER_BYTES], payload: usize) -> Aad<AdditionalData> {
        let mut data = AdditionalData::default();
        match self.version {
            Version::Tls13 => data.push(&header),
            Version::Tls12 => {
                data.push(&self.number.to_be_bytes());
                data.push(&header[..3]);
                data.push(&length_bytes(payload));
            }
        }
        Aad::from(data)
    }

    /// Encrypts `record`, whose payload stands between [`Self::prefix`] and
    /// [`Self::suffix`], and fills in those.
    pub(crate) fn seal(&mut self, content_type: u8, record: &mut [u8]) {
        let prefix = self.prefix();
        let payload = record.len() - prefix - self.suffix();
        let nonce = self.nonce();
        let outer_type = match self.version {
            Version::Tls12 => content_type,
            Version::Tls13 => {
                record[prefix + payload] = content_type;
                APPLICATION_DATA
            }
        };
        let header = header(outer_type, record.len() - HEADER_BYTES);
        record[..HEADER_BYTES].copy_from_slice(&header);
        record[HEADER_BYTES..prefix].copy_from_slice(&nonce[4..4 + prefix - HEADER_BYTES]);
        let (text, tag) = record[prefix..]
            .split_last_chunk_mut::<TAG_BYTES>()
            .expect("a suffix");
        let sealed = self.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            self.additional_data(header, payload),
            text,
        );
        let sealed = sealed.expect("a record is shorter than what a cipher may encrypt");
        tag.copy_from_slice(sealed.as_ref());
        self.number += 1;
    }

    /// Decrypts `record` in its place; returns its content type, and where its payload is.
    ///
    /// # Errors
    /// It is none that the peer has sent, or one that it must not send.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<(u8, Range<usize>), RecordError> {
        let prefix = self.prefix();
        let Some((header, _)) = record.split_first_chunk::<HEADER_BYTES>() else {
            return Err(RecordError::Forged);
        };
        let header = *header;
        let payload = record.len().checked_sub(prefix + TAG_BYTES);
        let payload = payload.ok_or(RecordError::Forged)?;
        let mut nonce = self.nonce();
        if self.has_explicit_nonce() {
            nonce[4..].copy_from_slice(&record[HEADER_BYTES..prefix]);
        }
        let opened = self.key.open_in_place(
            Nonce::assume_unique_for_key(nonce),
            self.additional_data(header, payload),
            &mut record[prefix..],
        );
        let text = opened.map_err(|_| RecordError::Forged)?;
        let (content_type, length) = match self.version {
            Version::Tls12 => (header[0], text.len()),
            // Behind the content type are zeros (RFC 8446 §5.4).
            Version::Tls13 => {
                let last = text.iter().rposition(|&byte| byte != 0);
                let last =
                    last.ok_or(RecordError::Unexpected("a record of nothing but padding"))?;
                (text[last], last)
            }
        };
        // With the padding (RFC 8446 §5.4).
        let type_bytes = usize::from(self.version == Version::Tls13);
        if text.len() > MAX_FRAGMENT + type_bytes {
            return Err(RecordError::TooLong);
        }
        self.number += 1;
        Ok((content_type, prefix..prefix + length))
    }
}

/// A record's header.
fn header(content_type: u8, length: usize) -> [u8; HEADER_BYTES] {
    let [major, minor] = HEADER_VERSION;
    let [high, low] = length_bytes(length);
    [content_type, major, minor, high, low]
}

fn length_bytes(length: usize) -> [u8; 2] {
    u16::try_from(length)
        .expect("a record's length")
        .to_be_bytes()
}

/// Up to 13 bytes.
#[derive(Default)]
struct AdditionalData {
    bytes: [u8; 13],
    length: usize,
}

impl AdditionalData {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

impl AsRef<[u8]> for AdditionalData {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A length, for ring.
struct OutputLength(usize);

impl hkdf::KeyType for OutputLength {
    fn len(&self) -> usize {
        self.0
    }
}

/// # Errors
/// The secret has another length than the hash function's output.
fn prk(cipher: Cipher, secret: &Secret) -> Result<hkdf::Prk, BadSecret> {
    let algorithm = cipher.hkdf();
    match secret.0.len() == hkdf::KeyType::len(&algorithm) {
        true => Ok(hkdf::Prk::new_less_safe(algorithm, &secret.0)),
        false => Err(BadSecret),
    }
}

/// HKDF-Expand-Label without a context (RFC 8446 §7.1).
fn expand_label(prk: &hkdf::Prk, label: &[u8], out: &mut [u8]) -> Result<(), BadSecret> {
    const PREFIX: &[u8] = b"tls13 ";
    let length = length_bytes(out.len());
    let label_length = u8::try_from(PREFIX.len() + label.len()).map_err(|_| BadSecret)?;
    let info = [&length[..], &[label_length], PREFIX, label, &[0]];
    let expanded = prk.expand(&info, OutputLength(out.len()));
    let filled = expanded.and_then(|it| it.fill(out));
    filled.map_err(|_| BadSecret)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER_PERMISSIVE;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap()
    }

    /// The records of one side of RFC 8448 §3, from `number` on.
    fn rfc8448(secret: &str, number: u64) -> Protection {
        let secret = Secret::traffic(&hex(secret));
        let direction = DirectionState { secret, number };
        Protection::new(Version::Tls13, Cipher::Aes128Gcm, direction).unwrap()
    }

    const CLIENT: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
    const SERVER: &str = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";

    /// Data and `close_notify` of the client, then of the server.
    const RECORDS: [(&str, u64, &str, &str); 2] = [
        (
            CLIENT,
            0,
            "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa
             66 bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2
             97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4",
            "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3",
        ),
        (
            SERVER,
            // After its ticket.
            1,
            "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f
             82 aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2
             1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d",
            "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9",
        ),
    ];

    #[test]
    fn records_are_those_of_rfc_8448() {
        for (secret, number, data, close_notify) in RECORDS {
            let payload: Vec<u8> = (0..50).collect();
            let mut protection = rfc8448(secret, number);
            for (content_type, payload, expected) in [
                (APPLICATION_DATA, &payload[..], data),
                (crate::content_type::ALERT, &[1, 0], close_notify),
            ] {
                let length = protection.prefix() + payload.len() + protection.suffix();
                let mut record = vec![0; length];
                record[protection.prefix()..][..payload.len()].copy_from_slice(payload);
                protection.seal(content_type, &mut record);
                assert_eq!(record, hex(expected));
            }
            let mut protection = rfc8448(secret, number);
            let mut record = hex(data);
            let (content_type, range) = protection.open(&mut record).unwrap();
            assert_eq!((content_type, &record[range]), (23, &payload[..]));
            let mut record = hex(close_notify);
            let (content_type, range) = protection.open(&mut record).unwrap();
            assert_eq!((content_type, &record[range]), (21, &[1, 0][..]));
        }
    }

    #[test]
    fn padding_is_no_payload_and_counts_for_the_length() {
        // What stands behind the payload, and the payload's length: the type, then zeros.
        let sealed = |padding: usize, length: usize| {
            let mut protection = rfc8448(SERVER, 0);
            let mut record = vec![0; HEADER_BYTES + length + padding + protection.suffix()];
            record[HEADER_BYTES..][..length].fill(7);
            record[HEADER_BYTES + length] = if padding > 0 { APPLICATION_DATA } else { 0 };
            let last = if padding > 0 { 0 } else { APPLICATION_DATA };
            protection.seal(last, &mut record);
            rfc8448(SERVER, 0)
                .open(&mut record)
                .map(|(content_type, range)| (content_type, range.len()))
        };
        assert_eq!(sealed(0, 3), Ok((APPLICATION_DATA, 3)));
        assert_eq!(sealed(100, 3), Ok((APPLICATION_DATA, 3)));
        assert_eq!(sealed(MAX_FRAGMENT - 3, 3), Ok((APPLICATION_DATA, 3)));
        assert_eq!(sealed(MAX_FRAGMENT - 2, 3), Err(RecordError::TooLong));
        let mut nothing = vec![0; HEADER_BYTES + 50 + TAG_BYTES];
        rfc8448(SERVER, 0).seal(0, &mut nothing);
        let opened = rfc8448(SERVER, 0).open(&mut nothing);
        assert!(
            matches!(opened, Err(RecordError::Unexpected(_))),
            "{opened:?}"
        );
    }

    #[test]
    fn a_secret_is_neither_shown_nor_taken_if_it_has_a_wrong_length() {
        let secret = Secret::traffic(&hex(CLIENT));
        assert_eq!(format!("{secret:?}"), "Secret");
        for version in [Version::Tls12, Version::Tls13] {
            let direction = DirectionState {
                secret: Secret::traffic(&[7; 31]),
                number: 0,
            };
            assert!(Protection::new(version, Cipher::Aes256Gcm, direction).is_err());
        }
    }
}
