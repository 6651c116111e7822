//! The result of a run: figures for programs (JSON) and a table for people.

mod cost;
mod text;

pub(crate) use cost::{Own, Watched, WatchedCost};

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    address::Protocol,
    clock::Calendar,
    options::Options,
    player::{self, Health, Rules},
    publisher,
    stats::{Percentiles, Tally},
    usage::CpuTime,
};

/// Bytes in a megabyte, as data rates have it.
const MEGABYTE: f64 = 1e6;

/// The measurements of a run, from which the report is made.
pub struct Measured {
    /// The measured window.
    pub span: Duration,
    /// Bytes received in it.
    pub bytes: u64,
    /// Distributions over all players.
    pub tally: Tally,
    /// The players, with the bytes of each in the window.
    pub players: Vec<(player::Finished, u64)>,
    /// The publishers.
    pub publishers: Vec<publisher::Finished>,
    /// Each thread's CPU time and longest turn in the window.
    pub threads: Vec<(CpuTime, Duration)>,
    /// Processes that were watched.
    pub watched: Vec<Watched>,
    /// For times of day.
    pub calendar: Calendar,
}

/// See the module's description. Times are milliseconds, rates Mbit/s, sizes
/// bytes unless the name says otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The URL that was played.
    pub url: String,
    /// The URL to which it was published, if it was.
    pub publish_url: Option<String>,
    /// Seconds of the measured window.
    pub measured_s: f64,
    /// Players by their verdict.
    pub players: PlayerCounts,
    /// The bytes that they received in the measured window.
    pub received: Received,
    /// From *connect* to the established connection.
    pub connect_ms: Option<Percentiles>,
    /// From *connect* to the first audio, video or data message.
    pub first_byte_ms: Option<Percentiles>,
    /// From *connect* to the end of the first keyframe.
    pub first_keyframe_ms: Option<Percentiles>,
    /// From the publisher's send to the frame's last byte at the player, for
    /// frames sent after the player connected; measured window only.
    pub latency_ms: Option<Percentiles>,
    /// Of each player the longest time without a new picture of our own publishers.
    pub picture_gap_ms: Option<Percentiles>,
    /// The relation of the clocks of `latency_ms`.
    pub latency_clock: &'static str,
    /// What is known of players of HLS; `None` if there were none.
    pub hls: Option<Hls>,
    /// Silences, and times at which a player of HLS had nothing in its buffer.
    pub stalls: Stalls,
    /// Timestamps.
    pub timestamps: Timestamps,
    /// Frames of our own publishers; `None` if none came.
    pub frames: Option<Frames>,
    /// Connections that ended.
    pub connections: Connections,
    /// Our publishers.
    pub publishers: Option<Publishers>,
    /// The cost of this program itself.
    pub own: Own,
    /// The cost of the watched processes.
    pub watched: Vec<WatchedCost>,
    /// Every player.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<PlayerDetail>,
}

/// Players by their verdict.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PlayerCounts {
    /// All.
    pub asked: u64,
    /// Those that were playing at the end.
    pub playing: u64,
    /// Those that got what they should.
    pub healthy: u64,
    /// Those that were connected and got too little.
    pub starved: u64,
    /// Those that were not connected when they should have been.
    pub failed: u64,
    /// Those whose messages were looked at to the end.
    pub inspected: u64,
}

/// Data received in the measured window.
#[derive(Debug, Clone, Serialize)]
pub struct Received {
    /// By all players.
    pub bytes: u64,
    /// By all players together.
    pub mbit_per_s: f64,
    /// By the player that got least.
    pub lowest_mbit_per_s: f64,
    /// By the player in the middle.
    pub median_mbit_per_s: f64,
    /// By the player that got most.
    pub highest_mbit_per_s: f64,
}

/// Players of HLS.
#[derive(Debug, Clone, Serialize)]
pub struct Hls {
    /// Those that played parts.
    pub low_latency: u64,
    /// HTTP requests that were answered in the measured window.
    pub answers: u64,
    /// The same per second.
    pub answers_per_s: f64,
    /// From the publisher's send to the moment at which a player that keeps the
    /// hold-back shows the picture; measured window only.
    pub behind_ms: Option<Percentiles>,
    /// What servers did against the rules though it could be played, and how
    /// often players saw it.
    pub oddities: BTreeMap<&'static str, u64>,
}

