//! Checkers, and the timing directives that services, servers and checkers share.

use super::super::model::{Check, CheckKind, CheckTiming, ConnectionOptions};
use super::super::tree::Directive;
use super::Reader;
use super::vocabulary::TCP_CHECK;

impl Reader<'_> {
    pub fn tcp_check(&mut self, block: &Directive) -> Check {
        let mut check = Check {
            kind: CheckKind::Tcp,
            connection: ConnectionOptions::default(),
            timing: CheckTiming::default(),
        };
        for item in self.block(block) {
            if !self.timing(item, &mut check.timing)
                && !self.connection(item, &mut check.connection)
            {
                self.not_served(item, &TCP_CHECK);
            }
        }
        check
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
            "connect_port" => connection.connect_port = self.number(item, 1..=65535),
            "bindto" => connection.bindto = self.ip_address(item),
            "bind_port" => connection.bind_port = self.number(item, 1..=65535),
            _ => return false,
        }
        true
    }
}
