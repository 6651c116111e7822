//! A client of HLS that shares nothing with the server, and streams for it.

use std::net::{Ipv4Addr, SocketAddr};

use netbed::TIME_LIMIT;
use rtmp_proto::wire::{Message, MessageType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::message;

/// x264's decoder configuration of 320x180.
const AVC_CONFIGURATION: &str = "01f4000dffe1001a67f4000d919681419f8dc044000003000400000300f03c50aa\
                                 8001000568ce0f1920fff8f800";

/// Sequence headers of H.264 and of AAC at 48 kHz.
pub(crate) fn sequence_headers(timestamp: u32) -> Vec<Message> {
    let mut video = vec![0x17, 0, 0, 0, 0];
    video.extend(
        data_encoding::HEXLOWER
            .decode(AVC_CONFIGURATION.as_bytes())
            .unwrap(),
    );
    vec![
        message(MessageType::VIDEO, timestamp, &video),
        message(MessageType::AUDIO, timestamp, &[0xaf, 0, 0x11, 0x90]),
    ]
}

/// A picture of one NAL unit.
pub(crate) fn coded_picture(keyframe: bool, timestamp: u32) -> Message {
    let (head, unit) = if keyframe { (0x17, 0x65) } else { (0x27, 0x41) };
    let mut payload = vec![head, 1, 0, 0, 0, 0, 0, 3, 232];
    payload.extend(vec![unit; 1_000]);
    message(MessageType::VIDEO, timestamp, &payload)
}

/// Pictures at 25/s with a keyframe each second and sound, from `from` up to `to` seconds.
pub(crate) fn seconds(from: u32, to: u32) -> Vec<Message> {
    let mut messages = Vec::new();
    for number in from * 25..to * 25 {
        let timestamp = number * 40;
        messages.push(coded_picture(number % 25 == 0, timestamp));
        let sound = message(
            MessageType::AUDIO,
            timestamp,
            &[&[0xaf, 1][..], &[0x21; 200]].concat(),
        );
        messages.push(sound);
    }
    messages
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    /// The value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let field = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value)
    }

    /// The lines of a playlist that are URIs.
    pub(crate) fn uris(&self) -> Vec<String> {
        let lines = self.text().lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    /// The values of an attribute in the lines that begin with `tag`.
    pub(crate) fn attributes(&self, tag: &str, name: &str) -> Vec<String> {
        let lines = self.text().lines();
        let lines = lines.filter_map(|line| line.strip_prefix(tag)?.strip_prefix(':'));
        let values = lines.filter_map(|line| {
            let value = line.split(',').find_map(|pair| {
                let (known, value) = pair.split_once('=')?;
                (known == name).then_some(value)
            })?;
            Some(value.trim_matches('"').to_owned())
        });
        values.collect()
    }

    /// The number behind a tag.
    pub(crate) fn number(&self, tag: &str) -> Option<u64> {
        let mut lines = self.text().lines();
        lines.find_map(|line| line.strip_prefix(tag)?.strip_prefix(':')?.parse().ok())
    }
}

/// A connection that stays.
pub(crate) struct HlsClient {
    pub socket: TcpStream,
    address: SocketAddr,
    input: Vec<u8>,
}

impl HlsClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self {
            socket: TcpStream::connect(address).await.unwrap(),
            address,
            input: Vec::new(),
        }
    }

    /// The same from the address `from`.
    pub(crate) async fn connect_from(from: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        Self {
            socket: socket.connect(address).await.unwrap(),
            address,
            input: Vec::new(),
        }
    }

    /// Sends a request with these header fields.
    pub(crate) async fn ask(&mut self, line: &str, fields: &str) {
        let text = format!("{line} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", self.address);
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// The answer to `GET`.
    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.ask(&format!("GET {target}"), "").await;
        self.answer().await
    }

    /// The same of an answer that must be good.
    pub(crate) async fn fetch(&mut self, target: &str) -> Answer {
        let answer = self.get(target).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        answer
    }

    /// The good answer for which `enough` holds, however often it takes.
    pub(crate) async fn fetch_until(
        &mut self,
        target: &str,
        enough: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let wait = async {
            loop {
                let answer = self.fetch(target).await;
                if enough(&answer) {
                    return answer;
                }
            }
        };
        let answer = tokio::time::timeout(TIME_LIMIT, wait).await;
        answer.expect("there was no such answer")
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    /// The next answer, to a request of this method.
    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        let head = loop {
            let end = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break String::from_utf8(self.take(end + 4)).unwrap();
            }
            assert!(self.fill().await, "no whole head: {:?}", self.input);
        };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        if method != "HEAD" && status != 204 {
            let length = answer.field("Content-Length").expect("a length");
            let length: usize = length.parse().unwrap();
            while self.input.len() < length {
                assert!(self.fill().await, "the body is cut: {answer:?}");
            }
            answer.body = self.take(length);
        }
        answer
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.input.drain(..count).collect()
    }

    /// Reads what comes; false at the end of the connection.
    async fn fill(&mut self) -> bool {
        let mut bytes = [0; 65_536];
        let read = tokio::time::timeout(TIME_LIMIT, self.socket.read(&mut bytes)).await;
        let count = read.expect("nothing came").unwrap_or(0);
        self.input.extend_from_slice(&bytes[..count]);
        count > 0
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&mut self) {
        while self.fill().await {}
    }

    /// Begins a session at the playlist `path`; the target of its media playlist.
    pub(crate) async fn begin(&mut self, path: &str) -> String {
        let multivariant = self.fetch(path).await;
        let [variant] = &multivariant.uris()[..] else {
            panic!("one variant: {multivariant:?}");
        };
        beside(path, variant)
    }
}

/// The target of the relative `uri` in the playlist at `path`.
pub(crate) fn beside(path: &str, uri: &str) -> String {
    let (directory, _) = path.split('?').next().unwrap().rsplit_once('/').unwrap();
    format!("{directory}/{uri}")
}
