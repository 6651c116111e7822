//! What streams are called.

use proptest::prelude::*;
use rtmp_proto::session::{AppName, NameError, Parameters, StreamKey, StreamName};
use rtmp_proto::wire::Limits;

/// `connect`'s `app` and `tcUrl`; virtual host, application, parameters.
#[test]
fn applications() {
    for (app, tc_url, vhost, name, parameters) in [
        ("live", "rtmp://example.com/live", "example.com", "live", ""),
        (
            "live",
            "rtmp://example.com:1936/live",
            "example.com",
            "live",
            "",
        ),
        (
            "live",
            "rtmps://EXAMPLE.com/live",
            "example.com",
            "live",
            "",
        ),
        ("live", "rtmp://192.0.2.7/live", "192.0.2.7", "live", ""),
        (
            "live",
            "rtmp://[2001:db8::7]:1935/live",
            "2001:db8::7",
            "live",
            "",
        ),
        (
            "live",
            "rtmp://user:secret@example.com:1935/live",
            "example.com",
            "live",
            "",
        ),
        ("live", "", "", "live", ""),
        ("live", "nonsense", "", "live", ""),
        // The virtual host by parameter, of either name, in either place.
        (
            "live?vhost=a.net",
            "rtmp://example.com/live",
            "a.net",
            "live",
            "vhost=a.net",
        ),
        (
            "live?domain=a.net",
            "rtmp://example.com/live",
            "a.net",
            "live",
            "domain=a.net",
        ),
        (
            "live",
            "rtmp://example.com/live?vhost=a.net",
            "a.net",
            "live",
            "vhost=a.net",
        ),
        (
            "live?k=1&vhost=a.net",
            "rtmp://h/live",
            "a.net",
            "live",
            "k=1&vhost=a.net",
        ),
        (
            "live?vhost=",
            "rtmp://example.com/live",
            "example.com",
            "live",
            "vhost=",
        ),
        (
            "live?avhost=a.net",
            "rtmp://h/live",
            "h",
            "live",
            "avhost=a.net",
        ),
        // ... and in the form of clients that cannot write a question mark.
        (
            "live...vhost...a.net",
            "rtmp://example.com/live",
            "a.net",
            "live",
            "",
        ),
        (
            "live...vhost...a.net...x...y",
            "rtmp://h/live",
            "a.net",
            "live",
            "",
        ),
        ("live", "rtmp://h/live...vhost...a.net", "a.net", "live", ""),
        // Flash Media Server's default instance.
        ("live/_definst_", "rtmp://h/live/_definst_", "h", "live", ""),
        ("live/_definst_?k=1", "rtmp://h/live", "h", "live", "k=1"),
        ("live/_definst_/", "rtmp://h/live", "h", "live", ""),
        ("live/room1", "rtmp://h/live/room1", "h", "live/room1", ""),
        (
            "live/_definst_/a",
            "rtmp://h/live/_definst_/a",
            "h",
            "live/a",
            "",
        ),
        // What follows a virtual host is no part of it.
        (
            "live?vhost=a.net/key",
            "rtmp://h/live?vhost=a.net/key",
            "a.net",
            "live/key",
            "vhost=a.net",
        ),
        ("live...vhost...a.net/key", "", "a.net", "live/key", ""),
        // Slashes and blanks at the ends, and what breaks log lines.
        ("/live/", "rtmp://h/live", "h", "live", ""),
        (" live\r\n", "rtmp://h/live", "h", "live", ""),
        (
            "live..\0.vhost...a.net",
            "rtmp://h/live",
            "a.net",
            "live",
            "",
        ),
        ("li\x1b[1mve", "rtmp://h/live", "h", "li[1mve", ""),
        // No app: tcUrl says it.
        (
            "",
            "rtmp://example.com/live?k=1",
            "example.com",
            "live",
            "k=1",
        ),
        (
            "",
            "rtmp://example.com/live/room1",
            "example.com",
            "live/room1",
            "",
        ),
    ] {
        let expected = AppName {
            vhost: vhost.into(),
            app: name.into(),
            parameters: Parameters(parameters.into()),
        };
        let parsed = AppName::parse(app, tc_url, &Limits::default());
        assert_eq!(parsed, Ok(expected), "app {app:?}, tcUrl {tc_url:?}");
    }
}

#[test]
fn an_application_needs_a_name() {
    for (app, tc_url) in [
        ("", ""),
        ("", "rtmp://h"),
        ("", "rtmp://h/"),
        ("?vhost=a.net", "rtmp://h?x"),
        (" / ", ""),
    ] {
        let parsed = AppName::parse(app, tc_url, &Limits::default());
        assert_eq!(
            parsed,
            Err(NameError::Missing("application")),
            "{app:?} {tc_url:?}"
        );
    }
}

/// An application on the host `h`, as sessions keep it.
fn application(app: &str) -> AppName {
    let tc_url = format!("rtmp://h/{app}");
    let name = AppName::parse(app, &tc_url, &Limits::default()).unwrap();
    name.without_idle_parameters()
}

