//! Whole runs against a relay that does well or badly in a known way: the
//! report has to say so.

mod relay;

use std::{io::Write, net::TcpListener, thread};

use clap::Parser;
use relay::{Faults, Relay};
use rtmp_load::{Options, Report, RunError, run};

/// A second's run with a keyframe every half second.
fn attempt(url: &str, more: &str) -> Result<Report, RunError> {
    let fixed = "rtmp-load -t 1 --settle 1 --start-rate 100 --gop-seconds 0.5 --quiet";
    let words = fixed
        .split_whitespace()
        .chain(more.split_whitespace())
        .chain([url]);
    run(&Options::try_parse_from(words).expect("the words are options"))
}

fn report(url: &str, more: &str) -> Report {
    attempt(url, more).expect("the run takes place")
}

#[test]
fn players_of_a_faithful_relay_are_healthy_and_get_every_frame() {
    let relay = Relay::start(Faults::default());
    let report = report(&relay.url("s"), "-n 8 --publish generated --verify");
    assert!(report.is_healthy(), "{report}");
    let frames = report.frames.as_ref().expect("frames were stamped");
    assert_eq!(
        (frames.lost, frames.repeated, frames.corrupt),
        (0, 0, 0),
        "{report}"
    );
    assert_eq!(report.timestamps.players, 0, "{report}");
    assert_eq!(report.first_keyframe_ms.expect("keyframes came").count, 8);
    assert!(
        report.latency_ms.expect("latency was measured").count > 0,
        "{report}"
    );
}

#[test]
fn several_threads_do_the_same_work() {
    let relay = Relay::start(Faults::default());
    let report = report(&relay.url("s"), "-n 6 --threads 3 --publish generated");
    assert!(report.is_healthy(), "{report}");
    assert_eq!(report.own.threads, 3);
}

#[test]
fn players_that_read_as_coroutines_see_the_same_frames() {
    let relay = Relay::start(Faults::default());
    let report = report(
        &relay.url("s"),
        "-n 4 --receiver coroutines --publish generated --verify",
    );
    assert!(report.is_healthy(), "{report}");
    let frames = report.frames.as_ref().expect("frames were stamped");
    assert_eq!((frames.lost, frames.corrupt), (0, 0), "{report}");
}

#[test]
fn frames_that_a_relay_leaves_out_are_lost() {
    let relay = Relay::start(Faults {
        drop_video_every: Some(20),
        ..Faults::default()
    });
    let report = report(&relay.url("s"), "-n 2 --publish generated");
    assert!(!report.is_healthy(), "{report}");
    assert_eq!(report.players.starved, 2, "{report}");
    assert!(
        report.frames.as_ref().expect("frames were stamped").lost >= 2,
        "{report}"
    );
}

#[test]
fn bytes_that_a_relay_changes_are_noticed_when_verifying() {
    let relay = Relay::start(Faults {
        change_byte_every: Some(10),
        ..Faults::default()
    });
    let report = report(&relay.url("s"), "-n 2 --publish generated --verify");
    assert!(
        report.frames.as_ref().expect("frames were stamped").corrupt >= 2,
        "{report}"
    );
    assert!(!report.is_healthy(), "{report}");
}

#[test]
fn timestamps_that_fall_are_counted() {
    let relay = Relay::start(Faults {
        step_back_every: Some(20),
        ..Faults::default()
    });
    let report = report(&relay.url("s"), "-n 2 --publish generated");
    assert!(report.timestamps.reordered >= 2, "{report}");
    assert_eq!(report.timestamps.players, 2, "{report}");
}

#[test]
fn a_player_that_is_thrown_out_has_failed() {
    let relay = Relay::start(Faults {
        close_after: Some(20),
        ..Faults::default()
    });
    let report = report(&relay.url("s"), "-n 2 --publish generated");
    assert_eq!(report.players.failed, 2, "{report}");
    let causes: Vec<&String> = report.connections.ended.keys().collect();
    assert_eq!(causes, ["closed by the server while streaming"], "{report}");
}

#[test]
fn a_run_that_is_over_before_the_measured_time_has_no_rates() {
    let relay = Relay::start(Faults {
        close_after: Some(20),
        ..Faults::default()
    });
    let report = report(
        &relay.url("s"),
        "-n 2 --publish generated --settle 3600 --json --details",
    );
    assert_eq!(report.measured_s, 0.0);
    let received = &report.received;
    assert_eq!(
        (
            received.bytes,
            received.mbit_per_s,
            received.highest_mbit_per_s
        ),
        (0, 0.0, 0.0)
    );
    assert!(report.details.iter().all(|player| player.mbit_per_s == 0.0));
    let text = report.to_string();
    assert!(
        text.contains("over before the measured time began"),
        "{text}"
    );
}

