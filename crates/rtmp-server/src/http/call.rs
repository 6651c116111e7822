//! One request and its answer, in JSON or JSONP, as SRS writes them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::Api;

/// SRS's codes (`srs_kernel_error.hpp`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// All is well.
    Success = 0,
    /// `ERROR_SYSTEM_CONFIG_RAW`: the raw API does not know what is asked for.
    RawUnknown = 1_060,
    /// `ERROR_SYSTEM_CONFIG_RAW_DISABLED`.
    RawDisabled = 1_061,
    /// `ERROR_SYSTEM_CONFIG_RAW_PARAMS`.
    RawParameter = 1_063,
    /// `ERROR_RTMP_VHOST_NOT_FOUND`.
    VhostNotFound = 2_014,
    /// `ERROR_RTMP_STREAM_NOT_FOUND`.
    StreamNotFound = 2_048,
    /// `ERROR_RTMP_CLIENT_NOT_FOUND`.
    ClientNotFound = 2_049,
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(*self as u32)
    }
}

/// Maximum length of the name of a JSONP callback.
const MAX_CALLBACK_BYTES: usize = 128;

/// A request.
#[derive(Debug)]
pub(super) struct Call {
    query: HashMap<String, String>,
    /// The function that a page wants the answer to be handed to.
    callback: Option<String>,
}

impl FromRequestParts<Arc<Api>> for Call {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Response> {
        let query = Query::<HashMap<String, String>>::try_from_uri(&parts.uri);
        let Query(query) = query.map_err(IntoResponse::into_response)?;
        let config = api.server.config();
        let crossdomain = config.http_api.as_ref().is_none_or(|it| it.crossdomain);
        // JSONP is a way for pages of other sites, which `crossdomain off` keeps out.
        let callback = callback(&query).filter(|_| crossdomain).cloned();
        if callback.as_deref().is_some_and(|name| !is_callback(name)) {
            let reason = "`callback` has letters, digits, `.`, `_` and `-` only\n";
            return Err((StatusCode::BAD_REQUEST, reason).into_response());
        }
        Ok(Self { query, callback })
    }
}

fn callback(query: &HashMap<String, String>) -> Option<&String> {
    query.get("callback").filter(|it| !it.is_empty())
}

/// The method that a request by JSONP means, which comes as `GET`: its parameter `method`.
pub(super) fn jsonp_method(uri: &Uri) -> Option<Method> {
    let Query(query) = Query::<HashMap<String, String>>::try_from_uri(uri).ok()?;
    callback(&query)?;
    match query.get("method").map(String::as_str) {
        Some("DELETE") => Some(Method::DELETE),
        Some("PUT") => Some(Method::PUT),
        Some("POST") => Some(Method::POST),
        _ => None,
    }
}

/// True for the name of a function, which is not to be a script of its own.
fn is_callback(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= MAX_CALLBACK_BYTES && name.bytes().all(plain)
}

impl Call {
    /// A parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Those that `start` and `count` name; all without them. SRS shows ten without
    /// them, and never fewer.
    pub(super) fn page<T>(&self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        let number = |name| self.query(name).and_then(|it| it.parse().ok());
        let start = number("start").unwrap_or(0);
        let count = number("count").map(|count: usize| count.max(10));
        all.skip(start).take(count.unwrap_or(usize::MAX))
    }

    /// Answers with `value`.
    pub(super) fn get(&self, api: &Api, name: &'static str, value: &impl Serialize) -> Response {
        self.success(&Success {
            api,
            data: Some((name, value)),
        })
    }

    /// Says that it is done.
    pub(super) fn done(&self, api: &Api) -> Response {
        self.success(&Success::<()> { api, data: None })
    }

    /// Answers with a code alone, and status 200, as SRS does.
    pub(super) fn refuse(&self, code: Code) -> Response {
        self.success(&serde_json::json!({ "code": code }))
    }

    /// Answers with `body` in JSON, or hands it to the callback.
    pub(super) fn success(&self, body: &impl Serialize) -> Response {
        let json = match serde_json::to_string(body) {
            Ok(json) => json,
            Err(error) => {
                let error = format!("the answer cannot be written: {error}\n");
                return (StatusCode::INTERNAL_SERVER_ERROR, error).into_response();
            }
        };
        let (content_type, text) = match &self.callback {
            None => ("application/json", json),
            Some(callback) => (
                "text/javascript; charset=utf-8",
                format!("{callback}({json})"),
            ),
        };
        let headers = [
            (header::CONTENT_TYPE, content_type),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        (headers, text).into_response()
    }
}

/// `{"code":0,"server":…,"service":…,"pid":…,NAME:…}`.
struct Success<'a, T> {
    api: &'a Api,
    data: Option<(&'static str, &'a T)>,
}

impl<T: Serialize> Serialize for Success<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let identity = self.api.server.hooks().identity();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", &Code::Success)?;
        map.serialize_entry("server", &identity.server)?;
        map.serialize_entry("service", &identity.service)?;
        map.serialize_entry("pid", &std::process::id().to_string())?;
        if let Some((name, value)) = self.data {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
