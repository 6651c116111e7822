//! HTTPS and RTMPS with the programs that people use: OpenSSL, curl, ffmpeg (GnuTLS), nginx.

use std::net::SocketAddr;
use std::process::Command;

use netbed::local::free_address;
use netbed::wait_for;

use crate::common::certificates::Authority;
use crate::common::program::{Program, output, require, require_ffmpeg, runs};
use crate::http_flv::{PICTURES, RECORD, assert_is_the_stream, decoded, publish_to};
use crate::origin::Origin;

/// An origin whose certificate is for `localhost`.
fn origin(authority: &Authority) -> Origin {
    let files = authority.issue("server", "localhost").directives();
    Origin::configured(
        &format!(
            "rtmps {{ enabled on; {files} }} \
             http_server {{ enabled on; https {{ enabled on; {files} }} }}"
        ),
        "play_wait_timeout 60000; publish_return_timeout 0;",
    )
}

fn address(address: SocketAddr) -> String {
    format!("localhost:{}", address.port())
}

/// ffmpeg publishes by RTMPS, and curl records by HTTPS with this option.
fn record(version: &str) {
    require_ffmpeg();
    require("curl", &["--version"]);
    let authority = Authority::new();
    let origin = origin(&authority);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut curl = Program::start(
        Command::new("curl")
            .args(["--silent", "--show-error", "--fail", version, "--cacert"])
            .arg(authority.file())
            .arg("--output")
            .arg(file.path())
            .arg(format!("https://{}/live/s.flv", address(origin.https()))),
    );
    let mut publisher = publish_to(&format!("rtmps://{}/live/s", address(origin.rtmps())));
    assert!(publisher.wait().success());
    assert!(curl.wait().success());
    assert_is_the_stream(file.path());
}

#[test]
fn ffmpeg_publishes_by_rtmps_and_curl_records_by_http_1_1() {
    record("--http1.1");
}

#[test]
fn ffmpeg_publishes_by_rtmps_and_curl_records_by_http_2() {
    record("--http2");
}

#[test]
fn curl_agrees_on_http_2() {
    require("curl", &["--version"]);
    let authority = Authority::new();
    let origin = origin(&authority);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--write-out", "%{http_version} %{http_code}"]);
    curl.args(["--head", "--output", "/dev/null", "--cacert"]);
    let url = format!("https://{}/live/s.flv", address(origin.https()));
    assert_eq!(output(curl.arg(authority.file()).arg(url)), "2 404");
}

#[test]
fn ffmpeg_plays_by_https_and_rtmps_and_verifies() {
    require_ffmpeg();
    let authority = Authority::new();
    let origin = origin(&authority);
    let _publisher = publish_to(&origin.url("live/s"));
    let verified = ["-tls_verify", "1", "-ca_file"];
    let authorities = authority.file();
    let mut arguments: Vec<&str> = verified.to_vec();
    arguments.push(authorities.to_str().unwrap());
    let https = format!("https://{}/live/s.flv", address(origin.https()));
    let pictures = decoded(&arguments, &https);
    assert!((PICTURES / 2..=PICTURES).contains(&pictures), "{pictures}");
    let _publisher = publish_to(&origin.url("live/t"));
    let rtmps = format!("rtmps://{}/live/t", address(origin.rtmps()));
    let pictures = decoded(&arguments, &rtmps);
    assert!((PICTURES / 2..=PICTURES).contains(&pictures), "{pictures}");
    // One who trusts others does not play.
    let stranger = Authority::new();
    let mut refused = Command::new("ffprobe");
    refused
        .args(["-loglevel", "quiet"])
        .args(verified)
        .arg(stranger.file());
    assert!(!refused.arg(&https).status().unwrap().success());
}

/// True if OpenSSL makes a connection with these arguments.
fn connects(address: SocketAddr, authority: &Authority, arguments: &[&str]) -> bool {
    let mut openssl = Command::new("openssl");
    openssl
        .args(["s_client", "-brief", "-verify_return_error", "-connect"])
        .arg(address.to_string())
        .arg("-CAfile")
        .arg(authority.file())
        .args(arguments);
    let mut openssl = Program::start(&mut openssl);
    openssl.wait().success()
}

