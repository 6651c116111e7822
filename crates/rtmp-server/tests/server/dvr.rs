//! Recordings: which streams, hooks, the HTTP API, reloads, the end of the server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rtmp_proto::wire::{Message, MessageType};
use rtmp_server::config::Role;
use serde_json::json;

use crate::api_client::Api;
use crate::hooks::{Site, expect_stream};
use crate::support::{TestServer, headers, keyframe, message, picture, until};

fn config(directory: &Path, dvr: &str, vhost: &str) -> String {
    let path = directory.display();
    format!(
        "http_api {{ enabled on; listen 127.0.0.1:1985; \
         raw_api {{ enabled on; allow_update on; }} }} \
         vhost __defaultVhost__ {{ min_latency on; {vhost} \
         dvr {{ dvr_path {path}/[app]/[stream].flv; {dvr} }} }}"
    )
}

fn exists(directory: &Path, name: &str) -> impl Fn() -> bool + use<> {
    let path: PathBuf = directory.join(name);
    move || path.exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_file_is_told_with_srss_json() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::default();
    let hooks = site.start().await;
    let hooks = format!("http_hooks {{ enabled on; on_dvr http://{hooks}/zero; }}");
    let text = config(directory.path(), "enabled on;", &hooks);
    let origin = TestServer::start(Role::Origin, &text);
    let mut publisher = origin.publisher("s?token=x").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0), picture(40)]).await;
    until(exists(directory.path(), "live/s.flv.tmp")).await;
    drop(publisher);
    until(|| !site.actions().is_empty()).await;
    let event = site.asked.lock().unwrap()[0].clone();
    let file = directory.path().join("live/s.flv");
    assert_eq!(event["file"], file.display().to_string());
    assert!(file.exists());
    expect_stream(&event, "on_dvr");
    let own = std::env::current_dir().unwrap();
    assert_eq!(event["cwd"], own.display().to_string());
    for id in ["server_id", "service_id", "client_id", "stream_id"] {
        assert!(
            event[id].as_str().is_some_and(|id| !id.is_empty()),
            "{event}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_api_and_metrics_show_recordings() {
    let directory = tempfile::tempdir().unwrap();
    let origin = TestServer::start(Role::Origin, &config(directory.path(), "enabled on;", ""));
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0), picture(40)]).await;
    let dvrs = async || api.get("/api/v1/dvrs").await["dvrs"].clone();
    let shown = crate::support::eventually(async || {
        let dvr = dvrs().await[0].clone();
        (dvr["state"] == "recording" && dvr["duration"] == 0.04).then_some(dvr)
    })
    .await;
    let file = directory.path().join("live/s.flv.tmp");
    assert_eq!(shown["file"], file.display().to_string());
    assert_eq!(shown["stream"], "s");
    assert_eq!(shown["bytes"], fs::metadata(&file).unwrap().len());
    let metrics = api.ask("GET", "/metrics").await.body;
    assert!(
        metrics.contains("millrace_recordings{state=\"recording\"} 1\n"),
        "{metrics}"
    );
    drop(publisher);
    until(exists(directory.path(), "live/s.flv")).await;
    crate::support::eventually(async || (dvrs().await == json!([])).then_some(())).await;
    let metrics = api.ask("GET", "/metrics").await.body;
    for line in [
        "millrace_recordings{state=\"recording\"} 0\n",
        "millrace_recording_files_total 1\n",
        "millrace_recording_skips_total 0\n",
        "millrace_recording_failures_total 0\n",
    ] {
        assert!(metrics.contains(line), "{line} {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_begun_and_ended_by_order() {
    let directory = tempfile::tempdir().unwrap();
    let origin = TestServer::start(Role::Origin, &config(directory.path(), "", ""));
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0), picture(40)]).await;
    let order = |rest: &str| format!("/api/v1/raw?rpc=update&scope=dvr{rest}");
    let order_to = |param: &str| {
        order(&format!(
            "&value=__defaultVhost__&param={param}&data=live/s"
        ))
    };
    api.get(&order_to("enable")).await;
    until(exists(directory.path(), "live/s.flv.tmp")).await;
    api.get(&order_to("disable")).await;
    until(exists(directory.path(), "live/s.flv")).await;
    assert!(!exists(directory.path(), "live/s.flv.tmp")());
    for (wrong, code) in [
        ("", 1063),
        ("&value=x&param=enable&data=live/s", 2014),
        ("&value=__defaultVhost__&param=enable", 1063),
        ("&value=__defaultVhost__&param=enable&data=live", 1063),
        ("&value=__defaultVhost__&param=x&data=live/s", 1063),
    ] {
        let answer = api.ask("GET", &order(wrong)).await;
        assert_eq!(answer.code(), (200, code), "{wrong}");
    }
    let text = config(directory.path(), "", "").replace("allow_update on;", "");
    origin.reload(&text);
    let answer = api.ask("GET", &order_to("enable")).await;
    assert_eq!(answer.code(), (200, 1061));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_begins_and_ends_recordings() {
    let directory = tempfile::tempdir().unwrap();
    let text = |dvr| config(directory.path(), dvr, "");
    let origin = TestServer::start(Role::Origin, &text("enabled on; dvr_apply live/other;"));
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0), picture(40)]).await;
    let mut other = origin.publisher("other").await;
    other.publish(&headers()).await;
    other.publish(&[keyframe(0), picture(40)]).await;
    until(exists(directory.path(), "live/other.flv.tmp")).await;
    assert!(!exists(directory.path(), "live/s.flv.tmp")());
    origin.reload(&text("enabled on; dvr_apply live/s;"));
    until(exists(directory.path(), "live/other.flv")).await;
    until(exists(directory.path(), "live/s.flv.tmp")).await;
    origin.reload(&text("enabled off;"));
    until(exists(directory.path(), "live/s.flv")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streams_name_leads_nowhere_else() {
    crate::support::keep_log();
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("dvr");
    let origin = TestServer::start(Role::Origin, &config(&below, "enabled on;", ""));
    let mut publisher = origin.publisher("../../evil").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0), picture(40)]).await;
    let line = "no name of a file below";
    until(|| !crate::support::log_lines(line).is_empty()).await;
    assert_eq!(crate::support::log_lines(line).len(), 1, "once");
    // The stream itself goes on.
    let mut player = origin.player("../../evil").await;
    player.joined().await;
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_takes_no_order_to_record() {
    let directory = tempfile::tempdir().unwrap();
    let text = config(directory.path(), "", "mode remote; origin 127.0.0.1:1;");
    let edge = TestServer::start(Role::Edge, &text);
    let api = Api::of(&edge).await;
    let order = "/api/v1/raw?rpc=update&scope=dvr&value=__defaultVhost__&param=enable&data=live/s";
    assert_eq!(api.ask("GET", order).await.code(), (200, 2014));
}

