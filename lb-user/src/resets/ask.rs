//! Viewers of a director that has died along with its own server.
//!
//! What they have acknowledged last is known as of a second ago at best
//! ([`crate::peers`]), and a reset has to name the number that they await now. So each is
//! asked for it, in two ways:
//!
//! - by a keep-alive with a number that is over, which every stack answers with what it
//!   awaits. Routers and firewalls that compare acknowledgement numbers may drop it;
//! - by resets, at intervals of less than a window, over the range in which that number must
//!   lie by now. One within the window is answered by a challenge ACK (RFC 5961 §3.2).
//!
//! The answer comes to this director, whose stack knows no such connection, and resets that.

use std::iter;
use std::num::NonZeroU32;
use std::thread;
use std::time::{Duration, Instant};

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
/// After these times each is asked: at the first one, routers and clients may not know yet
/// who has the address now. A stack answers twice a second at most.
const ROUNDS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(700)];

/// Asks the clients of other directors' own servers for what they await, at most `rate` of
/// them per second, on a thread of its own; a report for each server is sent to `reports`.
pub(crate) fn ask_clients(
    lost: LostClients,
    rate: NonZeroU32,
    reports: UnboundedSender<ResetReport>,
) {
    thread::spawn(move || {
        let begun = Instant::now();
        let mut sockets = Sockets::default();
        for (round, after) in ROUNDS.into_iter().enumerate() {
            thread::sleep(after.saturating_sub(begun.elapsed()));
            let mut pace = Pace::new(rate, Instant::now());
            for ((service, server), clients) in &lost {
                let service = ServiceKey {
                    protocol: Protocol::Tcp,
                    address: *service,
                };
                let mut report = ResetReport::new(service, *server, ResetCause::DirectorGone);
                for client in clients {
                    thread::sleep(pace.next(Instant::now()));
                    report.count(ask(&mut sockets, client));
                }
                report.took = begun.elapsed();
                if round == 0 {
                    // The agent may be about to end.
                    let _ = reports.send(report);
                }
            }
        }
    });
}

fn ask(sockets: &mut Sockets, client: &LostClient) -> std::io::Result<()> {
    let LostClient {
        client,
        service,
        awaited_sequence,
        advance,
    } = *client;
    let over = awaited_sequence.wrapping_sub(1);
    let keep_alive = segment::keep_alive(service, client, over);
    let resets = offsets(advance).map(|offset| {
        let sequence = awaited_sequence.wrapping_add(offset);
        segment::reset(service, client, sequence)
    });
    for segment in iter::once(keep_alive).chain(resets) {
        sockets.send(client.ip(), &segment)?;
    }
    Ok(())
}

/// Where a client may be that was last seen `advance` bytes behind: up to twice as far again.
fn offsets(advance: u32) -> impl Iterator<Item = u32> {
    let count = 2 + advance.saturating_mul(2) / STEP;
    (0..count.min(MAX_RESETS)).map(|number| number * STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_reach_as_far_as_the_stream_may_have_gone_and_not_without_limit() {
        let of = |advance| offsets(advance).collect::<Vec<_>>();
        assert_eq!(of(0), [0, STEP]);
        let fast = of(250_000);
        assert!(*fast.last().expect("some") >= 500_000, "{fast:?}");
        assert!(fast.windows(2).all(|pair| pair[1] - pair[0] == STEP));
        assert_eq!(of(u32::MAX).len(), MAX_RESETS as usize);
    }
}