/// The virtual host, application, stream and parameters that a stream of
/// `app` has.
fn stream(app: &str, name: &str) -> Result<[String; 4], NameError> {
    let name = application(app).stream(name, &Limits::default())?;
    let StreamName { key, parameters } = name;
    Ok([key.vhost, key.app, key.stream, parameters.0])
}

#[test]
fn streams() {
    for (name, vhost, app, expected, parameters) in [
        ("livestream", "h", "live", "livestream", ""),
        ("livestream?token=x", "h", "live", "livestream", "token=x"),
        (
            "livestream?token=x&vhost=a.net",
            "a.net",
            "live",
            "livestream",
            "token=x&vhost=a.net",
        ),
        (
            "livestream?domain=a.net",
            "a.net",
            "live",
            "livestream",
            "domain=a.net",
        ),
        (
            "livestream...vhost...a.net",
            "a.net",
            "live",
            "livestream",
            "",
        ),
        ("livestream?a=b?c=d", "h", "live", "livestream", "a=b?c=d"),
        (
            "livestream?token=a/b",
            "h",
            "live",
            "livestream",
            "token=a/b",
        ),
        ("livestream?", "h", "live", "livestream", ""),
        ("/livestream/", "h", "live", "livestream", ""),
        ("mp4:film.mp4", "h", "live", "mp4:film.mp4", ""),
        ("my...stream", "h", "live", "my...stream", ""),
        ("\u{fc}bertragung", "h", "live", "\u{fc}bertragung", ""),
    ] {
        let expected = [vhost, app, expected, parameters].map(str::to_owned);
        assert_eq!(stream("live", name), Ok(expected), "{name:?}");
    }
}

#[test]
fn one_url_is_one_stream_wherever_a_client_cuts_it() {
    for (cuts, key) in [
        (
            &[
                ("live/livestream", ""),
                ("live", "livestream"),
                ("live/", "/livestream"),
                ("live/_definst_", "livestream"),
                ("live", "_definst_/livestream"),
                ("live/_definst_/livestream", ""),
                ("live//livestream/", ""),
            ][..],
            "h/live/livestream",
        ),
        (
            &[
                ("a/b/c/d", ""),
                ("a/b/c", "d"),
                ("a/b", "c/d"),
                ("a", "b/c/d"),
                ("a/_definst_/b/c", "d"),
                ("a/b", "_definst_/c/d"),
            ],
            "h/a/b/c/d",
        ),
        (
            &[
                ("live?vhost=a.net/key", ""),
                ("live?vhost=a.net", "key"),
                ("live", "key?vhost=a.net"),
                ("live...vhost...a.net/key", ""),
                ("live...vhost...a.net", "key"),
                ("live?domain=a.net/key?token=x/y", ""),
                ("live?vhost=a.net/key&token=x", ""),
                ("live?token=x&vhost=a.net/key", ""),
            ],
            "a.net/live/key",
        ),
        (
            &[
                ("live?vhost=a.net/room/key", ""),
                ("live?vhost=a.net/room", "key"),
                ("live?vhost=a.net", "room/key"),
                ("live/room?vhost=a.net", "key"),
            ],
            "a.net/live/room/key",
        ),
        (
            &[
                ("live?token=x/key", ""),
                ("live?token=x/y/key", ""),
                ("live?token=x/key?token=x/y", ""),
                ("live?token=x/y", "key"),
                ("live/key?token=x/y", ""),
            ],
            "h/live/key",
        ),
    ] {
        for (app, name) in cuts {
            let name = application(app).stream(name, &Limits::default());
            let found = name.map(|name| name.key.to_string());
            assert_eq!(found, Ok(key.to_owned()), "{app:?} {cuts:?}");
        }
    }
}

#[test]
fn parameters_belong_to_the_stream_that_follows_them_or_has_them_behind_it() {
    for (app, parameters) in [
        ("live?token=x/key", "token=x"),
        ("live?token=x/y/key", "token=x/y"),
        ("live?token=x/key?token=y/z", "token=y/z"),
    ] {
        let [.., found] = stream(app, "").unwrap();
        assert_eq!(found, parameters, "{app}");
    }
    let of_app = |app: &str| AppName::parse(app, "", &Limits::default()).unwrap();
    let after_vhost = of_app("live?vhost=a.net/key?token=x/y").parameters;
    assert_eq!(after_vhost.0, "vhost=a.net&token=x/y");
}

#[test]
fn without_its_virtual_host_a_name_names_none_any_more() {
    for name in [
        "s?vhost=b&x",
        "s?x&domain=b&vhost",
        "s?x...domain...b...vhost...c",
        "s...domain...b...vhost...c?x",
    ] {
        let live = application("live");
        let limits = Limits::default();
        let parsed = live.stream(name, &limits).unwrap();
        assert_eq!(parsed.key.vhost, "b", "{name}");
        let left = format!("{}{}", parsed.key.stream, parsed.parameters.without_vhost());
        assert_eq!(left, "s?x", "{name}");
        assert_eq!(live.stream(&left, &limits).unwrap().key.vhost, "h");
    }
}

