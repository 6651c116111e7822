//! `raw_api`: shows how the API is set, has the configuration read again, and streams
//! recorded.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::Uri;
use axum::response::Response;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rtmp_proto::session::StreamKey;
use serde_json::{Value, json};

use super::Api;
use super::call::{Call, Code};
use crate::config::{Config, RawApi};

/// Where streams are served over HTTP, for players.
fn http_server(config: &Config) -> Value {
    let server = config.http_server.as_ref();
    let https = server.and_then(|it| it.https.as_ref());
    json!({
        "enabled": server.is_some(),
        "listen": config.http_listen(),
        "crossdomain": server.is_some_and(|it| it.crossdomain),
        "https": {
            "enabled": https.is_some(),
            "listen": https.map_or(&[][..], |it| &it.listen),
        },
    })
}

/// Where the settings of the API are.
pub(super) const PATH: &str = "/api/v1/raw";

/// True for a request that changes something, though it comes by `GET`.
pub(super) fn is_order(uri: &Uri) -> bool {
    if uri.path() != PATH {
        return false;
    }
    // What cannot be read is refused.
    let query = Query::<HashMap<String, String>>::try_from_uri(uri);
    let rpc = query.ok().and_then(|Query(mut query)| query.remove("rpc"));
    matches!(rpc.as_deref(), Some("reload" | "update"))
}

/// Answers `/api/v1/raw?rpc=raw`, `rpc=reload` and `rpc=update`.
pub(super) async fn answer(State(api): State<Arc<Api>>, call: Call) -> Response {
    let config = api.server.config();
    let settings = config.http_api.as_ref();
    let raw = settings.map_or(RawApi::default(), |it| it.raw_api);
    match call.query("rpc") {
        Some("raw") => call.success(&json!({
            "code": Code::Success,
            "http_api": {
                "enabled": true,
                "listen": settings.map(|it| it.listen.to_string()),
                "crossdomain": settings.is_none_or(|it| it.crossdomain),
                "auth": {
                    "enabled": settings.is_some_and(|it| it.auth.is_some()),
                },
                "raw_api": {
                    "enabled": raw.enabled,
                    "allow_reload": raw.allow_reload,
                    "allow_query": false,
                    "allow_update": raw.allow_update,
                },
            },
            "http_server": http_server(&config),
        })),
        _ if !raw.enabled => call.refuse(Code::RawDisabled),
        Some("reload") if !raw.allow_reload => call.refuse(Code::RawDisabled),
        Some("reload") => {
            log::info!("a reload is asked for through the HTTP API");
            // The daemon's own signal: the reload goes the same way as `kill -HUP`.
            match kill(Pid::this(), Signal::SIGHUP) {
                Ok(()) => call.refuse(Code::Success),
                Err(_) => call.refuse(Code::RawUnknown),
            }
        }
        Some("update") if !raw.allow_update => call.refuse(Code::RawDisabled),
        Some("update") if call.query("scope") == Some("dvr") => update_dvr(&api, &call),
        _ => call.refuse(Code::RawUnknown),
    }
}

/// `rpc=update&scope=dvr&value=VHOST&param=enable|disable&data=APP/STREAM`, as in SRS 3:
/// has a stream recorded, or not.
fn update_dvr(api: &Api, call: &Call) -> Response {
    let record = match call.query("param") {
        Some("enable") => true,
        Some("disable") => false,
        _ => return call.refuse(Code::RawParameter),
    };
    let config = api.server.config();
    let vhost = call.query("value").and_then(|name| config.vhosts.get(name));
    // An edge records nothing.
    let Some(vhost) = vhost.filter(|vhost| vhost.upstream.is_none()) else {
        return call.refuse(Code::VhostNotFound);
    };
    let data = call.query("data").and_then(|data| data.split_once('/'));
    let Some((app, stream)) = data.filter(|(app, stream)| !app.is_empty() && !stream.is_empty())
    else {
        return call.refuse(Code::RawParameter);
    };
    let key = StreamKey {
        vhost: vhost.name.clone(),
        app: app.to_owned(),
        stream: stream.to_owned(),
    };
    let order = if record { "begins" } else { "ends" };
    log::info!("{key}: recording {order}, as asked for through the HTTP API");
    match api.server.dvr().order(key, record) {
        true => call.done(api),
        false => call.refuse(Code::RawParameter),
    }
}
