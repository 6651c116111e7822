//! A request for HLS: what its path names, and what its query says.

use std::sync::{Arc, OnceLock};

use hls::playlist::{Reload, Resource};
use hls::segmenter::Container;
use http_flv::request::Request;
use rtmp_proto::session::Parameters;

use super::sessions::new_token;
use crate::config::{self, Vhost};
use crate::server::Server;
use crate::server::client::Client;
use crate::server::http::wanted::{Refusal, Wanted, find_vhost};

/// The parameter that names a session, as in SRS.
pub(super) const SESSION: &str = "hls_ctx";
/// Parameters of blocking reload (RFC 8216bis §6.2.5).
const RELOAD_SEGMENT: &str = "_HLS_msn";
const RELOAD_PART: &str = "_HLS_part";
const SKIP: &str = "_HLS_skip";

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Playlist,
    Resource(Resource),
}

/// A request for HLS.
#[derive(Debug)]
pub(in crate::server) struct Asked {
    pub(in crate::server) request: Box<Request>,
    vhost: Arc<Vhost>,
    app: String,
    stream: String,
    pub(super) target: Target,
    /// The session that the request belongs to.
    pub(super) token: Option<String>,
    /// The session that begins with the request.
    new_token: NewToken,
}

/// The token of a session that begins with a request, once it has one. Who has the request
/// hands it over with it: its viewer has been counted, and hooks have been told of it.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct NewToken(Arc<OnceLock<String>>);

impl NewToken {
    /// The token that has been made.
    pub(in crate::server) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// The token; a new one, if there is none.
    ///
    /// # Errors
    /// The system gives no random bytes.
    fn obtain(&self) -> Result<&str, Refusal> {
        if self.0.get().is_none() {
            // One that another has made meanwhile is as good.
            let _ = self.0.set(new_token()?);
        }
        Ok(self.get().unwrap_or_default())
    }
}

impl From<String> for NewToken {
    fn from(token: String) -> Self {
        Self(Arc::new(OnceLock::from(token)))
    }
}

impl Asked {
    /// What `request` asks for, or the request if that is something else than HLS.
    pub(in crate::server) fn parse(
        server: &Server,
        request: Box<Request>,
    ) -> Result<Box<Self>, Box<Request>> {
        let Some(vhost) = find_vhost(server, &request) else {
            return Err(request);
        };
        let settings = &vhost.hls;
        // A `?` that was encoded would cut the name elsewhere.
        let served = settings.enabled && !request.path.contains('?');
        let place = settings.location.split(&request.path).filter(|_| served);
        let named = place.and_then(|(app, file)| {
            let (stream, target) = parse_name(file, container(settings))?;
            Some((app.to_owned(), stream.to_owned(), target))
        });
        let Some((app, stream, target)) = named else {
            return Err(request);
        };
        let token = parameter(&request.query, SESSION).filter(|token| !token.is_empty());
        Ok(Box::new(Self {
            token: token.map(str::to_owned),
            new_token: NewToken::default(),
            request,
            vhost,
            app,
            stream,
            target,
        }))
    }

    /// The same, with a session that begins by this token.
    pub(in crate::server) fn beginning(mut self: Box<Self>, new_token: NewToken) -> Box<Self> {
        self.new_token = new_token;
        self
    }

