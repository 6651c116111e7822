//! Who may run the scripts: root, also where there is no sudo, and an ordinary
//! user with sudo.

use anyhow::{Result, ensure};
use testbed::{Cluster, Machine};

use crate::{has_machines, on, readme_commands};

/// A copy of the scripts' library with a script that does nothing but to become
/// root and to say what it has been given; and an ordinary user.
const PREPARE: &str = r#"
    cp -r scripts /tmp/scripts
    chmod -R a+rX /tmp/scripts
    cat >/tmp/scripts/who.sh <<'END'
#!/bin/sh
set -eu
. "$(dirname "$0")/lib.sh"
become_root "$@"
echo "user $(id -un), behind sudo ${SUDO_USER:-nobody}, cargo's home ${CARGO_HOME:-none}"
printf 'argument %s\n' "$@"
END
    chmod 755 /tmp/scripts/who.sh
    useradd --create-home dev
    echo 'dev ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/dev
    command -v sudo
"#;

fn on_a_machine(test: impl FnOnce(&Machine<'_>) -> Result<()>) {
    if !has_machines() {
        return;
    }
    on(
        Cluster::builder().network_only().edges(1).clients(1),
        |cluster| {
            let machine = Machine::boot(cluster.client(0).host())?;
            machine.run(PREPARE)?;
            test(&machine)
        },
    );
}

#[test]
#[ignore = "needs root"]
fn a_script_goes_on_as_root_through_an_ordinary_user_s_sudo() {
    on_a_machine(|machine| {
        let said = machine.run(
            "runuser -u dev -- env CARGO_HOME=/srv/cargo /tmp/scripts/who.sh 'two words' --json",
        )?;
        assert_eq!(
            said,
            "user root, behind sudo dev, cargo's home /srv/cargo\n\
             argument two words\nargument --json\n"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn the_readme_s_commands_run_in_a_root_shell_without_sudo() {
    on_a_machine(|machine| {
        machine.run("rm /usr/bin/sudo")?;
        let said = machine.run("/tmp/scripts/who.sh once")?;
        assert_eq!(
            said,
            "user root, behind sudo nobody, cargo's home none\nargument once\n"
        );
        let commands = readme_commands("## Try it\n")?;
        ensure!(commands.lines().count() == 2, "{commands}");
        for line in commands.lines() {
            let command = line.split('#').next().unwrap_or_default().trim();
            let said = machine.run(&format!("{command} --help"))?;
            ensure!(said.contains(&format!("Usage: {command}")), "{said}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn an_ordinary_user_without_sudo_is_told_what_to_do() {
    on_a_machine(|machine| {
        machine.run("rm /usr/bin/sudo")?;
        for script in ["demo.sh", "test.sh"] {
            let output = machine.output(&format!("runuser -u dev -- /tmp/scripts/{script}"))?;
            assert_eq!(output.status.code(), Some(1), "{script}: {output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                said,
                format!(
                    "{script}: needs root, and there is no sudo here: run it in a root shell (su -)\n"
                )
            );
        }
        Ok(())
    });
}
