//! The answer to a request for the load (`LOAD_CHECK`): `GET /api/v1/load` of the RTMP servers.

use serde::{Deserialize, Serialize};

use crate::http::{Chunks, Head};

/// What a server says of its load. Rates are in bit/s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// What it sends, on average of the last seconds.
    pub bits_out: u64,
    /// What viewers will take that were let in a moment ago.
    #[serde(default)]
    pub reserved: u64,
    /// What it can send; `None` if it does not know.
    pub capacity: Option<u64>,
    /// What viewers may take of that; `None`: all of it.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Number of its players.
    #[serde(default)]
    pub players: u64,
    /// Lag that 99 of 100 players do not pass, in ms.
    #[serde(default)]
    pub lag_p99_ms: u64,
    /// Part of the processors that it takes, in percent.
    #[serde(default, rename = "cpu", deserialize_with = "percent")]
    pub cpu_percent: u32,
    /// True if it is about to stop, and lets nobody in.
    #[serde(default, rename = "reason", deserialize_with = "is_draining")]
    pub is_draining: bool,
}

impl Load {
    /// What viewers may take, bit/s; `None` if it is not known.
    pub fn limit(&self) -> Option<u64> {
        self.limit.or(self.capacity).filter(|limit| *limit > 0)
    }

    /// What viewers take and will take, bit/s.
    pub fn used(&self) -> u64 {
        self.bits_out.saturating_add(self.reserved)
    }
}

fn percent<'de, D: serde::Deserializer<'de>>(part: D) -> Result<u32, D::Error> {
    let part = f64::deserialize(part)?;
    Ok((part * 100.0).round().clamp(0.0, 1e6) as u32)
}

fn is_draining<'de, D: serde::Deserializer<'de>>(reason: D) -> Result<bool, D::Error> {
    let reason = Option::<String>::deserialize(reason)?;
    Ok(reason.as_deref() == Some("draining"))
}

/// The API's answer.
#[derive(Deserialize)]
struct Answer {
    data: Load,
}

/// Reads an answer.
///
/// # Errors
/// It is no load.
pub fn parse(bytes: &[u8]) -> Result<Load, String> {
    let parsed = Head::parse(bytes)?;
    let (head, length) = parsed.ok_or("the answer breaks off")?;
    if head.status != 200 {
        return Err(format!("status {}", head.status));
    }
    let mut body = bytes[length..].to_vec();
    if head.is_chunked {
        let mut data = Vec::new();
        Chunks::default().take(&body, |some| {
            data.extend(some);
            Ok(())
        })?;
        body = data;
    }
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|error| format!("the answer is no load: {error}"))?;
    Ok(answer.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"code":0,"server":"x","data":{"bits_out":7000000,"bits_out_now":1,
        "reserved":500000,"capacity":10000000,"limit":9500000,"interface":null,"players":3,
        "lag_p99_ms":41,"cpu":0.0625,"accepting":true,"reason":null}}"#;

    #[test]
    fn a_load_is_what_the_api_says() {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{BODY}");
        let load = parse(answer.as_bytes()).expect("a load");
        let expected = Load {
            bits_out: 7_000_000,
            reserved: 500_000,
            capacity: Some(10_000_000),
            limit: Some(9_500_000),
            players: 3,
            lag_p99_ms: 41,
            cpu_percent: 6,
            is_draining: false,
        };
        assert_eq!(load, expected);
        assert_eq!((load.used(), load.limit()), (7_500_000, Some(9_500_000)));
        let draining = BODY.replace("\"reason\":null", "\"reason\":\"draining\"");
        let load = parse(format!("HTTP/1.1 200 OK\r\n\r\n{draining}").as_bytes());
        assert!(load.expect("a load").is_draining);
    }

    #[test]
    fn what_is_no_load_is_a_failure_with_a_reason() {
        for (answer, expected) in [
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", "status 401"),
            (
                "HTTP/1.1 200 OK\r\n\r\n{}",
                "the answer is no load: missing field `data`",
            ),
            ("HTTP/1.1 200", "the answer breaks off"),
        ] {
            let reason = parse(answer.as_bytes()).expect_err(answer);
            assert!(reason.starts_with(expected), "{reason}");
        }
    }
}
