//! The HTTP API, asked as an operator's script would, and as SRS's console does.

use rtmp_server::config::Role;
use serde_json::{Value, json};

use crate::api_client::Api;
use crate::support::{TestServer, eventually, headers, keyframe, message, picture, until};
use rtmp_proto::wire::MessageType;

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_clients_are_listed_and_clients_can_be_kicked() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;

    let streams = api.get("/api/v1/streams").await;
    let stream = &streams["streams"][0];
    assert_eq!(stream["name"], "s");
    assert_eq!(stream["app"], "live");
    assert_eq!(stream["vhost"], "__defaultVhost__");
    assert_eq!(stream["clients"], 1);
    assert_eq!(stream["publish"]["active"], true);
    assert_eq!(stream["publish"]["count"], 1);
    assert_eq!(stream["recv_messages"], 1);

    let clients = api.get("/api/v1/clients").await;
    let types: Vec<&str> = clients["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["publish", "play"]);
    let client = &clients["clients"][1];
    assert_eq!(
        (&client["ip"], &client["name"]),
        (&json!("127.0.0.1"), &json!("s"))
    );
    assert!(client["send_bytes"].as_u64().unwrap() > 0);

    let id = client["id"].as_str().unwrap();
    // In the log it has a letter before it.
    let path = format!("/api/v1/clients/c{id}");
    assert_eq!(api.get(&path).await["client"]["type"], "play");
    let path = format!("/api/v1/clients/{id}");
    assert_eq!(api.ask("DELETE", &path).await.code(), (200, 0));
    player.closed().await;
    until(|| origin.server.clients().count() == 1).await;
    assert_eq!(api.ask("DELETE", &path).await.code(), (200, 2049));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_summaries_and_vhosts_answer() {
    let origin = TestServer::origin("queue_length 7; mw_latency 350;");
    let api = Api::of(&origin).await;
    let versions = api.get("/api/v1/versions").await;
    assert_eq!(versions["data"]["version"], env!("CARGO_PKG_VERSION"));
    let summaries = api.get("/api/v1/summaries").await;
    assert_eq!(summaries["data"]["role"], "origin");
    assert_eq!(summaries["data"]["connections"], 0);
    assert_eq!(summaries["data"]["self"]["pid"], std::process::id());
    assert!(summaries["data"]["self"]["mem_kbyte"].as_u64().unwrap() > 0);
    assert!(summaries["data"]["system"]["cpus"].as_u64().unwrap() > 0);
    let vhosts = api.get("/api/v1/vhosts").await;
    let vhost = &vhosts["vhosts"][0];
    assert_eq!(vhost["name"], "__defaultVhost__");
    // Each in the unit of its directive.
    assert_eq!(vhost["settings"]["queue_length"], 7);
    assert_eq!(vhost["settings"]["mw_latency"], 350);
    let path = format!("/api/v1/vhosts/{}", vhost["id"].as_str().unwrap());
    assert_eq!(&api.get(&path).await["vhost"], vhost);
    assert_eq!(api.ask("GET", "/api/v1/nothing").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_fields_of_srs() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0), picture(40)]).await;
    origin.arrived("s", 2).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    player.frame().await;

    let answer = api.get("/api/v1/streams/").await;
    for field in ["server", "service", "pid"] {
        assert!(answer[field].is_string(), "{field}: {answer}");
    }
    let stream = &answer["streams"][0];
    assert_eq!(stream["frames"], 2);
    assert_eq!(stream["url"], "/live/s");
    assert_eq!(stream["tcUrl"], format!("rtmp://{}/live", origin.address));
    assert!(stream["live_ms"].as_u64().unwrap() > 1_600_000_000_000);
    assert!(stream["send_bytes"].as_u64().unwrap() > 0);
    assert!(stream["recv_bytes"].as_u64().unwrap() > 0);
    for rate in ["recv_30s", "send_30s"] {
        assert!(stream["kbps"][rate].is_u64(), "{stream}");
    }
    let clients = api.get("/api/v1/clients/").await;
    let clients = clients["clients"].as_array().unwrap().clone();
    let (publisher, player) = (&clients[0], &clients[1]);
    assert_eq!(stream["publish"]["cid"], publisher["id"]);
    assert_eq!(
        (&publisher["publish"], &player["publish"]),
        (&json!(true), &json!(false))
    );
    for client in [publisher, player] {
        assert_eq!(client["stream"], stream["id"]);
        assert_eq!(client["vhost"], stream["vhost"]);
        assert_eq!(client["url"], "/live/s");
        assert_eq!(client["tcUrl"], stream["tcUrl"]);
        assert_eq!(client["protocol"], "rtmp");
        for text in ["id", "stream", "pageUrl", "swfUrl", "ip", "name", "type"] {
            assert!(client[text].is_string(), "{text}: {client}");
        }
        assert!(client["alive"].is_f64(), "{client}");
        assert!(client["kbps"]["send_30s"].is_u64(), "{client}");
    }
    let path = format!("/api/v1/streams/{}", stream["id"].as_str().unwrap());
    assert_eq!(api.get(&path).await["stream"]["name"], "s");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_has_the_codes_of_srs() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    for (path, code) in [
        ("/api/v1/vhosts/nowhere", 2014),
        ("/api/v1/streams/7", 2048),
        ("/api/v1/streams/x", 2048),
        ("/api/v1/clients/7", 2049),
        ("/api/v1/clients/-1", 2049),
        ("/api/v1/raw?rpc=reload", 1061),
        ("/api/v1/raw", 1061),
    ] {
        let answer = api.ask("GET", path).await;
        assert_eq!(answer.code(), (200, code), "{path}");
        assert_eq!(answer.json, json!({ "code": code }), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_method_is_refused_with_those_that_there_are() {
    let origin = TestServer::start(Role::Origin, &with_api("crossdomain off;"));
    let api = Api::of(&origin).await;
    for (method, path, allowed) in [
        ("DELETE", "/api/v1/versions", "GET,HEAD"),
        ("POST", "/api/v1/streams", "GET,HEAD"),
        ("PUT", "/api/v1/streams/1", "GET,HEAD"),
        ("OPTIONS", "/api/v1/streams/1", "GET,HEAD"),
        ("DELETE", "/api/v1/clients/", "GET,HEAD"),
        ("POST", "/api/v1/clients/1", "GET,HEAD,DELETE"),
        ("POST", "/api/v1/raw", "GET,HEAD"),
        ("DELETE", "/metrics", "GET,HEAD"),
        ("BREW", "/metrics", "GET,HEAD"),
    ] {
        let answer = api.ask(method, path).await;
        assert_eq!(answer.status, 405, "{method} {path}");
        let allow = format!("\r\nallow: {allowed}\r\n");
        let head = format!("{}\r\n", answer.head);
        assert!(head.contains(&allow), "{method} {path}: {head}");
    }
    origin.reload(&with_api(""));
    let by_jsonp = "/api/v1/streams?callback=c&method=DELETE";
    assert_eq!(api.ask("GET", by_jsonp).await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_shown_in_pages_where_they_are_asked_for() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let mut publishers = Vec::new();
    for number in 0..12 {
        publishers.push(origin.publisher(&format!("s{number:02}")).await);
    }
    for (query, first, count) in [
        ("", "s00", 12),
        ("?start=11", "s11", 1),
        ("?start=1&count=1", "s01", 10),
        ("?count=11", "s00", 11),
        ("?start=x&count=-1", "s00", 12),
    ] {
        let answer = api.get(&format!("/api/v1/streams{query}")).await;
        let streams = answer["streams"].as_array().unwrap();
        assert_eq!(streams.len(), count, "{query}");
        assert_eq!(streams[0]["name"], first, "{query}");
    }
}

/// x264's sequence header for 320x180, High profile, level 1.2, as ffmpeg sends it.
const AVC: &[u8] =
    b"\x17\x00\x00\x00\x00\x01\x64\x00\x0c\xff\xe1\x00\x1a\x67\x64\x00\x0c\xac\xd9\x41\
        \x41\x9f\x9f\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x42\x99\x60\x01\
        \x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfd\xf8\xf8\x00";

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_its_codecs_from_their_sequence_headers() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    let video = message(MessageType::VIDEO, 0, AVC);
    // AAC LC, 44.1 kHz, stereo.
    let audio = message(MessageType::AUDIO, 0, &[0xaf, 0, 0x12, 0x10]);
    publisher.publish(&[video, audio, keyframe(0)]).await;
    origin.arrived("s", 3).await;
    let stream = api.get("/api/v1/streams").await["streams"][0].clone();
    let video = json!({
        "codec": "H264", "profile": "High", "level": "1.2", "width": 320, "height": 180,
    });
    let audio = json!({
        "codec": "AAC", "sample_rate": 44_100, "channel": 2, "profile": "LC",
    });
    assert_eq!((&stream["video"], &stream["audio"]), (&video, &audio));

    let mut other = origin.publisher("t").await;
    other.publish(&[keyframe(0)]).await;
    origin.arrived("t", 1).await;
    let streams = api.get("/api/v1/streams").await;
    let stream = &streams["streams"][1];
    assert_eq!(stream["video"]["width"], 0, "{stream}");
    assert_eq!(stream["audio"], Value::Null);
}

/// SRS's console asks by JSONP alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_asks_by_jsonp() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    let answer = api
        .ask("GET", "/api/v1/clients/?callback=angular.c_0")
        .await;
    assert!(answer.head.contains("content-type: text/javascript"));
    let json = answer.body.strip_prefix("angular.c_0(").unwrap();
    let json: Value = serde_json::from_str(json.strip_suffix(')').unwrap()).unwrap();
    let id = json["clients"][0]["id"].as_str().unwrap();
    let raw = api.ask("GET", "/api/v1/raw?callback=c&rpc=raw").await;
    assert!(raw.body.contains("\"allow_reload\":false"), "{}", raw.body);
    let path = format!("/api/v1/clients/{id}?callback=c&method=DELETE");
    let answer = api.ask("GET", &path).await;
    assert!(answer.body.starts_with("c({\"code\":0,"), "{}", answer.body);
    publisher.closed().await;
    until(|| origin.server.clients().count() == 0).await;
    let answer = api.ask("GET", &path).await;
    assert_eq!((answer.status, &*answer.body), (200, "c({\"code\":2049})"));
    for callback in ["alert(1)//", "a%0Ab", "<script>", &"a".repeat(200)] {
        let path = format!("/api/v1/versions?callback={callback}");
        assert_eq!(api.ask("GET", &path).await.status, 400, "{callback}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crossdomain_says_whether_pages_of_other_sites_may_ask() {
    let origin = TestServer::start(Role::Origin, &with_api(""));
    let api = Api::of(&origin).await;
    let foreign = "Origin: http://example.com\r\n";
    let allows = |head: &str| head.contains("access-control-allow-origin: *");
    let mut publisher = origin.publisher("s").await;
    let clients = api.get("/api/v1/clients").await;
    let id = clients["clients"][0]["id"].as_str().unwrap();
    let answer = api.ask_with("GET", "/api/v1/versions", foreign).await;
    assert!(
        answer.status == 200 && allows(&answer.head),
        "{}",
        answer.head
    );
    let preflight = api.ask_with("OPTIONS", "/api/v1/clients/1", foreign).await;
    assert!(preflight.status == 200 && allows(&preflight.head));
    assert!(preflight.head.contains("DELETE"), "{}", preflight.head);
    let own = api.ask("GET", "/api/v1/versions").await;
    assert!(!allows(&own.head), "{}", own.head);

    origin.reload(&with_api("crossdomain off;"));
    let answer = api.ask_with("GET", "/api/v1/versions", foreign).await;
    assert!(answer.status == 200 && !allows(&answer.head));
    let preflight = api.ask_with("OPTIONS", "/api/v1/clients/1", foreign).await;
    assert_eq!(preflight.status, 405);
    // Nor by JSONP, for which a browser asks nobody: it is a plain `GET` now.
    let path = format!("/api/v1/clients/{id}?callback=c&method=DELETE");
    assert_eq!(api.ask("GET", &path).await.json["client"]["id"], *id);
    origin.reload(&with_api(""));
    api.ask("GET", &path).await;
    publisher.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_auth_nobody_is_answered_without_the_password() {
    let auth = |password: &str| {
        with_api(&format!(
            "auth {{ enabled on; username admin; password {password}; }}"
        ))
    };
    let origin = TestServer::start(Role::Origin, &auth("secret"));
    let api = Api::of(&origin).await;
    // admin:secret, admin:other
    let secret = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";
    let other = "Authorization: Basic YWRtaW46b3RoZXI=\r\n";
    for path in ["/api/v1/versions", "/api/v1/clients/1", "/metrics", "/x"] {
        for header in ["", other, "Authorization: Basic ###\r\n"] {
            let answer = api.ask_with("GET", path, header).await;
            assert_eq!(answer.status, 401, "{path} {header}");
            assert!(answer.head.contains("www-authenticate: Basic"));
            assert_eq!(answer.body, "");
        }
    }
    let foreign = "Origin: http://example.com\r\n";
    let preflight = api.ask_with("OPTIONS", "/api/v1/versions", foreign).await;
    assert_eq!(preflight.status, 200);
    for path in ["/api/v1/versions", "/metrics"] {
        assert_eq!(
            api.ask_with("GET", path, secret).await.status,
            200,
            "{path}"
        );
    }
    origin.reload(&auth("other"));
    assert_eq!(api.ask_with("GET", "/metrics", secret).await.status, 401);
    assert_eq!(api.ask_with("GET", "/metrics", other).await.status, 200);
}

/// A browser sends the password that it knows with any site's `<script>`.
#[tokio::test(flavor = "multi_thread")]
async fn with_auth_no_order_is_taken_by_jsonp() {
    let auth = "auth { enabled on; username admin; password secret; }";
    let origin = TestServer::start(Role::Origin, &with_api(auth));
    let api = Api::of(&origin).await;
    let secret = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";
    let mut publisher = origin.publisher("s").await;
    let clients = api.ask_with("GET", "/api/v1/clients", secret).await;
    let path = format!(
        "/api/v1/clients/{}",
        clients.json["clients"][0]["id"].as_str().unwrap()
    );
    let jsonp = format!("{path}?callback=c&method=DELETE");
    assert_eq!(api.ask_with("GET", &jsonp, secret).await.status, 403);
    assert_eq!(origin.server.clients().count(), 1);
    let answer = api.ask_with("DELETE", &path, secret).await;
    assert_eq!(answer.code(), (200, 0));
    publisher.closed().await;
}

/// A browser sends a form's `POST` to any site, with the password that it knows.
#[tokio::test(flavor = "multi_thread")]
async fn with_auth_or_without_crossdomain_no_order_is_taken_from_another_site() {
    let auth = "auth { enabled on; username admin; password secret; }";
    let secret = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";
    let path = "/api/v1/streams/0/switch";
    for (settings, password) in [(auth, secret), ("crossdomain off;", "")] {
        let origin = TestServer::start(Role::Origin, &with_api(settings));
        let api = Api::of(&origin).await;
        for foreign in ["Origin: http://example.com", "Sec-Fetch-Site: same-site"] {
            let headers = format!("{password}{foreign}\r\n");
            let answer = api.ask_with("POST", path, &headers).await;
            assert_eq!(answer.status, 403, "{settings} {foreign}");
            for order in ["reload", "update"] {
                let path = format!("/api/v1/raw?rpc={order}");
                let answer = api.ask_with("GET", &path, &headers).await;
                assert_eq!(answer.status, 403, "{settings} {foreign} {order}");
            }
        }
        let own = format!("{password}Sec-Fetch-Site: same-origin\r\n");
        let order = "/api/v1/raw?rpc=reload";
        assert_eq!(api.ask_with("GET", order, &own).await.code(), (200, 1061));
        assert_eq!(api.ask_with("POST", path, &own).await.code(), (200, 2048));
        assert_eq!(
            api.ask_with("POST", path, password).await.code(),
            (200, 2048)
        );
    }
    let origin = TestServer::start(Role::Origin, &with_api("crossdomain off;"));
    let api = Api::of(&origin).await;
    let foreign = "Origin: http://example.com\r\n";
    let answer = api.ask_with("DELETE", "/api/v1/clients/1", foreign).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_as_they_come() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let publisher = origin.publisher("s").await;
    let clients = api.get("/api/v1/clients").await;
    let path = format!(
        "/api/v1/clients/{}",
        clients["clients"][0]["id"].as_str().unwrap()
    );
    assert_eq!(api.ask("DELETE", &path).await.code(), (200, 0));
    until(|| origin.server.clients().count() == 0).await;
    drop(publisher);
    let events = api.get("/api/v1/events").await["events"].clone();
    let kinds: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["kind"])
        .collect();
    assert_eq!(kinds, ["publish", "dismiss", "unpublish"]);
    assert_eq!(events[0]["stream"], "live/s");
    assert_eq!(events[0]["ip"], "127.0.0.1");
    let path = format!("/api/v1/events?after={}", events[1]["number"]);
    let later = api.get(&path).await;
    assert_eq!(later["events"], json!([events[2]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_can_be_asked_for_by_their_stream() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let _publishers = [origin.publisher("s").await, origin.publisher("t").await];
    let streams = api.get("/api/v1/streams").await;
    for stream in streams["streams"].as_array().unwrap() {
        let path = format!("/api/v1/clients?stream={}", stream["id"].as_str().unwrap());
        let clients = api.get(&path).await["clients"].clone();
        assert_eq!(clients.as_array().unwrap().len(), 1);
        assert_eq!(clients[0]["name"], stream["name"]);
        assert_eq!(clients[0]["relay"], false);
        assert!(stream["publish"]["alive"].is_f64(), "{stream}");
    }
    for query in ["stream=99", "stream=x", "relay=true"] {
        let path = format!("/api/v1/clients?{query}");
        assert_eq!(api.get(&path).await["clients"], json!([]), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_may_load_streams_from_http_server_alone() {
    let config = with_api("") + "http_server { enabled on; listen 8080; }";
    let origin = TestServer::start(Role::Origin, &config);
    let api = Api::of(&origin).await;
    let page = api.ask("GET", "/").await;
    let policy = "script-src 'self'; style-src 'self'; img-src 'self'; \
                  connect-src 'self' http://x:8080;";
    assert!(page.head.contains(policy), "{}", page.head);
    assert!(page.body.contains("page/server.js"));
    for name in ["server.js", "page.css", "mpegts-1.8.2.js"] {
        let file = api.ask("GET", &format!("/page/{name}")).await;
        assert_eq!(file.status, 200, "{name}");
    }
    for path in ["/page/", "/page/x", "/page/..%2FCargo.toml", "/page/../api"] {
        assert_eq!(api.ask("GET", path).await.status, 404, "{path}");
    }
    let console = api.ask("GET", "/console/").await;
    assert!(console.head.contains("location: /"), "{}", console.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_does_not_read_is_the_slowest_and_itself_to_blame() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0)]).await;
    let mut quick = origin.player("s").await;
    quick.frame().await;
    let mut stalled = origin.player("s").await;
    stalled.frame().await;
    let mut payload = vec![0x55; 100_000];
    payload[..5].copy_from_slice(&[0x27, 1, 0, 0, 0]);
    let large = |time| message(MessageType::VIDEO, time, &payload);
    for number in 1..=200 {
        publisher.publish(&[large(10 * number)]).await;
        quick.frame().await;
    }
    let answer = eventually(async || {
        let answer = api.get("/api/v1/clients?slowest=1").await;
        (answer["clients"][0]["verdict"] != Value::Null).then_some(answer)
    })
    .await;
    let clients = answer["clients"].as_array().unwrap();
    assert_eq!(clients.len(), 1);
    let slow = &clients[0];
    assert_eq!(slow["verdict"], "player", "{slow}");
    let local = stalled.socket.local_addr().unwrap();
    assert_eq!(slow["port"], local.port());
    assert!(slow["lag_ms"].as_u64().unwrap() > 1_000, "{slow}");
    assert!(slow["tcp"]["unsent_bytes"].as_u64().unwrap() > 0, "{slow}");
    assert!(slow["tcp"]["rtt_ms"].is_f64(), "{slow}");

    // Of the same look: a request for it costs no player's connection anything.
    let both = api.get("/api/v1/clients?slowest=10").await;
    assert_eq!(both["clients"].as_array().unwrap().len(), 2);
    assert_eq!(&both["clients"][0]["tcp"], &slow["tcp"]);
    assert_eq!(both["clients"][1]["lag_ms"], 0);
    assert_eq!(both["clients"][1]["verdict"], Value::Null);
}

/// A configuration with this in `http_api`.
fn with_api(settings: &str) -> String {
    format!(
        "http_api {{ enabled on; listen 127.0.0.1:1985; {settings} }} vhost __defaultVhost__ {{ }}"
    )
}
