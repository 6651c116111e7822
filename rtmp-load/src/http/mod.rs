//! HTTP/1.1 from a player's side: requests, answers, WebSocket frames. No I/O.

pub(crate) mod response;
pub(crate) mod websocket;

/// The name by which players introduce themselves.
pub(crate) const USER_AGENT: &str = concat!("rtmp-load/", env!("CARGO_PKG_VERSION"));

/// Appends a GET request with these further fields, each ended by CR LF.
pub(crate) fn get(target: &str, host: &str, fields: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(
        format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nAccept: \
             */*\r\n{fields}\r\n"
        )
        .as_bytes(),
    );
}
