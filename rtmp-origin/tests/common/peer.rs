//! A publisher or player on a socket that waits.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use netbed::TIME_LIMIT;
use rtmp_proto::session::{ClientConfig, ClientEvent, ClientSession, Purpose};
use rtmp_proto::wire::{Limits, Message, MessageType};

/// The server's refusal of a publisher.
#[derive(Debug)]
pub(crate) struct Refusal(pub String);

/// A connection of our own client session.
pub(crate) struct Peer {
    socket: TcpStream,
    session: ClientSession,
    input: Vec<u8>,
    out: Vec<u8>,
}

impl Peer {
    /// A publisher of the stream `name`.
    pub(crate) fn publish(address: SocketAddr, name: &str) -> Result<Self, Refusal> {
        let mut peer = Self::connect(address, Purpose::Publish, name);
        loop {
            match peer.event() {
                Some(ClientEvent::Publishing) => return Ok(peer),
                Some(ClientEvent::Rejected(status)) => {
                    return Err(Refusal(format!("{}: {}", status.code, status.description)));
                }
                Some(_) => {}
                None => return Err(Refusal("closed".to_owned())),
            }
        }
    }

    /// A player of the stream `name`.
    pub(crate) fn play(address: SocketAddr, name: &str) -> Self {
        Self::connect(address, Purpose::Play, name)
    }

    fn connect(address: SocketAddr, purpose: Purpose, name: &str) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        socket.set_write_timeout(Some(TIME_LIMIT)).unwrap();
        let tc_url = format!("rtmp://{address}/live");
        let config = ClientConfig::new(purpose, &tc_url, "live", name);
        let mut out = Vec::new();
        let session = ClientSession::new(config, &Limits::default(), &mut out).unwrap();
        Self {
            socket,
            session,
            input: Vec::new(),
            out,
        }
    }

    /// The next event; `None` when the server has closed the connection.
    fn event(&mut self) -> Option<ClientEvent> {
        loop {
            let mut unread = &self.input[..];
            let event = self.session.read(&mut unread, &mut self.out).unwrap();
            let read = self.input.len() - unread.len();
            self.input.drain(..read);
            // An error does not matter: if the server has closed, its last status is
            // still to be read.
            let _ = self.socket.write_all(&self.out);
            self.out.clear();
            if event.is_some() {
                return event;
            }
            if read_some(&mut self.socket, &mut self.input) == 0 {
                return None;
            }
        }
    }

    /// Sends a picture of so many bytes.
    pub(crate) fn send_picture(
        &mut self,
        timestamp: u32,
        keyframe: bool,
        bytes: usize,
    ) -> io::Result<()> {
        let mut payload = vec![0x55; bytes];
        let kind = if keyframe { 0x17 } else { 0x27 };
        payload[..5].copy_from_slice(&[kind, 1, 0, 0, 0]);
        let message = Message {
            timestamp,
            message_type: MessageType::VIDEO,
            stream_id: 1,
            payload: payload.into(),
        };
        self.session.publish(&message, &mut self.out);
        let sent = self.socket.write_all(&self.out);
        self.out.clear();
        sent
    }

    /// The time of the next picture; `None` when the stream has ended.
    pub(crate) fn next_picture(&mut self) -> Option<u32> {
        self.next_video().map(|message| message.timestamp)
    }

    /// The next message of video; `None` when the stream has ended.
    pub(crate) fn next_video(&mut self) -> Option<Message> {
        loop {
            match self.event() {
                Some(ClientEvent::Media(message)) if message.message_type == MessageType::VIDEO => {
                    return Some(message);
                }
                Some(ClientEvent::Ended | ClientEvent::Rejected(_)) | None => return None,
                Some(_) => {}
            }
        }
    }
}

/// Adds what comes next to `input`; the number of bytes, 0 at the end.
///
/// # Panics
/// When nothing comes.
pub(crate) fn read_some(socket: &mut impl Read, input: &mut Vec<u8>) -> usize {
    let mut bytes = [0; 16 * 1024];
    let count = socket.read(&mut bytes).expect("something comes");
    input.extend_from_slice(&bytes[..count]);
    count
}
