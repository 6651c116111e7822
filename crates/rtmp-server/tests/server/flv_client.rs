//! A player of HTTP-FLV and WebSocket-FLV with a strict reader of its own, which shares
//! nothing with the server's writer.

use std::net::SocketAddr;

use netbed::TIME_LIMIT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One tag of an FLV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    /// 8: audio, 9: video, 18: script data.
    pub kind: u8,
    pub timestamp: u32,
    pub payload: Vec<u8>,
}

/// A client of HTTP.
pub(crate) struct FlvClient {
    pub socket: TcpStream,
    /// Bytes that came and have not been read; with WebSocket, payload only.
    input: Vec<u8>,
    /// Bytes of frames that are not complete.
    frames: Vec<u8>,
    websocket: bool,
    /// The payloads of pongs that came, and the codes of closes.
    pub pongs: Vec<Vec<u8>>,
    pub close_code: Option<u16>,
}

/// The key of the handshake in RFC 6455 §1.3, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl FlvClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self {
            socket: TcpStream::connect(address).await.unwrap(),
            input: Vec::new(),
            frames: Vec::new(),
            websocket: false,
            pongs: Vec::new(),
            close_code: None,
        }
    }

    /// A client that has sent this request line and these header fields.
    pub(crate) async fn asking(address: SocketAddr, line: &str, fields: &str) -> Self {
        let mut client = Self::connect(address).await;
        let text = format!("{line} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
        client.send(text.as_bytes()).await;
        client
    }

    /// A player that stands behind the file header of `path`; and the flags there.
    pub(crate) async fn playing(address: SocketAddr, path: &str) -> (Self, u8) {
        let mut client = Self::asking(address, &format!("GET {path}"), "").await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("Content-Type: video/x-flv\r\n"), "{head}");
        assert!(head.contains("Connection: close\r\n"), "{head}");
        let flags = client.file_header().await;
        (client, flags)
    }

    /// The header fields that ask for a WebSocket.
    pub(crate) fn websocket_fields() -> String {
        format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\n"
        )
    }

    /// The same over a WebSocket.
    pub(crate) async fn playing_websocket(address: SocketAddr, path: &str) -> (Self, u8) {
        let fields = Self::websocket_fields();
        let mut client = Self::asking(address, &format!("GET {path}"), &fields).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let accept = format!("Sec-WebSocket-Accept: {ACCEPT}\r\n");
        assert!(head.contains(&accept), "{head}");
        client.websocket = true;
        client.frames = std::mem::take(&mut client.input);
        client.take_frames();
        let flags = client.file_header().await;
        (client, flags)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// Sends a masked frame of at most 125 bytes.
    pub(crate) async fn send_frame(&mut self, first: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [9, 8, 7, 6];
        let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap()];
        frame.extend(MASK);
        frame.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        self.send(&frame).await;
    }

    /// Reads what comes; false at the end of the connection.
    pub(crate) async fn fill(&mut self) -> bool {
        let mut bytes = [0; 65_536];
        let read = tokio::time::timeout(TIME_LIMIT, self.socket.read(&mut bytes)).await;
        let count = read.expect("nothing came").unwrap_or(0);
        if self.websocket {
            self.frames.extend_from_slice(&bytes[..count]);
            self.take_frames();
        } else {
            self.input.extend_from_slice(&bytes[..count]);
        }
        count > 0
    }

    /// Takes whole frames apart.
    fn take_frames(&mut self) {
        loop {
            let frame = self.frames.as_slice();
            let (header, length) = match *frame {
                [_, short @ 0..126, ..] => (2, usize::from(short)),
                [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
                [_, 127, a, b, c, d, e, f, g, h, ..] => {
                    let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                    (10, usize::try_from(length).unwrap())
                }
                [_, masked, ..] if masked > 127 => panic!("a server's frame is masked"),
                _ => return,
            };
            let Some(payload) = frame.get(header..header + length) else {
                return;
            };
            match frame[0] {
                0x82 => self.input.extend_from_slice(payload),
                0x8a => self.pongs.push(payload.to_vec()),
                0x88 => self.close_code = Some(u16::from_be_bytes([payload[0], payload[1]])),
                other => panic!("a frame that begins with {other:#x}"),
            }
            self.frames.drain(..header + length);
        }
    }

    /// Takes `count` bytes of the payload.
    async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            assert!(self.fill().await, "the connection was closed");
        }
        self.input.drain(..count).collect()
    }

    /// The head of the answer, with the empty line behind it.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            let end = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.take(end + 4).await;
                return String::from_utf8(head).unwrap();
            }
            assert!(self.fill().await, "no whole head: {:?}", self.input);
        }
    }

    /// The whole answer, up to the end of the connection.
    pub(crate) async fn answer(&mut self) -> String {
        while self.fill().await {}
        String::from_utf8(std::mem::take(&mut self.input)).unwrap()
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&mut self) {
        while self.fill().await {}
    }

    /// Reads the file header; its flags.
    async fn file_header(&mut self) -> u8 {
        let header = self.take(13).await;
        let [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0] = header[..] else {
            panic!("no FLV file header: {header:?}");
        };
        assert_eq!(flags & !5, 0, "reserved flags");
        flags
    }

    /// The next tag.
    pub(crate) async fn tag(&mut self) -> Tag {
        let header = self.take(11).await;
        let [kind, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0] = header[..] else {
            panic!("no tag: {header:?}");
        };
        assert!([8, 9, 18].contains(&kind), "a tag of the kind {kind}");
        let length = u32::from_be_bytes([0, l2, l1, l0]);
        let payload = self.take(length as usize).await;
        let previous = self.take(4).await;
        assert_eq!(previous, (11 + length).to_be_bytes(), "PreviousTagSize");
        Tag {
            kind,
            timestamp: u32::from_be_bytes([t3, t2, t1, t0]),
            payload,
        }
    }

    /// The next tags, each with its kind, its time, and the first byte of its payload.
    pub(crate) async fn tags(&mut self, count: usize) -> Vec<(u8, u32, u8)> {
        let mut tags = Vec::new();
        for _ in 0..count {
            let tag = self.tag().await;
            tags.push((tag.kind, tag.timestamp, tag.payload[0]));
        }
        tags
    }
}