#[test]
fn a_player_that_is_thrown_out_may_come_back_and_the_outage_is_measured() {
    let relay = Relay::start(Faults {
        close_after: Some(25),
        ..Faults::default()
    });
    let report = report(&relay.url("s"), "-n 2 --publish generated --reconnect");
    let connections = &report.connections;
    assert!(connections.joins > 2, "{report}");
    assert!(
        connections.outage_ms.expect("outages were measured").count >= 2,
        "{report}"
    );
    assert!(
        connections.first_lost_unix_ms < connections.last_resumed_unix_ms,
        "{report}"
    );
}

#[test]
fn a_publisher_that_is_refused_ends_the_run_with_the_servers_words() {
    let relay = Relay::start(Faults {
        refuse_publish: Some("NetStream.Publish.BadName"),
        ..Faults::default()
    });
    let error = attempt(&relay.url("s"), "-n 2 --publish generated")
        .expect_err("no run")
        .to_string();
    assert!(error.contains("publishing failed"), "{error}");
    assert!(error.contains("NetStream.Publish.BadName"), "{error}");
}

#[test]
fn every_stream_reaches_its_own_players() {
    let relay = Relay::start(Faults::default());
    let report = report(&relay.url("s{}"), "-n 6 --streams 3 --publish generated");
    assert!(report.is_healthy(), "{report}");
    assert_eq!(report.publishers.as_ref().expect("it published").count, 3);
    // A player that got two streams' frames would see their sequences mixed.
    let frames = report.frames.as_ref().expect("frames were stamped");
    assert_eq!((frames.lost, frames.repeated), (0, 0), "{report}");
}

#[test]
fn a_file_is_published_over_and_over_with_rising_timestamps() {
    let mut film = tempfile::NamedTempFile::new().unwrap();
    film.write_all(b"FLV\x01\x01\0\0\0\x09\0\0\0\0").unwrap();
    for frame in 0..10_u8 {
        let kind = if frame == 0 { 0x17 } else { 0x27 };
        let picture = [kind, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, frame];
        film.write_all(&[9, 0, 0, picture.len() as u8, 0, 0, frame * 20, 0, 0, 0, 0])
            .unwrap();
        film.write_all(&picture).unwrap();
        film.write_all(&(11 + picture.len() as u32).to_be_bytes())
            .unwrap();
    }
    let relay = Relay::start(Faults::default());
    let path = film.path().display();
    let report = report(&relay.url("s"), &format!("-n 2 --publish {path} --verify"));
    assert!(report.is_healthy(), "{report}");
    assert_eq!(report.timestamps.players, 0, "{report}");
    // More frames than the file has: it was repeated.
    assert!(
        report
            .frames
            .as_ref()
            .expect("frames were stamped")
            .received
            > 2 * 10,
        "{report}"
    );
}

#[test]
fn players_come_from_the_client_addresses_given() {
    let relay = Relay::start(Faults::default());
    let report = report(
        &relay.url("s"),
        "-n 6 --publish generated --bind 127.0.0.2-4",
    );
    assert!(report.is_healthy(), "{report}");
    let clients: Vec<String> = relay.clients().iter().map(ToString::to_string).collect();
    assert_eq!(clients, ["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
}

#[test]
fn players_that_only_count_see_the_same_bytes() {
    let relay = Relay::start(Faults::default());
    let report = report(
        &relay.url("s"),
        "-n 4 --publish generated --inspect-one-in 2",
    );
    assert!(report.is_healthy(), "{report}");
    assert_eq!(report.players.inspected, 2);
    assert!(
        report.received.lowest_mbit_per_s > 0.5 * report.received.highest_mbit_per_s,
        "{report}"
    );
}

#[test]
fn a_port_where_nobody_listens_fails_every_player_and_ends_the_run_early() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let report = report(&format!("rtmp://{address}/live/s"), "-n 3 -t 600");
    assert_eq!(report.players.failed, 3, "{report}");
    let causes: Vec<&String> = report.connections.ended.keys().collect();
    assert_eq!(causes, ["connect: connection refused"], "{report}");
}

#[test]
fn a_raw_address_counts_bytes_from_the_first_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            thread::spawn(move || {
                while socket.write_all(&[0; 1000]).is_ok() {
                    thread::park_timeout(std::time::Duration::from_millis(5));
                }
            });
        }
    });
    let report = report(&format!("tcp://{address}"), "-n 2");
    assert!(report.is_healthy(), "{report}");
    assert!(report.received.bytes > 0, "{report}");
}
