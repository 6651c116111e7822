//! The heads of a server's answers. None has a chunked body: a stream ends with its
//! connection (RFC 9112 §6.3).

/// The value of `Server`.
pub const SERVER: &str = "Millrace";

/// The methods of [`crate::request::Method`].
pub const METHODS: &str = "GET, HEAD, OPTIONS";

/// The fields that let pages of any site read an answer (CORS, Fetch §3.2).
pub const CORS_FIELDS: [(&str, &str); 3] = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", METHODS),
    ("Access-Control-Allow-Headers", "*"),
];

/// What a client may do that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// To ask at this URL (RFC 9110 §10.2.2).
    Location(String),
    /// To ask again after so many seconds (RFC 9110 §10.2.3).
    RetryAfter(u32),
}

impl Hint {
    /// Name and value of its header field.
    #[must_use]
    pub fn field(&self) -> (&'static str, String) {
        match self {
            Self::Location(url) => ("Location", url.clone()),
            Self::RetryAfter(seconds) => ("Retry-After", seconds.to_string()),
        }
    }
}

/// The answers of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// True if pages of any site may read them (CORS, Fetch §3.2).
    pub crossdomain: bool,
}

impl Answers {
    /// The head of a stream.
    #[must_use]
    pub fn stream(self) -> String {
        self.head(
            "200 OK",
            "Content-Type: video/x-flv\r\nCache-Control: no-cache\r\nConnection: close\r\n",
        )
    }

    /// The head of a stream in a WebSocket, where `accept` answers the request's key
    /// (RFC 6455 §4.2.2).
    #[must_use]
    pub fn websocket(self, accept: &str) -> String {
        let fields = format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
        );
        self.head("101 Switching Protocols", &fields)
    }

    /// The answer to `OPTIONS`.
    #[must_use]
    pub fn options(self) -> String {
        let fields = format!("Allow: {METHODS}\r\nConnection: close\r\n");
        self.head("204 No Content", &fields)
    }

    /// A refusal, with the reason as its body; without the body where `head_only`.
    #[must_use]
    pub fn refusal(
        self,
        status: u16,
        reason: &str,
        hint: Option<&Hint>,
        head_only: bool,
    ) -> String {
        let mut special = match status {
            405 => format!("Allow: {METHODS}\r\n"),
            426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n".to_owned(),
            _ => String::new(),
        };
        if let Some((name, value)) = hint.map(Hint::field) {
            special.extend([name, ": ", &value, "\r\n"]);
        }
        let fields = format!(
            "{special}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Cache-Control: no-cache\r\nConnection: close\r\n",
            reason.len() + 1
        );
        let head = self.head(&format!("{status} {}", phrase(status)), &fields);
        if head_only {
            head
        } else {
            format!("{head}{reason}\n")
        }
    }

    fn head(self, status: &str, fields: &str) -> String {
        let mut head = format!("HTTP/1.1 {status}\r\nServer: {SERVER}\r\n{fields}");
        for (name, value) in CORS_FIELDS.iter().filter(|_| self.crossdomain) {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head + "\r\n"
    }
}

/// The reason phrase of a status (RFC 9110 §15, RFC 6585).
#[must_use]
pub fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        302 => "Found",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_let_in_where_they_may() {
        let allowed = "Access-Control-Allow-Origin: *\r\n";
        for crossdomain in [true, false] {
            let answers = Answers { crossdomain };
            for answer in [
                answers.stream(),
                answers.websocket("x"),
                answers.options(),
                answers.refusal(404, "none", None, false),
            ] {
                assert_eq!(answer.contains(allowed), crossdomain, "{answer}");
            }
        }
    }

    #[test]
    fn a_refusal_has_a_body_of_its_length_unless_the_head_alone_was_asked_for() {
        let answers = Answers { crossdomain: false };
        let answer = answers.refusal(404, "nobody", None, false);
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        assert!(answer.contains("Content-Length: 7\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nnobody\n"), "{answer}");
        assert!(
            answers
                .refusal(404, "nobody", None, true)
                .ends_with("\r\n\r\n")
        );
    }

    #[test]
    fn a_refusal_says_where_or_when_to_ask() {
        let answers = Answers { crossdomain: false };
        for (status, hint, line, field) in [
            (
                302,
                Hint::Location("http://b/live/s.flv".to_owned()),
                "HTTP/1.1 302 Found\r\n",
                "Location: http://b/live/s.flv\r\n",
            ),
            (
                503,
                Hint::RetryAfter(5),
                "HTTP/1.1 503 Service Unavailable\r\n",
                "Retry-After: 5\r\n",
            ),
        ] {
            let answer = answers.refusal(status, "full", Some(&hint), false);
            assert!(answer.starts_with(line), "{answer}");
            assert!(answer.contains(field), "{answer}");
        }
    }
}
