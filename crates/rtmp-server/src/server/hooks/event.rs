//! The events of SRS's hooks and their fields (`srs_app_http_hooks.cpp` of SRS 6).
//! Ids are strings, as in SRS 4 and later.

use std::sync::Arc;
use std::time::Duration;

use rtmp_proto::session::{DEFAULT_VHOST, Parameters, StreamKey};
use serde_json::{Value, json};

use super::hook_server::OrderingKey;
use crate::config::{HookUrl, Vhost};
use crate::server::client::Client;
use crate::server::player::ConnectInfo;
use crate::stream::{Stream, Switch};
use crate::uri::encode_path;

/// The sender of the events.
#[derive(Debug)]
pub(crate) struct ServerIdentity {
    /// `server_id`: the same from one run to the next if it is configured.
    pub(crate) server: String,
    /// `service_id`: of this run.
    pub(crate) service: String,
}

/// An event that is posted.
pub(in crate::server) trait Event {
    /// Begin of its log lines: `c7 192.0.2.1: on_play`.
    fn name(&self) -> String;

    /// Name of the event: `on_play`.
    fn action(&self) -> &'static str;

    /// Keys of the events that it must not overtake.
    fn ordering_keys(&self) -> Vec<OrderingKey>;

    /// Its JSON, from the server `from`.
    fn body(&self, from: &ServerIdentity) -> Value;

    /// The stream of which a publication has ended. If it is published again when the event's
    /// turn to be posted has come, the event is left out: a web server would end a stream that
    /// goes on.
    fn ended(&self) -> Option<&Arc<Stream>> {
        None
    }
}

/// `on_connect` and `on_close`.
#[derive(Clone, Copy)]
pub(in crate::server) struct ClientEvent<'a> {
    pub(in crate::server) action: &'static str,
    pub(in crate::server) client: &'a Client,
    pub(in crate::server) vhost: &'a Vhost,
    pub(in crate::server) connect_info: &'a ConnectInfo,
    /// Bytes sent and received, once it has ended.
    pub(in crate::server) totals: Option<(u64, u64)>,
}

impl Event for ClientEvent<'_> {
    fn name(&self) -> String {
        name(self.client, self.action)
    }

    fn action(&self) -> &'static str {
        self.action
    }

    fn ordering_keys(&self) -> Vec<OrderingKey> {
        vec![OrderingKey::Client(self.client.id)]
    }

    fn body(&self, from: &ServerIdentity) -> Value {
        let connect_info = self.connect_info;
        let (vhost, app) = (&self.vhost.name, &connect_info.app);
        let mut body = common(from, self.action, Some(self.client), vhost, app);
        if let Some((sent, received)) = self.totals {
            body["send_bytes"] = sent.into();
            body["recv_bytes"] = received.into();
        } else {
            body["stream"] = "".into();
            body["param"] = connect_info.parameters.to_string().into();
            body["tcUrl"] = (*connect_info.tc_url).into();
            body["pageUrl"] = (*connect_info.page_url).into();
        }
        body
    }
}

/// `on_publish`, `on_unpublish`, `on_play` and `on_stop`.
#[derive(Clone, Copy)]
pub(in crate::server) struct StreamEvent<'a> {
    pub(in crate::server) action: &'static str,
    pub(in crate::server) client: &'a Client,
    pub(in crate::server) connect_info: &'a ConnectInfo,
    /// Parameters behind the stream's name.
    pub(in crate::server) parameters: &'a Parameters,
    pub(in crate::server) stream: &'a Arc<Stream>,
    /// True if a publication into the log of `stream` has ended with it.
    pub(in crate::server) ends_publication: bool,
}

impl Event for StreamEvent<'_> {
    fn name(&self) -> String {
        name(self.client, self.action)
    }

    fn action(&self) -> &'static str {
        self.action
    }

    fn ordering_keys(&self) -> Vec<OrderingKey> {
        let client = OrderingKey::Client(self.client.id);
        match self.action {
            "on_publish" | "on_unpublish" => {
                let publishers = OrderingKey::Publishers((**self.stream.key()).clone());
                vec![client, publishers]
            }
            _ => vec![client],
        }
    }

    fn body(&self, from: &ServerIdentity) -> Value {
        let parameters = self.connect_info.parameters(self.parameters);
        let client = Some(self.client);
        let mut body = of_stream(from, self.action, client, self.stream, parameters);
        body["tcUrl"] = (*self.connect_info.tc_url).into();
        if self.action == "on_play" {
            body["pageUrl"] = (*self.connect_info.page_url).into();
        }
        body
    }

    fn ended(&self) -> Option<&Arc<Stream>> {
        self.ends_publication.then_some(self.stream)
    }
}

