//! SRS's own files (`conf/ingest.conf`, `ingest.rtsp.conf`, `ffmpeg.transcode.conf`,
//! `exec.conf`), as they configure, and what of them is run.

use super::*;
use crate::config::{self, Loaded, Role};

fn load(text: &str) -> Loaded {
    config::load(text, Role::Origin).unwrap()
}

/// The only vhost of a file that is read without a warning.
fn vhost(text: &str) -> Vhost {
    let Loaded {
        config, warnings, ..
    } = load(text);
    assert_eq!(warnings, []);
    let vhosts: Vec<_> = config.vhosts.values().collect();
    (**vhosts[0]).clone()
}

fn mistakes(vhost: &str) -> Vec<String> {
    let error = config::load(&format!("vhost a {{ {vhost} }}"), Role::Origin).unwrap_err();
    error.diagnostics.iter().map(ToString::to_string).collect()
}

const LISTEN: [SocketAddr; 1] = [SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    1935,
)];

/// The only job of an `ingest` with these directives.
fn job(name: &str, ingest: &str) -> IngestJob {
    let vhost = vhost(&format!(
        "vhost a {{ ingest {name} {{ enabled on; {ingest} }} }}"
    ));
    let jobs = vhost.ingests[0].jobs(&vhost.name, &LISTEN);
    assert_eq!(jobs.len(), 1);
    jobs.into_iter().next().unwrap()
}

fn arguments(job: &IngestJob) -> String {
    let IngestWork::Ffmpeg { engine, output, .. } = &job.work else {
        panic!("no ffmpeg: {:?}", job.work);
    };
    let before = ["-loglevel", "info", "-re"];
    engine.arguments(&before, &job.input.url, output).join(" ")
}

#[test]
fn srss_ingest_of_a_file_is_read_natively() {
    let text = "
        vhost __defaultVhost__ {
            ingest livestream {
                enabled      on;
                input {
                    type    file;
                    url     ./doc/source.flv;
                }
                ffmpeg      ./objs/ffmpeg/bin/ffmpeg;
                engine {
                    enabled          off;
                    output          rtmp://127.0.0.1:[port]/live/livestream?vhost=[vhost];
                }
            }
        }";
    for text in [
        text.to_owned(),
        // As SRS 2 has it.
        text.replace(
            "live/livestream?vhost=[vhost]",
            "live?vhost=[vhost]/livestream",
        ),
    ] {
        let vhost = vhost(&text);
        let jobs = vhost.ingests[0].jobs(&vhost.name, &LISTEN);
        let key = jobs[0].key.clone().unwrap();
        assert_eq!((&*key.app, &*key.stream), ("live", "livestream"));
        assert_eq!(jobs[0].work, IngestWork::FlvFile);
    }
}

#[test]
fn srss_ingest_of_a_camera_with_an_engine_runs_ffmpeg() {
    let vhost = vhost(
        "vhost __defaultVhost__ {
            ingest {
                enabled      on;
                input {
                    type    stream;
                    url     rtsp://admin:12345678@192.0.2.21:554/Streaming/Channels/501?a=b;
                }
                ffmpeg      ./objs/ffmpeg/bin/ffmpeg;
                engine {
                    enabled          on;
                    perfile {
                        rtsp_transport tcp;
                    }
                    vcodec copy;
                    acodec copy;
                    output          rtmp://127.0.0.1:[port]/live/livestream?vhost=[vhost];
                }
            }
        }",
    );
    let jobs = vhost.ingests[0].jobs(&vhost.name, &LISTEN);
    assert_eq!(
        arguments(&jobs[0]),
        "-loglevel info -re -rtsp_transport tcp -i \
         rtsp://admin:12345678@192.0.2.21:554/Streaming/Channels/501?a=b -vcodec copy -acodec \
         copy -f flv -y rtmp://127.0.0.1:1935/live/livestream"
    );
    let shown = serde_json::to_string(&vhost.ingests).unwrap();
    assert!(!shown.contains("12345678"), "{shown}");
    assert_eq!(
        jobs[0].input.shown(),
        "rtsp://192.0.2.21:554/Streaming/Channels/501?…"
    );
}