    /// The token of the session that begins with the request.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn new_token(&self) -> Result<&str, Refusal> {
        self.new_token.obtain()
    }

    /// The stream that is asked for, with the parameters that hooks get.
    ///
    /// # Errors
    /// No stream can have this name.
    pub(super) fn wanted(&self, server: &Server, connection: &Client) -> Result<Wanted, Refusal> {
        let place = (&*self.app, &*self.stream);
        let vhost = self.vhost.clone();
        let mut wanted = Wanted::new(server, connection, vhost, place, &self.request)?;
        wanted.parameters = Parameters(self.viewers_parameters());
        // A signature is the playlist's.
        if let Some((directory, _)) = self.request.path.rsplit_once('/') {
            wanted.path = format!("{directory}/{}.m3u8", self.stream);
        }
        Ok(wanted)
    }

    /// The stream's name, for the log.
    pub(super) fn name(&self) -> impl std::fmt::Display {
        format!("{}/{}", self.app, self.stream)
    }

    /// The file's name of the playlist.
    pub(super) fn playlist_name(&self) -> &str {
        let path = &self.request.path;
        path.rsplit_once('/').map_or(path, |(_, name)| name)
    }

    /// The query without what the server or the playlist adds.
    pub(super) fn viewers_parameters(&self) -> String {
        let pairs = self.request.query.split('&').filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            !pair.is_empty() && ![SESSION, RELOAD_SEGMENT, RELOAD_PART, SKIP].contains(&name)
        });
        pairs.collect::<Vec<_>>().join("&")
    }

    /// The query of URIs in the playlist, with a `?`: the session, if `token` names one, and
    /// the viewer's own parameters.
    pub(super) fn query(&self, token: Option<&str>) -> String {
        let session = token.map(|token| format!("{SESSION}={token}"));
        let own = Some(self.viewers_parameters()).filter(|own| !own.is_empty());
        let pairs: Vec<_> = session.into_iter().chain(own).collect();
        match pairs.is_empty() {
            true => String::new(),
            // A URI stands in quotes.
            false => format!("?{}", pairs.join("&").replace('"', "%22")),
        }
    }

    /// What the playlist is to have.
    ///
    /// # Errors
    /// A number is none.
    pub(super) fn reload(&self) -> Result<Reload, Refusal> {
        let number = |name| match parameter(&self.request.query, name) {
            Some(text) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Refusal::new(400, format!("{name} is no number"))),
            },
            None => Ok(None),
        };
        Ok(Reload {
            segment: number(RELOAD_SEGMENT)?,
            part: number(RELOAD_PART)?,
        })
    }

    /// True if the player has an earlier playlist, and asks for an update.
    pub(super) fn skips(&self) -> bool {
        matches!(parameter(&self.request.query, SKIP), Some("YES" | "v2"))
    }
}

/// The value of a parameter.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// The container of segments.
pub(super) fn container(settings: &config::Hls) -> Container {
    match settings.use_fmp4 {
        true => Container::Fmp4,
        false => Container::MpegTs,
    }
}

/// The stream of a file's name, and what the file is: `STREAM.m3u8`, `STREAM-17.ts`.
fn parse_name(file: &str, container: Container) -> Option<(&str, Target)> {
    if let Some(stream) = file.strip_suffix(".m3u8") {
        return (!stream.is_empty()).then_some((stream, Target::Playlist));
    }
    let (before, name) = file.rsplit_once('-')?;
    let (stream, resource) = match Resource::parse(name, container) {
        Some(resource) => (before, resource),
        // `init-2.mp4` has a hyphen itself.
        None => {
            let stream = before.strip_suffix("-init")?;
            let name = &file[stream.len() + 1..];
            (stream, Resource::parse(name, container)?)
        }
    };
    (!stream.is_empty()).then_some((stream, Target::Resource(resource)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_answered_again_keeps_its_new_session() {
        let begun = NewToken::default();
        assert_eq!(begun.get(), None);
        let token = begun.clone().obtain().unwrap().to_owned();
        assert_eq!(begun.get(), Some(&*token));
        let handed_over = NewToken::from(token.clone());
        assert_eq!(handed_over.obtain().unwrap(), token);
    }

    #[test]
    fn a_files_name_tells_stream_and_resource() {
        let mp4 = |name| parse_name(name, Container::Fmp4);
        let segment = |number| Target::Resource(Resource::Segment(number));
        assert_eq!(mp4("s.m3u8"), Some(("s", Target::Playlist)));
        assert_eq!(mp4("a-b.1-17.m4s"), Some(("a-b.1", segment(17))));
        let part = Resource::Part {
            segment: 17,
            part: 3,
        };
        assert_eq!(mp4("s-17.3.m4s"), Some(("s", Target::Resource(part))));
        let init = Target::Resource(Resource::Initialization(2));
        assert_eq!(mp4("s-init-2.mp4"), Some(("s", init)));
        assert_eq!(
            parse_name("s-17.ts", Container::MpegTs),
            Some(("s", segment(17)))
        );
        for other in [
            "s-17.ts",
            "s.flv",
            ".m3u8",
            "-17.m4s",
            "17.m4s",
            "s-x.m4s",
            "-init-2.mp4",
        ] {
            assert_eq!(mp4(other), None, "{other}");
        }
    }
}
