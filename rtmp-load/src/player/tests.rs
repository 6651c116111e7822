use super::*;
use crate::stats::Tally;

/// A server that speaks as far as a test needs, in unencrypted bytes.
struct Server {
    player: Player,
    tally: Tally,
    out: Outboxes,
    now: Instant,
    timestamp: u32,
}

const STEP: Duration = Duration::from_millis(33);

fn rules() -> Rules {
    Rules {
        boot: 7,
        stall: Duration::from_millis(500),
        timestamp_gap: Duration::from_secs(1),
        timeout: Duration::from_secs(10),
        verify: true,
        reconnect: false,
        low_latency: true,
    }
}

impl Server {
    /// A player whose handshake is behind it.
    fn new(rules: Rules) -> Self {
        let address = Arc::new(StreamAddress::parse("rtmp://host/live/s").unwrap());
        let mut server = Self {
            player: Player::new(address, Arc::new(rules), true),
            tally: Tally::default(),
            out: Outboxes::default(),
            now: Instant::from_nanos(1_000_000_000),
            timestamp: 0,
        };
        server.connect();
        server
    }

    fn connect(&mut self) {
        self.out[0].clear();
        self.player.begin(self.now, &mut self.out).unwrap();
        self.player.connected(self.now, &mut self.tally);
        let mut answer = Vec::new();
        let mut handshake = rtmp_proto::wire::handshake::Handshake::server();
        let mut input = &self.out[0][..];
        handshake.read(&mut input, &mut answer).unwrap();
        self.out[0].clear();
        self.send(&answer);
        assert!(!self.out[0].is_empty(), "the player answers the handshake");
    }

    fn send(&mut self, bytes: &[u8]) {
        self.player
            .receive(self.now, 0, bytes, &mut self.out, &mut self.tally)
            .unwrap();
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.timestamp += span.as_millis() as u32;
    }

    fn video(&mut self, payload: &[u8]) {
        let message = rtmp_proto::wire::Message {
            timestamp: self.timestamp,
            message_type: rtmp_proto::wire::MessageType::VIDEO,
            stream_id: 1,
            payload: payload.to_vec().into(),
        };
        let mut bytes = Vec::new();
        rtmp_proto::wire::chunk::encode_message(&message, 128, 6, &mut bytes);
        self.send(&bytes);
    }

    fn frame(&mut self, sequence: u32, sent_at: Instant) {
        let body = vec![0x55; 300];
        self.frame_of(sequence, sent_at, &body, crc32fast::hash(&body));
    }

    fn frame_of(&mut self, sequence: u32, sent_at: Instant, body: &[u8], checksum: u32) {
        let stamp = Stamp {
            boot: 7,
            publisher: 1,
            sequence,
            sent_at,
            checksum,
        };
        let mut payload = vec![
            if sequence.is_multiple_of(60) {
                0x17
            } else {
                0x27
            },
            1,
            0,
            0,
            0,
        ];
        payload.extend_from_slice(&50_u32.to_be_bytes());
        payload.extend_from_slice(&stamp.to_nal());
        payload.extend_from_slice(body);
        self.video(&payload);
    }

    fn close(&mut self) {
        let cause = EndCause::Closed(self.player.progress().unwrap());
        self.player.ended(self.now, &cause, &mut self.tally);
    }

    fn finish(self) -> (Finished, Tally) {
        let mut tally = self.tally;
        let finished = self.player.finish(self.now, |_| None, &mut tally);
        (finished, tally)
    }
}

fn health(finished: &Finished, rules: &Rules) -> Health {
    finished.health(rules, 0.99)
}

#[test]
fn a_player_with_all_its_frames_is_healthy() {
    let mut server = Server::new(rules());
    for sequence in 0..30 {
        server.pass(STEP);
        server.frame(sequence, server.now - Duration::from_millis(2));
    }
    let (finished, tally) = server.finish();
    assert_eq!(health(&finished, &rules()), Health::Healthy);
    assert_eq!(finished.record.frames.received, 30);
    assert_eq!(finished.record.frames.corrupt, 0);
    let latency = tally.latency.summary().unwrap();
    assert!(
        (latency.max - 2.0).abs() < 0.1,
        "{} ms for frames 2 ms old",
        latency.max
    );
    assert_eq!(tally.first_keyframe.summary().unwrap().count, 1);
}

#[test]
fn frames_from_before_the_connection_are_not_late() {
    let mut server = Server::new(rules());
    server.frame(0, Instant::from_nanos(5));
    let (_, tally) = server.finish();
    assert_eq!(tally.latency.summary(), None);
}

#[test]
fn a_sequence_header_is_no_keyframe() {
    let mut server = Server::new(rules());
    server.video(b"\x17\0\0\0\0configuration");
    assert!(!server.player.is_playing());
    let (finished, tally) = server.finish();
    assert_eq!(tally.first_keyframe.summary(), None);
    assert_eq!(tally.first_byte.summary().unwrap().count, 1);
    assert_eq!(health(&finished, &rules()), Health::Starved);
}

