//! `auth_hmac` of a virtual router (keepalived.conf(5) of keepalived 2.4).

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hex;

/// Length of a key in bytes.
pub const KEY_BYTES: RangeInclusive<usize> = 32..=64;

/// `time_window`, in seconds.
pub const TIME_WINDOW_S: RangeInclusive<u32> = 1..=300;

/// `auth_hmac { … }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthHmac {
    /// The keys that adverts of others may be signed with.
    pub key: Vec<HmacKey>,
    /// Number of the key that signs our adverts.
    #[schemars(range(min = 1, max = 255))]
    pub active_key: u8,
    /// What an advert's sequence number must be; default `time`.
    pub anti_replay: Option<AntiReplay>,
    /// Seconds by which a sender's clock may differ from ours; default three
    /// `advert_int`, 5 at least.
    #[schemars(range(min = *TIME_WINDOW_S.start(), max = *TIME_WINDOW_S.end()))]
    pub time_window: Option<u32>,
    /// Whether adverts are signed, and those of others must be; default `enforce`.
    pub mode: Option<HmacMode>,
}

/// `key NUMBER VALUE`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HmacKey {
    /// Its number, which adverts name.
    #[schemars(range(min = 1, max = 255))]
    pub id: u8,
    /// 32 to 64 characters; or `hex:` and as many bytes; or `file:` and the path of a file
    /// that holds either.
    pub value: String,
}

impl HmacKey {
    /// The path of the file that holds the key, if one does.
    pub fn file(&self) -> Option<&str> {
        self.value.strip_prefix("file:")
    }

    /// The bytes of a key as it is written.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn decode(text: &str) -> Result<Vec<u8>, String> {
        let bytes = match text.strip_prefix("hex:") {
            None => text.as_bytes().to_vec(),
            Some(digits) => {
                let is_right = digits.len().is_multiple_of(2) && hex::is_payload(digits);
                let parsed = hex::parse(digits).filter(|_| is_right);
                let parsed = parsed.ok_or("no hexadecimal bytes behind `hex:`")?;
                parsed.into_iter().map(|(byte, _)| byte).collect()
            }
        };
        if KEY_BYTES.contains(&bytes.len()) {
            Ok(bytes)
        } else {
            Err(format!("{} bytes long", bytes.len()))
        }
    }
}

/// `anti_replay`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AntiReplay {
    /// Greater than the last one, and by its sender's clock not older than `time_window`.
    Time,
    /// Greater than the last one.
    Monotonic,
}

/// `mode` of `auth_hmac`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HmacMode {
    /// Signs, and accepts only what is signed.
    Enforce,
    /// Signs, and accepts what is not signed.
    Permissive,
    /// Does not sign, and accepts what is not signed; a wrong signature is refused.
    ReceiveOnly,
}
