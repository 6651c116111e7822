//! A server of HLS that a test has answer, on made-up time.

use std::fmt::Write as _;

use super::*;

/// Pictures of a part, and their distance.
pub(super) const PICTURES: u32 = 10;
pub(super) const INTERVAL_MS: u32 = 33;
const PART_MS: u32 = PICTURES * INTERVAL_MS;
/// Parts of a segment.
const PARTS: u64 = 3;

/// A stream whose part with this number, from 0, ends at `(number + 1) × 330` ms.
pub(super) struct Scene {
    pub(super) player: Player,
    pub(super) tally: Tally,
    pub(super) out: Outboxes,
    pub(super) began: Instant,
    pub(super) now: Instant,
    /// Parts that the server has.
    pub(super) parts: u64,
    /// The number of the first segment in the playlist.
    pub(super) first: u64,
    /// Added to the numbers of segments, once their server has begun anew.
    pub(super) added: u64,
    pub(super) low_latency: bool,
    /// The part that was asked for before it is there.
    pub(super) blocked: Option<String>,
}

impl Scene {
    pub(super) fn new(rules: Rules, inspects: bool) -> Self {
        let address = StreamAddress::parse("http://host/live/s.m3u8?token=1").unwrap();
        let began = Instant::from_nanos(1_000_000_000);
        let mut scene = Self {
            player: Player::new(Arc::new(address), Arc::new(rules), inspects),
            tally: Tally::default(),
            out: Outboxes::default(),
            began,
            now: began,
            parts: 0,
            first: 0,
            added: 0,
            low_latency: true,
            blocked: None,
        };
        scene.has(7);
        scene.player.begin(scene.now, &mut scene.out).unwrap();
        scene.player.connected(scene.now, &mut scene.tally);
        scene
    }

    /// The server has so many parts from now on.
    pub(super) fn has(&mut self, parts: u64) {
        self.parts = parts;
        self.now = self.began + Duration::from_millis(parts * u64::from(PART_MS));
    }

    /// The targets of the requests that were made since this was last asked.
    pub(super) fn requests(&mut self, connection: usize) -> Vec<String> {
        let sent = std::mem::take(&mut self.out[connection]);
        let text = String::from_utf8(sent).unwrap();
        text.lines()
            .filter_map(|line| Some(line.strip_prefix("GET ")?.split(' ').next()?.to_owned()))
            .collect()
    }

    pub(super) fn send(&mut self, connection: usize, bytes: &[u8]) -> Result<(), EndCause> {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let discardable = self.player.discardable(connection).min(bytes.len());
            if discardable > 0 {
                bytes = &bytes[discardable..];
                let (out, tally) = (&mut self.out, &mut self.tally);
                self.player
                    .discard(self.now, connection, discardable, out, tally)?;
                continue;
            }
            let (some, rest) = bytes.split_at(bytes.len().min(97));
            bytes = rest;
            let (out, tally) = (&mut self.out, &mut self.tally);
            self.player
                .receive(self.now, connection, some, out, tally)?;
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, connection: usize, body: &[u8]) -> Result<(), EndCause> {
        let mut bytes =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.send(connection, &bytes)
    }

    /// Answers the playlist's request.
    pub(super) fn playlist(&mut self) -> Result<(), EndCause> {
        let text = self.text();
        self.answer(PLAYLISTS, text.as_bytes())
    }

    /// Answers all requests for media whose part is there; returns them.
    pub(super) fn media(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let asked = self.requests(MEDIA).pop();
            let Some(request) = self.blocked.take().or(asked) else {
                return all;
            };
            let Some(body) = self.body(&request) else {
                self.blocked = Some(request);
                return all;
            };
            all.push(request);
            self.answer(MEDIA, &body).unwrap();
        }
    }

    /// `SEGMENT.PART` or `SEGMENT.m4s`, if it is there.
    fn body(&self, request: &str) -> Option<Vec<u8>> {
        if request == "/live/init.mp4" {
            return Some(mp4_writer::initialization());
        }
        let name = request.strip_prefix("/live/").expect("in the folder");
        let (segment, part) = name.split_once('.').expect("segment.part");
        let first = (segment.parse::<u64>().unwrap() - self.added) * PARTS;
        let numbers = match part.parse::<u64>() {
            Ok(part) => first + part..first + part + 1,
            Err(_) => first..first + PARTS,
        };
        (numbers.end <= self.parts).then(|| numbers.flat_map(|number| self.part(number)).collect())
    }

    /// A part: its first picture is a keyframe where it begins a segment.
    pub(super) fn part(&self, number: u64) -> Vec<u8> {
        let pictures: Vec<Vec<u8>> = (0..PICTURES)
            .map(|index| {
                let sequence = number as u32 * PICTURES + index;
                let slice = b"\0\0\0\x02\x65\xff";
                let stamp = Stamp {
                    boot: 7,
                    publisher: 1,
                    sequence,
                    sent_at: self.began + Duration::from_millis((sequence * INTERVAL_MS).into()),
                    checksum: crc32fast::hash(slice),
                };
                let nal = stamp.to_nal();
                [&(nal.len() as u32).to_be_bytes()[..], &nal, slice].concat()
            })
            .collect();
        let at_ms = number as u32 * PART_MS;
        mp4_writer::fragment(at_ms, INTERVAL_MS, number.is_multiple_of(PARTS), &pictures)
    }

    pub(super) fn text(&self) -> String {
        let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n".to_owned();
        if self.low_latency {
            text.push_str(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.99\n\
                 #EXT-X-PART-INF:PART-TARGET=0.33\n",
            );
        }
        writeln!(text, "#EXT-X-MEDIA-SEQUENCE:{}", self.first + self.added).unwrap();
        text.push_str("#EXT-X-MAP:URI=\"init.mp4\"\n");
        for number in self.first * PARTS..self.parts {
            let (segment, part) = (number / PARTS + self.added, number % PARTS);
            if self.low_latency {
                let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
                writeln!(
                    text,
                    "#EXT-X-PART:DURATION=0.33,URI=\"{segment}.{part}\"{independent}"
                )
                .unwrap();
            }
            if part + 1 == PARTS {
                writeln!(text, "#EXTINF:0.99,\n{segment}.m4s").unwrap();
            }
        }
        if self.low_latency {
            let (segment, part) = (self.parts / PARTS + self.added, self.parts % PARTS);
            writeln!(
                text,
                "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{segment}.{part}\""
            )
            .unwrap();
        }
        text
    }

    /// Plays until the server has so many parts, each announced when it is
    /// there.
    pub(super) fn play_until(&mut self, parts: u64) {
        for parts in self.parts + 1..=parts {
            self.has(parts);
            self.media();
            self.playlist().unwrap();
            self.media();
        }
    }

    pub(super) fn finish(self) -> (Finished, Tally) {
        let mut tally = self.tally;
        let finished = self.player.finish(self.now, |_| None, &mut tally);
        (finished, tally)
    }
}