#[test]
fn a_missing_frame_starves_a_player_that_may_miss_none() {
    let mut server = Server::new(rules());
    for sequence in [0, 1, 2, 4] {
        server.frame(sequence, server.now);
    }
    let (finished, _) = server.finish();
    assert_eq!(finished.record.frames.lost, 1);
    assert_eq!(health(&finished, &rules()), Health::Starved);
}

#[test]
fn a_changed_byte_behind_the_stamp_is_corruption() {
    let mut server = Server::new(rules());
    let mut body = vec![0x55; 300];
    let checksum = crc32fast::hash(&body);
    server.frame_of(0, server.now, &body, checksum);
    body[250] = 0;
    server.frame_of(1, server.now, &body, checksum);
    let (finished, _) = server.finish();
    assert_eq!(finished.record.frames.corrupt, 1);
}

#[test]
fn a_silence_longer_than_the_limit_is_one_stall() {
    let mut server = Server::new(rules());
    server.frame(0, server.now);
    server.pass(Duration::from_millis(499));
    server.frame(1, server.now);
    server.pass(Duration::from_millis(700));
    server.frame(2, server.now);
    let (finished, _) = server.finish();
    assert_eq!(finished.record.stalls, 1);
    assert_eq!(finished.record.longest_stall, Duration::from_millis(700));
}

#[test]
fn a_player_that_has_gone_quiet_is_starved() {
    let mut server = Server::new(rules());
    server.frame(0, server.now);
    server.pass(Duration::from_secs(2));
    let (finished, _) = server.finish();
    assert_eq!(
        (finished.record.stalls, health(&finished, &rules())),
        (1, Health::Starved)
    );
}

#[test]
fn a_connection_that_brings_nothing_is_given_up_and_says_where_it_stood() {
    let mut server = Server::new(rules());
    server.pass(Duration::from_secs(10));
    assert_eq!(server.player.overdue(server.now), None);
    server.pass(Duration::from_millis(1));
    let cause = server.player.overdue(server.now).unwrap().to_string();
    assert_eq!(cause, "nothing came for 10 s during handshake and commands");
}

#[test]
fn a_player_whose_connection_ended_has_failed() {
    let mut server = Server::new(rules());
    server.frame(0, server.now);
    server.close();
    let (finished, _) = server.finish();
    assert_eq!(health(&finished, &rules()), Health::Failed);
    assert_eq!(
        finished.record.ends.keys().collect::<Vec<_>>(),
        ["closed by the server while streaming"]
    );
}

#[test]
fn an_outage_lasts_from_the_last_media_to_the_next_keyframe() {
    let rules = Rules {
        reconnect: true,
        ..rules()
    };
    let mut server = Server::new(rules.clone());
    server.frame(0, server.now);
    let lost_at = server.now;
    server.pass(Duration::from_millis(100));
    server.close();
    server.pass(Duration::from_millis(50));
    server.connect();
    server.pass(Duration::from_millis(50));
    server.frame(59, server.now);
    server.pass(STEP);
    server.frame(60, server.now);
    let (finished, tally) = server.finish();
    let outage = finished.record.outages[0];
    assert_eq!(outage.lost_at, lost_at);
    assert_eq!(
        outage.resumed_at.unwrap().since(lost_at),
        Duration::from_millis(200) + STEP
    );
    assert_eq!(tally.outages.summary().unwrap().count, 1);
    assert_eq!(
        finished.record.frames.lost, 0,
        "what passes during an outage is no loss"
    );
    assert_eq!(health(&finished, &rules), Health::Healthy);
}

#[test]
fn a_refusal_ends_the_connection_with_the_servers_words() {
    let mut server = Server::new(rules());
    let mut status = rtmp_proto::wire::message::Command::new("onStatus", 0.0, Vec::new());
    let field =
        |name: &str, value: &str| (name.to_owned(), rtmp_proto::wire::amf0::Value::from(value));
    status
        .arguments
        .push(rtmp_proto::wire::amf0::Value::Object(vec![
            field("level", "error"),
            field("code", "NetStream.Play.StreamNotFound"),
            field("description", "no such stream"),
        ]));
    let mut bytes = Vec::new();
    rtmp_proto::wire::chunk::encode_message(&status.to_message(1), 128, 5, &mut bytes);
    let (mut out, now) = (Outboxes::default(), server.now);
    let error = server
        .player
        .receive(now, 0, &bytes, &mut out, &mut server.tally)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "refused: NetStream.Play.StreamNotFound (no such stream)"
    );
}

#[test]
fn a_player_that_only_counts_does_so_after_its_first_keyframe() {
    let mut server = Server::new(rules());
    server.player.inspects = false;
    assert_eq!(server.player.discardable(0), 0);
    server.frame(0, server.now);
    assert!(server.player.discardable(0) > 0);
    let before = server.player.bytes();
    server
        .player
        .discard(server.now, 0, 5000, &mut server.out, &mut server.tally)
        .unwrap();
    assert_eq!(server.player.bytes() - before, 5000);
}
