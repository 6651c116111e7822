//! Who may ask: pages of other sites (CORS), users with a password (RFC 7617).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use subtle::ConstantTimeEq;

use super::Api;
use super::call::jsonp_method;
use crate::config::Auth;

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
    if crossdomain && let Some(method) = jsonp_method(request.uri()) {
        *request.method_mut() = method;
    }
    let mut response = if crossdomain && request.method() == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else if auth.is_none_or(|auth| may_ask(auth, request.headers())) {
        next.run(request).await
    } else {
        let scheme = HeaderValue::from_static("Basic realm=\"millrace\", charset=\"UTF-8\"");
        (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, scheme)],
        )
            .into_response()
    };
    if crossdomain && foreign {
        response.headers_mut().extend(CORS);
    }
    response
}

/// True if `headers` have the user and the password of `auth`. How long the comparison
/// takes says nothing about them but their length.
fn may_ask(auth: &Auth, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION);
    let given = given.map_or(&b""[..], HeaderValue::as_bytes);
    let Some((scheme, token)) = given.split_at_checked(b"Basic ".len()) else {
        return false;
    };
    let expected = BASE64.encode(format!("{}:{}", auth.username, auth.password).as_bytes());
    scheme.eq_ignore_ascii_case(b"Basic ")
        && bool::from(token.trim_ascii().ct_eq(expected.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_needs_the_whole_password() {
        let auth = Auth {
            username: "admin".to_owned(),
            password: "p:ä".to_owned(),
        };
        let basic = |text: &str| format!("Basic {}", BASE64.encode(text.as_bytes()));
        for (given, may) in [
            (basic("admin:p:ä"), true),
            (basic("admin:p:ä").replace("Basic", "bASIC"), true),
            (basic("admin:p:a"), false),
            (basic("admin:p:"), false),
            (basic("admin:p:äx"), false),
            (basic("admin"), false),
            (basic(""), false),
            ("Basic ".to_owned(), false),
            ("Basic".to_owned(), false),
            (basic("admin:p:ä").replace("Basic", "Bearer"), false),
            (String::new(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, given.parse().unwrap());
            assert_eq!(may_ask(&auth, &headers), may, "{given:?}");
        }
        assert!(!may_ask(&auth, &HeaderMap::new()));
    }
}
