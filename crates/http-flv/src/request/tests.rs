use super::*;

fn read(text: &str) -> Result<Option<Request>, HeadError> {
    parse(text.as_bytes())
}

fn path(target: &str) -> Result<String, HeadError> {
    let request = read(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))?;
    Ok(request.expect("it is complete").path)
}

#[test]
fn a_request_says_what_is_wanted_of_whom() {
    let request = read(
        "GET /live/a%20b.flv?token=x&vhost=v HTTP/1.1\r\nHOST: Example.com:8080\r\n\
         Referer: http://page/\r\nOrigin: http://page:81\r\n\r\nand more",
    );
    let expected = Request {
        method: Method::Get,
        path: "/live/a b.flv".to_owned(),
        query: "token=x&vhost=v".to_owned(),
        host: "example.com".to_owned(),
        referer: "http://page/".to_owned(),
        origin: "http://page:81".to_owned(),
        websocket: None,
        range: None,
        keep_alive: true,
        is_version_1_0: false,
        head_bytes: 119,
    };
    assert_eq!(request, Ok(Some(expected)));
}

#[test]
fn a_head_is_read_however_it_is_cut() {
    let text = "HEAD / HTTP/1.0\r\nAccept: */*\r\n\r\n";
    for end in 0..text.len() {
        assert_eq!(read(&text[..end]), Ok(None), "{end}");
    }
    assert_eq!(read(text).unwrap().unwrap().method, Method::Head);
}

#[test]
fn a_connection_stays_unless_the_client_says_otherwise_or_sends_a_body() {
    for (version, fields, stays) in [
        ("1.1", "", true),
        ("1.1", "Connection: Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.1", "Content-Length: 0\r\n", true),
        ("1.1", "Content-Length: 3\r\n", false),
        ("1.1", "Transfer-Encoding: chunked\r\n", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let request = read(&text).unwrap().unwrap();
        assert_eq!(request.keep_alive, stays, "{version} {fields}");
        assert_eq!(request.is_version_1_0, version == "1.0");
        assert_eq!(request.head_bytes, text.len());
    }
}

#[test]
fn a_range_is_of_the_body_that_there_is() {
    for (value, of_ten) in [
        ("bytes=0-", Some((0, 10))),
        ("bytes=2-3", Some((2, 4))),
        ("bytes=2-99", Some((2, 10))),
        ("bytes=-3", Some((7, 10))),
        ("bytes=-30", Some((0, 10))),
        ("bytes=10-", None),
        ("bytes=-0", None),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nRange: {value}\r\n\r\n");
        let range = read(&text).unwrap().unwrap().range;
        let range = range.expect("it is a range");
        assert_eq!(range.within(10), of_ten, "{value}");
    }
    for ignored in [
        "bytes=3-2",
        "bytes=0-1,4-5",
        "lines=0-1",
        "bytes=",
        "bytes=x-",
    ] {
        assert_eq!(ByteRange::parse(ignored), None, "{ignored}");
    }
}

#[test]
fn a_page_is_of_the_servers_site_or_of_another() {
    for (origin, other) in [
        ("", false),
        ("Origin: http://A.example:80\r\n", false),
        ("Origin: https://a.example\r\n", false),
        ("Origin: http://evil.net\r\n", true),
        ("Origin: http://b.a.example\r\n", true),
        ("Origin: null\r\n", true),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: a.example:8080\r\n{origin}\r\n");
        let request = read(&text).unwrap().unwrap();
        assert_eq!(request.is_of_another_site(), other, "{origin}");
    }
}

#[test]
fn an_absolute_target_names_the_host() {
    let text = "GET http://[::1]:8080/a.flv HTTP/1.1\r\nHost: b\r\n\r\n";
    let request = read(text).unwrap().unwrap();
    assert_eq!((&*request.host, &*request.path), ("::1", "/a.flv"));
}

#[test]
fn what_is_no_request_has_a_status() {
    let long = "a".repeat(MAX_TARGET_BYTES);
    let long_field = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD_BYTES));
    let fields = "X: y\r\n".repeat(MAX_FIELDS + 1);
    let cases = [
        ("\x16\x03\x01\x02 TLS".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            400,
        ),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET /{}", "a".repeat(MAX_HEAD_BYTES)), 414),
        (long_field, 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), 431),
    ];
    for (text, status) in cases {
        let refused = read(&text).expect_err("a refusal");
        assert_eq!(refused.status(), status, "{refused}: {text:.40}");
    }
    for target in ["/%", "/%4", "/%zz", "/%ff", "/%0a"] {
        assert_eq!(
            path(target).map_err(HeadError::status),
            Err(400),
            "{target}"
        );
    }
    assert_eq!(path("/%e6%97%a5.flv").unwrap(), "/日.flv");
}

#[test]
fn a_websocket_is_asked_for_in_full() {
    let ask = |fields: &str| {
        let text = format!("GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n{fields}\r\n");
        read(&text).map(|request| request.expect("it is complete").websocket)
    };
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = "Connection: keep-alive, Upgrade\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    // RFC 6455 §1.3.
    let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
    assert_eq!(ask(&format!("{upgrade}{version}{key}")), Ok(Some(accept)));
    let status = |fields: &str| ask(fields).map_err(HeadError::status);
    assert_eq!(status(&format!("{version}{key}")), Err(400));
    assert_eq!(status(&format!("{upgrade}{version}")), Err(400));
    assert_eq!(status(&format!("{upgrade}{key}")), Err(426));
    let short = "Sec-WebSocket-Key: aaaa\r\n";
    assert_eq!(status(&format!("{upgrade}{version}{short}")), Err(400));
}
