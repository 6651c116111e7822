//! The way to an origin, which may send us elsewhere (RTMP 302), as those of a
//! cluster of SRS do that do not have the stream themselves.

use rtmp_proto::session::{ClientConfig, Parameters, Redirect, StreamKey};

use super::dial::End;
use crate::config::DEFAULT_PORT;

/// How often in a row we let ourselves be sent elsewhere.
const MAX_REDIRECTS: usize = 4;

/// Where a request goes, and where it has been.
#[derive(Debug)]
pub(super) struct Route {
    /// `host:port`.
    pub(super) address: String,
    pub(super) request: ClientConfig,
    /// tcUrls and streams that were asked for before.
    visited: Vec<(String, String)>,
}

impl Route {
    pub(super) fn new(address: &str, request: ClientConfig) -> Self {
        Self {
            address: address.to_owned(),
            request,
            visited: Vec::new(),
        }
    }

    /// Goes on to where the server sends us, if that is how it has ended.
    ///
    /// # Errors
    /// The end, if it is another; or why it leads nowhere.
    pub(super) fn follow(&mut self, end: End, key: &StreamKey) -> Result<(), End> {
        let redirect = match end {
            End::Rejected(ref status) => status.redirect.clone(),
            _ => None,
        };
        let Some(redirect) = redirect else {
            return Err(end);
        };
        let misdirected = |why| End::Misdirected {
            url: redirect.url.clone(),
            why,
        };
        let (address, request) =
            redirected(&self.request, &redirect).ok_or_else(|| misdirected("no rtmp:// URL"))?;
        let former = std::mem::replace(&mut self.request, request);
        self.visited.push((former.tc_url, former.stream));
        let next = (self.request.tc_url.clone(), self.request.stream.clone());
        if self.visited.contains(&next) {
            return Err(misdirected("we come from there"));
        }
        if self.visited.len() > MAX_REDIRECTS {
            return Err(misdirected("that is once too often"));
        }
        log::info!("{key}: {} sends us to {}", self.address, redirect.url);
        self.address = address;
        Ok(())
    }
}

/// `host:port` and the request that `redirect` makes of one. The application and
/// the stream are those of the URL if it has any; parameters of ours go along.
fn redirected(request: &ClientConfig, redirect: &Redirect) -> Option<(String, ClientConfig)> {
    let rest = redirect.url.strip_prefix("rtmp://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, it)| it);
    if host.is_empty() {
        return None;
    }
    let port = host.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    let address = match port {
        Some(Ok(_)) => host.to_owned(),
        _ => format!("{host}:{DEFAULT_PORT}"),
    };
    let split = |name: &str| {
        let (name, query) = name.split_once('?').unwrap_or((name, ""));
        (name.to_owned(), query.to_owned())
    };
    let (own_app, own_query) = split(&request.app);
    let (own_stream, own_parameters) = split(&request.stream);
    let path = path.trim_matches('/');
    let (app, stream) = match path.rsplit_once('/') {
        Some((app, stream)) if redirect.names_stream => (app, stream),
        // The third version of SRS had a stream's URL there at first.
        Some((app, stream)) if (app, stream) == (&own_app, &own_stream) => (app, stream),
        _ => (path, &*own_stream),
    };
    let app = Some(app).filter(|app| !app.is_empty()).unwrap_or(&own_app);
    let theirs = Parameters(query.to_owned());
    let query = match theirs.get("vhost") {
        // What belongs to the stream we have said ourselves.
        Some(vhost) if redirect.names_stream && own_query.is_empty() => format!("vhost={vhost}"),
        _ if redirect.names_stream || theirs.is_empty() => own_query,
        None if !own_query.is_empty() => format!("{own_query}&{query}"),
        _ => query.to_owned(),
    };
    let app = format!("{app}{}", Parameters(query));
    let request = ClientConfig {
        tc_url: format!("rtmp://{address}/{app}"),
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
                [&*address, &request.app, &request.stream],
                expected,
                "{url}"
            );
            assert_eq!(request.tc_url, format!("rtmp://{address}/{}", request.app));
        }
        for url in [
            "rtmps://b/live",
            "http://b/live",
            "b/live",
            "rtmp:///live",
            "",
        ] {
            let request = redirected(&request("live", "s"), &redirect(url, false));
            assert_eq!(request, None, "{url}");
        }
    }

    /// What comes of being sent to `url`.
    fn sent(route: &mut Route, url: &str) -> Result<(), String> {
        let mut status = Status::connect_rejected("RTMP 302");
        status.redirect = Some(Box::new(redirect(url, false)));
        let key = StreamKey {
            vhost: String::new(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
        };
        let followed = route.follow(End::Rejected(status), &key);
        followed.map_err(|end| end.to_string())
    }

    #[test]
    fn nobody_is_sent_in_a_circle_or_for_ever() {
        let mut route = Route::new("first:1935", request("live", "s"));
        assert_eq!(sent(&mut route, "rtmp://second/live"), Ok(()));
        assert_eq!(route.address, "second:1935");
        let back = sent(&mut route, "rtmp://first/live").unwrap_err();
        assert!(
            back.contains("rtmp://first/live, where we do not go: we come from there"),
            "{back}"
        );
        let mut route = Route::new("first:1935", request("live", "s"));
        let same = sent(&mut route, "rtmp://first/live").unwrap_err();
        assert!(same.contains("we come from there"), "{same}");
        let mut route = Route::new("first:1935", request("live", "s"));
        for number in 0..MAX_REDIRECTS {
            assert_eq!(sent(&mut route, &format!("rtmp://{number}/live")), Ok(()));
        }
        let often = sent(&mut route, "rtmp://last/live").unwrap_err();
        assert!(often.contains("once too often"), "{often}");
    }
}