#[test]
fn what_can_be_read_without_ffmpeg_is() {
    for (input, expected) in [
        ("url a.flv;", Some(IngestWork::FlvFile)),
        ("url /a/B.FLV;", Some(IngestWork::FlvFile)),
        ("url a.mp4;", None),
        ("type stream; url rtsp://h/a;", Some(IngestWork::Rtsp)),
        ("type rtsp; url rtsp://u:p@h/a;", Some(IngestWork::Rtsp)),
        ("type stream; url rtmp://h/live/a;", Some(IngestWork::Rtmp)),
        ("type stream; url rtmps://h/live/a;", Some(IngestWork::Rtmp)),
        ("type stream; url http://h/live/a.flv;", None),
        ("type stream; url udp://239.0.0.1:1234;", None),
        ("type file; url http://h/live/a.flv;", None),
    ] {
        let job = job("x", &format!("input {{ {input} }}"));
        let native = Some(&job.work).filter(|it| !matches!(it, IngestWork::Ffmpeg { .. }));
        assert_eq!(native, expected.as_ref(), "{input}");
        let key = job.key.unwrap();
        assert_eq!((&*key.vhost, &*key.app, &*key.stream), ("a", "live", "x"));
    }
}

#[test]
fn another_servers_stream_is_ffmpegs_to_publish() {
    for (output, is_local) in [
        ("rtmp://127.0.0.1:1935/live/a", true),
        ("rtmp://localhost/live/a", true),
        ("rtmp://[::1]:[port]/live/a", true),
        ("rtmp://127.0.0.1:1936/live/a", false),
        ("rtmp://192.0.2.1/live/a", false),
        ("rtmps://127.0.0.1:1935/live/a", false),
        ("rtmp://127.0.0.1:1935/live", false),
    ] {
        let engine = format!("input {{ url a.flv; }} engine {{ output {output}; }}");
        let job = job("x", &engine);
        assert_eq!(job.key.is_some(), is_local, "{output}");
        assert_eq!(job.work == IngestWork::FlvFile, is_local, "{output}");
    }
}

#[test]
fn an_engine_without_both_codecs_copies_as_in_srs() {
    let engine = "input { type stream; url http://h/a.m3u8; } \
                  engine { enabled on; vcodec libx264; output rtmp://h/live/a; }";
    assert_eq!(
        arguments(&job("x", engine)),
        "-loglevel info -re -i http://h/a.m3u8 -vcodec copy -acodec copy -f flv -y \
         rtmp://h/live/a"
    );
}

#[test]
fn srss_transcode_has_srss_arguments() {
    let vhost = vhost(
        "vhost __defaultVhost__ {
            transcode {
                enabled     on;
                ffmpeg      ./objs/ffmpeg/bin/ffmpeg;
                engine ff {
                    enabled         on;
                    vfilter {
                        i               ./doc/ffmpeg-logo.png;
                        filter_complex  'overlay=10:10';
                    }
                    vcodec          libx264;
                    vbitrate        500;
                    vfps            25;
                    vwidth          769;
                    vheight         320;
                    vthreads        12;
                    vprofile        main;
                    vpreset         medium;
                    vparams {
                        t           100;
                        coder       1;
                        cmp         '+chroma';
                    }
                    acodec          libfdk_aac;
                    abitrate        70;
                    asample_rate    44100;
                    achannels       2;
                    aparams {
                        profile:a   aac_low;
                    }
                    output rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]?vhost=[vhost];
                }
                engine off { enabled off; }
            }
            transcode live/livestream { enabled on; engine { enabled off; } }
        }",
    );
    let [all, one] = vhost.transcodes.as_slice() else {
        panic!("{:?}", vhost.transcodes);
    };
    assert!(one.engines.is_empty());
    let key = |stream: &str| StreamKey {
        vhost: String::new(),
        app: "live".to_owned(),
        stream: stream.to_owned(),
    };
    assert!(all.applies_to(&key("any")) && one.applies_to(&key("livestream")));
    assert!(!one.applies_to(&key("any")));
    let [engine] = all.engines.as_slice() else {
        panic!("{:?}", all.engines);
    };
    assert_eq!(
        engine.arguments(&[], "rtmp://in", "rtmp://out").join(" "),
        "-f flv -i rtmp://in -i ./doc/ffmpeg-logo.png -filter_complex overlay=10:10 -vcodec \
         libx264 -b:v 500000 -r 25.00 -s 768x320 -aspect 768:320 -threads 12 -profile:v main \
         -preset medium -t 100 -coder 1 -cmp +chroma -acodec libfdk_aac -b:a 70000 -ar 44100 \
         -ac 2 -profile:a aac_low -f flv -y rtmp://out"
    );
}

#[test]
fn a_copy_and_an_omission_have_no_options_of_encoders() {
    let vhost = vhost(
        "vhost a { transcode live { enabled on; engine {
            enabled on; iformat off; oformat off; vcodec vn; vbitrate 5; acodec copy; abitrate 5;
            aparams { bsf:a aac_adtstoasc; strict -2; } output out.ts;
        } } }",
    );
    assert_eq!(
        vhost.transcodes[0].engines[0]
            .arguments(&[], "rtmp://in", "out.ts")
            .join(" "),
        "-i rtmp://in -vn -acodec copy -bsf:a aac_adtstoasc -y out.ts"
    );
}

