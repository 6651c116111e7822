//! Checks against real servers: TLS of openssl's, RTMP of nginx's. FLV is ffmpeg's.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lb_user::checker::HealthCheck as _;
use lb_user::checker::flv::FlvProbe;
use lb_user::checker::http::{HttpProbe, Page};
use lb_user::checker::machine::ProbeOutcome;
use lb_user::checker::rtmp::RtmpProbe;
use lb_user::checker::tcp::Connection;
use netbed::local::{ChildGuard, free_address};
use netbed::{TIME_LIMIT, wait_for};

/// A server that ends with this.
struct Server {
    _child: ChildGuard,
    address: SocketAddr,
}

impl Server {
    /// Starts a server and waits until it listens.
    fn start(command: &mut Command, address: SocketAddr) -> Self {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Self {
            _child: ChildGuard::spawn(quiet),
            address,
        };
        let what = format!("{quiet:?} to listen at {address}");
        wait_for(what, || TcpStream::connect(address).is_ok());
        server
    }

    fn connection(&self) -> Connection {
        Connection {
            to: self.address,
            from: None,
            timeout: Duration::from_secs(20),
        }
    }
}

/// Makes `cert.pem`, which nobody vouches for, and `key.pem` with openssl.
fn make_certificate(directory: &Path, kind: &[&str]) {
    let made = Command::new("openssl")
        .args(["req", "-nodes", "-subj", "/CN=edge.example"])
        .args(["-keyout", "key.pem"])
        .args(kind)
        .current_dir(directory)
        .output()
        .expect("openssl exists");
    assert!(made.status.success(), "{made:?}");
}

const COMMON_KIND: [&str; 5] = ["-x509", "-out", "cert.pem", "-newkey", "rsa:2048"];

/// openssl's server with the certificate of `directory`.
fn tls_server(directory: &Path, more: &[&str]) -> Server {
    let address = free_address();
    let mut command = Command::new("openssl");
    command
        .args(["s_server", "-key", "key.pem", "-cert", "cert.pem"])
        .args(["-accept", &address.to_string()])
        .args(more)
        .current_dir(directory);
    Server::start(&mut command, address)
}

/// The page `/`, whatever is on it.
fn root() -> Page {
    Page {
        path: "/".to_owned(),
        virtual_host: None,
        status_codes: vec![(200, 299)],
        digest: None,
        regex: None,
    }
}

#[tokio::test]
async fn ssl_get_reads_a_page_and_names_the_host_only_where_it_is_to() {
    let directory = tempfile::tempdir().expect("a directory");
    make_certificate(directory.path(), &COMMON_KIND);
    // Asked for another name than its own, it ends the handshake.
    let named = "-www -key2 key.pem -cert2 cert.pem -servername edge.example -servername_fatal";
    let named: Vec<&str> = named.split(' ').collect();
    let server = tls_server(directory.path(), &named);
    let check = async |host: Option<&str>, server_name: bool, regex: &str| {
        let page = Page {
            virtual_host: host.map(str::to_owned),
            regex: Some((regex.to_owned(), true)),
            ..root()
        };
        let probe = HttpProbe {
            connection: server.connection(),
            tls: true,
            server_name,
            pages: vec![page],
        };
        probe.check().await
    };
    let page = "s_server";
    assert_eq!(
        check(None, false, page).await,
        ProbeOutcome::Success,
        "self-signed"
    );
    assert_eq!(
        check(Some("edge.example"), true, page).await,
        ProbeOutcome::Success
    );
    assert_eq!(
        check(Some("other.example"), false, page).await,
        ProbeOutcome::Success,
        "without enable_sni no name is named"
    );
    let refused = check(Some("other.example"), true, page).await;
    assert!(
        matches!(&refused, ProbeOutcome::Failure(reason) if reason.contains("no TLS connection")),
        "{refused:?}"
    );
    let wrong = check(None, false, "no such page").await;
    assert!(
        matches!(&wrong, ProbeOutcome::Failure(reason) if reason.contains("not found")),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn ssl_get_takes_certificates_of_every_kind() {
    // Before TLS 1.3 rustls has its own idea of what belongs together.
    const NEW: &[&str] = &["-tls1_3"];
    const BOTH: &[&str] = &["-tls1_2", "-tls1_3"];
    let self_signed = "-x509 -out cert.pem -newkey ";
    let kinds = [
        (format!("{self_signed}rsa:1024"), BOTH),
        (format!("{self_signed}ed448"), NEW),
        (
            format!("{self_signed}ec -pkeyopt ec_paramgen_curve:P-521"),
            NEW,
        ),
        // Signed below, as many a recipe on the web has it: of version 1.
        ("-newkey rsa:2048 -out request.pem".to_owned(), BOTH),
    ];
    for (kind, versions) in kinds {
        let directory = tempfile::tempdir().expect("a directory");
        make_certificate(directory.path(), &kind.split(' ').collect::<Vec<_>>());
        if directory.path().join("request.pem").exists() {
            let signed = Command::new("openssl")
                .args(["x509", "-req", "-in", "request.pem", "-signkey", "key.pem"])
                .args(["-out", "cert.pem"])
                .current_dir(directory.path())
                .output()
                .expect("openssl exists");
            assert!(signed.status.success(), "{signed:?}");
        }
        for version in versions {
            // openssl itself refuses short keys at its usual level.
            let more = ["-www", "-cipher", "DEFAULT@SECLEVEL=0", version];
            let server = tls_server(directory.path(), &more);
            let probe = HttpProbe {
                connection: server.connection(),
                tls: true,
                server_name: false,
                pages: vec![root()],
            };
            let outcome = probe.check().await;
            assert_eq!(outcome, ProbeOutcome::Success, "{kind}, {version}");
        }
    }
}

#[tokio::test]
async fn ssl_get_to_a_server_that_speaks_no_tls_fails() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a listener");
    let to = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.0 200 OK\r\n\r\n").await;
        }
    });
    let probe = HttpProbe {
        connection: Connection {
            to,
            from: None,
            timeout: Duration::from_secs(20),
        },
        tls: true,
        server_name: false,
        pages: vec![root()],
    };
    let outcome = probe.check().await;
    assert!(
        matches!(&outcome, ProbeOutcome::Failure(reason) if reason.contains("no TLS connection")),
        "{outcome:?}"
    );
}

