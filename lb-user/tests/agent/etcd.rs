//! Real servers that etcd names.

use std::path::Path;
use std::process::{Command, Output};

use netbed::{Process, wait_for};

use super::Agent;
use super::discovery::{EDGE1, EDGE2, error, up, wait_for_servers, with_source};
use super::network::Network;

/// Starts etcd, to which clients speak by `scheme`.
fn etcd(network: &Network, data: &Path, scheme: &str, more: &[&str]) -> Process {
    let url = format!("{scheme}://127.0.0.1:2379");
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(data);
    command.args(["--listen-client-urls", &url]);
    command.args(["--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    command.args(more);
    network.start("director", command)
}

/// Has etcdctl do something, on the director.
fn etcdctl(network: &Network, words: &[&str]) -> Output {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(words);
    let output = network.on("director").output(command);
    output.expect("etcdctl is installed")
}

#[test]
#[ignore = "needs root"]
fn servers_of_etcd_follow_its_keys_and_leases_and_stay_while_it_is_gone() {
    let network = Network::new();
    let _edges = [network.serve("edge1"), network.serve("edge2")];
    let data = tempfile::tempdir().expect("a directory");
    let server = etcd(&network, data.path(), "http", &[]);
    let etcdctl = |words: &[&str]| etcdctl(&network, words);
    wait_for("etcd to answer", || {
        etcdctl(&["put", "/edges/1", EDGE1]).status.success()
    });
    let agent = Agent::start(
        &network,
        &with_source("etcd http://127.0.0.1:2379\nprefix /edges/"),
    );
    wait_for_servers(&agent, &[EDGE1]);
    let lease = etcdctl(&["lease", "grant", "600"]).stdout;
    let lease = String::from_utf8(lease).expect("text");
    let lease = lease
        .split_whitespace()
        .nth(1)
        .expect("its number")
        .to_owned();
    let value = format!("{EDGE2} 1935 weight 2");
    let put = etcdctl(&["put", "/edges/2", &value, "--lease", &lease]);
    assert!(put.status.success(), "{put:?}");
    wait_for_servers(&agent, &[EDGE1, EDGE2]);
    etcdctl(&["lease", "revoke", &lease]);
    wait_for_servers(&agent, &[EDGE1]);
    etcdctl(&["del", "--prefix", "/edges/"]);
    wait_for("the prefix to be empty", || {
        error(&agent).is_some_and(|error| error == "there are no keys below `/edges/`")
    });
    assert_eq!(up(agent.list()).len(), 1);
    etcdctl(&["put", "/edges/1", EDGE1]);
    wait_for("the keys to be back", || error(&agent).is_none());
    server.kill().expect("it runs");
    wait_for("its absence", || error(&agent).is_some());
    assert_eq!(up(agent.list()).len(), 1);
    let _server = etcd(&network, data.path(), "http", &[]);
    wait_for("etcd to answer", || {
        etcdctl(&["put", "/edges/2", EDGE2]).status.success()
    });
    wait_for_servers(&agent, &[EDGE1, EDGE2]);
    assert_eq!(error(&agent), None);
}

/// A certificate for 127.0.0.1 that vouches for itself, and its key.
fn certificate(directory: &Path) -> [String; 2] {
    certificate_of("etcd", directory)
}

fn certificate_of(name: &str, directory: &Path) -> [String; 2] {
    let [certificate, key] = ["cert.pem", "key.pem"].map(|kind| {
        let file = directory.join(format!("{name}-{kind}"));
        file.to_str().expect("UTF-8").to_owned()
    });
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]);
    command.args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.args(["-keyout", &key, "-out", &certificate]);
    let output = command.output().expect("openssl is installed");
    assert!(output.status.success(), "{output:?}");
    [certificate, key]
}

