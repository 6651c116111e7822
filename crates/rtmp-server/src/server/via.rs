//! The servers that a connection has come through, so that edges whose origins
//! lead in a circle say so. Otherwise each question, and each publish, would
//! go round as one more connection until no server took any more.
//!
//! The idea is that of HTTP's `CDN-Loop` (RFC 8586).

use std::hash::{BuildHasher, RandomState};

use rtmp_proto::wire::amf0::Value;

/// The property of `connect`'s command object that holds them.
const PROPERTY: &str = "via";
/// More servers than a stream has any reason to pass.
const MAX_SERVERS: usize = 16;

/// The ids of servers, the first one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Via(String);

impl Via {
    /// Those of a server alone that has just started: its id is no other's.
    pub(super) fn new_server() -> Self {
        Self(format!("{:016x}", RandomState::new().hash_one(PROPERTY)))
    }

    /// Those that a client tells of in `connect`'s command object.
    pub(super) fn told_by(object: &Value) -> Self {
        let told = object.get(PROPERTY).and_then(Value::as_str);
        Self(told.unwrap_or_default().to_owned())
    }

    /// Whether a connection that came through these may go on to `server`.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn may_go_on_to(&self, server: &Self) -> Result<(), &'static str> {
        if self.0.split(',').any(|id| id == server.0) {
            return Err("the origins of this server lead back to it");
        }
        if self.0.split(',').count() > MAX_SERVERS {
            return Err("there are too many servers on the way");
        }
        Ok(())
    }

    /// Whether there is none: the client is no server of ours.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These and then `server`.
    pub(super) fn and(&self, server: &Self) -> Self {
        if self.is_empty() {
            server.clone()
        } else {
            Self(format!("{},{}", self.0, server.0))
        }
    }

    /// For `connect`'s command object.
    pub(super) fn property(&self) -> (String, Value) {
        (PROPERTY.to_owned(), self.0.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_again_by_what_it_has_sent() {
        let [here, there] = [Via::new_server(), Via::new_server()];
        let none = Via::told_by(&Value::Null);
        assert_eq!(none.may_go_on_to(&here), Ok(()));
        let sent = Value::Object(vec![none.and(&here).and(&there).property()]);
        let told = Via::told_by(&sent);
        assert!(told.may_go_on_to(&here).is_err());
        assert!(told.may_go_on_to(&there).is_err());
        assert_eq!(told.may_go_on_to(&Via::new_server()), Ok(()));
    }

    #[test]
    fn nobody_comes_through_servers_without_end() {
        let here = Via::new_server();
        let mut via = Via::default();
        for _ in 0..MAX_SERVERS {
            via = via.and(&Via::new_server());
            assert_eq!(via.may_go_on_to(&here), Ok(()));
        }
        via = via.and(&Via::new_server());
        assert!(via.may_go_on_to(&here).is_err());
    }
}
