//! Guard against loops of edges: the ids of the servers that a connection has
//! come through. Without it, origins that lead in a circle would multiply each
//! request and each publish until no server took any more.
//!
//! The idea is that of HTTP's `CDN-Loop` (RFC 8586).

use std::hash::{BuildHasher, RandomState};

use rtmp_proto::wire::amf0::Value;
use serde::{Deserialize, Serialize};

/// Property of `connect`'s command object that holds the ids.
const PROPERTY: &str = "via";
/// Maximum number of servers on the way of a connection.
const MAX_SERVERS: usize = 16;

/// The ids of servers, separated by commas, the first one first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoopGuard(Box<str>);

impl LoopGuard {
    /// The guard of this server alone, with a new random id.
    pub(super) fn new_server() -> Self {
        Self(format!("{:016x}", RandomState::new().hash_one(PROPERTY)).into())
    }

    /// Reads the guard from `connect`'s command object.
    pub(super) fn from_connect(object: &Value) -> Self {
        let ids = object.get(PROPERTY).and_then(Value::as_str);
        Self(ids.unwrap_or_default().into())
    }

    /// Checks that a connection that came through these servers may go on to
    /// `server`.
    ///
    /// # Errors
    /// The reason why it may not.
    pub(super) fn check(&self, server: &Self) -> Result<(), &'static str> {
        if self.0.split(',').any(|id| id == &*server.0) {
            return Err("the origins of this server lead back to it");
        }
        if self.0.split(',').count() > MAX_SERVERS {
            return Err("there are too many servers on the way");
        }
        Ok(())
    }

    /// True if it has no id: the client is no server of ours.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This guard with `server` behind.
    pub(super) fn with(&self, server: &Self) -> Self {
        if self.is_empty() {
            server.clone()
        } else {
            Self(format!("{},{}", self.0, server.0).into())
        }
    }

    /// The property for `connect`'s command object.
    pub(super) fn property(&self) -> (String, Value) {
        (PROPERTY.to_owned(), (&*self.0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_again_by_what_it_has_sent() {
        let [here, there] = [LoopGuard::new_server(), LoopGuard::new_server()];
        let none = LoopGuard::from_connect(&Value::Null);
        assert_eq!(none.check(&here), Ok(()));
        let sent = Value::Object(vec![none.with(&here).with(&there).property()]);
        let read = LoopGuard::from_connect(&sent);
        assert!(read.check(&here).is_err());
        assert!(read.check(&there).is_err());
        assert_eq!(read.check(&LoopGuard::new_server()), Ok(()));
    }

    #[test]
    fn nobody_comes_through_servers_without_end() {
        let here = LoopGuard::new_server();
        let mut guard = LoopGuard::default();
        for _ in 0..MAX_SERVERS {
            guard = guard.with(&LoopGuard::new_server());
            assert_eq!(guard.check(&here), Ok(()));
        }
        guard = guard.with(&LoopGuard::new_server());
        assert!(guard.check(&here).is_err());
    }
}
