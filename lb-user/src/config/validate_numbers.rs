//! Bounds of numbers that JSON could exceed; the reader of keepalived.conf
//! keeps to them word by word, where it can name the line.

use std::ops::RangeInclusive;

use super::diagnostic::{Diagnostics, Origin};
use super::model::{CheckTiming, Config, Seconds, VirtualServer};

/// The longest persistence time-out, in seconds, as ipvsadm(8) has it: 31 days.
pub const LONGEST_PERSISTENCE_S: u32 = 31 * 24 * 3600;

/// The largest weight of a real server (ipvsadm(8)).
pub const LARGEST_WEIGHT: u32 = 65535;

/// What a lost quorum may add to a virtual router's priority.
pub const QUORUM_WEIGHTS: RangeInclusive<i16> = -253..=-1;

/// The longest label of an address, in bytes: the kernel's `IFNAMSIZ` less its
/// final zero.
const LONGEST_LABEL: usize = 15;

/// Reports every number out of bounds.
pub fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    for instance in &config.vrrp_instance {
        let what = format!("vrrp_instance {}", instance.name);
        let mut check = Bounds {
            what,
            origin: &instance.origin,
            diagnostics,
        };
        check.positive("advert_int", instance.advert_int);
        if let Some(weight) = instance.track_quorum {
            check.holds(
                QUORUM_WEIGHTS.contains(&weight),
                "track_quorum",
                &weight.to_string(),
                "-253 to -1",
            );
        }
        for address in &instance.virtual_ipaddress {
            let label = address.label.as_deref().unwrap_or_default();
            check.holds(
                label.len() <= LONGEST_LABEL,
                "label",
                label,
                &format!("at most {LONGEST_LABEL} bytes"),
            );
        }
    }
    for service in &config.virtual_server {
        virtual_server(service, diagnostics);
    }
}

fn virtual_server(service: &VirtualServer, diagnostics: &mut Diagnostics) {
    let mut check = Bounds {
        what: format!("virtual_server {}", service.address),
        origin: &service.origin,
        diagnostics,
    };
    check.timing(&service.timing);
    if let Some(timeout) = service.persistence_timeout {
        check.holds(
            (1..=LONGEST_PERSISTENCE_S).contains(&timeout),
            "persistence_timeout",
            &timeout.to_string(),
            &format!("1 to {LONGEST_PERSISTENCE_S} seconds"),
        );
    }
    for server in &service.real_server {
        let mut check = Bounds {
            what: format!("real_server {}", server.address),
            origin: &server.origin,
            diagnostics,
        };
        check.timing(&server.timing);
        for one in &server.checks {
            check.timing(&one.timing);
        }
        if let Some(weight) = server.weight {
            check.holds(
                weight <= LARGEST_WEIGHT,
                "weight",
                &weight.to_string(),
                &format!("0 to {LARGEST_WEIGHT}"),
            );
        }
    }
}

/// Checks the numbers of one block.
struct Bounds<'a> {
    what: String,
    origin: &'a Origin,
    diagnostics: &'a mut Diagnostics,
}

impl Bounds<'_> {
    fn timing(&mut self, timing: &CheckTiming) {
        self.positive("delay_loop", timing.delay_loop);
        self.positive("connect_timeout", timing.connect_timeout);
    }

    fn positive(&mut self, word: &str, seconds: Option<Seconds>) {
        if let Some(seconds) = seconds {
            let given = format!("{} s", seconds.0.as_secs_f64());
            self.holds(!seconds.0.is_zero(), word, &given, "more than 0 seconds");
        }
    }

    fn holds(&mut self, holds: bool, word: &str, given: &str, expected: &str) {
        if !holds {
            let message = format!("{}: `{word}` is {given}; expected {expected}", self.what);
            self.diagnostics.error(self.origin, message);
        }
    }
}