/// Pictures per second, and of a group.
const RATE: usize = 25;

/// Two seconds of H.265 by x265 as Enhanced RTMP has them (v1, "Enhancing Video"): the
/// decoder's configuration, and pictures without composition times. ffmpeg learned to write
/// that later than Debian 12's.
fn h265(directory: &Path) -> Vec<Message> {
    const SEQUENCE_START: u8 = 0;
    const CODED_FRAMES_X: u8 = 3;
    let file = directory.join("encoded.mp4");
    let status = netbed::local::ffmpeg()
        .args([
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=160x120:rate=25",
            "-t",
            "2",
        ])
        .args(["-c:v", "libx265", "-preset", "ultrafast", "-x265-params"])
        .arg("log-level=error:keyint=25:min-keyint=25:scenecut=0:bframes=0")
        // Each picture is a fragment.
        .args(["-movflags", "empty_moov+frag_every_frame+default_base_moof"])
        .arg(&file)
        .status()
        .expect("scripts/setup.sh installs ffmpeg");
    assert!(status.success());
    let bytes = fs::read(&file).unwrap();
    let configuration = bytes.windows(4).position(|it| it == b"hvcC").unwrap() - 4;
    let (configuration, _) = split_box(&bytes[configuration..]);
    let enhanced = |frame_type: u8, packet_type: u8, body: &[u8]| {
        [&[0x80 | frame_type << 4 | packet_type][..], b"hvc1", body].concat()
    };
    let header = enhanced(1, SEQUENCE_START, configuration);
    let mut messages = vec![message(MessageType::VIDEO, 0, &header)];
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let is_picture = &rest[4..8] == b"mdat";
        let (body, after) = split_box(rest);
        rest = after;
        if is_picture {
            let number = messages.len() - 1;
            let frame_type = if number.is_multiple_of(RATE) { 1 } else { 2 };
            let frame = enhanced(frame_type, CODED_FRAMES_X, body);
            let time = u32::try_from(number * 1000 / RATE).unwrap();
            messages.push(message(MessageType::VIDEO, time, &frame));
        }
    }
    assert_eq!(messages.len(), 1 + 2 * RATE);
    messages
}

