//! `global_defs`

use conf_kit::Directive;
use lb_model::config::LvsTimeouts;

use super::Reader;

impl Reader<'_> {
    /// `[tcp SECONDS] [tcpfin SECONDS] [udp SECONDS]`
    pub(crate) fn lvs_timeouts(&mut self, item: &Directive) -> Option<LvsTimeouts> {
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
