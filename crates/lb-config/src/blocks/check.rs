//! Checks.

use conf_kit::Directive;
use lb_model::config::{Check, CheckKind, CheckTiming, ConnectionOptions, UrlCheck};

use super::has;
use crate::keywords::{URL, block_of, empty_kind};
use crate::reader::Reader;
use crate::vocabulary::Vocabulary;

impl Reader<'_> {
    /// A check, if `block` is one.
    pub(crate) fn check(&mut self, block: &Directive) -> Option<Check> {
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
            CheckKind::Flv { .. } if !has(block, "stream") => Some("`stream`"),
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

    pub(crate) fn url(&mut self, block: &Directive) -> Option<UrlCheck> {
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
}
