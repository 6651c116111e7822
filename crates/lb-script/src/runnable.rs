//! A script with the conditions that it runs under.

use std::io;

use nix::unistd::{Gid, Group, Uid, User, geteuid};

use lb_model::config::{GlobalDefs, Script};

/// User that scripts run as where none is named, if it exists
/// (keepalived.conf(5), `script_user`).
const DEFAULT_USER: &str = "keepalived_script";

/// A script, and the conditions that it runs under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Runnable {
    /// The script.
    pub script: Script,
    /// True if it must not run as root where another user may change it
    /// (`enable_script_security`).
    pub must_be_safe: bool,
}

impl From<Script> for Runnable {
    fn from(script: Script) -> Self {
        Self {
            script,
            must_be_safe: false,
        }
    }
}

impl Runnable {
    /// A script under the conditions of `global_defs`.
    pub fn new(mut script: Script, global: &GlobalDefs) -> Self {
        if script.user.is_none()
            && let Some([user, group @ ..]) = global.script_user.as_deref()
        {
            script.user = Some(user.clone());
            script.group = group.first().cloned();
        }
        Self {
            script,
            must_be_safe: global.enable_script_security,
        }
    }

    /// User and group that it runs as; `None`: those of the agent.
    ///
    /// # Errors
    /// There is no such user or group.
    pub fn identity(&self) -> io::Result<Option<(Uid, Gid)>> {
        let user = match &self.script.user {
            Some(name) => User::from_name(name)?.ok_or_else(|| unknown("user", name))?,
            // An agent that may become another user does.
            None if geteuid().is_root() => match User::from_name(DEFAULT_USER)? {
                Some(user) => user,
                None => return Ok(None),
            },
            None => return Ok(None),
        };
        let gid = match &self.script.group {
            Some(name) => {
                Group::from_name(name)?
                    .ok_or_else(|| unknown("group", name))?
                    .gid
            }
            None => user.gid,
        };
        Ok((user.uid != geteuid()).then_some((user.uid, gid)))
    }
}

fn unknown(kind: &str, name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("there is no {kind} {name}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_runs_as_script_user_unless_it_names_another() {
        let global = GlobalDefs {
            script_user: Some(vec!["nobody".to_owned(), "nogroup".to_owned()]),
            enable_script_security: true,
            ..GlobalDefs::default()
        };
        let plain = Script {
            command: vec!["true".to_owned()],
            ..Script::default()
        };
        let runnable = Runnable::new(plain.clone(), &global);
        assert_eq!(runnable.script.user.as_deref(), Some("nobody"));
        assert_eq!(runnable.script.group.as_deref(), Some("nogroup"));
        assert!(runnable.must_be_safe);
        let own = Script {
            user: Some("root".to_owned()),
            ..plain
        };
        assert_eq!(Runnable::new(own.clone(), &global).script, own);
    }
}
