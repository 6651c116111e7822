//! What a server does every second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::trim::{self, Trim};
use super::{Server, dvr, forward, programs, slate};

/// Interval at which unneeded streams are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Removes streams whose publisher does not return, begins what is to be and is not there,
/// returns freed memory to the system, and measures rates for quotas.
pub(super) async fn sweep(server: Arc<Server>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    let mut trim = Trim::default();
    loop {
        interval.tick().await;
        server.safepoint.running().await;
        if trim.is_due(Instant::now(), server.clients.changes()) {
            tokio::task::spawn_blocking(trim::trim);
        }
        server.hls.sweep(&server);
        server.hooks.sweep(Instant::now());
        dvr::sweep(&server);
        forward::sweep(&server);
        programs::published::sweep(&server);
        slate::sweep(&server);
        let config = server.config();
        if config.vhosts.values().any(|it| it.quotas.limit_rates()) {
            let server = server.clone();
            tokio::task::spawn_blocking(move || {
                let clients = server.clients.list();
                server.quotas.measure(&clients, Instant::now());
            });
        }
        server.registry.sweep(Instant::now(), |stream| {
            let vhost = config.vhost(&stream.key().vhost);
            vhost.map_or(Duration::ZERO, |vhost| match &vhost.upstream {
                Some(upstream) if stream.origins_unreachable() => upstream.return_timeout,
                _ => vhost.publish_return_timeout,
            })
        });
    }
}
