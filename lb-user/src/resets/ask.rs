//! Viewers of a director that has died along with its own server.
//!
//! What they have acknowledged last is known as of a second ago at best
//! ([`crate::peers`]), and a reset has to name the number that they await now. So each is
//! asked for it, in two ways:
//!
//! - by a keep-alive with a number that is over, which every stack answers with what it
//!   awaits. Routers and firewalls that compare acknowledgement numbers may drop it;
//! - by resets, at intervals of less than a window, over the range in which that number must
//!   lie by now. One within the window is answered by a challenge ACK (RFC 5961 §3.2). None has
//!   the very number that was acknowledged last: a client that receives nothing still awaits
//!   that, and would take the reset.
//!
//! The answer comes to this director. If the server is gone, its stack knows no such connection,
//! and resets that. If the server lives, because the director that led was only stopped, the
//! answer is passed on to it, and the connection goes on.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::sync::mpsc::UnboundedSender;

use lb_model::{Protocol, ServiceKey};

use super::pace::Pace;
use super::socket::Sockets;
use super::{ResetCause, ResetReport, segment};
use crate::peers::{LostClient, LostClients};

/// Distance of one reset from the next, in bytes: less than any window of a player.
const STEP: u32 = 32 * 1024;
/// Maximum number of resets for a viewer: a megabyte a second.
const MAX_RESETS: u32 = 48;
/// After these times each is asked. Not at once: routers and clients may not know yet who has
/// the address now, and the checks of a lost server may not have failed yet, which then would
/// get some of those that connect again. A stack answers twice a second at most.
const ROUNDS: [(Duration, Means); 2] = [
    (Duration::from_millis(100), Means::KeepAlive),
    (Duration::from_millis(700), Means::KeepAliveAndResets),
];

/// How a client is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    KeepAlive,
    KeepAliveAndResets,
}

/// Asks the clients of other directors' own servers for what they await, by at most `rate`
/// segments per second, on a thread of its own; a report for each server is sent to `reports`
/// when each client has been asked once.
pub(crate) fn ask_clients(
    lost: LostClients,
    rate: NonZeroU32,
    reports: UnboundedSender<ResetReport>,
) {
    thread::spawn(move || {
        let begun = Instant::now();
        let mut sockets = Sockets::default();
        let mut pace = Pace::new(rate, begun);
        let mut send = |to, segment: &[u8]| {
            thread::sleep(pace.next(Instant::now()));
            sockets.send(to, segment)
        };
        for (after, means) in ROUNDS {
            thread::sleep(after.saturating_sub(begun.elapsed()));
            for ((service, server), clients) in &lost {
                let service = ServiceKey {
                    protocol: Protocol::Tcp,
                    address: *service,
                };
                let mut report = ResetReport::new(service, *server, ResetCause::DirectorGone);
                for client in clients {
                    report.count(ask(client, means, &mut send));
                }
                report.took = begun.elapsed();
                if means == Means::KeepAlive {
                    // The agent may be about to end.
                    let _ = reports.send(report);
                }
            }
        }
    });
}

/// Asks a client by what `send` sends to it, each segment in its turn.
fn ask(
    client: &LostClient,
    means: Means,
    send: &mut impl FnMut(IpAddr, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let LostClient {
        client,
        service,
        awaited_sequence,
        advance,
    } = *client;
    let over = awaited_sequence.wrapping_sub(1);
    send(client.ip(), &segment::keep_alive(service, client, over))?;
    if means == Means::KeepAlive {
        return Ok(());
    }
    for offset in offsets(advance) {
        let sequence = awaited_sequence.wrapping_add(offset);
        send(client.ip(), &segment::reset(service, client, sequence))?;
    }
    Ok(())
}

/// Where a client may be that was last seen `advance` bytes behind: up to twice as far again,
/// and never where it was.
fn offsets(advance: u32) -> impl Iterator<Item = u32> {
    let count = 2 + advance.saturating_mul(2) / STEP;
    (0..count.min(MAX_RESETS)).map(|number| 1 + number * STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_reach_as_far_as_the_stream_may_have_gone_and_not_without_limit() {
        let of = |advance| offsets(advance).collect::<Vec<_>>();
        assert_eq!(of(0), [1, 1 + STEP], "never what an idle client awaits");
        let fast = of(250_000);
        assert!(*fast.last().expect("some") >= 500_000, "{fast:?}");
        assert!(fast.windows(2).all(|pair| pair[1] - pair[0] == STEP));
        assert_eq!(of(u32::MAX).len(), MAX_RESETS as usize);
    }

    #[test]
    fn first_a_client_is_asked_by_one_segment_and_each_segment_waits_its_turn() {
        let end = |text: &str| text.parse().expect("an end");
        let client = LostClient {
            client: end("10.0.0.7:40000"),
            service: end("172.16.1.200:1935"),
            awaited_sequence: 7,
            advance: 0,
        };
        let sent = ROUNDS.map(|(_, means)| {
            let mut sent = Vec::new();
            let mut send = |_, segment: &[u8]| {
                let sequence = &segment[24..28];
                sent.push(u32::from_be_bytes(sequence.try_into().expect("four bytes")));
                Ok(())
            };
            ask(&client, means, &mut send).expect("sent");
            sent
        });
        assert_eq!(sent, [vec![6], vec![6, 8, 8 + STEP]]);
    }
}
