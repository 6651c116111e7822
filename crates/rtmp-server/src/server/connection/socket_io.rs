//! Reads and writes of a connection's socket.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Connection;
use super::close::CloseReason;
use super::publishing::{PublishTarget, Publishing};
use super::role::ConnectionRole;
use crate::config::Config;
use crate::server::upstream::OriginError;

/// Bytes read at once from a publisher.
pub(super) const MEDIA_READ_SIZE: usize = 64 * 1024;
/// Bytes read at once from a peer that only sends commands.
pub(super) const COMMAND_READ_SIZE: usize = 4 * 1024;

impl Connection {
    /// Sends what is to be sent to the client, and to the origin that its stream
    /// is forwarded to. Meanwhile it stands still whenever everybody has to.
    pub(super) async fn flush(&mut self) -> Result<(), CloseReason> {
        if matches!(self.role, ConnectionRole::Playing(_)) {
            // The replies to an accepted play go out with the stream's headers.
            return Ok(());
        }
        let idle = self.server.config().idle_timeout;
        let vhost = self.vhost.as_ref();
        let (limit, directive) = match vhost.map(|vhost| vhost.send_timeout) {
            Some(send) if send <= idle => (send, "send_timeout"),
            _ => (idle, "idle_timeout"),
        };
        while !self.out.is_empty() || self.socket.has_unsent() {
            let sent = {
                let Self {
                    participant,
                    client,
                    socket,
                    out,
                    ..
                } = self;
                let count = |sent| {
                    let bytes = &client.meter.bytes;
                    bytes.fetch_add(sent as u64, Ordering::Relaxed);
                };
                let mut sending = pin!(timeout(limit, socket.send_queued(out, count)));
                participant.unless_frozen(sending.as_mut()).await
            };
            match sent {
                Some(sent) => sent.map_err(|_| CloseReason::Stalled(directive))??,
                // What ends is not handed over, and tells hooks so.
                None if self.close_reason.is_some() => return Ok(()),
                None => self.stand_still().await,
            }
        }
        // Freed: most connections have sent all that they will.
        self.out = Vec::new();
        while let ConnectionRole::Publishing(Publishing {
            target: PublishTarget::Origin(origin),
            ..
        }) = &mut self.role
        {
            let sent = {
                let mut sending = pin!(timeout(limit, origin.flush()));
                self.participant.unless_frozen(sending.as_mut()).await
            };
            match sent {
                Some(sent) => {
                    let sent = sent.unwrap_or(Err(OriginError::Slow(limit)));
                    return sent.map_err(|error| self.on_origin_lost(error));
                }
                // What ends is not handed over, and tells hooks so.
                None if self.close_reason.is_some() => return Ok(()),
                None => self.stand_still().await,
            }
        }
        Ok(())
    }

    /// Merged read (`mr`): lets a publisher's input accumulate in the socket
    /// before it is read. Returns true if it has waited. Another server's
    /// publish is not delayed again: it has been merged there.
    pub(super) async fn wait_for_merged_read(
        &mut self,
        configuration: &mut watch::Receiver<Arc<Config>>,
    ) -> Result<bool, CloseReason> {
        let ConnectionRole::Publishing(publishing) = &self.role else {
            return Ok(false);
        };
        if self.connect_info.peer.is_server() {
            return Ok(false);
        }
        let latency = self.vhost.as_ref().and_then(|vhost| vhost.mr);
        // A full read shows that enough has accumulated already.
        let Some(latency) = latency.filter(|_| self.input.len() < MEDIA_READ_SIZE) else {
            return Ok(false);
        };
        if let PublishTarget::Log { publication, .. } = &publishing.target {
            publication.expect_silence_until(Instant::now() + latency);
        }
        tokio::select! {
            biased;
            () = self.client.dismissal() => Err(CloseReason::Dismissed),
            // It may be an upgrade, for which everybody has to stand still.
            _ = configuration.changed() => {
                configuration.mark_changed();
                Ok(true)
            }
            () = sleep(latency) => Ok(true),
        }
    }
}