/// Silences longer than the limit.
#[derive(Debug, Clone, Serialize)]
pub struct Stalls {
    /// The limit.
    pub longer_than_ms: u32,
    /// Their number.
    pub count: u64,
    /// Players that had any.
    pub players: u64,
    /// All together.
    pub total_s: f64,
    /// Their lengths.
    pub ms: Option<Percentiles>,
}

/// Order and gaps of timestamps.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Timestamps {
    /// Messages whose timestamp was lower than the one before of their kind.
    pub reordered: u64,
    /// Jumps forward longer than the limit.
    pub gaps: u64,
    /// The sum of those jumps.
    pub gaps_s: f64,
    /// Players with any of these.
    pub players: u64,
}

/// Frames of our own publishers at the inspected players.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Frames {
    /// Arrived.
    pub received: u64,
    /// Should have arrived.
    pub lost: u64,
    /// Arrived again or late.
    pub repeated: u64,
    /// Arrived with other bytes than were sent; checked with `--verify`.
    pub corrupt: u64,
    /// The share that arrived intact, over all players.
    pub delivered: f64,
    /// The share of the player that got least.
    pub lowest_delivered: f64,
}

/// Connections that ended, and what that meant.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Connections {
    /// Begun by players.
    pub attempts: u64,
    /// On which a keyframe arrived.
    pub joins: u64,
    /// Number of times that each cause ended one.
    pub ended: BTreeMap<String, u64>,
    /// From the last media of a connection to the first keyframe of the next.
    pub outage_ms: Option<Percentiles>,
    /// Outages that had not ended at the end of the run.
    pub unresolved_outages: u64,
    /// Beginning of the first outage, in Unix milliseconds.
    pub first_lost_unix_ms: Option<u64>,
    /// End of the last outage, in Unix milliseconds.
    pub last_resumed_unix_ms: Option<u64>,
}

/// Our publishers together.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Publishers {
    /// Their number.
    pub count: u64,
    /// Number of those that were publishing at the end.
    pub publishing: u64,
    /// Payload sent.
    pub bytes: u64,
    /// Messages sent.
    pub messages: u64,
    /// The longest that a message was sent after its time.
    pub latest_ms: f64,
    /// Number of times that each cause ended a connection.
    pub ended: BTreeMap<String, u64>,
}

/// One player.
#[derive(Debug, Clone, Serialize)]
pub struct PlayerDetail {
    /// The stream that it played.
    pub url: String,
    /// The verdict.
    pub health: &'static str,
    /// Received in the measured window.
    pub mbit_per_s: f64,
    /// Connections begun.
    pub attempts: u64,
    /// Silences, and the longest.
    pub stalls: u64,
    /// The longest silence.
    pub longest_stall_ms: f64,
    /// Audio and video timestamps that fell.
    pub reordered: u64,
    /// The share of its frames that arrived, if any were stamped.
    pub delivered: Option<f64>,
    /// Causes that ended its connections, and how often.
    pub ended: BTreeMap<String, u64>,
    /// Its outages.
    pub outages: Vec<OutageDetail>,
}

/// One outage of one player.
#[derive(Debug, Clone, Serialize)]
pub struct OutageDetail {
    /// Its last media before.
    pub lost_unix_ms: u64,
    /// Its first keyframe after.
    pub resumed_unix_ms: Option<u64>,
}

