//! Scripts that are run when the state of a virtual router changes
//! (keepalived.conf(5), `notify*`).

use lb_model::config::{Config, Script};

use super::event::{Event, Subject};
use super::machine::{Cause, State};

/// The scripts to run for an event, in keepalived's order and with its
/// arguments: first the state's own, as it is written; then `notify`, with
/// `INSTANCE` or `GROUP`, the name, the state and the priority behind its own
/// arguments. For a virtual router that a reload removes, `config` is the
/// earlier one; its state is `STOP`.
pub fn notify_scripts(event: &Event, config: &Config) -> Vec<Script> {
    // Nothing has changed: the earlier program's scripts have said it.
    if event.cause == Cause::HandedOver {
        return Vec::new();
    }
    let found = match event.subject {
        Subject::Instance => {
            let mut instances = config.vrrp_instance.iter();
            let found = instances.find(|instance| instance.name == event.name);
            found.map(|instance| &instance.notify)
        }
        Subject::Group => {
            let mut groups = config.vrrp_sync_group.iter();
            let found = groups.find(|group| group.name == event.name);
            found.map(|group| &group.notify)
        }
    };
    let Some(notify) = found else {
        return Vec::new();
    };
    let own = match event.state {
        State::Master => &notify.master,
        State::Backup => &notify.backup,
        State::Fault => &notify.fault,
        State::Init => &notify.stop,
    };
    let any = &notify.any;
    let any = any.clone().map(|mut script| {
        script.command.extend(arguments(event));
        script
    });
    own.clone().into_iter().chain(any).collect()
}

fn arguments(event: &Event) -> [String; 4] {
    let subject = match event.subject {
        Subject::Instance => "INSTANCE",
        Subject::Group => "GROUP",
    };
    let state = match event.state {
        State::Master => "MASTER",
        State::Backup => "BACKUP",
        State::Fault => "FAULT",
        State::Init => "STOP",
    };
    [
        subject.to_owned(),
        event.name.clone(),
        state.to_owned(),
        event.priority.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Cause;

    fn config() -> Config {
        let text = r#"
            vrrp_instance VI_1 {
                interface eth0
                virtual_router_id 51
                virtual_ipaddress {
                    10.0.0.1
                }
                notify_master "/bin/master with words"
                notify_backup /bin/backup
                notify_fault /bin/fault
                notify_stop /bin/stop
                notify "/bin/any x"
            }
            vrrp_sync_group VG_1 {
                group {
                    VI_1
                }
                notify /bin/group
            }
        "#;
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        std::fs::write(&file, text).expect("the file is written");
        lb_config::load(&file).expect("the file is accepted").config
    }

    fn commands(subject: Subject, name: &str, state: State, priority: u8) -> Vec<String> {
        let name = name.to_owned();
        let event = Event {
            subject,
            name,
            state,
            cause: Cause::Started,
            priority,
        };
        let scripts = notify_scripts(&event, &config());
        scripts
            .into_iter()
            .map(|script| script.command.join(" "))
            .collect()
    }

    #[test]
    fn the_script_of_the_state_comes_first_and_notify_gets_four_words_more() {
        use State::{Backup, Fault, Init, Master};
        let table = [
            (
                Master,
                "/bin/master with words",
                "/bin/any x INSTANCE VI_1 MASTER 100",
            ),
            (Backup, "/bin/backup", "/bin/any x INSTANCE VI_1 BACKUP 100"),
            (Fault, "/bin/fault", "/bin/any x INSTANCE VI_1 FAULT 100"),
            (Init, "/bin/stop", "/bin/any x INSTANCE VI_1 STOP 100"),
        ];
        for (state, own, any) in table {
            assert_eq!(commands(Subject::Instance, "VI_1", state, 100), [own, any]);
        }
    }

    #[test]
    fn a_group_has_scripts_of_its_own() {
        let commands = |state| commands(Subject::Group, "VG_1", state, 0);
        assert_eq!(commands(State::Master), ["/bin/group GROUP VG_1 MASTER 0"]);
    }

    #[test]
    fn what_is_not_configured_runs_nothing() {
        assert!(commands(Subject::Instance, "VI_2", State::Master, 1).is_empty());
    }
}