/// `on_hls`: a segment of HLS has been written to a file.
#[derive(Clone, Copy)]
pub(in crate::server) struct SegmentEvent<'a> {
    /// The publisher's connection, if it is to this server.
    pub(in crate::server) publisher: Option<&'a Client>,
    /// The parameters that the stream was published with.
    pub(in crate::server) parameters: &'a Parameters,
    pub(in crate::server) stream: &'a Arc<Stream>,
    pub(in crate::server) duration: Duration,
    /// The media sequence number.
    pub(in crate::server) number: u64,
    pub(in crate::server) file: &'a str,
    pub(in crate::server) url: &'a str,
    pub(in crate::server) m3u8: &'a str,
    pub(in crate::server) m3u8_url: &'a str,
}

impl SegmentEvent<'_> {
    /// The URL that `on_hls_notify` fetches: `url` with its variables filled in, or that of
    /// the segment if it has a host; `None` if that is none.
    pub(super) fn notified_url(&self, url: &HookUrl, from: &ServerIdentity) -> Option<HookUrl> {
        if self.url.starts_with("http://") || self.url.starts_with("https://") {
            return HookUrl::parse(self.url);
        }
        let key = self.stream.key();
        let path = url.path.replace("[server_id]", &from.server);
        let path = path.replace("[service_id]", &from.service);
        let path = path.replace("[ts_url]", self.url);
        let path = path.replace("[app]", &encode_path(&key.app));
        let path = path.replace("[stream]", &encode_path(&key.stream));
        let path = path.replace("[param]", &self.parameters.to_string());
        Some(HookUrl {
            path,
            ..url.clone()
        })
    }
}

impl Event for SegmentEvent<'_> {
    fn name(&self) -> String {
        format!("{}: on_hls", self.stream.key())
    }

    fn action(&self) -> &'static str {
        "on_hls"
    }

    fn ordering_keys(&self) -> Vec<OrderingKey> {
        vec![OrderingKey::Publishers((**self.stream.key()).clone())]
    }

    fn body(&self, from: &ServerIdentity) -> Value {
        let (publisher, parameters) = (self.publisher, self.parameters);
        let mut body = of_stream(from, self.action(), publisher, self.stream, parameters);
        body["tcUrl"] = "".into();
        body["duration"] = self.duration.as_secs_f64().into();
        body["cwd"] = working_directory();
        body["file"] = self.file.into();
        body["url"] = self.url.into();
        body["m3u8"] = self.m3u8.into();
        body["m3u8_url"] = self.m3u8_url.into();
        body["seq_no"] = self.number.into();
        body
    }
}

/// `on_dvr`: a file of a recording is finished.
#[derive(Clone, Copy)]
pub(in crate::server) struct FileEvent<'a> {
    /// The publisher's connection.
    pub(in crate::server) publisher: Option<&'a Client>,
    /// The parameters that the stream was published with.
    pub(in crate::server) parameters: &'a Parameters,
    pub(in crate::server) stream: &'a Arc<Stream>,
    pub(in crate::server) file: &'a str,
}

impl Event for FileEvent<'_> {
    fn name(&self) -> String {
        format!("{}: on_dvr", self.stream.key())
    }

    fn action(&self) -> &'static str {
        "on_dvr"
    }

    fn ordering_keys(&self) -> Vec<OrderingKey> {
        vec![OrderingKey::Publishers((**self.stream.key()).clone())]
    }

    fn body(&self, from: &ServerIdentity) -> Value {
        let (publisher, parameters) = (self.publisher, self.parameters);
        let urls = publisher.and_then(Client::urls);
        let mut body = of_stream(from, self.action(), publisher, self.stream, parameters);
        body["tcUrl"] = urls.map_or("", |urls| &urls.tc_url).into();
        body["cwd"] = working_directory();
        body["file"] = self.file.into();
        body
    }
}

/// `on_forward`: asks a backend where the stream is to be forwarded to.
#[derive(Clone, Copy)]
pub(in crate::server) struct ForwardEvent<'a> {
    /// The publisher's connection.
    pub(in crate::server) publisher: Option<&'a Client>,
    /// The parameters that the stream was published with.
    pub(in crate::server) parameters: &'a Parameters,
    pub(in crate::server) stream: &'a Arc<Stream>,
}

