//! Programs that the origin runs: ffmpeg for `ingest` and `transcode`, and those of `exec`.

use std::fs;
use std::path::Path;

use netbed::local::{ffmpeg, lives, push};
use netbed::wait_for;
use nix::sys::signal::Signal;

use crate::ingest::Fetching;
use crate::pull;

/// The processes that the log says have been started.
fn processes(log: &str) -> Vec<u32> {
    let numbers = log.lines().filter_map(|line| {
        let (_, number) = line.split_once(" runs as process ")?;
        number.trim().parse().ok()
    });
    numbers.collect()
}

fn make_film(directory: &Path) {
    let made = ffmpeg()
        .args("-f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine -t 20".split(' '))
        .args("-c:v libx264 -preset ultrafast -g 25 -c:a aac".split(' '))
        .arg(directory.join("film.mp4"))
        .status();
    assert!(made.expect("ffmpeg is needed for this test").success());
}

#[test]
fn ffmpeg_ingests_what_is_not_read_natively_and_is_watched() {
    // SRS's own path of ffmpeg, which is not there.
    let mut origin = Fetching::start_with(
        "ingest film { enabled on; input { type file; url film.mp4; } \
         ffmpeg ./objs/ffmpeg/bin/ffmpeg; engine { enabled on; vcodec copy; acodec copy; \
         output rtmp://127.0.0.1:[port]/live/film?vhost=[vhost]; } }",
        make_film,
    );
    let packets = pull(&origin.url("film"));
    assert!(packets.len() >= 100, "{} packets", packets.len());
    // It is killed, and another takes its place.
    let first = processes(&origin.log())[0];
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(first.cast_signed()),
        Signal::SIGKILL,
    )
    .unwrap();
    origin.wait_for_log("it has ended (signal: 9 (SIGKILL))", 1);
    origin.wait_for_log("runs as process", 2);
    assert!(pull(&origin.url("film")).len() >= 100);
    origin.origin.process.signal(Signal::SIGTERM);
    assert!(origin.origin.process.end().success());
    for id in processes(&origin.log()) {
        assert!(!lives(id), "{id}");
    }
}

#[test]
fn programs_end_with_a_server_that_is_killed() {
    let mut origin = Fetching::start_with(
        "ingest film { enabled on; input { url film.mp4; } engine { enabled on; vcodec copy; \
         acodec copy; output rtmp://127.0.0.1:[port]/live/film; } }",
        make_film,
    );
    origin.wait_for_log("runs as process", 1);
    let id = processes(&origin.log())[0];
    assert!(lives(id));
    origin.origin.process.signal(Signal::SIGKILL);
    origin.origin.process.end();
    wait_for("the end of ffmpeg", || !lives(id));
}

const TRANSCODE: &str = "transcode { enabled on; engine small { enabled on; \
    vfilter { vf scale=160:90; } vcodec libx264; vprofile baseline; vpreset ultrafast; \
    acodec copy; output rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]?vhost=[vhost]; } }";

