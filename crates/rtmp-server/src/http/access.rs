//! Who may ask: pages of other sites (CORS), users with a password (RFC 7617).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use service_kit::{Credentials, is_of_own_site};

use super::Api;
use super::call::jsonp_method;
use super::raw::is_order;

/// What a browser is told that asks for a page of another site (`SrsHttpCorsMux`).
const CORS: [(HeaderName, HeaderValue); 4] = [
    (
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    ),
    (
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, DELETE, OPTIONS"),
    ),
    (
        // `*` would leave `Authorization` out (Fetch standard).
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("*, Authorization"),
    ),
    (
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("*"),
    ),
];

/// Lets a request pass, or refuses it. A browser asks with `OPTIONS` first, and sends no
/// password then. A request by JSONP passes with the method that it means.
pub(super) async fn guard(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let config = api.server.config();
    let settings = config.http_api.as_ref();
    let crossdomain = settings.is_none_or(|it| it.crossdomain);
    let foreign = request.headers().contains_key(header::ORIGIN);
    // Scripts, pictures and names that lead here: not by CORS alone.
    let cross_site = request.headers().get("sec-fetch-site");
    if !crossdomain && cross_site.is_some_and(|it| it == "cross-site") {
        return StatusCode::FORBIDDEN.into_response();
    }
    let auth = settings.and_then(|it| it.auth.as_ref());
    // A browser asks (CORS) before it sends a `DELETE`, and sends no password then that it
    // knows itself. A form's `POST`, and a `GET`, it sends at once, with the password.
    let by_get = is_order(request.uri());
    let is_unsafe = by_get || !request.method().is_safe();
    let is_unasked = by_get || request.method() == Method::POST;
    let is_refused = is_unasked && auth.is_some() || is_unsafe && !crossdomain;
    if is_refused && !is_of_own_site(request.headers()) {
        return (StatusCode::FORBIDDEN, "not from other sites\n").into_response();
    }
    if crossdomain && let Some(method) = jsonp_method(request.uri()) {
        if auth.is_some() {
            // A browser sends the password that it knows with any site's `<script>`.
            let reason = "with `auth`, JSONP only asks: use the method itself\n";
            return (StatusCode::FORBIDDEN, reason).into_response();
        }
        *request.method_mut() = method;
    }
    let mut response = if crossdomain && request.method() == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else if auth.is_none_or(|auth| auth.admit(request.headers())) {
        next.run(request).await
    } else {
        Credentials::challenge()
    };
    if crossdomain && foreign {
        response.headers_mut().extend(CORS);
    }
    response
}
