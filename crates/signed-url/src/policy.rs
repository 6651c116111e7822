//! Keys, verdicts and new signatures.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::Request;
use crate::scheme::Scheme;

/// A secret with a name, by which logs and operators know it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// The name.
    pub name: String,
    /// The secret.
    pub secret: String,
}

/// Without the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

/// A scheme and the keys that are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    scheme: Scheme,
    keys: Vec<Key>,
}

/// The reason why a URL is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not signed.
    #[error("the URL is not signed")]
    Unsigned,
    /// Its signature or its time cannot be read.
    #[error("the URL's signature cannot be read")]
    Malformed,
    /// It is signed with none of the keys, or for something else.
    #[error("the URL's signature does not fit")]
    Mismatch,
    /// It was valid until some time ago.
    #[error("the URL's signature has expired")]
    Expired,
}

impl Policy {
    /// A policy of `scheme` with the keys `keys`, the first of which signs.
    #[must_use]
    pub fn new(scheme: Scheme, keys: Vec<Key>) -> Self {
        Self { scheme, keys }
    }

    /// The names of the keys, in order.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.name.as_str())
    }

    /// The name of the key that `request` is signed with, at the Unix time `now` in seconds.
    /// All keys are tried, and each comparison takes the same time whatever the signature.
    ///
    /// # Errors
    /// The reason why the URL is not valid. Only who knows a key learns that a signature
    /// has expired.
    pub fn verify(&self, request: &Request<'_>, now: u64) -> Result<&str, Refusal> {
        let presented = self.scheme.presented(request);
        let presented = presented.map_err(|_| Refusal::Malformed)?;
        let presented = presented.ok_or(Refusal::Unsigned)?;
        let mut signer = None;
        for key in &self.keys {
            let expected = self.scheme.expected(request, &presented, &key.secret);
            if bool::from(expected.ct_eq(&presented.signature)) {
                signer = signer.or(Some(key));
            }
        }
        let signer = signer.ok_or(Refusal::Mismatch)?;
        if presented.expires <= now {
            return Err(Refusal::Expired);
        }
        Ok(&signer.name)
    }

    /// The query of `request`, signed with the first key until the Unix time `expires` in
    /// seconds; `None` if there is no key. `nonce` should be random.
    #[must_use]
    pub fn sign(&self, request: &Request<'_>, expires: u64, nonce: u64) -> Option<String> {
        let key = self.keys.first()?;
        let signature = self.scheme.sign(request, &key.secret, expires, nonce);
        Some(match request.query {
            "" => signature,
            query => format!("{query}&{signature}"),
        })
    }
}
