//! Checkers, and the timing directives that services, servers and checkers share.

use super::Reader;
use crate::keyword::Vocabulary;
use crate::keywords::{
    DNS_CHECK, FILE_CHECK, HTTP_GET, MISC_CHECK, PING_CHECK, RTMP_CHECK, SMTP_CHECK, SSL_GET,
    TCP_CHECK, UDP_CHECK, URL,
};
use crate::names::{RECORD_TYPES, value_of};
use conf_kit::Directive;
use lb_model::config::hex;
use lb_model::config::{
    Check, CheckKind, CheckTiming, ConnectionOptions, RecordType, StatusCodes, UrlCheck, bounds,
};

impl Reader<'_> {
    /// A check, if `block` is one.
    pub fn check(&mut self, block: &Directive) -> Option<Check> {
        let mut check = Check {
            kind: CheckKind::Tcp,
            connection: ConnectionOptions::default(),
            timing: CheckTiming::default(),
        };
        let kind = match block.keyword.as_str() {
            "TCP_CHECK" => {
                self.of_kind(block, &mut check, &TCP_CHECK, |_, _| false);
                Some(CheckKind::Tcp)
            }
            "PING_CHECK" => {
                self.of_kind(block, &mut check, &PING_CHECK, |_, _| false);
                Some(CheckKind::Ping)
            }
            "HTTP_GET" => self
                .urls(block, &mut check, &HTTP_GET, |_, _| false)
                .map(|url| CheckKind::Http { url }),
            "SSL_GET" => self.ssl_get(block, &mut check),
            "DNS_CHECK" => Some(self.dns(block, &mut check)),
            "SMTP_CHECK" => Some(self.smtp(block, &mut check)),
            "MISC_CHECK" => self.misc(block, &mut check),
            "UDP_CHECK" => Some(self.udp(block, &mut check)),
            "FILE_CHECK" => self.file(block),
            "RTMP_CHECK" => Some(self.rtmp(block, &mut check)),
            _ => unreachable!("the caller looks for these words"),
        };
        Some(Check {
            kind: kind?,
            ..check
        })
    }

    /// Reads a block of which `own` reads the directives of its kind.
    fn of_kind(
        &mut self,
        block: &Directive,
        check: &mut Check,
        vocabulary: &dyn Vocabulary,
        mut own: impl FnMut(&mut Self, &Directive) -> bool,
    ) {
        for item in self.block(block) {
            if !own(self, item)
                && !self.timing(item, &mut check.timing)
                && !self.connection(item, &mut check.connection)
            {
                self.not_served(item, vocabulary);
            }
        }
    }

    fn ssl_get(&mut self, block: &Directive, check: &mut Check) -> Option<CheckKind> {
        let mut enable_sni = false;
        let url = self.urls(block, check, &SSL_GET, |_, item| {
            let is_sni = item.keyword == "enable_sni";
            enable_sni |= is_sni;
            is_sni
        })?;
        Some(CheckKind::Https { url, enable_sni })
    }

    /// The pages of a check of which `own` reads what is not about pages.
    fn urls(
        &mut self,
        block: &Directive,
        check: &mut Check,
        vocabulary: &dyn Vocabulary,
        mut own: impl FnMut(&mut Self, &Directive) -> bool,
    ) -> Option<Vec<UrlCheck>> {
        let mut urls = Vec::new();
        self.of_kind(block, check, vocabulary, |reader, item| {
            let is_url = item.keyword == "url";
            if is_url {
                urls.extend(reader.url(item));
            }
            is_url || own(reader, item)
        });
        if urls.is_empty() {
            let message = format!("`{}` expects a `url` block at least", block.keyword);
            self.diagnostics.error(&block.location, message);
            return None;
        }
        Some(urls)
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
            match item.keyword.as_str() {
                "path" => url.path = self.text(item)?,
                "digest" => url.digest = self.text(item),
                "status_code" => url.status_code = self.status_codes(item),
                "virtualhost" => url.virtualhost = self.text(item),
                "regex" => url.regex = self.text(item),
                "regex_no_match" => url.regex_no_match = true,
                "regex_options" => options = self.regex_options(item),
                _ => self.not_served(item, &URL),
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
    fn status_codes(&mut self, item: &Directive) -> Vec<StatusCodes> {
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
            Some(codes) if !codes.is_empty() => codes,
            _ => {
                self.wrong(item, EXPECTED);
                Vec::new()
            }
        }
    }

    fn misc(&mut self, block: &Directive, check: &mut Check) -> Option<CheckKind> {
        let mut path = None;
        let mut user = None;
        let mut misc_timeout = None;
        let mut misc_dynamic = false;
        self.of_kind(block, check, &MISC_CHECK, |reader, item| {
            match item.keyword.as_str() {
                "misc_path" => path = reader.script(item),
                "misc_timeout" => misc_timeout = reader.positive_seconds(item),
                "misc_dynamic" => misc_dynamic = true,
                "user" => user = reader.user(item),
                _ => return false,
            }
            true
        });
        let Some(mut misc_path) = path else {
            self.diagnostics
                .error(&block.location, "`MISC_CHECK` expects a `misc_path`");
            return None;
        };
        if let Some((user, group)) = user {
            (misc_path.user, misc_path.group) = (Some(user), group);
        }
        Some(CheckKind::Misc {
            misc_path,
            misc_timeout,
            misc_dynamic,
        })
    }

    fn udp(&mut self, block: &Directive, check: &mut Check) -> CheckKind {
        let mut payload = None;
        let mut require_reply = None;
        let mut min_reply_length = None;
        let mut max_reply_length = None;
        self.of_kind(block, check, &UDP_CHECK, |reader, item| {
            match item.keyword.as_str() {
                "payload" => payload = reader.hexadecimal(item, hex::is_payload),
                "require_reply" => {
                    require_reply = reader.hexadecimal(item, |text| hex::parse(text).is_some());
                }
                "min_reply_length" => min_reply_length = reader.number(item, 0..=65535),
                "max_reply_length" => max_reply_length = reader.number(item, 0..=65535),
                _ => return false,
            }
            true
        });
        CheckKind::Udp {
            payload,
            require_reply,
            min_reply_length,
            max_reply_length,
        }
    }

    fn hexadecimal(&mut self, item: &Directive, is_right: fn(&str) -> bool) -> Option<String> {
        let text = item.arguments.join(" ");
        if !is_right(&text) {
            self.wrong(item, hex::EXPECTED);
            return None;
        }
        Some(text)
    }

    fn dns(&mut self, block: &Directive, check: &mut Check) -> CheckKind {
        let (mut record_type, mut name) = (None, None);
        self.of_kind(block, check, &DNS_CHECK, |reader, item| {
            match item.keyword.as_str() {
                "type" => record_type = reader.record_type(item),
                "name" => name = reader.text(item),
                _ => return false,
            }
            true
        });
        CheckKind::Dns { record_type, name }
    }

    fn record_type(&mut self, item: &Directive) -> Option<RecordType> {
        let expected = format!("one of {}", RECORD_TYPES.map(|(name, _)| name).join(", "));
        let record_type = value_of(&RECORD_TYPES, self.argument(item, &expected)?);
        if record_type.is_none() {
            self.wrong(item, &expected);
        }
        record_type
    }

    fn smtp(&mut self, block: &Directive, check: &mut Check) -> CheckKind {
        let mut helo_name = None;
        self.of_kind(block, check, &SMTP_CHECK, |reader, item| {
            let is_name = item.keyword == "helo_name";
            if is_name {
                helo_name = reader.text(item);
            }
            is_name
        });
        CheckKind::Smtp { helo_name }
    }

    fn file(&mut self, block: &Directive) -> Option<CheckKind> {
        let (mut track_file, mut weight, mut reverse) = (None, None, false);
        for item in self.block(block) {
            match item.keyword.as_str() {
                "track_file" => track_file = self.text(item),
                "weight" => (weight, reverse) = self.file_weight(item),
                _ => self.not_served(item, &FILE_CHECK),
            }
        }
        let Some(track_file) = track_file else {
            self.diagnostics
                .error(&block.location, "`FILE_CHECK` expects a `track_file`");
            return None;
        };
        Some(CheckKind::File {
            track_file,
            weight,
            reverse,
        })
    }

    fn rtmp(&mut self, block: &Directive, check: &mut Check) -> CheckKind {
        let (mut app, mut stream, mut play_timeout, mut virtualhost) = (None, None, None, None);
        self.of_kind(block, check, &RTMP_CHECK, |reader, item| {
            match item.keyword.as_str() {
                "app" => app = reader.text(item),
                "stream" => stream = reader.text(item),
                "play_timeout" => play_timeout = reader.positive_seconds(item),
                "virtualhost" => virtualhost = reader.text(item),
                _ => return false,
            }
            true
        });
        CheckKind::Rtmp {
            app,
            stream,
            play_timeout,
            virtualhost,
        }
    }

    /// Reads a timing directive; false if `item` is none.
    pub fn timing(&mut self, item: &Directive, timing: &mut CheckTiming) -> bool {
        match item.keyword.as_str() {
            "alpha" => timing.alpha = self.switch(item),
            "connect_timeout" => timing.connect_timeout = self.positive_seconds(item),
            // Older keepalived spelled it so, under HTTP_GET only; the
            // deployments that write it under TCP_CHECK mean the same.
            "retry" | "nb_get_retry" => timing.retry = self.number(item, 0..=u32::MAX),
            "delay_before_retry" => timing.delay_before_retry = self.seconds(item),
            "warmup" => timing.warmup = self.seconds(item),
            "delay_loop" => timing.delay_loop = self.positive_seconds(item),
            _ => return false,
        }
        true
    }

    /// Reads a directive about the connection; false if `item` is none.
    fn connection(&mut self, item: &Directive, connection: &mut ConnectionOptions) -> bool {
        match item.keyword.as_str() {
            "connect_ip" => connection.connect_ip = self.ip_address(item),
            "connect_port" => connection.connect_port = self.number(item, bounds::PORT),
            "bindto" => connection.bindto = self.ip_address(item),
            "bind_port" => connection.bind_port = self.number(item, bounds::PORT),
            _ => return false,
        }
        true
    }
}
