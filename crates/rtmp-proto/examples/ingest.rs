//! How fast a publisher's bytes are read: through the chunk reader alone, and
//! through a whole session, against copying the same bytes once. One line of
//! JSON per length of the publisher's chunks; `cargo xtask bench rtmp ingest`
//! runs it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rtmp_proto::session::{
    ClientConfig, ClientEvent, ClientSession, ConnectSettings, Purpose, ServerEvent, ServerSession,
    SessionError,
};
use rtmp_proto::wire::chunk::{ChunkReader, ChunkWriter, csid};
use rtmp_proto::wire::message::Control;
use rtmp_proto::wire::{Limits, Message, MessageType};
use serde_json::json;

/// What Flash, OBS and ffmpeg, and other servers choose, in bytes.
const CHUNK_SIZES: [u32; 3] = [128, 4_096, 60_000];
/// A picture of 2 Mbit/s at 30 a second, and a frame of AAC, in bytes.
const PICTURE_BYTES: usize = 8_333;
const SOUND_BYTES: usize = 180;
/// What is read in one round: a minute of the stream.
const PICTURES: u32 = 1_800;
/// With a frame of sound for each picture.
const MESSAGES: u32 = 2 * PICTURES;
/// What the servers take off a socket at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// Each way of reading is tried again for so long; the fastest round counts.
const TRIAL: Duration = Duration::from_millis(500);

fn main() -> Result<(), SessionError> {
    for chunk_size in CHUNK_SIZES {
        let copying = megabytes_per_second(|| {
            let bytes = bare_chunks(chunk_size);
            let mut copy = vec![0; READ_BYTES];
            let copied = move || {
                for read in bytes.chunks(READ_BYTES) {
                    copy[..read.len()].copy_from_slice(read);
                    black_box(&copy);
                }
                bytes.len()
            };
            Ok(copied)
        })?;
        let chunk_reader = megabytes_per_second(|| {
            let bytes = bare_chunks(chunk_size);
            let mut reader = ChunkReader::new(&Limits::default());
            let read = move || {
                let mut messages = 0;
                for mut read in bytes.chunks(READ_BYTES) {
                    while let Some(message) = reader.read(&mut read).expect("well-formed") {
                        black_box(&message);
                        messages += 1;
                    }
                }
                assert_eq!(messages, 1 + MESSAGES, "the chunk size and the media");
                bytes.len()
            };
            Ok(read)
        })?;
        let session = megabytes_per_second(|| {
            let (mut server, bytes) = publishing(chunk_size)?;
            let read = move || {
                let mut replies = Vec::new();
                let mut messages = 0;
                for mut read in bytes.chunks(READ_BYTES) {
                    while let Some(event) =
                        server.read(&mut read, &mut replies).expect("well-formed")
                    {
                        black_box(&event);
                        messages += 1;
                    }
                }
                assert_eq!(messages, MESSAGES);
                bytes.len()
            };
            Ok(read)
        })?;
        let figures = json!({
            "chunk_size": chunk_size,
            "copying_mb_per_s": copying,
            "chunk_reader_mb_per_s": chunk_reader,
            "session_mb_per_s": session,
        });
        println!("{figures}");
    }
    Ok(())
}

/// The fastest of several rounds, in 10⁶ bytes per second. A round is prepared
/// without being timed; it returns the bytes that it has read.
fn megabytes_per_second<Round: FnOnce() -> usize>(
    prepare: impl Fn() -> Result<Round, SessionError>,
) -> Result<f64, SessionError> {
    let mut best = 0.0_f64;
    let began = Instant::now();
    while began.elapsed() < TRIAL {
        let round = prepare()?;
        let start = Instant::now();
        let bytes = round();
        best = best.max(bytes as f64 / 1e6 / start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// A minute of pictures, each followed by a frame of sound.
fn media() -> impl Iterator<Item = Message> {
    (0..PICTURES).flat_map(|number| {
        let message = |message_type, first: u8, length| {
            let mut payload = vec![0x5a; length];
            payload[0] = first;
            // Not a sequence header.
            payload[1] = 1;
            Message {
                timestamp: number * 33,
                message_type,
                stream_id: 1,
                payload: payload.into(),
            }
        };
        [
            message(MessageType::VIDEO, 0x27, PICTURE_BYTES),
            message(MessageType::AUDIO, 0xaf, SOUND_BYTES),
        ]
    })
}

/// The media as chunks, without a conversation around them.
fn bare_chunks(chunk_size: u32) -> Vec<u8> {
    let mut writer = ChunkWriter::new();
    let mut bytes = Vec::new();
    let announcement = Control::SetChunkSize(chunk_size).to_message();
    writer.write(&announcement, csid::CONTROL, &mut bytes);
    writer.set_chunk_size(chunk_size);
    for message in media() {
        let chunk_stream = csid::for_message(message.message_type, message.stream_id);
        writer.write(&message, chunk_stream, &mut bytes);
    }
    bytes
}

/// A session that has accepted a publisher, and what the publisher sends then.
fn publishing(chunk_size: u32) -> Result<(ServerSession, Vec<u8>), SessionError> {
    let limits = Limits::default();
    let config = ClientConfig {
        chunk_size,
        ..ClientConfig::new(Purpose::Publish, "rtmp://127.0.0.1/live", "live", "s")
    };
    let mut server = ServerSession::new(&limits);
    let mut to_server = Vec::new();
    let mut to_client = Vec::new();
    let mut client = ClientSession::new(config, &limits, &mut to_server)?;
    loop {
        let said = std::mem::take(&mut to_server);
        let mut input = said.as_slice();
        while let Some(event) = server.read(&mut input, &mut to_client)? {
            match event {
                ServerEvent::Connect(_) => {
                    server.accept_connect(&ConnectSettings::default(), &mut to_client);
                }
                ServerEvent::Publish(request) => {
                    server.accept_publish(request.stream_id, &mut to_client);
                }
                _ => {}
            }
        }
        let answered = std::mem::take(&mut to_client);
        let mut input = answered.as_slice();
        while let Some(event) = client.read(&mut input, &mut to_server)? {
            if event == ClientEvent::Publishing {
                for message in media() {
                    client.publish(&message, &mut to_server);
                }
                return Ok((server, to_server));
            }
        }
    }
}