#[test]
fn a_stream_needs_a_name() {
    for (app, name) in [
        ("live", ""),
        ("live", "?token=x"),
        ("live", "/"),
        ("live", " "),
        ("live", "\n"),
        ("live", "_definst_"),
        ("live?token=x", ""),
        ("live?token=x/", ""),
        ("live/_definst_", ""),
    ] {
        let missing = Err(NameError::Missing("stream"));
        assert_eq!(stream(app, name), missing, "{app:?} {name:?}");
    }
}

#[test]
fn names_have_512_bytes_at_most_and_parameters_do_not_count() {
    let limits = Limits::default();
    let (just, long) = ("x".repeat(512), "x".repeat(513));
    let too_long = NameError::TooLong {
        len: 513,
        allowed: 512,
    };
    assert!(AppName::parse(&just, "", &limits).is_ok());
    assert_eq!(AppName::parse(&long, "", &limits), Err(too_long));
    assert!(stream(&just, &just).is_ok());
    assert_eq!(stream("live", &long), Err(too_long));
    assert!(stream("live", &format!("{just}?token={long}")).is_ok());
    let path = format!("{}/s", "x".repeat(508));
    assert_eq!(
        stream("live", &path),
        Err(too_long),
        "an application of {path}"
    );
    let vhost = format!("live?vhost={long}");
    assert_eq!(AppName::parse(&vhost, "", &limits), Err(too_long));
    assert_eq!(stream("live", &vhost), Err(too_long));
}

#[test]
fn parameters_are_found_by_name() {
    let parameters = Parameters("a=1&b&c=x=y&a=2".into());
    for (name, value) in [
        ("a", Some("1")),
        ("b", Some("")),
        ("c", Some("x=y")),
        ("d", None),
        ("", None),
    ] {
        assert_eq!(parameters.get(name), value, "{name:?}");
    }
    assert_eq!(parameters.to_string(), "?a=1&b&c=x=y&a=2");
    assert_eq!(Parameters::default().to_string(), "");
}

#[test]
fn a_key_is_shown_without_the_default_virtual_host() {
    let key = |vhost: &str| StreamKey {
        vhost: vhost.into(),
        app: "live".into(),
        stream: "camera".into(),
    };
    assert_eq!(key("__defaultVhost__").to_string(), "live/camera");
    assert_eq!(key("").to_string(), "live/camera");
    assert_eq!(key("a.net").to_string(), "a.net/live/camera");
}

/// Texts made of what names are made of.
fn texts() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "b.net",
        "/",
        "?",
        "&",
        "=",
        "...",
        " ",
        "vhost=",
        "domain=",
        "...vhost...",
        "...domain...",
        "_definst_",
        "vhost",
        "token=x",
    ];
    let pieces = proptest::sample::select(pieces.to_vec());
    proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_an_edge_asks_its_origin_for_is_the_same_stream_there(
        app in texts(), name in texts()
    ) {
        let limits = Limits::default();
        let Ok(application) = AppName::parse(&app, "", &limits) else { return Ok(()) };
        prop_assert!(!application.vhost.contains('/'));
        let application = application.without_idle_parameters();
        let Ok(StreamName { key, parameters }) = application.stream(&name, &limits) else {
            return Ok(());
        };
        prop_assert!(!key.app.is_empty() && !key.stream.is_empty());
        let asked = AppName::parse(&key.app, "", &limits).unwrap();
        prop_assert_eq!(&asked.app, &key.app);
        let asked_for = format!("{}{}", key.stream, parameters.without_vhost());
        let there = asked.stream(&asked_for, &limits).unwrap().key;
        prop_assert_eq!((there.app, there.stream), (key.app, key.stream));
        prop_assert_eq!(there.vhost, "");
    }
}

#[test]
fn a_path_names_what_a_client_can_publish() {
    let limits = Limits::default();
    let at = |app: &str, stream: &str| StreamKey::at_path("v", app, stream, &limits);
    let key = at("live/room", "s...vhost...x").unwrap();
    assert_eq!((&*key.app, &*key.stream), ("live/room", "s...vhost...x"));
    for (app, stream) in [
        ("", "s"),
        ("live", ""),
        ("live/", "s"),
        ("a//b", "s"),
        ("live/_definst_", "s"),
        ("live", "a b"),
        ("live", "a\n"),
        ("live", "a/b"),
        ("live", "a?b"),
    ] {
        assert_eq!(
            at(app, stream),
            Err(NameError::Unpublishable),
            "{app} {stream}"
        );
    }
    let long = "a".repeat(513);
    assert!(matches!(at("live", &long), Err(NameError::TooLong { .. })));
}
