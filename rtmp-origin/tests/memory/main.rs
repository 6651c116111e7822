//! The origin in a control group of 512 MB: whatever publishers do, it is not
//! killed for what it takes.

mod control_group;
#[path = "../common/peer.rs"]
#[allow(dead_code, reason = "the other test program uses the rest")]
mod peer;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use netbed::local::{ChildGuard, free_address};
use netbed::wait_for;

use control_group::ControlGroup;
use peer::{Peer, Refusal};

const LIMIT_BYTES: u64 = 512 << 20;
const FLOODS: usize = 100;
/// Minimum number of pictures of each flood: together they are more than twice the
/// group's memory.
const FLOOD_PICTURES: usize = 110;
const PICTURE_BYTES: usize = 100_000;

/// Publishers whose clock stands still, one group of pictures each, until
/// `over`; counts the pictures in `sent`.
fn flood(address: SocketAddr, sent: &AtomicUsize, over: &AtomicBool) {
    let publishers = (0..FLOODS).map(|number| Peer::publish(address, &format!("flood{number}")));
    let mut publishers: Vec<Peer> = publishers.map(|peer| peer.expect("let in")).collect();
    let mut first = true;
    while !over.load(Ordering::Relaxed) {
        for publisher in &mut publishers {
            // Errors are expected: a publisher far beyond its share is disconnected.
            let _ = publisher.send_picture(0, first, PICTURE_BYTES);
            sent.fetch_add(1, Ordering::Relaxed);
        }
        first = false;
        if sent.load(Ordering::Relaxed) > FLOODS * FLOOD_PICTURES {
            // The limit stays reached; the machine is for others, too.
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A stream like any other, a picture each 40 ms, until `over`; returns how
/// many pictures it had.
fn publish_honestly(mut publisher: Peer, over: &AtomicBool) -> u32 {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let keyframe = number % 25 == 0;
        let sent = publisher.send_picture(number * 40, keyframe, 8_000);
        sent.expect("an honest publisher is let go");
        number += 1;
        thread::sleep(Duration::from_millis(40));
    }
    number
}

/// Ends what runs beside a test, also when the test fails.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "needs root"]
fn a_hundred_publishers_whose_clock_stands_do_not_get_the_server_killed() {
    let group = match ControlGroup::new(LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => netbed::skip!("{why}"),
    };
    let address = free_address();
    let mut command = Command::new("sh");
    command.args(["-c", r#"echo 0 >"$1" && shift && exec "$@""#, "sh"]);
    command.arg(group.processes());
    command.args([
        env!("CARGO_BIN_EXE_rtmp-origin"),
        "--listen",
        &address.to_string(),
    ]);
    command.args(["--set", "publish_normal_timeout 600000"]);
    command.args(["--set", "publish_return_timeout 100"]);
    let mut origin = ChildGuard(command.stderr(Stdio::null()).spawn().unwrap());
    wait_for("a listening origin", || {
        std::net::TcpStream::connect(address).is_ok()
    });

    let (sent, flooding_over, honest_over) = (
        AtomicUsize::new(0),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    let honest = Peer::publish(address, "honest").expect("let in");
    let mut viewer = Peer::play(address, "honest");
    thread::scope(|scope| {
        let _over = (AtEnd(&flooding_over), AtEnd(&honest_over));
        let published = scope.spawn(|| publish_honestly(honest, &honest_over));
        let first = viewer.next_picture().expect("no picture came");
        let flooding = scope.spawn(|| flood(address, &sent, &flooding_over));
        let watched = scope.spawn(move || {
            let mut expected = first + 40;
            while let Some(time) = viewer.next_picture() {
                assert_eq!(time, expected, "the viewer has lost pictures");
                expected += 40;
            }
            expected / 40
        });
        wait_for("the end of the flood, or of the origin", || {
            let ended = origin.0.try_wait().unwrap();
            assert_eq!(ended, None, "the origin was killed");
            sent.load(Ordering::Relaxed) > FLOODS * FLOOD_PICTURES
        });
        let mut late = 0;
        wait_for("a publisher that is refused", || {
            late += 1;
            match Peer::publish(address, &format!("late{late}")) {
                Ok(_) => false,
                Err(Refusal(words)) => {
                    words.contains("NetStream.Publish.Denied") && words.contains("memory")
                }
            }
        });
        flooding_over.store(true, Ordering::Relaxed);
        flooding.join().unwrap();
        honest_over.store(true, Ordering::Relaxed);
        let published = published.join().unwrap();
        assert_eq!(
            watched.join().unwrap(),
            published,
            "pictures of {published}"
        );
    });
    assert_eq!(origin.0.try_wait().unwrap(), None, "the origin was killed");
    println!("at most {} MB of 512", group.most_used() >> 20);
}
