//! HTTP basic authentication (RFC 7617).

use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use subtle::ConstantTimeEq;

/// A user and the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user. It has no colon.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// True if `headers` have this user and this password. How long the comparison takes
    /// says nothing about them but their length.
    #[must_use]
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION);
        let given = given.map_or(&b""[..], HeaderValue::as_bytes);
        let Some((scheme, token)) = given.split_at_checked(b"Basic ".len()) else {
            return false;
        };
        let expected = BASE64.encode(format!("{}:{}", self.username, self.password).as_bytes());
        scheme.eq_ignore_ascii_case(b"Basic ")
            && bool::from(token.trim_ascii().ct_eq(expected.as_bytes()))
    }

    /// The answer to who is not admitted.
    #[must_use]
    pub fn challenge() -> Response {
        let scheme = HeaderValue::from_static("Basic realm=\"millrace\", charset=\"UTF-8\"");
        let headers = [(header::WWW_AUTHENTICATE, scheme)];
        (StatusCode::UNAUTHORIZED, headers).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_needs_the_whole_password() {
        let auth = Credentials {
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
            assert_eq!(auth.admit(&headers), may, "{given:?}");
        }
        assert!(!auth.admit(&HeaderMap::new()));
    }
}
