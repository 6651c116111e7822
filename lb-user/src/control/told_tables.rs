//! The tables that real servers are told of, and whether any of them asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use lb_model::Tables;

/// The tables as they are now and later.
#[derive(Debug, Clone)]
pub(crate) struct ToldTables {
    tables: watch::Receiver<Arc<Tables>>,
    is_asked: Arc<AtomicBool>,
}

impl ToldTables {
    /// Those that are sent to `tables`.
    pub(crate) fn new(tables: watch::Receiver<Arc<Tables>>) -> Self {
        Self {
            tables,
            is_asked: Arc::default(),
        }
    }

    /// A server asks for them.
    pub(super) fn note_question(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
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

    /// The services whose packets servers may pass on to one another: those with tables, once
    /// a server has asked for these.
    pub(crate) fn with_second_chance(&self) -> Vec<SocketAddr> {
        if !self.is_asked.load(Ordering::Relaxed) {
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
    fn a_service_has_a_second_chance_once_a_server_has_asked_for_its_tables() {
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
        assert_eq!(told.with_second_chance(), []);
        told.clone().note_question();
        assert_eq!(told.with_second_chance(), [address]);
    }
}
