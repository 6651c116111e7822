//! Meaning of configuration files, and the words of their mistakes.

use std::path::Path;

use super::*;

/// The origin of the deployment that Millrace replaces, as it stood there.
const ORIGIN: &str = include_str!("../../../../examples/origin.conf");
/// One of its edges.
const EDGE: &str = include_str!("../../../../examples/edge.conf");

/// A configuration in a file `x.conf`.
pub(crate) fn load(text: &str, role: Role) -> Result<Loaded, ConfigError> {
    let directives = conf::parse("x.conf", text).map_err(ConfigError::from)?;
    build(&directives, role)
}

pub(super) fn origin(text: &str) -> Arc<Vhost> {
    load(text, Role::Origin).unwrap().config.vhosts[DEFAULT_VHOST].clone()
}

pub(super) fn mistakes(text: &str, role: Role) -> String {
    load(text, role).unwrap_err().to_string()
}

#[test]
fn the_example_origin_means_what_srs_made_of_it() {
    let Loaded {
        config, warnings, ..
    } = load(ORIGIN, Role::Origin).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.listen, ["[::]:1935".parse().unwrap()]);
    assert_eq!(config.max_connections, 1000);
    assert_eq!(config.pid.as_deref(), Some(Path::new("objs/origin.pid")));
    assert_eq!(
        config.log.destination().unwrap(),
        Path::new("./objs/origin.log")
    );
    let vhost = config.vhost("172.16.1.228").unwrap();
    assert_eq!(vhost.name, DEFAULT_VHOST);
    assert!(!vhost.gop_cache && vhost.min_latency && vhost.tcp_nodelay);
    assert_eq!(vhost.queue_length, Duration::from_secs(10));
    assert_eq!(vhost.effective_mw_latency(), Duration::ZERO);
    assert_eq!(vhost.mw_latency, Duration::from_millis(100));
    assert_eq!(vhost.mr, None);
    assert_eq!(vhost.upstream, None);
}

