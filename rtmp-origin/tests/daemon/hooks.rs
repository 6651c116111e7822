//! `http_hooks` of a process: at its end, and at `https://` URLs, where nginx
//! answers with certificates of openssl's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use netbed::local::{ChildGuard, free_address, push};
use netbed::{TIME_LIMIT, wait_for};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{Origin, pull, read};

/// Has openssl do this in `directory`.
pub(super) fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output()
        .expect("openssl runs (scripts/setup.sh installs it)");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {why}");
}

/// A web server at `https://localhost` that allows everything.
struct Site {
    _nginx: ChildGuard,
    directory: TempDir,
    address: SocketAddr,
}

impl Site {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for authority in ["authority", "stranger"] {
            openssl(
                path,
                &format!(
                    "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} \
                     -keyout {authority}.key -out {authority}.pem"
                ),
            );
        }
        openssl(
            path,
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hooks -CA authority.pem \
             -CAkey authority.key -keyout site.key -out site.pem \
             -addext subjectAltName=DNS:localhost \
             -addext basicConstraints=critical,CA:FALSE",
        );
        let address = free_address();
        let configuration = format!(
            "daemon off; master_process off; error_log stderr crit; pid nginx.pid;\n\
             events {{ }}\n\
             http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
             fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             server {{ listen {address} ssl; ssl_certificate site.pem;\n\
             ssl_certificate_key site.key; location / {{ return 200 \"0\\n\"; }} }} }}"
        );
        std::fs::write(path.join("nginx.conf"), configuration).unwrap();
        let nginx = Command::new("nginx")
            .arg("-p")
            .arg(path)
            .args(["-c", "nginx.conf"])
            .stderr(Stdio::null())
            .spawn();
        let nginx = ChildGuard(nginx.expect("nginx runs (scripts/setup.sh installs it)"));
        wait_for("a web server", || {
            std::net::TcpStream::connect(address).is_ok()
        });
        Self {
            _nginx: nginx,
            directory,
            address,
        }
    }

    /// An origin that trusts `authority` and asks at `host` about publishers.
    fn origin(&self, authority: &str, host: &str) -> Origin {
        let hook = format!("https://{host}:{}/", self.address.port());
        let hooks = format!("http_hooks {{ enabled on; on_publish {hook}; }}");
        let arguments = ["--log-file", "origin.log", "--set", &hooks];
        let certificates = self.directory.path().join(format!("{authority}.pem"));
        Origin::start_with(&arguments, |command| {
            command.env("SSL_CERT_FILE", certificates);
        })
    }
}

#[test]
fn a_hook_at_an_https_url_is_asked_if_its_certificate_is_good() {
    let site = Site::start();
    let origin = site.origin("authority", "localhost");
    let _publisher = push(&origin.url());
    wait_for("a publisher", || {
        read(&origin.path("origin.log")).contains("publish live/livestream")
    });
    assert!(!pull(&origin.url()).is_empty());

    for (authority, host, why) in [
        ("stranger", "localhost", "UnknownIssuer"),
        ("authority", "127.0.0.1", "certificate not valid for name"),
    ] {
        let origin = site.origin(authority, host);
        let _publisher = push(&origin.url());
        let log = || read(&origin.path("origin.log"));
        wait_for("a refusal", || log().contains("does not allow it"));
        assert!(log().contains("invalid peer certificate"), "{}", log());
        assert!(log().contains(why), "{}", log());
        assert!(!log().contains("publish live/livestream"), "{}", log());
    }
}

/// Longer than a stop waits for connections, and less than a hook may take.
const SLOW: Duration = Duration::from_secs(2);

/// A web server that takes its time over each answer; what it is told.
fn slow_site() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, events) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut request = Vec::new();
            // The event's last character ends the request.
            while request.last() != Some(&b'}') {
                let mut part = [0; 4_096];
                let count = socket.read(&mut part).unwrap();
                request.extend_from_slice(&part[..count]);
            }
            if told.send(super::text(&request)).is_err() {
                return;
            }
            std::thread::sleep(SLOW);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0";
            // Whoever has asked may have gone.
            let _ = socket.write_all(answer);
        }
    });
    (address, events)
}

#[test]
fn a_stop_waits_until_hooks_have_heard_of_everyones_end() {
    let (site, events) = slow_site();
    let hook = format!("http://{site}/");
    let hooks = format!("http_hooks {{ enabled on; on_unpublish {hook}; on_close {hook}; }}");
    let arguments = ["--log-file", "origin.log", "--set", &hooks];
    let mut origin = Origin::start(&arguments);
    let _publisher = push(&origin.url());
    wait_for("a publisher", || {
        read(&origin.path("origin.log")).contains("publish live/livestream")
    });
    origin.process.signal(Signal::SIGTERM);
    for action in ["on_unpublish", "on_close"] {
        let event = events.recv_timeout(TIME_LIMIT).expect("not told");
        assert!(event.contains(action), "{event}");
    }
    assert!(origin.process.end().success());
}