impl Event for ForwardEvent<'_> {
    fn name(&self) -> String {
        format!("{}: on_forward", self.stream.key())
    }

    fn action(&self) -> &'static str {
        "on_forward"
    }

    /// It waits for nothing: a publication has begun already.
    fn ordering_keys(&self) -> Vec<OrderingKey> {
        Vec::new()
    }

    fn body(&self, from: &ServerIdentity) -> Value {
        let (publisher, parameters) = (self.publisher, self.parameters);
        let urls = publisher.and_then(Client::urls);
        let mut body = of_stream(from, self.action(), publisher, self.stream, parameters);
        body["tcUrl"] = urls.map_or("", |urls| &urls.tc_url).into();
        body
    }
}

/// `on_switch`: another publisher is on air, which had waited.
#[derive(Clone, Copy)]
pub(in crate::server) struct SwitchEvent<'a> {
    pub(in crate::server) switch: Switch,
    /// The one that is on air now; `None` for a slate.
    pub(in crate::server) publisher: Option<&'a Client>,
    pub(in crate::server) parameters: &'a Parameters,
    pub(in crate::server) stream: &'a Arc<Stream>,
}

impl Event for SwitchEvent<'_> {
    fn name(&self) -> String {
        format!("{}: on_switch", self.stream.key())
    }

    fn action(&self) -> &'static str {
        "on_switch"
    }

    fn ordering_keys(&self) -> Vec<OrderingKey> {
        let publishers = OrderingKey::Publishers((**self.stream.key()).clone());
        let client = self.publisher.map(|client| OrderingKey::Client(client.id));
        client.into_iter().chain([publishers]).collect()
    }

    fn body(&self, from: &ServerIdentity) -> Value {
        let id = |id: Option<u64>| id.map(|id| id.to_string()).unwrap_or_default();
        let (publisher, parameters) = (self.publisher, self.parameters);
        let mut body = of_stream(from, self.action(), publisher, self.stream, parameters);
        // Whoever is on air may have gone already, and `publisher` be none.
        body["client_id"] = id(self.switch.to_client).into();
        body["former_client_id"] = id(self.switch.from_client).into();
        body["reason"] = self.switch.reason.name().into();
        body
    }
}

/// The fields of every event. The client may be unknown: a pulled stream and a slate have
/// none that publishes.
fn common(
    from: &ServerIdentity,
    action: &str,
    client: Option<&Client>,
    vhost: &str,
    app: &str,
) -> Value {
    let id = client.map(|client| client.id.to_string());
    let ip = client.map(|client| client.peer.ip().to_string());
    json!({
        "server_id": from.server,
        "service_id": from.service,
        "action": action,
        "client_id": id.unwrap_or_default(),
        "ip": ip.unwrap_or_default(),
        "vhost": vhost,
        "app": app,
    })
}

/// The fields of every event about a stream.
fn of_stream(
    from: &ServerIdentity,
    action: &str,
    client: Option<&Client>,
    stream: &Stream,
    parameters: &Parameters,
) -> Value {
    let key = stream.key();
    let mut body = common(from, action, client, &key.vhost, &key.app);
    body["stream"] = key.stream.as_str().into();
    body["param"] = parameters.to_string().into();
    body["stream_url"] = stream_url(key).into();
    body["stream_id"] = stream.id().to_string().into();
    body
}

/// `cwd`: the directory that relative names of files are of.
fn working_directory() -> Value {
    let directory = std::env::current_dir().unwrap_or_default();
    directory.display().to_string().into()
}

fn name(client: &Client, action: &str) -> String {
    format!("c{} {}: {action}", client.id, client.peer.ip())
}

/// `[vhost]/app/stream`; the default virtual host is left out.
pub(crate) fn stream_url(key: &StreamKey) -> String {
    let vhost = match &*key.vhost {
        DEFAULT_VHOST => "",
        vhost => vhost,
    };
    format!("{vhost}/{}/{}", key.app, key.stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streams_url_is_srss() {
        let url = |vhost: &str| {
            stream_url(&StreamKey {
                vhost: vhost.to_owned(),
                app: "live".to_owned(),
                stream: "s".to_owned(),
            })
        };
        assert_eq!(url(DEFAULT_VHOST), "/live/s");
        assert_eq!(url("example.com"), "example.com/live/s");
    }
}
