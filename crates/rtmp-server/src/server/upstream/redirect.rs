//! Redirects of an origin (RTMP 302). Origins of an SRS cluster send them that do
//! not have the stream themselves.

use std::time::Duration;

use rtmp_proto::session::{ClientConfig, ClientEvent, Parameters, Redirect, StreamKey};
use rtmp_proto::wire::Limits;

use super::origin_connection::{Connector, OriginConnection, OriginError};
use crate::config::Origin;
use crate::redact::redacted;

/// Maximum number of redirects in a row.
const MAX_REDIRECTS: usize = 4;

/// A request's destination, and its former ones.
#[derive(Debug)]
pub(super) struct RedirectChain {
    pub(super) address: Origin,
    pub(super) request: ClientConfig,
    /// Former tcUrls and streams.
    visited: Vec<(String, String)>,
}

impl RedirectChain {
    pub(super) fn new(address: &Origin, request: ClientConfig) -> Self {
        Self {
            address: address.clone(),
            request,
            visited: Vec::new(),
        }
    }

    /// Connects to the end of the redirects so far; each step may take `limit`. What comes is
    /// added to `events`.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub(super) async fn connect(
        &self,
        connector: &Connector,
        limits: &Limits,
        limit: Duration,
        events: &mut Vec<ClientEvent>,
    ) -> Result<OriginConnection, OriginError> {
        let config = self.request.clone();
        let mut connection =
            OriginConnection::open(&self.address, connector, config, limits, limit).await?;
        let is_connected = |event: &ClientEvent| *event == ClientEvent::Connected;
        connection.answer(events, is_connected, limit).await?;
        Ok(connection)
    }

    /// Follows the redirect if `error` is one.
    ///
    /// # Errors
    /// The error, if it is another, or the reason why the redirect is not
    /// followed.
    pub(super) fn follow(
        &mut self,
        error: OriginError,
        key: &StreamKey,
    ) -> Result<(), OriginError> {
        let redirect = match error {
            OriginError::Rejected(ref status) => status.redirect.clone(),
            _ => None,
        };
        let Some(redirect) = redirect else {
            return Err(error);
        };
        let not_followed = |why| OriginError::RedirectNotFollowed {
            url: redacted(&redirect.url).into_owned(),
            why,
        };
        let (address, request) = redirected(&self.request, &redirect)
            .ok_or_else(|| not_followed("no rtmp:// or rtmps:// URL"))?;
        if self.address.tls && !address.tls {
            return Err(not_followed("an rtmps:// origin may not lead to rtmp://"));
        }
        let former = std::mem::replace(&mut self.request, request);
        self.visited.push((former.tc_url, former.stream));
        let next = (self.request.tc_url.clone(), self.request.stream.clone());
        if self.visited.contains(&next) {
            return Err(not_followed("it was tried before"));
        }
        if self.visited.len() > MAX_REDIRECTS {
            return Err(not_followed("too many redirects in a row"));
        }
        // Its query may be a token.
        let shown = redacted(&redirect.url);
        log::info!("{key}: {} redirects to {shown}", self.address);
        self.address = address;
        Ok(())
    }
}

