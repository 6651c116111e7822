//! An upgrade in place: its rehearsal, what goes on meanwhile, and what
//! becomes of signals.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use netbed::local::ChildGuard;
use nix::sys::signal::Signal;

use super::director::Director;
use super::hitless::Viewer;
use super::*;

/// The program under test.
pub(crate) const REAL: &str = env!("CARGO_BIN_EXE_lb-user");

/// A directory that programs are installed in.
pub(crate) struct Installation(TempDir);

impl Installation {
    /// With a symbolic link to the program under test.
    pub(crate) fn new() -> Self {
        let installation = Self(tempfile::tempdir().expect("a directory"));
        installation.link(REAL);
        installation
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The file that is started, and behind which another version may stand later.
    pub(crate) fn program(&self) -> PathBuf {
        self.path("lb-user")
    }

    /// Puts another version behind the link: a script, `$*` being the command
    /// line, that ends by becoming the program under test, with `more` arguments.
    pub(crate) fn install(&self, version: &str, script: &str, more: &str) {
        let text = format!(
            "#!/bin/sh\ncd {}\necho \"$*\" >> {version}.runs\n{script}\nexec {REAL} \"$@\" {more}\n",
            self.0.path().display()
        );
        self.install_text(version, &text);
    }

    fn install_text(&self, version: &str, text: &str) {
        fs::write(self.path(version), text).expect("the script is written");
        let mode = PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.path(version), mode).expect("it may be run");
        self.link(version);
    }

    /// Has the link lead to another program.
    fn link(&self, program: &str) {
        let new = self.path("new");
        symlink(program, &new).expect("a link");
        fs::rename(new, self.program()).expect("the link is replaced");
    }

    /// The command lines that a version was run with.
    fn runs(&self, version: &str) -> Vec<String> {
        let runs = fs::read_to_string(self.path(&format!("{version}.runs")));
        let runs = runs.unwrap_or_default();
        runs.lines().map(str::to_owned).collect()
    }

    /// Waits until a version is run, for a rehearsal or in earnest.
    fn wait_for_run(&self, version: &str, is_rehearsal: bool) {
        wait_for("the new version to be run", || {
            let mut runs = self.runs(version).into_iter();
            runs.find(|line| line.contains("--rehearse") == is_rehearsal)
        });
    }

    /// Lets a script go on that says [`WAIT`].
    fn go_on(&self) {
        fs::write(self.path("go"), "").expect("written");
    }
}

/// Part of a script: waits until [`Installation::go_on`].
const WAIT: &str = "while [ ! -e go ]; do sleep 0.05; done";

pub(crate) fn path_of(program: &Path) -> &OsStr {
    program.as_os_str()
}

/// Starts `lb-user upgrade` and does not wait for it.
pub(crate) fn upgrade(director: &Director<'_>) -> ChildGuard {
    director.start_command(&["upgrade"])
}

#[test]
#[ignore = "needs root"]
fn an_upgrade_takes_the_version_that_the_name_stands_for_by_then() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let installation = Installation::new();
    // As a shell does that finds it by its name.
    let path = std::env::var("PATH").expect("there is a PATH");
    let directory = installation.0.path().display();
    let by_name = format!("exec env PATH={directory}:{path} lb-user \"$@\"");
    let starter = installation.path("start");
    fs::write(&starter, format!("#!/bin/sh\n{by_name}\n")).expect("written");
    fs::set_permissions(&starter, PermissionsExt::from_mode(0o755)).expect("it may be run");
    let agent = director.start_program(path_of(&starter), &[]);
    director.wait_until_ready();

    installation.install("lb-user-2", "", "");
    let upgraded = director.output(&["upgrade"]);
    assert!(upgraded.status.success(), "{upgraded:?}");
    let runs = installation.runs("lb-user-2");
    let [rehearsal, run] = &runs[..] else {
        panic!("asked once, run once: {runs:?}");
    };
    assert_eq!(*rehearsal, format!("{run} --rehearse"));
    assert!(agent.is_running(), "one process");
    director.wait_until_ready();
}