impl Report {
    /// Makes the report of what was measured.
    pub fn new(options: &Options, rules: &Rules, measured: Measured) -> Self {
        let span_s = measured.span.as_secs_f64();
        let megabytes = measured.bytes as f64 / MEGABYTE;
        let per_mb = |cpu: Duration| (megabytes > 0.0).then(|| cpu.as_secs_f64() * 1e3 / megabytes);
        let verdict = |player: &player::Finished| player.health(rules, options.min_delivered);
        let players = &measured.players;
        Self {
            url: options.url.clone(),
            publish_url: options.publish.as_ref().map(|_| {
                options
                    .publish_url
                    .clone()
                    .unwrap_or_else(|| options.url.clone())
            }),
            measured_s: span_s,
            players: count(players, verdict),
            received: received(&measured),
            connect_ms: measured.tally.connect.summary(),
            first_byte_ms: measured.tally.first_byte.summary(),
            first_keyframe_ms: measured.tally.first_keyframe.summary(),
            latency_ms: measured.tally.latency.summary(),
            picture_gap_ms: measured.tally.picture_gaps.summary(),
            latency_clock: "CLOCK_MONOTONIC of one machine: compared only with stamps of the same \
                            boot",
            hls: hls(&measured),
            stalls: Stalls {
                longer_than_ms: options.stall_ms,
                count: players.iter().map(|(player, _)| player.record.stalls).sum(),
                players: players
                    .iter()
                    .filter(|(player, _)| player.record.stalls > 0)
                    .count() as u64,
                total_s: players
                    .iter()
                    .map(|(player, _)| player.record.stalled)
                    .sum::<Duration>()
                    .as_secs_f64(),
                ms: measured.tally.stalls.summary(),
            },
            timestamps: timestamps(players),
            frames: frames(players),
            connections: connections(&measured),
            publishers: publishers(&measured.publishers),
            own: cost::own(&measured, per_mb),
            watched: cost::watched(&measured, per_mb),
            details: match options.details {
                true => players
                    .iter()
                    .map(|(player, bytes)| {
                        detail(
                            player,
                            verdict(player),
                            mbit_per_s(*bytes, span_s),
                            measured.calendar,
                        )
                    })
                    .collect(),
                false => Vec::new(),
            },
        }
    }

    /// True if every player and publisher was served well.
    pub fn is_healthy(&self) -> bool {
        let publishers = self.publishers.as_ref();
        self.players.healthy == self.players.asked
            && publishers.is_none_or(|publishers| publishers.publishing == publishers.count)
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has nothing that JSON has not")
    }
}

