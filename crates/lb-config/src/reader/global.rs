//! `global_defs`

use conf_kit::Directive;
use lb_model::config::{GlobalDefs, LvsTimeouts};

use super::Reader;
use crate::keywords::GLOBAL_DEFS;

impl Reader<'_> {
    pub fn global_defs(&mut self, block: &Directive, global: &mut GlobalDefs) {
        for item in self.block(block) {
            match item.keyword.as_str() {
                // All that we have set up goes when we stop, in any case; there is
                // no other balancer's to spare (`VS`).
                "lvs_flush_on_stop" | "lvs_flush_onstop" => match item.arguments.as_slice() {
                    [] => {}
                    [only] if only == "VS" => {}
                    _ => self.wrong(item, "nothing or `VS`"),
                },
                _ if GLOBAL_DEFS.read(global, item, self) => {}
                _ => self.not_served(item, &GLOBAL_DEFS),
            }
        }
    }

    /// `[tcp SECONDS] [tcpfin SECONDS] [udp SECONDS]`
    pub fn lvs_timeouts(&mut self, item: &Directive) -> Option<LvsTimeouts> {
        const EXPECTED: &str = "`tcp`, `tcpfin` or `udp`, each with a number of seconds from 1 on";
        let mut timeouts = LvsTimeouts::default();
        for pair in item.arguments.chunks(2) {
            let (name, seconds) = match pair {
                [name, seconds] => (name.as_str(), seconds.parse().ok().filter(|s| *s > 0)),
                _ => ("", None),
            };
            let field = match name {
                "tcp" => &mut timeouts.tcp,
                "tcpfin" => &mut timeouts.tcpfin,
                "udp" => &mut timeouts.udp,
                _ => {
                    self.wrong(item, EXPECTED);
                    return None;
                }
            };
            if seconds.is_none() {
                self.wrong(item, EXPECTED);
                return None;
            }
            *field = seconds;
        }
        Some(timeouts)
    }
}
