//! Checkers, and the timing directives that services, servers and checkers share.

use super::Writer;
use crate::names::{RECORD_TYPES, name_of};
use lb_model::config::{Check, CheckKind, CheckTiming, ConnectionOptions, StatusCodes, UrlCheck};

impl Writer {
    pub fn check(&mut self, check: &Check) {
        let Check {
            kind,
            connection,
            timing,
        } = check;
        let word = match kind {
            CheckKind::Tcp => "TCP_CHECK",
            CheckKind::Http { .. } => "HTTP_GET",
            CheckKind::Https { .. } => "SSL_GET",
            CheckKind::Misc { .. } => "MISC_CHECK",
            CheckKind::Udp { .. } => "UDP_CHECK",
            CheckKind::Dns { .. } => "DNS_CHECK",
            CheckKind::Smtp { .. } => "SMTP_CHECK",
            CheckKind::Ping => "PING_CHECK",
            CheckKind::File { .. } => "FILE_CHECK",
            CheckKind::Rtmp { .. } => "RTMP_CHECK",
        };
        self.block(word, |out| {
            out.kind(kind);
            out.connection(connection);
            out.timing(timing);
        });
    }

    fn kind(&mut self, kind: &CheckKind) {
        match kind {
            CheckKind::Tcp | CheckKind::Ping => {}
            CheckKind::Http { url } => url.iter().for_each(|url| self.url(url)),
            CheckKind::Https { url, enable_sni } => {
                self.flag("enable_sni", *enable_sni);
                url.iter().for_each(|url| self.url(url));
            }
            CheckKind::Dns { record_type, name } => {
                self.value("type", record_type.map(|kind| name_of(&RECORD_TYPES, kind)));
                self.text("name", name.as_ref());
            }
            CheckKind::Smtp { helo_name } => self.text("helo_name", helo_name.as_ref()),
            CheckKind::Misc {
                misc_path,
                misc_timeout,
                misc_dynamic,
            } => {
                self.script("misc_path", Some(misc_path));
                self.seconds("misc_timeout", *misc_timeout);
                self.flag("misc_dynamic", *misc_dynamic);
            }
            CheckKind::Udp {
                payload,
                require_reply,
                min_reply_length,
                max_reply_length,
            } => {
                self.value("payload", payload.as_ref());
                self.value("require_reply", require_reply.as_ref());
                self.value("min_reply_length", *min_reply_length);
                self.value("max_reply_length", *max_reply_length);
            }
            CheckKind::File {
                track_file,
                weight,
                reverse,
            } => {
                self.text("track_file", Some(track_file));
                self.weight(*weight, *reverse);
            }
            CheckKind::Rtmp {
                app,
                stream,
                play_timeout,
                virtualhost,
            } => {
                self.text("app", app.as_ref());
                self.text("stream", stream.as_ref());
                self.seconds("play_timeout", *play_timeout);
                self.text("virtualhost", virtualhost.as_ref());
            }
        }
    }

    fn url(&mut self, url: &UrlCheck) {
        let UrlCheck {
            path,
            status_code,
            digest,
            virtualhost,
            regex,
            regex_no_match,
        } = url;
        self.block("url", |out| {
            out.text("path", Some(path));
            if !status_code.is_empty() {
                let codes = status_code.iter().map(|StatusCodes(low, high)| {
                    if low == high {
                        format!(" {low}")
                    } else {
                        format!(" {low}-{high}")
                    }
                });
                out.line(format_args!("status_code{}", codes.collect::<String>()));
            }
            out.text("digest", digest.as_ref());
            out.text("virtualhost", virtualhost.as_ref());
            out.text("regex", regex.as_ref());
            out.flag("regex_no_match", *regex_no_match);
        });
    }

    fn connection(&mut self, connection: &ConnectionOptions) {
        let ConnectionOptions {
            connect_ip,
            connect_port,
            bindto,
            bind_port,
        } = connection;
        self.value("connect_ip", *connect_ip);
        self.value("connect_port", *connect_port);
        self.value("bindto", *bindto);
        self.value("bind_port", *bind_port);
    }

    pub fn timing(&mut self, timing: &CheckTiming) {
        let CheckTiming {
            alpha,
            connect_timeout,
            retry,
            delay_before_retry,
            warmup,
            delay_loop,
        } = timing;
        self.seconds("delay_loop", *delay_loop);
        self.seconds("connect_timeout", *connect_timeout);
        self.value("retry", *retry);
        self.seconds("delay_before_retry", *delay_before_retry);
        self.seconds("warmup", *warmup);
        self.switch("alpha", *alpha);
    }
}
