//! The fuzz targets of `http-flv`. Called by `cargo fuzz` and, with the corpus that is
//! kept in the repository, by a plain test of `http-flv`.

use http_flv::request::{self, MAX_HEAD_BYTES, Method};
use http_flv::tag::{self, TagKind};
use http_flv::websocket::{self, Event, FrameError, FrameReader, MAX_CONTROL_BYTES};

/// Tags: whoever reads them finds the same kinds, times and payloads.
pub fn flv_tags(data: &[u8]) {
    let mut written = Vec::new();
    let mut out = tag::file_header(true, true).to_vec();
    let mut rest = data;
    while let [kind, a, b, c, d, length, after @ ..] = rest {
        let kind = match kind % 3 {
            0 => TagKind::Audio,
            1 => TagKind::Video,
            _ => TagKind::Script,
        };
        let timestamp = u32::from_be_bytes([*a, *b, *c, *d]);
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        tag::write_tag(kind, timestamp, payload, &mut out);
        written.push((kind as u8, timestamp, payload));
        rest = after;
    }
    assert_eq!(read_tags(&out), written);
}

/// The tags of a file.
fn read_tags(file: &[u8]) -> Vec<(u8, u32, &[u8])> {
    let mut rest = &file[tag::FILE_HEADER_BYTES..];
    let mut tags = Vec::new();
    while let [kind, x, y, z, b, c, d, a, 0, 0, 0, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *x, *y, *z]);
        let (payload, after) = after.split_at(length as usize);
        let (previous, after) = after.split_at(4);
        assert_eq!(previous, (length + 11).to_be_bytes());
        tags.push((*kind, u32::from_be_bytes([*a, *b, *c, *d]), payload));
        rest = after;
    }
    assert!(rest.is_empty());
    tags
}

/// A request's head: it is bounded, what follows it does not count, and names have no
/// control characters.
pub fn request_head(data: &[u8]) {
    let read = request::parse(data);
    match &read {
        Ok(None) => assert!(data.len() < MAX_HEAD_BYTES),
        Ok(Some(request)) => {
            let options = request.method == Method::Options && request.path == "*";
            assert!(request.path.starts_with('/') || options, "{request:?}");
            assert!(!request.path.chars().any(char::is_control));
            assert!(data[..request.head_bytes].ends_with(b"\n"));
            let mut longer = data.to_vec();
            longer.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
            assert_eq!(request::parse(&longer), read);
        }
        Err(error) => assert!((400..500).contains(&error.status())),
    }
}

/// A client's frames: any cut means the same, and what is kept is bounded.
pub fn websocket_frames(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else {
        return;
    };
    let at_once = read_frames(data, data.len().max(1));
    assert_eq!(read_frames(data, usize::from(piece) + 1), at_once);
    let mut out = Vec::new();
    for event in at_once.unwrap_or_default() {
        if let Event::Ping(payload) = event {
            assert!(payload.len() <= MAX_CONTROL_BYTES);
            out.clear();
            websocket::write_pong(&payload, &mut out);
            assert_eq!(out.len(), 2 + payload.len());
        }
    }
}

fn read_frames(data: &[u8], piece: usize) -> Result<Vec<Event>, FrameError> {
    let mut reader = FrameReader::default();
    let mut events = Vec::new();
    for mut input in data.chunks(piece) {
        while let Some(event) = reader.read(&mut input)? {
            events.push(event);
        }
        assert!(input.is_empty());
    }
    Ok(events)
}
