//! `quota { publishers N; players N; …; application NAME { … } }`.

use std::collections::BTreeMap;

use conf_kit::{Diagnostics, Directive};
use serde::Serialize;

use super::model::Vhost;
use super::security::Action;
use super::setting::{Setting, apply};

/// Limits of a vhost, or of one of its applications; 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// Publishers at a time.
    pub publishers: u32,
    /// Players at a time, those that wait for their stream among them.
    pub players: u32,
    /// Bits that publishers send, kbit/s: beyond it no publisher is let in.
    pub kbps_in: u32,
    /// Bits that players are sent, kbit/s: beyond it no player is let in.
    pub kbps_out: u32,
}

impl Quota {
    /// The most clients at a time that do `action`; `None`: any number.
    #[must_use]
    pub fn clients(&self, action: Action) -> Option<u32> {
        let limit = match action {
            Action::Publish => self.publishers,
            Action::Play => self.players,
        };
        (limit != 0).then_some(limit)
    }

    /// The rate beyond which nobody else may do `action`, kbit/s; `None`: any.
    #[must_use]
    pub fn kbps(&self, action: Action) -> Option<u32> {
        let limit = match action {
            Action::Publish => self.kbps_in,
            Action::Play => self.kbps_out,
        };
        (limit != 0).then_some(limit)
    }
}

/// The limits of a vhost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Quotas {
    /// Of all of it.
    #[serde(flatten)]
    pub vhost: Quota,
    /// Of applications, by name.
    pub applications: BTreeMap<String, Quota>,
    /// Players at a time of one IPv4 address or IPv6 /64; 0: any number.
    pub players_per_address: u32,
}

impl Quotas {
    /// True if rates are limited, and so have to be measured.
    #[must_use]
    pub fn limit_rates(&self) -> bool {
        let mut all = self.applications.values().chain([&self.vhost]);
        all.any(|quota| quota.kbps_in > 0 || quota.kbps_out > 0)
    }
}

impl AsMut<Quota> for Quota {
    fn as_mut(&mut self) -> &mut Quota {
        self
    }
}

impl AsMut<Quota> for Quotas {
    fn as_mut(&mut self) -> &mut Quota {
        &mut self.vhost
    }
}

/// The directives that a vhost's quota and those of its applications have in common.
macro_rules! rows {
    ($($field:ident),*) => {
        $(const fn $field<T: AsMut<Quota>>() -> Setting<T> {
            Setting::new(stringify!($field), |quota, directive| {
                quota.as_mut().$field = directive.number(0..=u32::MAX)?;
                Ok(())
            })
        })*
    };
}
rows!(publishers, players, kbps_in, kbps_out);

const APPLICATION: &[Setting<Quota>] = &[publishers(), players(), kbps_in(), kbps_out()];

const QUOTA: &[Setting<Quotas>] = &[
    publishers(),
    players(),
    kbps_in(),
    kbps_out(),
    Setting::new("players_per_address", |quotas, directive| {
        quotas.players_per_address = directive.number(0..=u32::MAX)?;
        Ok(())
    }),
    Setting::named_block("application", |quotas, name, children, diagnostics| {
        let quota = quotas.applications.entry(name.to_owned()).or_default();
        let place = "in `application` of `quota`";
        apply(quota, children, APPLICATION, place, &[], diagnostics);
    }),
];

/// Reads `quota { … }`.
pub(super) fn quota(vhost: &mut Vhost, children: &[Directive], diagnostics: &mut Diagnostics) {
    vhost.quotas = Quotas::default();
    let repeatable = ["application"];
    apply(
        &mut vhost.quotas,
        children,
        QUOTA,
        "in `quota`",
        &repeatable,
        diagnostics,
    );
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::super::tests::{mistakes, origin};
    use super::*;

    fn vhost(quota: &str) -> String {
        format!("vhost __defaultVhost__ {{ quota {{ {quota} }} }}")
    }

    #[test]
    fn a_vhost_and_its_applications_have_limits() {
        let text = "publishers 2; kbps_out 900; players_per_address 3;
            application live { players 5; kbps_in 7; } application other { players 1; }";
        let quotas = origin(&vhost(text)).quotas.clone();
        let of = |quota: &Quota| {
            [Action::Publish, Action::Play].map(|it| (quota.clients(it), quota.kbps(it)))
        };
        assert_eq!(of(&quotas.vhost), [(Some(2), None), (None, Some(900))]);
        assert_eq!(quotas.players_per_address, 3);
        let live = &quotas.applications["live"];
        assert_eq!(of(live), [(None, Some(7)), (Some(5), None)]);
        assert_eq!(quotas.applications["other"].players, 1);
        assert_eq!(origin("").quotas, Quotas::default());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (quota, expected) in [
            ("players many;", "`players` expects"),
            (
                "application { players 1; }",
                "`application` takes a name and a block",
            ),
            (
                "application live;",
                "`application` takes a name and a block",
            ),
            ("application live { player 1; }", "did you mean `players`"),
        ] {
            let mistakes = mistakes(&vhost(quota), Role::Origin);
            assert!(mistakes.contains(expected), "{quota}: {mistakes}");
        }
    }
}
