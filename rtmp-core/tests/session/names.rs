//! What streams are called.

use rtmp_core::session::name::{AppName, NameError, Parameters, StreamKey, StreamName};
use rtmp_core::wire::Limits;

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

#[test]
fn streams() {
    for (name, vhost, stream, parameters) in [
        ("livestream", None, "livestream", ""),
        ("livestream?token=x", None, "livestream", "token=x"),
        (
            "livestream?token=x&vhost=a.net",
            Some("a.net"),
            "livestream",
            "token=x&vhost=a.net",
        ),
        (
            "livestream?domain=a.net",
            Some("a.net"),
            "livestream",
            "domain=a.net",
        ),
        (
            "livestream...vhost...a.net",
            Some("a.net"),
            "livestream",
            "",
        ),
        ("livestream?a=b?c=d", None, "livestream", "a=b?c=d"),
        ("livestream?", None, "livestream", ""),
        ("/livestream/", None, "livestream", ""),
        ("mp4:film.mp4", None, "mp4:film.mp4", ""),
        ("a/b/c", None, "a/b/c", ""),
        ("my...stream", None, "my...stream", ""),
        ("übertragung", None, "übertragung", ""),
    ] {
        let expected = StreamName {
            vhost: vhost.map(str::to_owned),
            stream: stream.into(),
            parameters: Parameters(parameters.into()),
        };
        assert_eq!(
            StreamName::parse(name, &Limits::default()),
            Ok(expected),
            "{name:?}"
        );
    }
}

#[test]
fn without_its_virtual_host_a_name_names_none_any_more() {
    for name in [
        "s?vhost=b&x",
        "s?x&domain=b&vhost",
        "s?x...domain...b...vhost...c",
        "s...domain...b...vhost...c?x",
    ] {
        let limits = Limits::default();
        let parsed = StreamName::parse(name, &limits).unwrap();
        assert_eq!(parsed.vhost.as_deref(), Some("b"), "{name}");
        let left = format!("{}{}", parsed.stream, parsed.parameters.without_vhost());
        assert_eq!(left, "s?x", "{name}");
        assert_eq!(StreamName::parse(&left, &limits).unwrap().vhost, None);
    }
}

#[test]
fn a_stream_needs_a_name() {
    for name in ["", "?token=x", "/", " ", "\n"] {
        let parsed = StreamName::parse(name, &Limits::default());
        assert_eq!(parsed, Err(NameError::Missing("stream")), "{name:?}");
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
    assert!(StreamName::parse(&just, &limits).is_ok());
    assert_eq!(StreamName::parse(&long, &limits), Err(too_long));
    assert!(StreamName::parse(&format!("{just}?token={long}"), &limits).is_ok());
    let vhost = format!("live?vhost={long}");
    assert_eq!(AppName::parse(&vhost, "", &limits), Err(too_long));
    assert_eq!(StreamName::parse(&vhost, &limits), Err(too_long));
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
