//! `overflow`: the URLs at another server for viewers that there is no room for.

use std::fmt::Write as _;

use rtmp_proto::session::{Parameters, Redirect, Status, StreamKey};

use super::load::Full;
use super::refusal::{Denial, RefusalReason, RefusedRequest};
use crate::config::{Admission, DEFAULT_VHOST, Overflow};

/// The refusal of a viewer by RTMP: with the URL of the same stream at another server, as
/// SRS redirects, where there is one. `is_tls`: it has come by RTMPS.
pub(super) fn refuse_by_rtmp(
    full: Full,
    admission: &Admission,
    is_tls: bool,
    key: &StreamKey,
    parameters: &Parameters,
) -> RefusedRequest {
    // Whoever has come by TLS is not sent on without it.
    let schemes = if is_tls {
        ["rtmps"; 2]
    } else {
        ["rtmp", "rtmps"]
    };
    let Some(overflow) = admission.overflow(schemes) else {
        return Denial::from(full).with(Status::play_failed);
    };
    let StreamKey { app, stream, .. } = key;
    let query = Parameters(query(&key.vhost, parameters));
    let url = format!("{}/{app}/{stream}{query}", base(overflow));
    RefusedRequest {
        reason: RefusalReason::Capacity,
        status: Status {
            redirect: Some(Box::new(Redirect {
                url,
                names_stream: true,
            })),
            ..Status::connect_rejected(format!("RTMP 302 Redirect: {full}"))
        },
    }
}

/// The URL at another server of what was asked for by HTTP, with this decoded `path`; `None`
/// if there is none.
pub(super) fn http_location(
    admission: &Admission,
    is_tls: bool,
    vhost: &str,
    path: &str,
    parameters: &Parameters,
) -> Option<String> {
    let schemes = if is_tls {
        ["https"; 2]
    } else {
        ["http", "https"]
    };
    let overflow = admission.overflow(schemes)?;
    let query = Parameters(query(vhost, parameters));
    Some(format!("{}{}{query}", base(overflow), encoded(path)))
}

impl From<Full> for Denial {
    fn from(full: Full) -> Self {
        Self::new(RefusalReason::Capacity, full.to_string())
    }
}

fn base(overflow: &Overflow) -> String {
    format!("{}://{}", overflow.scheme, overflow.authority)
}

/// `parameters` with the vhost, which the other server's name does not say.
fn query(vhost: &str, parameters: &Parameters) -> String {
    let is_named = parameters.get("vhost").is_some() || parameters.get("domain").is_some();
    match (vhost == DEFAULT_VHOST || is_named, parameters.is_empty()) {
        (true, _) => parameters.0.clone(),
        (false, true) => format!("vhost={vhost}"),
        (false, false) => format!("{}&vhost={vhost}", parameters.0),
    }
}

/// A path as a URL has it (RFC 3986 §3.3).
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'/'
            | b'='
            | b','
            | b':'
            | b'@'
            | b'!'
            | b'$'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b';'
            | b'&' => text.push(byte.into()),
            other => write!(text, "%{other:02X}").expect("a string can always grow"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        let overflow = |scheme: &str, authority: &str| Overflow {
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
        };
        Admission {
            overflow: vec![overflow("http", "b:8080"), overflow("rtmp", "b")],
            ..Admission::default()
        }
    }

    fn full() -> Full {
        Full {
            used: 94_000_000,
            wanted: 2_500_000,
            limit: 95_000_000,
        }
    }

    #[test]
    fn a_viewer_is_sent_to_the_same_stream_and_vhost_elsewhere() {
        let key = |vhost: &str| StreamKey {
            vhost: vhost.to_owned(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
        };
        let token = Parameters("token=1".to_owned());
        for (vhost, url) in [
            (DEFAULT_VHOST, "rtmp://b/live/s?token=1"),
            ("a.example", "rtmp://b/live/s?token=1&vhost=a.example"),
        ] {
            let refused = refuse_by_rtmp(full(), &admission(), false, &key(vhost), &token);
            assert_eq!(refused.status.redirect.unwrap().url, url);
            assert_eq!(refused.reason, RefusalReason::Capacity);
        }
        let refused = refuse_by_rtmp(full(), &admission(), true, &key("a"), &token);
        let text = "NetStream.Play.Failed (the server is full: 94.0 of 95.0 Mbit/s are taken, \
                    2.5 are wanted (`admission`))";
        assert_eq!(refused.status.to_string(), text, "no server by TLS");
        let location =
            |is_tls, path: &str| http_location(&admission(), is_tls, DEFAULT_VHOST, path, &token);
        let url = location(false, "/live/ä b\r\n.flv").unwrap();
        assert_eq!(url, "http://b:8080/live/%C3%A4%20b%0D%0A.flv?token=1");
        assert_eq!(location(true, "/live/s.flv"), None);
    }
}