#[test]
fn a_published_stream_is_transcoded_and_what_it_becomes_is_not() {
    let origin = Fetching::start(TRANSCODE);
    let publisher = push(&origin.url("livestream"));
    let packets = pull(&origin.url("livestream_small"));
    assert!(packets.len() >= 100, "{} packets", packets.len());
    let streams = origin.get("/api/v1/streams");
    assert!(streams.contains("\"livestream_small\""), "{streams}");
    // It has been decided that the output is not transcoded, before anything is counted.
    origin.wait_for_log("livestream_small: is not transcoded", 1);
    let log = origin.log();
    let ids = processes(&log);
    assert_eq!(ids.len(), 1, "{log}");
    // ffmpeg dies, and is started again.
    let pid = nix::unistd::Pid::from_raw(ids[0].cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    origin.wait_for_log("runs as process", 2);
    assert!(pull(&origin.url("livestream_small")).len() >= 100);
    origin.wait_for_log("livestream_small: is not transcoded", 2);
    assert!(!origin.log().contains("_small_small"), "{}", origin.log());
    assert!(origin.get("/metrics").contains("millrace_programs 1"));
    // It ends with what it transcodes.
    drop(publisher);
    for id in processes(&origin.log()) {
        wait_for("the end of ffmpeg", || !lives(id));
    }
    let started = processes(&origin.log()).len();
    assert!(started >= 2, "{}", origin.log());
}

#[test]
fn a_drain_does_not_wait_for_the_ffmpeg_of_a_transcode() {
    let mut origin = Fetching::start(TRANSCODE);
    let _publisher = push(&origin.url("livestream"));
    assert!(pull(&origin.url("livestream_small")).len() >= 100);
    wait_for("ffmpeg alone to play", || {
        let playing = "millrace_connections{protocol=\"rtmp\",activity=\"play\"} 1\n";
        origin.get("/metrics").contains(playing)
    });
    origin.origin.process.signal(Signal::SIGQUIT);
    // Well before `drain_timeout`.
    assert!(origin.origin.process.end().success());
    let log = origin.log();
    assert!(log.contains("draining"), "{log}");
}

#[test]
fn a_program_runs_while_a_stream_is_published() {
    let origin = Fetching::start(
        "exec { enabled on; \
         publish ffmpeg -loglevel error -f flv -i [url] -c copy -y ./[stream].flv; \
         publish sh -c 'echo $0 >> names; exec sleep 1000' [vhost]/[app]/[stream]; }",
    );
    let publisher = push(&origin.url("a?token=x"));
    let file = origin.origin.path("a.flv");
    wait_for("a recording", || {
        fs::metadata(&file).is_ok_and(|it| it.len() > 20_000)
    });
    let names = fs::read_to_string(origin.origin.path("names")).unwrap();
    assert_eq!(names, "__defaultVhost__/live/a\n");
    drop(publisher);
    for id in processes(&origin.log()) {
        wait_for("the end of the programs", || !lives(id));
    }
    // ffmpeg has had the time to finish its file.
    let probed = std::process::Command::new("ffprobe")
        .args("-loglevel error -show_entries format=duration -of csv=p=0".split(' '))
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        probed.status.success() && probed.stderr.is_empty(),
        "{probed:?}"
    );
}

#[test]
fn a_name_that_climbs_out_of_a_directory_runs_nothing() {
    let origin = Fetching::start("exec { enabled on; publish touch ./[app]-[stream].txt; }");
    let _publisher = push(&format!("rtmp://{}/../x", origin.origin.address));
    origin.wait_for_log("is not safe in", 1);
    assert_eq!(processes(&origin.log()), [0; 0]);
}

#[test]
fn programs_that_die_at_once_or_write_without_end_cost_viewers_nothing() {
    let origin = Fetching::start(
        "exec { enabled on; publish false; publish sh -c 'yes >&2'; publish sleep 1000; \
         publish sh -c 'trap : TERM; while :; do sleep 1; done'; publish /no/such/program; }",
    );
    let _publisher = push(&origin.url("livestream"));
    origin.wait_for_log("there is no /no/such/program", 1);
    wait_for("several failures", || {
        let metrics = origin.get("/metrics");
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("millrace_program_failures_total "));
        line.is_some_and(|count| count.parse().unwrap_or(0) >= 5)
    });
    let packets = pull(&origin.url("livestream"));
    let times: Vec<_> = packets.iter().filter(|it| it.0 == "video").collect();
    assert!(packets.len() >= 100 && times.len() > 10, "{packets:?}");
    assert!(times.is_sorted_by(|a, b| a.1 < b.1), "{times:?}");
    wait_for("three programs", || {
        origin.get("/metrics").contains("millrace_programs 3")
    });
}

#[test]
fn no_more_programs_run_than_may() {
    let origin = Fetching::start(
        "exec { enabled on; publish sleep 1000; publish sleep 1001; publish sleep 1002; }",
    );
    // Outside of the vhost.
    let text = crate::read(&origin.origin.path("origin.conf"));
    fs::write(
        origin.origin.path("origin.conf"),
        format!("max_programs 2; {text}"),
    )
    .unwrap();
    origin.origin.process.signal(Signal::SIGHUP);
    origin.wait_for_log("reloaded", 1);
    let _publisher = push(&origin.url("livestream"));
    origin.wait_for_log("`max_programs` others run already", 1);
    assert!(origin.get("/metrics").contains("millrace_programs 2"));
}