#[test]
#[ignore = "needs root"]
fn etcd_is_asked_with_tls_and_as_a_user() {
    let network = Network::new();
    let _edges = [network.serve("edge1"), network.serve("edge2")];
    let data = tempfile::tempdir().expect("a directory");
    let [certificate, key] = certificate(data.path());
    let with_tls = ["--cert-file", &certificate, "--key-file", &key];
    let _server = etcd(&network, &data.path().join("etcd"), "https", &with_tls);
    let etcdctl = |words: &[&str]| {
        let by_tls = [
            "--endpoints",
            "https://127.0.0.1:2379",
            "--cacert",
            &certificate,
        ];
        etcdctl(&network, &[&by_tls, words].concat())
    };
    let done = |words: &[&str]| {
        let output = etcdctl(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    wait_for("etcd to answer", || {
        etcdctl(&["put", "/edges/1", EDGE1]).status.success()
    });
    done(&["user", "add", "root:secret"]);
    done(&["user", "grant-role", "root", "root"]);
    done(&["user", "add", "director:right"]);
    done(&["role", "add", "reader"]);
    done(&[
        "role",
        "grant-permission",
        "reader",
        "--prefix=true",
        "read",
        "/edges/",
    ]);
    done(&["user", "grant-role", "director", "reader"]);
    done(&["auth", "enable"]);

    let source = |lines: &str| {
        with_source(&format!(
            "etcd https://127.0.0.1:2379\nprefix /edges/\n{lines}"
        ))
    };
    let trusting = format!("etcd_ca {certificate}\n");
    let user =
        |password: &str| format!("{trusting}etcd_username director\netcd_password {password}\n");
    for (lines, expected) in [
        (String::new(), "no TLS connection: "),
        (
            trusting.clone(),
            "the answer to /v3/kv/range is 400 Bad Request",
        ),
        (
            user("wrong"),
            "the answer to /v3/auth/authenticate is 400 Bad Request",
        ),
    ] {
        let agent = Agent::start(&network, &source(&lines));
        wait_for(expected, || {
            error(&agent).is_some_and(|error| error.contains(expected))
        });
        assert!(agent.stop().success());
    }
    let agent = Agent::start(&network, &source(&user("right")));
    wait_for_servers(&agent, &[EDGE1]);
    assert_eq!(error(&agent), None);
    // The watch, too, is the user's.
    done(&["--user", "root:secret", "put", "/edges/2", EDGE2]);
    wait_for_servers(&agent, &[EDGE1, EDGE2]);
}

#[test]
#[ignore = "needs root"]
fn etcd_is_shown_a_certificate_where_it_asks_for_one() {
    let network = Network::new();
    let _edge = network.serve("edge1");
    let data = tempfile::tempdir().expect("a directory");
    let [certificate, key] = certificate(data.path());
    let [own, own_key] = certificate_of("director", data.path());
    let [stranger, stranger_key] = certificate_of("stranger", data.path());
    // Its gateway is a client of its own.
    let trusted = data.path().join("trusted.pem");
    let pem = |file: &str| std::fs::read_to_string(file).expect("a certificate");
    std::fs::write(&trusted, pem(&certificate) + &pem(&own)).expect("written");
    let with_clients = [
        "--cert-file",
        &certificate,
        "--key-file",
        &key,
        "--client-cert-auth",
        "--trusted-ca-file",
        trusted.to_str().expect("UTF-8"),
    ];
    let _server = etcd(&network, &data.path().join("etcd"), "https", &with_clients);
    wait_for("etcd to answer", || {
        let by_tls = ["--endpoints", "https://127.0.0.1:2379"];
        let shown = ["--cacert", &certificate, "--cert", &own, "--key", &own_key];
        let put = ["put", "/edges/1", EDGE1];
        let words = [&by_tls[..], &shown, &put].concat();
        etcdctl(&network, &words).status.success()
    });
    let with = |certificate_and_key: &str| {
        with_source(&format!(
            "etcd https://127.0.0.1:2379\nprefix /edges/\netcd_ca {certificate}\n\
             {certificate_and_key}"
        ))
    };
    for (lines, expected) in [
        (String::new(), "fatal alert: "),
        (
            format!("etcd_cert {stranger}\netcd_key {stranger_key}\n"),
            "fatal alert: ",
        ),
        (
            format!("etcd_cert {own}\netcd_key {stranger_key}\n"),
            "cannot be used: ",
        ),
    ] {
        let agent = Agent::start(&network, &with(&lines));
        wait_for(expected, || {
            error(&agent).is_some_and(|error| error.contains(expected))
        });
        assert!(agent.stop().success());
    }
    let agent = Agent::start(
        &network,
        &with(&format!("etcd_cert {own}\netcd_key {own_key}\n")),
    );
    wait_for_servers(&agent, &[EDGE1]);
    assert_eq!(error(&agent), None);
}