/// The origins as they could be written.
fn written(upstream: &Upstream) -> Vec<String> {
    upstream.origins.iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_edge_pulls_from_the_origin() {
    let Loaded {
        config, warnings, ..
    } = load(EDGE, Role::Edge).unwrap();
    assert_eq!(warnings, []);
    let vhost = &config.vhosts[DEFAULT_VHOST];
    assert_eq!(
        written(vhost.upstream.as_ref().unwrap()),
        ["172.16.1.228:1935"]
    );
    assert!(vhost.gop_cache);
    assert_eq!(vhost.effective_mw_latency(), Duration::from_millis(350));
}

#[test]
fn an_unknown_directive_is_named_with_its_place_and_the_nearest_word() {
    for (text, expected) in [
        (
            "\nlisten_ 1935;",
            "x.conf:2: unknown directive `listen_` outside of a vhost, did you mean `listen`?",
        ),
        (
            "vhost a {\n gop_cach on;\n}",
            "x.conf:2: unknown directive `gop_cach` in a vhost, did you mean `gop_cache`?",
        ),
        (
            "vhost a { mr { enable on; } }",
            "x.conf:1: unknown directive `enable` in `mr`, did you mean `enabled`?",
        ),
        (
            "zzz;",
            "x.conf:1: unknown directive `zzz` outside of a vhost",
        ),
    ] {
        assert_eq!(mistakes(text, Role::Origin), expected);
    }
}

#[test]
fn a_wrong_value_says_what_was_expected() {
    for (text, expected) in [
        (
            "chunk_size 127;",
            "x.conf:1: `chunk_size` expects a whole number from 128 to 65536, found `127`",
        ),
        (
            "listen 0;",
            "x.conf:1: `listen` expects `port` or `address:port`, the port between 1 and 65535, found `0`",
        ),
        (
            "listen;",
            "x.conf:1: `listen` expects `port` or `address:port`, the port between 1 and 65535, found nothing",
        ),
        (
            "daemon maybe;",
            "x.conf:1: `daemon` expects `on` or `off`, found `maybe`",
        ),
        (
            "vhost { }",
            "x.conf:1: a vhost is written `vhost NAME { … }`",
        ),
        (
            "vhost a { mr on; }",
            "x.conf:1: `mr` takes a block: `mr { … }`",
        ),
        (
            "vhost a { gop_cache { } }",
            "x.conf:1: `gop_cache` takes no block; end it with `;`",
        ),
        (
            "vhost a { security { allow play 1.2.3; } }",
            "x.conf:1: `allow` expects `publish` or `play`, then `all`, an address or a network, found \
             `play 1.2.3`",
        ),
    ] {
        assert_eq!(mistakes(text, Role::Origin), expected);
    }
}

#[test]
fn the_memory_of_all_streams_is_given_in_megabytes() {
    let config = load("stream_memory 6000;", Role::Origin).unwrap().config;
    assert_eq!(config.stream_memory, Some(6_000 << 20));
    assert_eq!(load("", Role::Origin).unwrap().config.stream_memory, None);
    assert_eq!(
        mistakes("stream_memory 15;", Role::Origin),
        "x.conf:1: `stream_memory` expects a whole number from 16 to 1073741824, found `15`"
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    assert_eq!(
        mistakes("lisen 1;\nchunk_size x;", Role::Origin)
            .lines()
            .count(),
        2
    );
}

#[test]
fn what_srs_has_and_we_do_not_is_a_warning() {
    let loaded = load(
        "vhost __defaultVhost__ {\n dash { enabled on; }\n}",
        Role::Origin,
    )
    .unwrap();
    let warning = loaded.warnings[0].sentence();
    assert!(
        warning.starts_with("x.conf:2: `dash` has no effect: "),
        "{warning}"
    );
}

#[test]
fn of_a_directive_that_stands_twice_the_last_holds_with_a_warning() {
    let text = "max_connections 1000;\nmax_connections 2000;
        vhost __defaultVhost__ {\n gop_cache on;\n gop_cache off;\n
            play { mw_latency 100; mw_latency 200; }
            http_hooks { enabled on; on_play http://a/; }
            http_hooks { enabled off; }
        }";
    let Loaded {
        config, warnings, ..
    } = load(text, Role::Origin).unwrap();
    assert_eq!(config.max_connections, 2000);
    let vhost = &config.vhosts[DEFAULT_VHOST];
    assert!(!vhost.gop_cache);
    assert_eq!(vhost.mw_latency, Duration::from_millis(200));
    assert_eq!(vhost.http_hooks, HttpHooks::default());
    let warnings: Vec<_> = warnings.iter().map(Diagnostic::sentence).collect();
    assert_eq!(
        warnings[0],
        "x.conf:2: `max_connections` was already given at x.conf:1: \
         this one holds, where SRS takes the first"
    );
    assert_eq!(warnings.len(), 4, "{warnings:?}");
}

#[test]
fn what_stands_behind_the_one_word_of_a_directive_is_left_out_with_a_warning() {
    // As in SRS's own realtime.conf.
    let text = "vhost __defaultVhost__ {\n tcp_nodelay on\n min_latency on;\n}";
    let Loaded {
        config, warnings, ..
    } = load(text, Role::Origin).unwrap();
    let vhost = &config.vhosts[DEFAULT_VHOST];
    assert!(vhost.tcp_nodelay && !vhost.min_latency);
    let [warning] = &warnings[..] else {
        panic!("one warning, not {warnings:?}")
    };
    assert_eq!(
        warning.sentence(),
        "x.conf:2: `tcp_nodelay` takes one word, and no effect has what begins with \
         `min_latency`: is a `;` missing?"
    );
    // No server listens at half of its ports, or asks half of its hooks.
    for text in [
        "listen 1935 max_connections 1000;",
        "vhost a { http_hooks { enabled on; on_play http://a/ b; } }",
        "vhost a { security { allow play all b; } }",
    ] {
        assert_eq!(mistakes(text, Role::Origin).lines().count(), 1, "{text}");
    }
}

#[test]
fn a_vhost_that_stands_twice_is_completed_with_a_warning() {
    let text = "vhost a { gop_cache off; mw_latency 100; }\nvhost a { mw_latency 200; }";
    let Loaded {
        config, warnings, ..
    } = load(text, Role::Origin).unwrap();
    assert!(!config.vhosts["a"].gop_cache);
    assert_eq!(config.vhosts["a"].mw_latency, Duration::from_millis(200));
    let told = "x.conf:2: the vhost `a` was already given at x.conf:1: ";
    assert!(warnings[0].sentence().starts_with(told), "{warnings:?}");
}

/// An origin's vhosts and an edge's in one file, as SRS has its samples.
const BOTH: &str = "listen 1935;
    vhost __defaultVhost__ { }
    vhost source.example.com { ingest livestream { enabled on; } }
    vhost edge.example.com {
        cluster { mode remote; origin 127.0.0.1:1935; vhost source.example.com; }
    }
    vhost off.example.com { enabled off; mode remote; origin 127.0.0.1; }";

#[test]
fn of_a_file_for_both_servers_each_serves_its_own_vhosts_and_says_what_it_leaves() {
    let own = ["__defaultVhost__", "source.example.com"];
    let theirs = ["edge.example.com"];
    for (role, served, left, other) in [
        (Role::Origin, &own[..], &theirs[..], "rtmp-edge"),
        (Role::Edge, &theirs, &own, "rtmp-origin"),
    ] {
        let Loaded {
            config, warnings, ..
        } = load(BOTH, role).unwrap();
        for name in served {
            assert_eq!(&config.vhost(name).unwrap().name, name, "{role:?}");
        }
        // Nor do they fall to the default vhost.
        for name in left {
            assert_eq!(config.vhost(name), None, "{role:?}");
            let told = |warning: &Diagnostic| {
                let text = warning.sentence();
                text.contains(&format!("`{name}`")) && text.contains(other)
            };
            assert_eq!(
                warnings.iter().filter(|it| told(it)).count(),
                1,
                "{warnings:?}"
            );
        }
        assert_eq!(config.vhost("off.example.com"), None);
        let told_of = |name: &str| warnings.iter().any(|it| it.message.contains(name));
        assert!(!told_of("off.example.com"), "{warnings:?}");
    }
}

#[test]
fn each_server_refuses_the_other_ones_configuration() {
    let mistake = mistakes(EDGE, Role::Origin);
    assert!(mistake.contains("is for rtmp-edge"), "{mistake}");
    let mistake = mistakes(ORIGIN, Role::Edge);
    assert!(mistake.contains("--origin HOST:PORT"), "{mistake}");
}

#[test]
fn global_values_reach_vhosts_that_set_none() {
    let text = "vhost __defaultVhost__ { } vhost b { chunk_size 200; } chunk_size 4096;";
    let config = load(text, Role::Origin).unwrap().config;
    assert_eq!(config.vhosts[DEFAULT_VHOST].chunk_size, 4096);
    assert_eq!(config.vhosts["b"].chunk_size, 200);
}

#[test]
fn an_unknown_vhost_falls_to_the_default_one_or_to_none() {
    let config = load("vhost a { }", Role::Origin).unwrap().config;
    assert_eq!(config.vhost("a").unwrap().name, "a");
    assert_eq!(config.vhost("b"), None);
    let config = load(
        "vhost a { enabled off; } vhost __defaultVhost__ { }",
        Role::Origin,
    );
    let config = config.unwrap().config;
    assert_eq!(config.vhost("a"), None);
    assert_eq!(config.vhost("b").unwrap().name, DEFAULT_VHOST);
}

#[test]
fn the_order_of_mr_and_its_latency_does_not_matter() {
    for (publish, latency) in [
        ("mr on; mr_latency 100;", Some(100)),
        ("mr_latency 100; mr on;", Some(100)),
        ("mr on;", Some(350)),
        ("mr_latency 100;", None),
        ("mr_latency 100; mr off;", None),
    ] {
        let vhost = origin(&format!(
            "vhost __defaultVhost__ {{ publish {{ {publish} }} }}"
        ));
        assert_eq!(vhost.mr, latency.map(Duration::from_millis), "{publish}");
    }
}

#[test]
fn the_blocks_of_newer_srs_are_read_too() {
    let vhost = origin(
        "vhost __defaultVhost__ { play { gop_cache off; gop_cache_max_frames 100; mw_latency 100; queue_length 7; }
           publish { mr on; mr_latency 200; normal_timeout 7000; } }",
    );
    assert!(!vhost.gop_cache);
    assert_eq!(vhost.gop_cache_max_frames, 100);
    assert_eq!(vhost.queue_length, Duration::from_secs(7));
    assert_eq!(vhost.mr, Some(Duration::from_millis(200)));
    assert_eq!(vhost.publish_normal_timeout, Duration::from_secs(7));
    let text = "vhost __defaultVhost__ { cluster { mode remote; origin a b:19350 [::1]:7 ::1; } }";
    let config = load(text, Role::Edge).unwrap().config;
    let upstream = config.vhosts[DEFAULT_VHOST].upstream.as_ref().unwrap();
    assert_eq!(
        written(upstream),
        ["a:1935", "b:19350", "[::1]:7", "[::1]:1935"]
    );
}

#[test]
fn refer_is_read_as_words_and_as_the_block_of_newer_srs() {
    let hosts = |text: &str| origin(text).referers.clone();
    let vhost = |inside: &str| format!("vhost __defaultVhost__ {{ {inside} }}");
    let words = hosts(&vhost("refer a.org b.org; refer_play c.org;"));
    assert_eq!(words.all, ["a.org", "b.org"]);
    assert_eq!(words.play, ["c.org"]);
    let block = "all a.org b.org; play c.org;";
    let read = hosts(&vhost(&format!("refer {{ enabled on; {block} }}")));
    assert_eq!(read, words);
    // As in SRS, a block does nothing unless it is switched on.
    let read = hosts(&vhost(&format!("refer {{ {block} }}")));
    assert_eq!(read, Referers::default());
}

#[test]
fn a_file_of_srs_7_says_where_to_listen_in_a_block() {
    let text = "rtmp { listen 1936; chunk_size 4096; } srs_log_level_v2 warn;";
    let config = load(text, Role::Origin).unwrap().config;
    assert_eq!(config.listen, ["[::]:1936".parse().unwrap()]);
    assert_eq!(config.vhosts[DEFAULT_VHOST].chunk_size, 4096);
    assert_eq!(config.log.level, "warn");
}

#[test]
fn blocks_of_srs_that_we_do_not_serve_may_stand_several_times() {
    let text = "stream_caster { caster flv; }\nstream_caster { caster gb28181; }
        vhost __defaultVhost__ { ingest a { } ingest b { } transcode { } transcode sd { } }";
    let warnings = load(text, Role::Origin).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn what_says_only_how_to_pull_makes_no_edge() {
    for inside in [
        "token_traverse off;",
        "cluster { mode local; origin a; token_traverse on; }",
        "origin a; mode local;",
    ] {
        let text = format!("vhost __defaultVhost__ {{ {inside} }}");
        assert_eq!(origin(&text).upstream, None, "{inside}");
        assert!(
            mistakes(&text, Role::Edge).contains("names no `origin`"),
            "{inside}"
        );
    }
    for inside in ["mode remote;", "origin a;"] {
        let text = format!("vhost __defaultVhost__ {{ {inside} }}");
        assert!(
            mistakes(&text, Role::Origin).contains("is for rtmp-edge"),
            "{inside}"
        );
    }
}

#[test]
fn a_later_source_completes_an_earlier_one() {
    let text = "vhost __defaultVhost__ { mode remote; }";
    let mut directives = conf::parse("x.conf", text).unwrap();
    assert!(build(&directives, Role::Edge).is_err());
    let text = "vhost __defaultVhost__ { origin a; }";
    directives.extend(conf::parse("command line", text).unwrap());
    let config = build(&directives, Role::Edge).unwrap().config;
    let upstream = config.vhosts[DEFAULT_VHOST].upstream.as_ref().unwrap();
    assert_eq!(written(upstream), ["a:1935"]);
}

#[test]
fn a_later_source_overrides_an_earlier_one() {
    let mut directives = conf::parse(
        "x.conf",
        "listen 1935; vhost __defaultVhost__ { gop_cache off; queue_length 7; }",
    )
    .unwrap();
    directives.extend(
        conf::parse(
            "command line",
            "listen 7; vhost __defaultVhost__ { gop_cache on; }",
        )
        .unwrap(),
    );
    let config = build(&directives, Role::Origin).unwrap().config;
    assert_eq!(config.listen, ["[::]:7".parse().unwrap()]);
    let vhost = &config.vhosts[DEFAULT_VHOST];
    assert!(vhost.gop_cache);
    assert_eq!(vhost.queue_length, Duration::from_secs(7));
}

#[test]
fn hooks_are_read_and_only_when_enabled() {
    let hooks = "on_play http://a:1/x http://b/; on_close http://a:1/";
    let text = format!("vhost __defaultVhost__ {{ http_hooks {{ enabled on; {hooks}; }} }}");
    let on = origin(&text).http_hooks.clone();
    let authorities: Vec<_> = on
        .on_play
        .iter()
        .map(|url| url.authority.as_str())
        .collect();
    assert_eq!(authorities, ["a:1", "b:80"]);
    assert_eq!(on.on_close[0].path, "/");
    let text = format!("vhost __defaultVhost__ {{ http_hooks {{ {hooks}; }} }}");
    assert_eq!(origin(&text).http_hooks, HttpHooks::default());
    let text = "vhost a { http_hooks { enabled on; on_play ftp://a/; } }";
    assert_eq!(
        mistakes(text, Role::Origin),
        "x.conf:1: `on_play` expects one or several URLs like `http://host:8085/path` or \
         `https://host/path`, found `ftp://…`"
    );
}

#[test]
fn comments_may_be_in_any_encoding_and_words_are_utf8() {
    let directory = tempfile::tempdir().unwrap();
    let read = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read_file(&path)
    };
    let directives = read("x.conf", b"# caf\xe9\nlisten 1935; # \xa9\n").unwrap();
    assert_eq!(directives[0].arguments, ["1935"]);
    let told = [
        ("word.conf", &b"listen 1935;\npid caf\xe9;\n"[..]),
        ("quoted.conf", b"listen 1935;\npid 'a # caf\xe9';\n"),
        ("x.json", b"{\n\"pid\": \"caf\xe9\"}"),
    ];
    for (name, bytes) in told {
        let mistake = read(name, bytes).unwrap_err().to_string();
        assert!(
            mistake.contains(&format!("{name}:2: this is not UTF-8 text")),
            "{mistake}"
        );
    }
}

#[test]
fn endless_words_are_shown_in_part_and_compared_with_nothing() {
    let long = "x".repeat(20_000_000);
    for text in [
        format!("{long};"),
        format!("chunk_size {long};"),
        format!("vhost a {{ {long}; }}"),
    ] {
        let mistake = mistakes(&text, Role::Origin);
        assert!(
            mistake.len() < 300 && mistake.contains("xxx…"),
            "{} bytes",
            mistake.len()
        );
    }
    let unended = mistakes(&long, Role::Origin);
    assert!(unended.len() < 300, "{} bytes", unended.len());
}
