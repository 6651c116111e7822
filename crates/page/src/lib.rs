//! The pages that the RTMP servers and the director's agent serve to operators: HTML, CSS
//! and JavaScript without a build step, and the libraries that play video (`vendor`).
//!
//! The pages ask the HTTP API of the program that serves them. Their
//! `Content-Security-Policy` allows no script but these files, and no connection but to that
//! program and to `media`.

#![forbid(unsafe_code)]

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// A static file.
#[derive(Debug, Clone, Copy)]
struct File {
    name: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($name:literal $content_type:ident $path:literal;)*) => {
        &[$(File {
            name: $name,
            content_type: $content_type,
            content: include_bytes!($path),
        }),*]
    };
}

/// The files of a page.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    files: &'static [File],
}

/// The page of an RTMP server. The names of libraries have their version.
pub const SERVER: Page = Page {
    files: files! {
        "" HTML "../static/server.html";
        "server.js" JAVASCRIPT "../static/server.js";
        "player.js" JAVASCRIPT "../static/player.js";
        "common.js" JAVASCRIPT "../static/common.js";
        "theme.js" JAVASCRIPT "../static/theme.js";
        "page.css" CSS "../static/page.css";
        "icon.svg" SVG "../static/icon.svg";
        "mpegts-1.8.2.js" JAVASCRIPT "../vendor/mpegts.js";
        "hls.light-1.7.4.js" JAVASCRIPT "../vendor/hls.light.min.js";
    },
};

/// The page of the director's agent.
pub const DIRECTOR: Page = Page {
    files: files! {
        "" HTML "../static/director.html";
        "director.js" JAVASCRIPT "../static/director.js";
        "common.js" JAVASCRIPT "../static/common.js";
        "theme.js" JAVASCRIPT "../static/theme.js";
        "page.css" CSS "../static/page.css";
        "icon.svg" SVG "../static/icon.svg";
    },
};

impl Page {
    /// The HTML, which may load media from the places that `media` lists as the sources of a
    /// `Content-Security-Policy`, such as `http://192.0.2.1:8080`.
    ///
    /// # Panics
    /// If `media` has characters that a header does not have.
    #[must_use]
    pub fn html(self, media: &str) -> Response {
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self' {media}; media-src blob: {media}; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'"
        );
        let policy = HeaderValue::from_str(&policy).expect("sources are plain text");
        let headers = [
            (header::CONTENT_SECURITY_POLICY, policy),
            (
                header::REFERRER_POLICY,
                HeaderValue::from_static("no-referrer"),
            ),
        ];
        let html = self.file("").expect("each page has it");
        (headers, html).into_response()
    }

    /// The file called `name`, if there is one.
    #[must_use]
    pub fn file(self, name: &str) -> Option<Response> {
        let file = self.files.iter().find(|file| file.name == name)?;
        // A name with a version is of one content for ever; others change with the program.
        let caching = match name.contains(|it: char| it.is_ascii_digit()) {
            true => "private, max-age=31536000, immutable",
            false => "no-cache",
        };
        let headers = [
            (header::CONTENT_TYPE, file.content_type),
            (header::CACHE_CONTROL, caching),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        Some((headers, file.content).into_response())
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use sha2::{Digest, Sha256};

    use super::*;

    const PAGES: [Page; 2] = [SERVER, DIRECTOR];

    fn text(page: Page, name: &str) -> &'static str {
        let file = page.files.iter().find(|file| file.name == name);
        std::str::from_utf8(file.expect("it is there").content).expect("UTF-8")
    }

    #[test]
    fn a_page_names_only_files_that_it_has_and_no_other_place() {
        for page in PAGES {
            for file in page.files {
                // The libraries name sites in comments.
                if file.name.contains(|it: char| it.is_ascii_digit()) {
                    continue;
                }
                let text = text(page, file.name);
                for part in text.split("page/").skip(1) {
                    let name = part.split(['"', '\'']).next().expect("a part");
                    assert!(page.file(name).is_some(), "{}: page/{name}", file.name);
                }
                for part in text.split("from \"./").skip(1) {
                    let name = part.split('"').next().expect("a part");
                    assert!(page.file(name).is_some(), "{}: ./{name}", file.name);
                }
                let foreign = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!foreign.contains("http://"), "{}", file.name);
                assert!(!foreign.contains("https://"), "{}", file.name);
            }
        }
    }

    /// Its `Content-Security-Policy` would refuse both, and markup from a server's answer
    /// would be a publisher's.
    #[test]
    fn there_is_no_inline_script_and_no_markup_from_text() {
        for page in PAGES {
            let html = text(page, "");
            assert!(!html.contains("<style") && !html.contains(" style="));
            assert!(!html.contains(" on"), "handlers are set by scripts");
            for script in html.split("<script").skip(1) {
                assert!(script.contains("src=") && script.contains("></script>"));
            }
            for file in page.files.iter().filter(|file| file.name.ends_with(".js")) {
                if file.name.contains(|it: char| it.is_ascii_digit()) {
                    continue;
                }
                let script = text(page, file.name);
                for word in [
                    "innerHTML",
                    "outerHTML",
                    "insertAdjacentHTML",
                    "document.write",
                ] {
                    assert!(!script.contains(word), "{}: {word}", file.name);
                }
            }
        }
    }

    #[test]
    fn the_libraries_are_those_that_vendor_readme_names() {
        let readme = include_str!("../vendor/README.md");
        for (name, content) in [
            ("mpegts.js", &include_bytes!("../vendor/mpegts.js")[..]),
            (
                "hls.light.min.js",
                include_bytes!("../vendor/hls.light.min.js"),
            ),
        ] {
            let sum = HEXLOWER.encode(&Sha256::digest(content));
            assert!(readme.contains(&sum), "{name}: {sum}");
        }
    }
}