#[test]
fn only_tls_1_2_and_1_3_with_forward_secrecy_are_spoken() {
    require("openssl", &["version"]);
    let authority = Authority::new();
    let origin = origin(&authority);
    // What Debian forbids its own clients is allowed here, so that the server refuses it.
    let weak = ["-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"];
    for port in [origin.https(), origin.rtmps()] {
        let connects = |arguments: &[&str]| connects(port, &authority, arguments);
        for suite in [
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
        ] {
            assert!(connects(&["-tls1_3", "-ciphersuites", suite]), "{suite}");
        }
        for cipher in [
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ] {
            assert!(connects(&["-tls1_2", "-cipher", cipher]), "{cipher}");
        }
        for version in ["-tls1", "-tls1_1"] {
            assert!(!connects(&[&[version], &weak[..]].concat()), "{version}");
        }
        for cipher in [
            "NULL",
            "aNULL",
            "eNULL",
            "RC4",
            "3DES",
            "MD5",
            "SHA1",
            "CAMELLIA",
            "ARIA",
            "AESCCM",
            "kRSA",
            "DHE",
            "PSK",
            "ECDHE-ECDSA-AES128-SHA256",
            "ECDHE-ECDSA-AES256-SHA384",
        ] {
            let weakened = format!("{cipher}:@SECLEVEL=0");
            assert!(!connects(&["-tls1_2", "-cipher", &weakened]), "{cipher}");
        }
        assert!(!connects(&["-alpn", "spdy/3"]) || port == origin.rtmps());
        assert!(
            connects(&["-servername", "unknown.example"]),
            "another name"
        );
    }
    assert!(connects(origin.https(), &authority, &["-alpn", "http/1.1"]));
}

/// An nginx that passes plain requests on by HTTPS, and judges the certificate.
fn nginx(upstream: SocketAddr, authority: &Authority) -> (SocketAddr, Program, tempfile::TempDir) {
    require("nginx", &["-v"]);
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let port = upstream.port();
    let authorities = authority.file();
    let configuration = format!(
        "daemon off; master_process off; error_log stderr crit; pid nginx.pid;
         events {{ worker_connections 64; }}
         http {{ access_log off; server {{ listen {address}; location / {{
             proxy_pass https://127.0.0.1:{port}; proxy_buffering off;
             proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name on;
             proxy_ssl_trusted_certificate {};
         }} }} }}",
        authorities.display()
    );
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("nginx");
    let program = Program::start(command.arg("-p").arg(directory.path()).arg("-c").arg(&file));
    wait_for("a listening nginx", || {
        std::net::TcpStream::connect(address).is_ok()
    });
    (address, program, directory)
}

#[test]
fn nginx_verifies_and_passes_a_stream_on() {
    require_ffmpeg();
    let authority = Authority::new();
    let origin = origin(&authority);
    let (proxy, _nginx, _directory) = nginx(origin.https(), &authority);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut curl = Program::start(
        Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--output"])
            .arg(file.path())
            .arg(format!("http://{proxy}/live/s.flv")),
    );
    let mut publisher = publish_to(&origin.url("live/s"));
    assert!(publisher.wait().success());
    assert!(curl.wait().success());
    assert_is_the_stream(file.path());
}

#[test]
fn node_records_over_a_secured_websocket() {
    let has_websocket = "process.exit(typeof WebSocket === 'function' ? 0 : 1)";
    if !runs("node", &["-e", has_websocket]) {
        netbed::skip!("there is no Node.js with WebSocket");
    }
    let authority = Authority::new();
    let origin = origin(&authority);
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = format!("wss://{}/live/s.flv", address(origin.https()));
    let mut node = Command::new("node");
    node.env("NODE_EXTRA_CA_CERTS", authority.file());
    let mut node = Program::start(node.args(["-e", RECORD, &url]).arg(file.path()));
    let mut publisher = publish_to(&origin.url("live/s"));
    assert!(publisher.wait().success());
    assert!(node.wait().success());
    assert_is_the_stream(file.path());
}
