//! Streams of real encoders, as RTMP messages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use rtmp_proto::wire::{Message, MessageType};

/// A directory of its own, which goes with its owner.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hls-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file");
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs ffmpeg, which `scripts/setup.sh` installs, and gives what it prints.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// Makes a file by ffmpeg: a moving picture and a tone of `seconds`, with these options.
pub(crate) fn encode(file: &Path, seconds: u32, options: &str) {
    let video = format!("testsrc=size=320x180:rate=30:duration={seconds}");
    let audio = format!("sine=frequency=440:sample_rate=44100:duration={seconds}");
    let mut arguments = vec!["-v", "error", "-y"];
    arguments.extend(["-f", "lavfi", "-i", &video, "-f", "lavfi", "-i", &audio]);
    arguments.extend(["-pix_fmt", "yuv420p"]);
    arguments.extend(options.split_whitespace());
    arguments.push(file.to_str().unwrap());
    run("ffmpeg", &arguments);
}

/// The tags of an FLV file as messages.
pub(crate) fn read_flv(file: &Path) -> Vec<Message> {
    let bytes = fs::read(file).expect("a file");
    let mut rest = &bytes[13..];
    let mut messages = Vec::new();
    while let [kind, x, y, z, b, c, d, a, 0, 0, 0, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *x, *y, *z]) as usize;
        messages.push(Message {
            timestamp: u32::from_be_bytes([*a, *b, *c, *d]),
            message_type: MessageType(*kind),
            stream_id: 1,
            payload: Bytes::copy_from_slice(&after[..length]),
        });
        rest = &after[length + 4..];
    }
    assert!(rest.is_empty());
    messages
}

/// A message of this type, at this time.
pub(crate) fn message(message_type: MessageType, time_ms: u64, payload: &[u8]) -> Message {
    Message {
        timestamp: time_ms as u32,
        message_type,
        stream_id: 1,
        payload: Bytes::copy_from_slice(payload),
    }
}
