//! The tables that real servers are told of, and whether any of them asks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use lb_model::Tables;

/// Servers wait a minute at most for other tables, and ask again. After so long without a
/// question none passes packets on.
const ASKED_LATELY: Duration = Duration::from_secs(300);

/// The tables as they are now and later.
#[derive(Debug, Clone)]
pub(crate) struct ToldTables {
    tables: watch::Receiver<Arc<Tables>>,
    /// When a server asked last.
    asked: Arc<Mutex<Option<Instant>>>,
}

impl ToldTables {
    /// Those that are sent to `tables`.
    pub(crate) fn new(tables: watch::Receiver<Arc<Tables>>) -> Self {
        Self {
            tables,
            asked: Arc::default(),
        }
    }

    /// A server asks for them at `now`.
    pub(super) fn note_question(&self, now: Instant) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Waits until there are others than those of version `known`.
    pub(super) async fn others_than(&mut self, known: Option<u64>) {
        // Without a sender there will be none: what there is, is told.
        let _ = self
            .tables
            .wait_for(|tables| known != Some(tables.version))
            .await;
    }

    /// The tables as they are now.
    pub(super) fn now(&self) -> Tables {
        Tables::clone(&self.tables.borrow())
    }

    /// The services whose packets servers may pass on to one another at `now`: those with
    /// tables, if a server has asked for these lately.
    pub(crate) fn with_second_chance(&self, now: Instant) -> Vec<SocketAddr> {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_none_or(|asked| now.duration_since(asked) > ASKED_LATELY) {
            return Vec::new();
        }
        let tables = self.tables.borrow();
        tables.services.iter().map(|it| it.address).collect()
    }
}

#[cfg(test)]
mod tests {
    use lb_model::ServiceTables;

    use super::*;

    #[test]
    fn a_service_has_a_second_chance_while_servers_ask_for_its_tables() {
        let service = ServiceTables {
            address: ([10, 0, 0, 200], 1935).into(),
            places: 251,
            hash_port: true,
            servers: Vec::new(),
            generations: Vec::new(),
        };
        let address = service.address;
        let tables = Tables {
            version: 1,
            services: vec![service],
        };
        let (_sender, receiver) = watch::channel(Arc::new(tables));
        let told = ToldTables::new(receiver);
        let now = Instant::now();
        assert_eq!(told.with_second_chance(now), []);
        told.clone().note_question(now);
        assert_eq!(told.with_second_chance(now + ASKED_LATELY), [address]);
        let later = now + ASKED_LATELY + Duration::from_secs(1);
        assert_eq!(told.with_second_chance(later), []);
    }
}