/// nginx with its RTMP module.
fn rtmp_server(directory: &Path) -> Server {
    let address = free_address();
    let configuration = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
         daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log nginx.log;\n\
         events {{ }}\n\
         rtmp {{ server {{ listen {address}; application live {{ live on; }} }} }}\n"
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, configuration).expect("written");
    let mut command = Command::new("nginx");
    command.arg("-p").arg(directory).arg("-c").arg(&file);
    Server::start(&mut command, address)
}

fn rtmp_probe(server: &Server, stream: Option<&str>, limit: Duration) -> RtmpProbe {
    RtmpProbe {
        connection: server.connection(),
        virtual_host: None,
        app: "live".to_owned(),
        play: stream.map(|stream| (stream.to_owned(), limit)),
    }
}

#[tokio::test]
async fn rtmp_check_tells_a_stream_that_plays_from_one_that_does_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = rtmp_server(directory.path());
    assert_eq!(
        rtmp_probe(&server, None, TIME_LIMIT).check().await,
        ProbeOutcome::Success,
        "handshake and connect"
    );
    let mut silent = rtmp_probe(&server, Some("livestream"), Duration::from_millis(200));
    silent.connection.timeout = Duration::from_secs(1);
    assert_eq!(
        silent.check().await,
        ProbeOutcome::Failure("no media within 1.2 s".to_owned()),
        "it accepts everything and nobody publishes"
    );
    let mut publisher = Command::new("ffmpeg");
    publisher
        .args([
            "-nostdin",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=160x120:rate=10",
        ])
        .args(["-c:v", "flv", "-g", "10", "-f", "flv"])
        .arg(format!("rtmp://{}/live/livestream", server.address));
    let _publisher = Server::start(&mut publisher, server.address);
    let playing = rtmp_probe(&server, Some("livestream"), TIME_LIMIT);
    assert_eq!(playing.check().await, ProbeOutcome::Success);
}

#[tokio::test]
async fn flv_check_finds_media_in_a_stream_over_tls_and_names_the_host() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path().join("live");
    std::fs::create_dir(&files).expect("made");
    // A second of pictures, or none.
    for (name, length) in [("livestream", "1"), ("silent", "0")] {
        let made = Command::new("ffmpeg")
            .args([
                "-nostdin",
                "-f",
                "lavfi",
                "-i",
                "testsrc=size=160x120:rate=10",
            ])
            .args(["-t", length, "-c:v", "flv"])
            .arg(files.join(format!("{name}.flv")))
            .output()
            .expect("ffmpeg exists");
        assert!(made.status.success(), "{made:?}");
    }
    make_certificate(directory.path(), &COMMON_KIND);
    let named = "-WWW -key2 key.pem -cert2 cert.pem -servername edge.example -servername_fatal";
    let server = tls_server(directory.path(), &named.split(' ').collect::<Vec<_>>());
    let check = async |host: &str, stream: &str| {
        let probe = FlvProbe {
            connection: server.connection(),
            tls: true,
            virtual_host: Some(host.to_owned()),
            app: "live".to_owned(),
            stream: stream.to_owned(),
            play_timeout: TIME_LIMIT,
        };
        probe.check().await
    };
    for host in ["edge.example", "edge.example:8443"] {
        assert_eq!(check(host, "livestream").await, ProbeOutcome::Success);
    }
    assert_eq!(
        check("edge.example", "silent").await,
        ProbeOutcome::Failure("the server closed the connection".to_owned())
    );
    let refused = check("other.example", "livestream").await;
    assert!(
        matches!(&refused, ProbeOutcome::Failure(reason) if reason.contains("no TLS connection")),
        "{refused:?}"
    );
}
