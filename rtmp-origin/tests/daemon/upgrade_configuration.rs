//! Upgrades with a configuration that has changed: what cannot be put in force throws nobody out.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use netbed::local::free_address;
use netbed::wait_for;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::peer::Peer;
use crate::upgrade::write_slate;
use crate::{Origin, origin, read, text};

/// Asks for an upgrade; whether it went well, and what is said of it.
fn ask(origin_: &Origin) -> (bool, String) {
    let process = origin_.process.0.id().to_string();
    let output = origin().args(["upgrade", "--pid", &process]).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), text(&said))
}

/// A publisher and its viewer, who are on the same connections all the time.
struct Watched {
    publisher: Peer,
    viewer: Peer,
    time_ms: u32,
}

impl Watched {
    fn new(address: SocketAddr) -> Self {
        let mut watched = Self {
            publisher: Peer::publish(address, "livestream").unwrap(),
            viewer: Peer::play(address, "livestream"),
            time_ms: 0,
        };
        watched.go_on();
        watched
    }

    fn go_on(&mut self) {
        for _ in 0..3 {
            let is_first = self.time_ms == 0;
            self.publisher
                .send_picture(self.time_ms, is_first, 1_000)
                .unwrap();
            assert_eq!(self.viewer.next_picture(), Some(self.time_ms));
            self.time_ms += 40;
        }
    }
}

fn write(conf: &Path, http: SocketAddr, log: &Path, more: &str) {
    let text = format!(
        "srs_log_tank file; srs_log_file {}; http_server {{ enabled on; listen {http}; }} {more}
         vhost __defaultVhost__ {{ min_latency on; http_remux {{ enabled on; }} }}",
        log.display()
    );
    fs::write(conf, text).unwrap();
}

#[test]
fn an_upgrade_that_could_not_listen_or_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (conf, log, http) = (path("o.conf"), path("origin.log"), free_address());
    write(&conf, http, &log, "");
    let origin = Origin::start(&["-c", conf.to_str().unwrap()]);
    let mut watched = Watched::new(origin.address);

    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = other.local_addr().unwrap();
    let api = |listen: &str| format!("http_api {{ enabled on; listen {listen}; }}");
    let listening = format!("cannot listen at {taken}");
    for (http, log, more, reason) in [
        (taken, log.clone(), String::new(), &*listening),
        // One of TEST-NET-1, which no machine has.
        (
            http,
            log.clone(),
            api("192.0.2.77:1985"),
            "cannot listen at 192.0.2.77:1985",
        ),
        (
            http,
            directory.path().to_owned(),
            String::new(),
            "cannot write the log",
        ),
    ] {
        write(&conf, http, &log, &more);
        let (done, said) = ask(&origin);
        assert!(!done && said.contains(reason), "{reason}: {said}");
        watched.go_on();
    }

    // Where its own socket is in the way, it is out of it in time.
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, http.port()));
    let log = path("other.log");
    write(&conf, any, &log, "");
    let (done, said) = ask(&origin);
    assert!(done && !said.contains("; but "), "{said}");
    watched.go_on();
    assert!(TcpStream::connect(http).is_ok());
    assert!(read(&log).contains(&format!("HTTP-FLV and HLS at {any}")));

    // Where another program's is, too, its own one goes on.
    write(&conf, http, &log, "");
    assert!(ask(&origin).0);
    let other = SocketAddr::from(([127, 0, 0, 2], http.port()));
    let _other = TcpListener::bind(other).unwrap();
    write(&conf, any, &log, "");
    let (done, said) = ask(&origin);
    assert!(
        done && said.contains(&format!("; but cannot listen at {any}")),
        "{said}"
    );
    watched.go_on();
    assert!(TcpStream::connect(http).is_ok());
}

/// A configuration that each reader gets anew from `write`.
fn fifo(directory: &Path) -> PathBuf {
    let path = directory.join("o.conf");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    path
}

#[test]
fn a_configuration_that_becomes_wrong_meanwhile_is_not_put_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let conf = fifo(directory.path());
    let offer = |text: &'static str| {
        let conf = conf.clone();
        thread::spawn(move || fs::write(conf, text).unwrap())
    };
    let slate = directory.path().join("slate.flv");
    write_slate(&slate, 2);
    let good = format!(
        "vhost __defaultVhost__ {{ min_latency on; publish {{ slate {}; }} }}",
        slate.display()
    );
    let good: &str = good.leak();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let offered = offer(good);
    let origin = Origin::start(&["-c", conf.to_str().unwrap(), "--log-file", "origin.log"]);
    offered.join().unwrap();
    let mut watched = Watched::new(origin.address);
    let log = || read(&origin.path("origin.log"));
    let bad_listener = format!(
        "http_api {{ enabled on; listen {}; }}",
        other.local_addr().unwrap()
    );
    let bad_listener: &str = bad_listener.leak();
    for (number, wrong, told) in [
        (1, "oops", "the configuration before stays in force: "),
        (2, bad_listener, "cannot listen at "),
        // Its slate has gone, which that of before has, too.
        (3, good, "the configuration before stays in force: "),
    ] {
        let offered = offer(good);
        origin.process.signal(Signal::SIGUSR2);
        offered.join().unwrap();
        // The rehearsal has read it, and the process is about to become the program.
        wait_for("the hand-over", || {
            log().matches("goes on with").count() == number
        });
        if number == 3 {
            fs::remove_file(&slate).unwrap();
        }
        offer(wrong).join().unwrap();
        wait_for("the upgrade", || {
            log().matches("goes on in place of").count() == number
        });
        watched.go_on();
        let told = log().matches(&format!("ERROR upgrade: {told}")).count();
        assert!(told > usize::from(number == 3), "{}", log());
    }
}