fn mbit_per_s(bytes: u64, span_s: f64) -> f64 {
    if span_s > 0.0 {
        bytes as f64 * 8e-6 / span_s
    } else {
        0.0
    }
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn count(
    players: &[(player::Finished, u64)],
    verdict: impl Fn(&player::Finished) -> Health,
) -> PlayerCounts {
    let mut counts = PlayerCounts {
        asked: players.len() as u64,
        ..PlayerCounts::default()
    };
    for (player, _) in players {
        counts.playing += u64::from(player.final_state.playing);
        counts.inspected += u64::from(player.inspected);
        match verdict(player) {
            Health::Healthy => counts.healthy += 1,
            Health::Starved => counts.starved += 1,
            Health::Failed => counts.failed += 1,
        }
    }
    counts
}

fn received(measured: &Measured) -> Received {
    let span_s = measured.span.as_secs_f64();
    let mut bytes: Vec<u64> = measured.players.iter().map(|(_, bytes)| *bytes).collect();
    bytes.sort_unstable();
    let rate = |bytes: Option<&u64>| bytes.map_or(0.0, |bytes| mbit_per_s(*bytes, span_s));
    Received {
        bytes: measured.bytes,
        mbit_per_s: mbit_per_s(measured.bytes, span_s),
        lowest_mbit_per_s: rate(bytes.first()),
        median_mbit_per_s: rate(bytes.get(bytes.len() / 2)),
        highest_mbit_per_s: rate(bytes.last()),
    }
}

fn hls(measured: &Measured) -> Option<Hls> {
    let (players, tally) = (&measured.players, &measured.tally);
    let mut hls = Hls {
        low_latency: 0,
        answers: tally.answers,
        answers_per_s: match measured.span.is_zero() {
            true => 0.0,
            false => tally.answers as f64 / measured.span.as_secs_f64(),
        },
        behind_ms: tally.behind.summary(),
        oddities: BTreeMap::new(),
    };
    let mut count = 0;
    for (player, _) in players {
        count += u64::from(player.address.protocol == Protocol::Hls);
        hls.low_latency += u64::from(player.record.low_latency);
        for (oddity, times) in &player.record.oddities {
            *hls.oddities.entry(oddity).or_default() += times;
        }
    }
    (count > 0).then_some(hls)
}

fn timestamps(players: &[(player::Finished, u64)]) -> Timestamps {
    let mut all = Timestamps::default();
    for (player, _) in players {
        let (audio, video) = (&player.record.audio, &player.record.video);
        let (reordered, gaps) = (audio.reordered + video.reordered, audio.gaps + video.gaps);
        all.reordered += reordered;
        all.gaps += gaps;
        all.gaps_s += (audio.missing + video.missing).as_secs_f64();
        all.players += u64::from(reordered + gaps > 0);
    }
    all
}

fn frames(players: &[(player::Finished, u64)]) -> Option<Frames> {
    let mut all = Frames {
        lowest_delivered: 1.0,
        ..Frames::default()
    };
    for (player, _) in players.iter().filter(|(player, _)| player.inspected) {
        let frames = &player.record.frames;
        all.received += frames.received;
        all.lost += frames.lost;
        all.repeated += frames.repeated;
        all.corrupt += frames.corrupt;
        all.lowest_delivered = all.lowest_delivered.min(frames.delivered().unwrap_or(1.0));
    }
    let due = all.received + all.lost;
    all.delivered = all.received.saturating_sub(all.corrupt) as f64 / due.max(1) as f64;
    (due > 0).then_some(all)
}

fn connections(measured: &Measured) -> Connections {
    let mut all = Connections {
        outage_ms: measured.tally.outages.summary(),
        ..Connections::default()
    };
    let unix_ms = |at| measured.calendar.unix_ms(at);
    for (player, _) in &measured.players {
        let record = &player.record;
        all.attempts += record.attempts;
        all.joins += record.joins;
        merge(&mut all.ended, &record.ends);
        for outage in &record.outages {
            let lost = unix_ms(outage.lost_at);
            all.first_lost_unix_ms = Some(all.first_lost_unix_ms.unwrap_or(lost).min(lost));
            match outage.resumed_at.map(unix_ms) {
                None => all.unresolved_outages += 1,
                resumed => all.last_resumed_unix_ms = all.last_resumed_unix_ms.max(resumed),
            }
        }
    }
    all
}

fn publishers(publishers: &[publisher::Finished]) -> Option<Publishers> {
    let mut all = Publishers {
        count: publishers.len() as u64,
        ..Publishers::default()
    };
    for publisher in publishers {
        all.publishing += u64::from(publisher.publishing);
        all.bytes += publisher.record.bytes;
        all.messages += publisher.record.messages;
        all.latest_ms = all.latest_ms.max(milliseconds(publisher.record.latest));
        merge(&mut all.ended, &publisher.record.ends);
    }
    (!publishers.is_empty()).then_some(all)
}

fn merge(all: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (cause, count) in more {
        *all.entry(cause.clone()).or_default() += count;
    }
}

fn detail(
    player: &player::Finished,
    health: Health,
    mbit_per_s: f64,
    calendar: Calendar,
) -> PlayerDetail {
    let record = &player.record;
    let outage = |outage: &player::Outage| OutageDetail {
        lost_unix_ms: calendar.unix_ms(outage.lost_at),
        resumed_unix_ms: outage.resumed_at.map(|at| calendar.unix_ms(at)),
    };
    PlayerDetail {
        url: player.address.to_string(),
        health: match health {
            Health::Healthy => "healthy",
            Health::Starved => "starved",
            Health::Failed => "failed",
        },
        mbit_per_s,
        attempts: record.attempts,
        stalls: record.stalls,
        longest_stall_ms: milliseconds(record.longest_stall),
        reordered: record.audio.reordered + record.video.reordered,
        delivered: record.frames.delivered().filter(|_| player.inspected),
        ended: record.ends.clone(),
        outages: record.outages.iter().map(outage).collect(),
    }
}