/// What the box at the beginning holds, and what follows it.
fn split_box(bytes: &[u8]) -> (&[u8], &[u8]) {
    let size = u32::from_be_bytes(bytes[..4].try_into().unwrap());
    let (first, rest) = bytes.split_at(size.try_into().unwrap());
    (&first[8..], rest)
}

/// Records these messages in a file with this extension.
async fn recorded(directory: &Path, extension: &str, messages: &[Message]) -> PathBuf {
    let name = format!("[stream].{extension}");
    let text = config(directory, "enabled on;", "").replace("[stream].flv", &name);
    let origin = TestServer::start(Role::Origin, &text);
    let mut publisher = origin.publisher("s").await;
    publisher.publish(messages).await;
    let name = format!("live/s.{extension}");
    until(exists(directory, &format!("{name}.tmp"))).await;
    drop(publisher);
    until(exists(directory, &name)).await;
    directory.join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn h265_by_enhanced_rtmp_is_recorded_in_mp4_as_ffprobe_decodes_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = recorded(directory.path(), "mp4", &h265(directory.path())).await;
    let entries = "stream=codec_name,codec_tag_string,width,height,nb_read_frames";
    let output = Command::new("ffprobe")
        .args([
            "-loglevel",
            "warning",
            "-count_frames",
            "-show_entries",
            entries,
        ])
        .args(["-of", "csv=p=0"])
        .arg(&file)
        .output()
        .expect("scripts/setup.sh installs ffprobe");
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    assert_eq!(said, ["hevc,hvc1,160,120,50\n", ""]);
}

/// No reader of Debian 12 knows H.265 in FLV: the tags are compared.
#[tokio::test(flavor = "multi_thread")]
async fn h265_by_enhanced_rtmp_is_recorded_in_flv_as_it_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    let sent = h265(directory.path());
    let file = recorded(directory.path(), "flv", &sent).await;
    let bytes = fs::read(&file).unwrap();
    assert_eq!(&bytes[..3], b"FLV");
    let mut tags = Vec::new();
    // Behind the header and the size of no tag before (FLV 10.1 annex E).
    let mut rest = &bytes[13..];
    while let [kind, l, m, s, b, c, d, a, 0, 0, 0, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *l, *m, *s]) as usize;
        let time = u32::from_be_bytes([*a, *b, *c, *d]);
        if MessageType(*kind) == MessageType::VIDEO {
            tags.push(message(MessageType::VIDEO, time, &after[..length]));
        }
        let (size, after) = after[length..].split_at(4);
        assert_eq!(
            u32::from_be_bytes(size.try_into().unwrap()) as usize,
            length + 11
        );
        rest = after;
    }
    assert!(rest.is_empty());
    assert_eq!(tags, sent);
}
