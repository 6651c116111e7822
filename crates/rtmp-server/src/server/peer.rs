//! Recognition of other servers by their `connect`.

use rtmp_proto::session::ConnectRequest;
use rtmp_proto::wire::amf0::Value;
use serde::{Deserialize, Serialize};

use super::loop_guard::LoopGuard;

/// `flashVer` of nginx-rtmp's pulls and pushes (`NGX_RTMP_RELAY_FLASHVER`, the
/// default). Flash players on Linux send a blank in place of the first dot.
const NGINX_FLASH_VER: &str = "LNX.11,1,102,55";
/// Property of `connect`'s argument by which SRS (1 to 7) identifies itself to its
/// upstream server, unless `debug_srs_upnode` is off.
const SRS_SIGNATURE: &str = "srs_sig";
/// Value of that property.
const SRS: &str = "SRS";

/// Kind of program at the other end of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PeerKind {
    /// A viewer or an encoder, or a server that does not say what it is.
    #[default]
    Client,
    /// A server of another make.
    ForeignServer,
    /// A server of ours.
    OurServer,
}

impl PeerKind {
    /// The kind of the peer that sends `request`, with the ids in `loop_guard`.
    pub(super) fn of(request: &ConnectRequest, loop_guard: &LoopGuard) -> Self {
        if !loop_guard.is_empty() {
            return Self::OurServer;
        }
        let signed = |value: &Value| {
            let signature = value.get(SRS_SIGNATURE).and_then(Value::as_str);
            signature == Some(SRS)
        };
        if request.flash_ver == NGINX_FLASH_VER || request.arguments.iter().any(signed) {
            Self::ForeignServer
        } else {
            Self::Client
        }
    }

    /// True for servers: they merge writes for their own players, so that messages
    /// to and from them must not be delayed here.
    pub(super) fn is_server(self) -> bool {
        self != Self::Client
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtmp_proto::session::{ClientConfig, Parameters, Purpose};

    /// The `connect` of a client of `flash_ver`.
    fn request(flash_ver: &str, arguments: Vec<Value>) -> ConnectRequest {
        ConnectRequest {
            vhost: String::new(),
            app: "live".to_owned(),
            parameters: Parameters::default(),
            tc_url: "rtmp://origin/live".to_owned(),
            page_url: String::new(),
            flash_ver: flash_ver.to_owned(),
            gop_cache: None,
            four_cc_list: Vec::new(),
            reconnects: false,
            object: Value::Object(Vec::new()),
            arguments,
        }
    }

    fn object(name: &str, value: &str) -> Value {
        Value::Object(vec![(name.to_owned(), value.into())])
    }

    #[test]
    fn servers_are_told_from_viewers_by_the_marks_of_each_make() {
        let ours = ClientConfig::new(Purpose::Play, "rtmp://origin/live", "live", "s").flash_ver;
        let srs = "WIN 15,0,0,239";
        let cases = [
            (
                "our own pull",
                &*ours,
                vec![],
                LoopGuard::new_server(),
                true,
            ),
            (
                "our load generator",
                &*ours,
                vec![],
                LoopGuard::default(),
                false,
            ),
            (
                "SRS's edge",
                srs,
                vec![object("srs_sig", "SRS")],
                LoopGuard::default(),
                true,
            ),
            (
                "SRS's load generator",
                srs,
                vec![],
                LoopGuard::default(),
                false,
            ),
            (
                "an encoder's token",
                srs,
                vec![object("token", "SRS")],
                LoopGuard::default(),
                false,
            ),
            (
                "nginx-rtmp's pull",
                "LNX.11,1,102,55",
                vec![],
                LoopGuard::default(),
                true,
            ),
            (
                "Flash on Linux",
                "LNX 11,1,102,55",
                vec![],
                LoopGuard::default(),
                false,
            ),
            (
                "ffmpeg",
                "LNX 9,0,124,2",
                vec![],
                LoopGuard::default(),
                false,
            ),
        ];
        for (who, flash_ver, arguments, loop_guard, is_server) in cases {
            let kind = PeerKind::of(&request(flash_ver, arguments), &loop_guard);
            assert_eq!(kind.is_server(), is_server, "{who}");
            assert_eq!(kind == PeerKind::OurServer, who == "our own pull", "{who}");
        }
    }
}
