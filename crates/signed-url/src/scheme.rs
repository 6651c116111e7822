//! Schemes: the text that is signed, the hash, and where the URL carries the signature.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::Request;
use crate::template::{Piece, Template};

/// The function that makes a signature of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// MD5 (RFC 1321). The text has the key.
    Md5,
    /// SHA-256 (FIPS 180-4). The text has the key.
    Sha256,
    /// HMAC-SHA-256 (RFC 2104) with the key.
    HmacSha256,
}

impl Hash {
    /// The signature of `text`, as bytes; `secret` is the key of an HMAC.
    fn of(self, text: &str, secret: &str) -> Vec<u8> {
        match self {
            Self::Md5 => Md5::digest(text).to_vec(),
            Self::Sha256 => Sha256::digest(text).to_vec(),
            Self::HmacSha256 => {
                let hmac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
                let mut hmac = hmac.expect("an HMAC takes keys of any length");
                hmac.update(text.as_bytes());
                hmac.finalize().into_bytes().to_vec()
            }
        }
    }
}

/// The form of a signature in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits; both cases are read.
    Hex,
    /// Base64 for URLs, without padding (RFC 4648 §5).
    Base64Url,
}

impl Encoding {
    fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => HEXLOWER.encode(bytes),
            Self::Base64Url => BASE64URL_NOPAD.encode(bytes),
        }
    }

    fn decode(self, text: &str) -> Option<Vec<u8>> {
        let decoded = match self {
            Self::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()),
            // nginx takes padded ones, too.
            Self::Base64Url => BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()),
        };
        decoded.ok()
    }
}

/// The parameters that carry a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Carrier {
    /// Two: the signature, and the time of expiry in Unix seconds.
    Parameters {
        signature: String,
        expires: String,
        /// The base of the time's digits: 10 or 16.
        radix: u32,
    },
    /// `auth_key=EXPIRES-RAND-UID-SIGNATURE`, the time in decimal digits.
    AuthKey,
}

/// The most characters of a signature or of a time that are looked at.
const MAX_CHARACTERS: usize = 128;

/// The most digits of a time: until 2106 in hexadecimal ones, until 2286 in decimal ones.
const MAX_HEX_DIGITS: usize = 8;
const MAX_DECIMAL_DIGITS: usize = 10;

/// A way to sign URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme {
    hash: Hash,
    encoding: Encoding,
    text: Template,
    carrier: Carrier,
}

/// The reason for which a scheme is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// Anybody could sign.
    #[error("the text lacks {{key}}: anybody could sign it")]
    NoKey,
    /// A signature would be valid for ever.
    #[error("the text lacks {{expires}}: anybody could change the time of expiry")]
    NoExpiry,
    /// A signature would be valid for every stream.
    #[error("the text has neither {{stream}} nor {{uri}}: a signature would serve every stream")]
    NoStream,
    /// Both parameters have one name.
    #[error("the signature and the time of expiry need two parameters")]
    OneParameter,
}

/// What a URL presents.
pub(crate) struct Presented<'a> {
    pub(crate) signature: Vec<u8>,
    /// Unix time from which on the URL is not valid, in seconds.
    pub(crate) expires: u64,
    /// The text of the time; for `auth_key`, of all before the signature.
    expires_text: &'a str,
}

impl Scheme {
    /// Tencent Cloud's: `txSecret=md5(KEY + stream + txTime)`, `txTime` the time of expiry
    /// in hexadecimal digits. With [`Hash::Sha256`] the same with that hash.
    #[must_use]
    pub fn tencent(hash: Hash) -> Self {
        Self {
            hash,
            encoding: Encoding::Hex,
            text: Template::of([Piece::Key, Piece::Stream, Piece::Expires]),
            carrier: Carrier::Parameters {
                signature: "txSecret".to_owned(),
                expires: "txTime".to_owned(),
                radix: 16,
            },
        }
    }

    /// Alibaba Cloud's type A: `auth_key=EXPIRES-RAND-UID-md5(URI-EXPIRES-RAND-UID-KEY)`,
    /// where the URI has its suffix.
    #[must_use]
    pub fn aliyun() -> Self {
        let dash = || Piece::Text("-".to_owned());
        Self {
            hash: Hash::Md5,
            encoding: Encoding::Hex,
            text: Template::of([Piece::Uri, dash(), Piece::Expires, dash(), Piece::Key]),
            carrier: Carrier::AuthKey,
        }
    }

    /// nginx's `secure_link` as its documentation has it:
    /// `md5=base64url(md5("EXPIRES URI REMOTE_ADDR KEY"))`, without the spaces but the last,
    /// and `expires=EXPIRES`.
    #[must_use]
    pub fn secure_link() -> Self {
        let space = Piece::Text(" ".to_owned());
        Self {
            hash: Hash::Md5,
            encoding: Encoding::Base64Url,
            text: Template::of([
                Piece::Expires,
                Piece::Uri,
                Piece::RemoteAddr,
                space,
                Piece::Key,
            ]),
            carrier: Carrier::Parameters {
                signature: "md5".to_owned(),
                expires: "expires".to_owned(),
                radix: 10,
            },
        }
    }