#[test]
#[ignore = "needs root"]
fn what_a_new_agent_would_refuse_is_refused_before_and_the_old_one_goes_on() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let _agent = director.start(&["--table", "servers=2"]);
    director.wait_until_ready();
    let program = director.program();
    let refusal = || {
        let refused = director.output(&["upgrade"]);
        assert!(!refused.status.success(), "{refused:?}");
        assert_eq!(director.states(), ["up", "up"], "it goes on");
        assert_eq!(director.program(), program, "as it was");
        String::from_utf8_lossy(&refused.stderr).into_owned()
    };

    let three = server("172.16.1.50") + &server("172.16.1.211") + &server("172.16.1.207");
    director.configure(&configuration(&three));
    let said = refusal();
    assert!(
        said.contains("real servers: 3 are needed and the table holds 2; raise servers"),
        "{said}"
    );
    director.configure(&both_servers().replace("interface eth2", "interface eth3"));
    let said = refusal();
    assert!(
        said.contains("there is no network interface `eth3`"),
        "{said}"
    );
    director.configure(&both_servers());
    let upgraded = director.output(&["upgrade"]);
    assert!(upgraded.status.success(), "{upgraded:?}");
    assert_ne!(director.program(), program, "another program");
}

#[test]
#[ignore = "needs root"]
fn an_agent_does_all_its_work_while_the_new_program_is_asked() {
    let network = Network::new();
    let one = network.converse("edge1");
    let _two = network.converse("edge2");
    let director = Director::new(&network, &both_servers());
    let installation = Installation::new();
    let agent = director.start_program(path_of(&installation.program()), &[]);
    director.wait_until_ready();
    installation.install("slow", WAIT, "");
    let _asking = upgrade(&director);
    installation.wait_for_run("slow", true);

    one.kill().expect("it runs");
    wait_for("a server's end to be seen", || {
        (director.states() == ["down", "up"]).then_some(())
    });
    let drained = director.output(&["drain", "172.16.1.207"]);
    assert!(drained.status.success(), "{drained:?}");
    assert_eq!(director.states(), ["down", "quiesced"]);
    agent.signal(Signal::SIGTERM).expect("the agent runs");
    assert!(agent.wait().expect("it ends").success());
    assert_eq!(director.program(), None, "detached");
    assert!(!director.pins().exists(), "nothing is pinned");
    assert!(!director.interface().contains(VIP), "the address is gone");
}

/// The deployment with a script that runs until [`Installation::go_on`] says so.
fn with_slow_script(installation: &Installation) -> String {
    let script = format!(
        "notify_master \"/bin/sh -c 'cd {}; {WAIT}; echo over >> over'\"",
        installation.0.path().display()
    );
    both_servers().replacen("state MASTER", &format!("state MASTER\n{script}"), 1)
}