#[test]
fn srss_exec_names_a_program() {
    let vhost = vhost(
        "vhost __defaultVhost__ {
            exec {
                enabled     on;
                publish     ./objs/ffmpeg/bin/ffmpeg -f flv -i [url] -c copy -y ./[stream].flv;
                publish     other > out;
            }
        }",
    );
    let [ffmpeg, other] = vhost.exec.publish.as_slice() else {
        panic!("{:?}", vhost.exec);
    };
    assert_eq!(ffmpeg.path, "./objs/ffmpeg/bin/ffmpeg");
    assert_eq!(ffmpeg.arguments.last().unwrap(), "./[stream].flv");
    assert_eq!(other.stdout.as_deref(), Some("out"));
}

#[test]
fn what_is_off_has_no_effect_and_is_not_checked() {
    let vhost = vhost(
        "vhost a { ingest x { } transcode { engine { enabled on; vcodec copy; acodec copy; \
         output rtmp://h/a/b; } } exec { publish p; } }",
    );
    assert!(vhost.ingests[0].jobs("a", &LISTEN).is_empty());
    assert!(!vhost.transcodes[0].enabled && vhost.exec.publish.is_empty());
}

#[test]
fn mistakes_say_what_is_expected() {
    for (text, expected) in [
        (
            "ingest x { enabled on; input { type device; url a; } }",
            "`type` expects `file`, `stream` or `rtsp`, found `device`",
        ),
        (
            "ingest x { enabled on; input { type rtsp; url http://u:secret@h/; } }",
            "found `http://h/`",
        ),
        (
            "ingest x { enabled on; input { type stream; url rtmp://h/live; } }",
            "`rtmp://h/live` names no stream",
        ),
        ("ingest x;", "`ingest` takes a block: `ingest NAME { … }`"),
        (
            "transcode { enabled on; engine hd { enabled on; vcodec libx264; acodec copy; } }",
            "`engine hd` has no `output`",
        ),
        (
            "transcode { engine hd { enabled on; vcodec libx264; acodec aac; output o; } }",
            "an encoder needs `vprofile` and `vpreset`",
        ),
        (
            "transcode { engine { enabled on; vcodec vn; acodec an; output o; } }",
            "`vcodec vn` and `acodec an` leave nothing",
        ),
        (
            "exec { enabled on; publish p >; }",
            "`publish` expects a program",
        ),
    ] {
        let found = mistakes(text).join("\n");
        assert!(found.contains(expected), "{text}: {found}");
        assert!(!found.contains("secret"), "{found}");
    }
}

#[test]
fn ffmpeg_publishes_where_the_server_listens() {
    let output = |engine: &str, listen: &str| {
        let vhost = vhost(&format!(
            "vhost a {{ ingest clip {{ enabled on; input {{ type file; url a.mp4; }} {engine} }} }}"
        ));
        let listen: Vec<SocketAddr> = listen.split(' ').map(|it| it.parse().unwrap()).collect();
        let job = vhost.ingests[0].jobs(&vhost.name, &listen).remove(0);
        match job.work {
            IngestWork::Ffmpeg { output, .. } => output,
            other => panic!("no ffmpeg: {other:?}"),
        }
    };
    for (listen, host) in [
        ("0.0.0.0:1935", "127.0.0.1:1935"),
        ("[::]:1935", "127.0.0.1:1935"),
        ("192.0.2.1:1935", "192.0.2.1:1935"),
        ("127.0.0.2:1935", "127.0.0.2:1935"),
        ("[2001:db8::1]:1935", "[2001:db8::1]:1935"),
    ] {
        let expected = format!("rtmp://{host}/live/clip?vhost=a");
        assert_eq!(output("", listen), expected, "{listen}");
        let of_srs =
            "engine { enabled off; output rtmp://127.0.0.1:[port]/live/clip?vhost=[vhost]; }";
        assert_eq!(output(of_srs, listen), expected, "{listen}");
    }
    let two = "192.0.2.1:1935 127.0.0.1:1936";
    for (named, expected) in [
        ("localhost:1936", "localhost:1936"),
        ("127.0.0.1:1936", "127.0.0.1:1936"),
        ("127.0.0.1:1935", "192.0.2.1:1935"),
        // Another server's.
        ("127.0.0.1:1937", "127.0.0.1:1937"),
        ("198.51.100.1:1935", "198.51.100.1:1935"),
    ] {
        let engine = format!("engine {{ enabled off; output rtmp://{named}/live/b; }}");
        assert_eq!(output(&engine, two), format!("rtmp://{expected}/live/b"));
    }
}