/// Applies `redirect` to `request`: returns the other server and the new request. The
/// application and the stream are those of the URL if it has any; our parameters
/// are kept.
fn redirected(request: &ClientConfig, redirect: &Redirect) -> Option<(Origin, ClientConfig)> {
    let (scheme, rest) = redirect.url.split_once("://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, it)| it);
    let address = Origin::parse(&format!("{scheme}://{host}"))?;
    let split = |name: &str| {
        let (name, query) = name.split_once('?').unwrap_or((name, ""));
        (name.to_owned(), query.to_owned())
    };
    let (own_app, own_query) = split(&request.app);
    let (own_stream, own_parameters) = split(&request.stream);
    let path = path.trim_matches('/');
    let (app, stream) = match path.rsplit_once('/') {
        Some((app, stream)) if redirect.names_stream => (app, stream),
        // Early SRS 3 put a stream's URL there.
        Some((app, stream)) if (app, stream) == (&own_app, &own_stream) => (app, stream),
        _ => (path, &*own_stream),
    };
    let app = Some(app).filter(|app| !app.is_empty()).unwrap_or(&own_app);
    let theirs = Parameters(query.to_owned());
    let query = match theirs.get("vhost") {
        // The URL's other parameters are the stream's, which the request has.
        Some(vhost) if redirect.names_stream && own_query.is_empty() => format!("vhost={vhost}"),
        _ if redirect.names_stream || theirs.is_empty() => own_query,
        None if !own_query.is_empty() => format!("{own_query}&{query}"),
        _ => query.to_owned(),
    };
    let app = format!("{app}{}", Parameters(query));
    let request = ClientConfig {
        tc_url: format!("{}/{app}", address.url()),
        app,
        stream: format!("{stream}{}", Parameters(own_parameters)),
        ..request.clone()
    };
    Some((address, request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtmp_proto::session::{Purpose, Status};

    fn request(app: &str, stream: &str) -> ClientConfig {
        let tc_url = format!("rtmp://first:1935/{app}");
        ClientConfig::new(Purpose::Play, &tc_url, app, stream)
    }

    fn first() -> Origin {
        Origin::parse("first").unwrap()
    }

    fn redirect(url: &str, names_stream: bool) -> Redirect {
        Redirect {
            url: url.to_owned(),
            names_stream,
        }
    }

    #[test]
    fn a_request_keeps_what_the_url_does_not_say() {
        for (app, url, names_stream, expected) in [
            // As servers of Adobe's kind send it: a tcUrl.
            ("live", "rtmp://b:7/live", false, ["b:7", "live", "s?t"]),
            ("live", "rtmp://b", false, ["b:1935", "live", "s?t"]),
            ("live", "rtmps://b", false, ["rtmps://b:443", "live", "s?t"]),
            (
                "live",
                "rtmp://u@[::1]/x/y",
                false,
                ["[::1]:1935", "x/y", "s?t"],
            ),
            (
                "live?vhost=v",
                "rtmp://b/x",
                false,
                ["b:1935", "x?vhost=v", "s?t"],
            ),
            ("live", "rtmp://b/x?k=1", false, ["b:1935", "x?k=1", "s?t"]),
            (
                "live?vhost=v",
                "rtmp://b/x?k=1",
                false,
                ["b:1935", "x?vhost=v&k=1", "s?t"],
            ),
            (
                "live?vhost=v",
                "rtmp://b/x?vhost=w",
                false,
                ["b:1935", "x?vhost=w", "s?t"],
            ),
            (
                "live",
                "rtmp://b/live/s?u=1",
                false,
                ["b:1935", "live?u=1", "s?t"],
            ),
            // As SRS does: the stream's URL.
            ("live", "rtmp://b:7/live/s?t", true, ["b:7", "live", "s?t"]),
            ("live", "rtmp://b:7/x/y/z", true, ["b:7", "x/y", "z?t"]),
            (
                "live",
                "rtmp://b:7/live/s?vhost=w&t",
                true,
                ["b:7", "live?vhost=w", "s?t"],
            ),
            (
                "live?vhost=v",
                "rtmp://b:7/live/s?vhost=w",
                true,
                ["b:7", "live?vhost=v", "s?t"],
            ),
        ] {
            let (address, request) =
                redirected(&request(app, "s?t"), &redirect(url, names_stream)).expect(url);
            assert_eq!(
                [&*address.to_string(), &request.app, &request.stream],
                expected,
                "{url}"
            );
            assert_eq!(request.tc_url, format!("{}/{}", address.url(), request.app));
        }
        for url in ["http://b/live", "b/live", "rtmp:///live", ""] {
            let request = redirected(&request("live", "s"), &redirect(url, false));
            assert_eq!(request, None, "{url}");
        }
    }

    /// Follows a redirect to `url`.
    fn redirect_to(redirects: &mut RedirectChain, url: &str) -> Result<(), String> {
        let mut status = Status::connect_rejected("RTMP 302");
        status.redirect = Some(Box::new(redirect(url, false)));
        let key = StreamKey {
            vhost: String::new(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
        };
        let followed = redirects.follow(OriginError::Rejected(status), &key);
        followed.map_err(|end| end.to_string())
    }

    #[test]
    fn nobody_is_led_out_of_tls() {
        let secured = Origin::parse("rtmps://first").unwrap();
        let mut redirects = RedirectChain::new(&secured, request("live", "s"));
        assert_eq!(redirect_to(&mut redirects, "rtmps://second/live"), Ok(()));
        let plain = redirect_to(&mut redirects, "rtmp://third/live").unwrap_err();
        assert!(plain.contains("may not lead to rtmp://"), "{plain}");
    }

    #[test]
    fn the_tokens_of_a_url_are_told_to_nobody() {
        let mut redirects = RedirectChain::new(&first(), request("live", "s"));
        let url = "http://user:secret@second/live?token=secret";
        let refused = redirect_to(&mut redirects, url).unwrap_err();
        assert!(refused.contains("http://second/live?…"), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn nobody_is_sent_in_a_circle_or_for_ever() {
        let mut redirects = RedirectChain::new(&first(), request("live", "s"));
        assert_eq!(redirect_to(&mut redirects, "rtmp://second/live"), Ok(()));
        assert_eq!(redirects.address.to_string(), "second:1935");
        let back = redirect_to(&mut redirects, "rtmp://first/live").unwrap_err();
        assert!(
            back.contains("rtmp://first/live, which is not followed: it was tried before"),
            "{back}"
        );
        let mut redirects = RedirectChain::new(&first(), request("live", "s"));
        let same = redirect_to(&mut redirects, "rtmp://first/live").unwrap_err();
        assert!(same.contains("it was tried before"), "{same}");
        let mut redirects = RedirectChain::new(&first(), request("live", "s"));
        for number in 0..MAX_REDIRECTS {
            assert_eq!(
                redirect_to(&mut redirects, &format!("rtmp://{number}/live")),
                Ok(())
            );
        }
        let often = redirect_to(&mut redirects, "rtmp://last/live").unwrap_err();
        assert!(often.contains("too many redirects"), "{often}");
    }
}