/// Waits until nothing but a script keeps an upgrade from taking place.
fn wait_until_rehearsed(director: &Director<'_>) {
    wait_for("the new program to be ready", || {
        let log = director.log();
        log.contains("rehearsal passed; waiting for running scripts")
            .then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn an_upgrade_waits_for_scripts_and_the_agent_works_meanwhile() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let installation = Installation::new();
    let director = Director::new(&network, &with_slow_script(&installation));
    let _agent = director.start_up();
    let program = director.program();
    let mut upgrade = upgrade(&director);
    wait_until_rehearsed(&director);
    let drained = director.output(&["drain", "172.16.1.207"]);
    assert!(drained.status.success(), "{drained:?}");
    assert_eq!(director.program(), program, "not yet");
    installation.go_on();
    assert!(upgrade.end().success());
    assert_ne!(director.program(), program, "another program");
    assert_eq!(director.states(), ["up", "quiesced"]);
    let over = fs::read_to_string(installation.path("over")).expect("the script has ended");
    assert_eq!(over, "over\n");
}

#[test]
#[ignore = "needs root"]
fn an_upgrade_leaves_no_script_of_a_check_behind() {
    let network = Network::new();
    let director = Director::new(&network, "");
    let script = director.path("hang");
    let pids = director.path("pids");
    let text = format!(
        // Its process id as this test sees it.
        "#!/bin/sh\nread -r pid rest </proc/self/stat\necho $pid >> {}\nexec sleep 1000\n",
        pids.display()
    );
    fs::write(&script, text).expect("written");
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("it may be run");
    let script = script.display();
    let check = format!("MISC_CHECK {{ misc_path {script}\nmisc_timeout 900 }}");
    let configuration = configuration(&format!("real_server 172.16.1.211 1935 {{ {check} }}"));
    let tracked = format!("vrrp_script hang {{ script {script}\ntimeout 900 }}\n");
    let tracking = configuration.replacen("state MASTER", "state MASTER\ntrack_script { hang }", 1);
    director.configure(&(tracked + &tracking));
    let _agent = director.start(&[]);
    let running = || {
        let pids = fs::read_to_string(&pids).unwrap_or_default();
        pids.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let of_the_old = wait_for("both scripts", || {
        Some(running()).filter(|it| it.len() == 2)
    });
    let upgraded = director.output(&["upgrade"]);
    assert!(upgraded.status.success(), "{upgraded:?}");
    wait_for("both scripts again", || {
        (running().len() == 4).then_some(())
    });
    for pid in of_the_old {
        // Not even a zombie.
        assert!(!Path::new("/proc").join(&pid).exists(), "{pid}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_program_that_is_gone_by_then_leaves_the_old_one_at_work() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let installation = Installation::new();
    let director = Director::new(&network, &with_slow_script(&installation));
    let agent = director.start_program(path_of(&installation.program()), &[]);
    director.wait_until_ready();
    let mut viewer = Viewer::connect(&network);
    let served = viewer.ask();
    let mut upgrade = upgrade(&director);
    wait_until_rehearsed(&director);
    fs::remove_file(installation.program()).expect("it was there");
    installation.go_on();
    let status = upgrade.end();
    let mut errors = String::new();
    let mut stderr = upgrade.0.stderr.take().expect("piped");
    stderr.read_to_string(&mut errors).expect("read");
    assert_eq!(status.code(), Some(1), "{errors}");
    let reason = format!(
        "not upgraded, the former program goes on: {} cannot be run: No such file or directory",
        installation.program().display()
    );
    assert!(errors.contains(&reason), "{errors}");
    let list = director.output(&["list"]);
    let list = String::from_utf8_lossy(&list.stdout);
    assert!(list.contains("NOT UPGRADED"), "{list}");
    assert!(director.log().contains("begins anew"), "{}", director.log());
    assert!(agent.is_running(), "one process");
    assert_eq!(viewer.ask(), served, "the viewer is where it was");

    installation.link(REAL);
    let upgraded = director.output(&["upgrade"]);
    assert!(upgraded.status.success(), "{upgraded:?}");
    let list = director.output(&["list"]);
    let list = String::from_utf8_lossy(&list.stdout);
    assert!(!list.contains("NOT UPGRADED"), "{list}");
}

#[test]
#[ignore = "needs root"]
fn a_program_that_ends_before_it_has_taken_over_is_told_of_with_its_reason() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let installation = Installation::new();
    let agent = director.start_program(path_of(&installation.program()), &[]);
    director.wait_until_ready();
    let mut viewer = Viewer::connect(&network);
    let served = viewer.ask();
    // What changes between the rehearsal and the take-over.
    let breaks = "case \"$*\" in *--rehearse*) ;; *) set -- \"$@\" --table servers=1 ;; esac";
    installation.install("broken", breaks, "");
    let said = director.output(&["upgrade"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let errors = String::from_utf8_lossy(&said.stderr);
    let reason = "the new program has ended before it had taken over: ";
    assert!(errors.contains(reason), "{errors}");
    assert!(
        errors.contains("2 are needed and the table holds 1"),
        "{errors}"
    );
    assert_eq!(viewer.ask(), served, "the data plane forwards");

    agent.kill().expect("it runs");
    installation.link(REAL);
    let _agent = director.start_program(path_of(&installation.program()), &[]);
    director.wait_until_ready();
    let silent = "case \"$*\" in *--rehearse*) ;; *) exit 3 ;; esac";
    installation.install("silent", silent, "");
    let said = director.output(&["upgrade"]);
    let errors = String::from_utf8_lossy(&said.stderr);
    assert!(
        errors.contains(&format!("{reason}its log says why")),
        "{errors}"
    );
    assert_eq!(viewer.ask(), served, "the data plane forwards");
}

#[test]
#[ignore = "needs root"]
fn a_signal_to_stop_between_the_two_programs_is_not_lost() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let installation = Installation::new();
    let agent = director.start_program(path_of(&installation.program()), &[]);
    director.wait_until_ready();
    // Not a shell: dash takes all signals that were blocked.
    let directory = installation.0.path().display();
    let slow_start = format!(
        "#!/usr/bin/env python3
import os, sys, time
os.chdir('{directory}')
open('slow.runs', 'a').write(' '.join(sys.argv) + '\\n')
while '--rehearse' not in sys.argv and not os.path.exists('go'):
    time.sleep(0.05)
os.execv('{REAL}', ['{REAL}'] + sys.argv[1:])
"
    );
    installation.install_text("slow", &slow_start);
    let _upgrade = upgrade(&director);
    installation.wait_for_run("slow", false);
    agent.signal(Signal::SIGTERM).expect("the agent runs");
    agent.signal(Signal::SIGHUP).expect("the agent runs");
    installation.go_on();
    assert!(agent.wait().expect("it ends").success());
    let log = director.log();
    assert!(log.contains("stopping: SIGTERM"), "{log}");
    assert_eq!(director.program(), None, "detached");
    assert!(!director.pins().exists(), "nothing is pinned");
    assert!(!director.interface().contains(VIP), "the address is gone");
}
