//! Checkers.

use conf_kit::Directive;
use lb_model::config::{
    Check, CheckKind, CheckTiming, ConnectionOptions, StatusCodes, UrlCheck, bounds, hex,
};

use super::Reader;
use super::vrrp::has;
use crate::keyword::Vocabulary;
use crate::keywords::{URL, block_of, empty_kind};

impl Reader<'_> {
    /// A check, if `block` is one.
    pub fn check(&mut self, block: &Directive) -> Option<Check> {
        let kind = empty_kind(&block.keyword)?;
        let (keyword, keywords) = block_of(&kind);
        let mut check = Check {
            kind,
            connection: ConnectionOptions::default(),
            timing: CheckTiming::default(),
        };
        let (mut urls, mut user) = (Vec::new(), None);
        for item in self.block(block) {
            match item.keyword.as_str() {
                _ if keywords.read(&mut check, item, self) => {}
                word if !keywords.served().contains(&word) => self.not_served(item, keywords),
                "url" => urls.extend(self.url(item)),
                _ => user = self.user(item),
            }
        }
        let lacking = match &mut check.kind {
            CheckKind::Http { .. } | CheckKind::Https { .. } if urls.is_empty() => {
                Some("`url` block at least")
            }
            CheckKind::Http { url } | CheckKind::Https { url, .. } => {
                *url = urls;
                None
            }
            CheckKind::Misc { .. } if !has(block, "misc_path") => Some("`misc_path`"),
            CheckKind::File { .. } if !has(block, "track_file") => Some("`track_file`"),
            CheckKind::Misc { misc_path, .. } => {
                if let Some((user, group)) = user {
                    (misc_path.user, misc_path.group) = (Some(user), group);
                }
                None
            }
            _ => None,
        };
        if let Some(lacking) = lacking {
            let message = format!("`{keyword}` expects a {lacking}");
            self.diagnostics.error(&block.location, message);
            return None;
        }
        Some(check)
    }

    fn url(&mut self, block: &Directive) -> Option<UrlCheck> {
        let mut url = UrlCheck {
            path: "/".to_owned(),
            status_code: Vec::new(),
            digest: None,
            virtualhost: None,
            regex: None,
            regex_no_match: false,
        };
        let mut options = String::new();
        for item in self.block(block) {
            if item.keyword == "regex_options" {
                options = self.regex_options(item);
            } else if !URL.read(&mut url, item, self) {
                self.not_served(item, &URL);
            }
        }
        if let Some(pattern) = &mut url.regex {
            if !options.is_empty() {
                *pattern = format!("(?{options}){pattern}");
            }
            if let Err(mistake) = regex::bytes::Regex::new(pattern) {
                let message = format!("`{pattern}` is no regular expression: {mistake}");
                self.diagnostics.error(&block.location, message);
            }
        }
        Some(url)
    }

    /// Options of PCRE that have a letter here.
    fn regex_options(&mut self, item: &Directive) -> String {
        let mut letters = String::new();
        for option in &item.arguments {
            match option.as_str() {
                "caseless" => letters.push('i'),
                "multiline" => letters.push('m'),
                "dotall" => letters.push('s'),
                "extended" => letters.push('x'),
                "ungreedy" => letters.push('U'),
                "utf" | "ucp" => {}
                _ => self.wrong(
                    item,
                    "caseless, multiline, dotall, extended, ungreedy, utf or ucp",
                ),
            }
        }
        letters
    }

    /// `200 300-399 …`
    pub fn status_codes(&mut self, item: &Directive) -> Option<Vec<StatusCodes>> {
        const EXPECTED: &str = "status codes from 100 to 999 or ranges such as 200-299";
        let code = |word: &str| {
            word.parse()
                .ok()
                .filter(|code| bounds::STATUS_CODE.contains(code))
        };
        let range = |word: &String| {
            let (low, high) = word.split_once('-').unwrap_or((word, word));
            let (low, high) = (code(low)?, code(high)?);
            (low <= high).then_some(StatusCodes(low, high))
        };
        match item.arguments.iter().map(range).collect::<Option<Vec<_>>>() {
            Some(codes) if !codes.is_empty() => Some(codes),
            _ => {
                self.wrong(item, EXPECTED);
                None
            }
        }
    }

    pub fn hexadecimal(&mut self, item: &Directive, is_right: fn(&str) -> bool) -> Option<String> {
        let text = item.arguments.join(" ");
        if !is_right(&text) {
            self.wrong(item, hex::EXPECTED);
            return None;
        }
        Some(text)
    }
}
