//! Requests that a browser makes for a page of another site.

use axum::http::{HeaderMap, header};

/// False if a browser says that a page of another site asks: by `Sec-Fetch-Site` (Fetch
/// Metadata), which it sends over https or to its own machine only, or by `Origin` (RFC 6454
/// §7), which it sends with each request but `GET` and `HEAD`.
#[must_use]
pub fn is_of_own_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|it| it.to_str().unwrap_or_default());
    let fetched = text("sec-fetch-site");
    let origin = text(header::ORIGIN.as_str());
    let host = text(header::HOST.as_str()).unwrap_or_default();
    let own = |origin: &str| {
        origin
            .split_once("://")
            .is_some_and(|(_, name)| name == host)
    };
    fetched.is_none_or(|it| matches!(it, "same-origin" | "none")) && origin.is_none_or(own)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_page_of_another_site_or_port_is_told_apart() {
        let asks = |name: &'static str, value| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("origin:1985"));
            headers.insert(name, HeaderValue::from_static(value));
            is_of_own_site(&headers)
        };
        assert!(asks("accept", "*/*"));
        assert!(asks("origin", "http://origin:1985"));
        assert!(asks("sec-fetch-site", "same-origin"));
        assert!(asks("sec-fetch-site", "none"));
        for foreign in ["http://evil.net", "http://origin:80", "null", ""] {
            assert!(!asks("origin", foreign), "{foreign}");
        }
        assert!(!asks("sec-fetch-site", "cross-site"));
        assert!(!asks("sec-fetch-site", "same-site"));
    }
}