    /// Another one: the parameter `signature` has the hash of `text`, the parameter
    /// `expires` the time, in hexadecimal digits where `hex_time`.
    ///
    /// # Errors
    /// Its signatures would be worth nothing.
    pub fn template(
        hash: Hash,
        encoding: Encoding,
        text: Template,
        (signature, expires): (&str, &str),
        hex_time: bool,
    ) -> Result<Self, SchemeError> {
        if hash != Hash::HmacSha256 && !text.has(&Piece::Key) {
            return Err(SchemeError::NoKey);
        }
        if !text.has(&Piece::Expires) {
            return Err(SchemeError::NoExpiry);
        }
        if !text.has(&Piece::Stream) && !text.has(&Piece::Uri) {
            return Err(SchemeError::NoStream);
        }
        if signature == expires {
            return Err(SchemeError::OneParameter);
        }
        Ok(Self {
            hash,
            encoding,
            text,
            carrier: Carrier::Parameters {
                signature: signature.to_owned(),
                expires: expires.to_owned(),
                radix: if hex_time { 16 } else { 10 },
            },
        })
    }

    /// The signature and the time that `request` has; `Ok(None)` if it has none.
    ///
    /// # Errors
    /// It has them in no form that can be read.
    pub(crate) fn presented<'a>(
        &self,
        request: &Request<'a>,
    ) -> Result<Option<Presented<'a>>, Malformed> {
        let (signature, expires_text, time, radix) = match &self.carrier {
            Carrier::Parameters {
                signature,
                expires,
                radix,
            } => {
                let signature = request.parameter(signature);
                let expires = request.parameter(expires);
                match (signature, expires) {
                    (None, None) => return Ok(None),
                    (Some(signature), Some(expires)) => (signature, expires, expires, *radix),
                    _ => return Err(Malformed),
                }
            }
            Carrier::AuthKey => {
                let Some(value) = request.parameter("auth_key") else {
                    return Ok(None);
                };
                let (before, signature) = value.rsplit_once('-').ok_or(Malformed)?;
                let mut parts = before.split('-');
                let time = parts.next().ok_or(Malformed)?;
                if parts.count() != 2 {
                    return Err(Malformed);
                }
                (signature, before, time, 10)
            }
        };
        if signature.len() > MAX_CHARACTERS || expires_text.len() > MAX_CHARACTERS {
            return Err(Malformed);
        }
        // Names and times may stand side by side in the text that is signed: with one digit
        // more, a time would have taken the last one of a name, and be valid for ages.
        let max_digits = if radix == 16 {
            MAX_HEX_DIGITS
        } else {
            MAX_DECIMAL_DIGITS
        };
        // `from_str_radix` takes a sign, too.
        let is_time = time.len() <= max_digits && time.chars().all(|it| it.is_digit(radix));
        let expires = is_time
            .then_some(time)
            .and_then(|it| u64::from_str_radix(it, radix).ok());
        Ok(Some(Presented {
            signature: self.encoding.decode(signature).ok_or(Malformed)?,
            expires: expires.ok_or(Malformed)?,
            expires_text,
        }))
    }

    /// The signature that `request` should have by this secret.
    pub(crate) fn expected(
        &self,
        request: &Request<'_>,
        presented: &Presented<'_>,
        secret: &str,
    ) -> Vec<u8> {
        let text = self.text.fill(request, secret, presented.expires_text);
        self.hash.of(&text, secret)
    }

    /// The parameters that sign `request` until `expires`, in Unix seconds. `nonce` is the
    /// random part of schemes that have one.
    pub(crate) fn sign(
        &self,
        request: &Request<'_>,
        secret: &str,
        expires: u64,
        nonce: u64,
    ) -> String {
        let expires_text = match &self.carrier {
            Carrier::Parameters { radix: 16, .. } => format!("{expires:x}"),
            Carrier::Parameters { .. } => expires.to_string(),
            Carrier::AuthKey => format!("{expires}-{nonce:016x}-0"),
        };
        let text = self.text.fill(request, secret, &expires_text);
        let made = self.encoding.encode(&self.hash.of(&text, secret));
        match &self.carrier {
            Carrier::Parameters {
                signature, expires, ..
            } => format!("{signature}={made}&{expires}={expires_text}"),
            Carrier::AuthKey => format!("auth_key={expires_text}-{made}"),
        }
    }
}

/// A signature that cannot be read.
#[derive(Debug)]
pub(crate) struct Malformed;
