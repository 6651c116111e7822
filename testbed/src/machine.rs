//! A machine that systemd runs: a host of the cluster with a root directory, a
//! first process and services of its own, as a container has them.
//!
//! The root directory is this machine's, with everything that is written to it
//! kept apart (overlayfs); none of this machine's own services is in it.

use std::fs;
use std::path::Path;
use std::process::{self, Command, Output};

use anyhow::{Context, Result, ensure};

use crate::binaries;
use netbed::Host;
use netbed::Process;
use netbed::wait_for;

const SYSTEMD: &str = "/lib/systemd/systemd";

/// Where the source tree is, in the machine.
pub const SOURCE: &str = "/srv/millrace";

/// Where the project's packages are, in the machine.
pub const PACKAGES: &str = "/srv/packages";

/// Enters a group of processes that is the machine's own, then namespaces that
/// see no other (cgroup_namespaces(7)).
const JOIN: &str = r#"
    set -eu
    echo 0 >"$1/cgroup.procs"
    shift
    exec unshare --pid --mount --cgroup --ipc --uts --fork --kill-child \
        sh -c "$BOOT" boot "$@"
"#;

/// Builds the machine's root directory and becomes its first process. What the
/// host has in `/run` and `/sys/fs/bpf` is the machine's, too: the host is where
/// tests look for sockets and pinned maps.
const BOOT: &str = r#"
    set -eu
    directory=$1 source=$2 packages=$3
    # /proc is still that of the outside, and so is the number.
    read -r number rest </proc/self/stat
    mkdir "$directory/machine"
    mount -t tmpfs machine "$directory/machine"
    cd "$directory/machine"
    mkdir changes work root
    mount -t overlay machine -o lowerdir=/,upperdir=changes,workdir=work root
    mount -t proc proc root/proc
    mount --bind /sys root/sys
    mount -t cgroup2 cgroup2 root/sys/fs/cgroup
    mount --bind /sys/fs/bpf root/sys/fs/bpf
    chmod 700 root/sys/fs/bpf
    mount --bind /run root/run
    mount -t tmpfs tmp root/tmp
    mount -t tmpfs -o mode=755 dev root/dev
    for device in full null random tty urandom zero; do
        : >"root/dev/$device"
        mount --bind "/dev/$device" "root/dev/$device"
    done
    mkdir root/dev/pts root/dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts root/dev/pts
    ln -s pts/ptmx root/dev/ptmx
    rm -rf root/etc/systemd/system root/etc/init.d root/etc/fstab root/usr/local/bin
    rm -rf root/var/log/journal root/usr/sbin/policy-rc.d
    # What makes installing a package slow.
    rm -rf root/var/lib/apt/lists root/var/lib/man-db/auto-update
    echo 'APT::Install-Recommends "false";' >root/etc/apt/apt.conf.d/99testbed
    mkdir -p root/etc/systemd/system root/usr/local/bin root/srv/millrace root/srv/packages
    mount --bind -o ro "$source" root/srv/millrace
    mount --bind -o ro "$packages" root/srv/packages
    basename "$directory" >root/etc/hostname
    echo "$number" >"$directory/machine.pid"
    cd root
    mkdir outside
    pivot_root . outside
    umount -l outside
    rmdir outside
    exec env -i container=testbed PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --log-target=journal
"#;

/// A host that systemd runs on. It ends with its cluster.
#[derive(Debug)]
pub struct Machine<'h> {
    host: &'h Host,
    /// The first process, as seen from outside.
    init: u32,
}

impl<'h> Machine<'h> {
    /// Says why no machine can be had here, if that is so.
    #[must_use]
    pub fn missing() -> Option<String> {
        if !Path::new(SYSTEMD).exists() {
            return Some(format!("{SYSTEMD} is not here (Debian's package systemd)"));
        }
        let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !filesystems.split_whitespace().any(|word| word == "overlay") {
            return Some("the kernel knows no overlayfs (modprobe overlay)".to_owned());
        }
        match netbed::control_group_of(Path::new("/")) {
            Ok(_) => None,
            Err(error) => Some(format!("{error:#}")),
        }
    }

    /// Boots systemd on `host`, and waits until everything has started that
    /// Debian starts.
    ///
    /// # Errors
    /// When it does not come up; the message says what failed.
    pub fn boot(host: &'h Host) -> Result<Self> {
        let directory = host.directory();
        let cluster = directory.parent().expect("it lies in its cluster's");
        let group = netbed::control_group_of(cluster)?.join(host.name());
        fs::create_dir_all(&group).with_context(|| format!("cannot make {}", group.display()))?;
        // The host's namespaces hide what is mounted outside.
        let seen_from_host = format!("/proc/{}/root{}", process::id(), group.display());
        let pid_file = directory.join("machine.pid");
        let mut command = Command::new("sh");
        command
            .env("BOOT", BOOT)
            .args(["-c", JOIN, "join"])
            .args([
                Path::new(&seen_from_host),
                directory,
                binaries::source_root(),
            ])
            .arg(binaries::packages()?);
        let process = host.spawn("systemd", command)?;
        let init = wait_for("the machine's first process", || {
            ensure!(process.is_running(), "{}", process.log_tail());
            let number = fs::read_to_string(&pid_file).unwrap_or_default();
            Ok(number.trim().parse().ok())
        })?;
        let machine = Self { host, init };
        machine.wait_until_up(&process)?;
        Ok(machine)
    }

    fn wait_until_up(&self, process: &Process) -> Result<()> {
        let mut state = String::new();
        wait_for("systemd to have started everything", || {
            ensure!(process.is_running(), "{}", process.log_tail());
            let output = self.output("systemctl is-system-running")?;
            state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Ok(["running", "degraded"].contains(&state.as_str()))
        })
        .with_context(|| format!("it says `{state}`"))?;
        if state == "degraded" {
            let failed = self.run("systemctl --failed --no-pager --no-legend")?;
            anyhow::bail!(
                "not everything has started on {}:\n{failed}",
                self.host.name()
            );
        }
        Ok(())
    }

    /// The host that it is.
    #[must_use]
    pub fn host(&self) -> &'h Host {
        self.host
    }

    /// Runs lines of shell as root, in the source tree; returns what they print.
    ///
    /// # Errors
    /// When one of them fails; the message holds what all have printed.
    pub fn run(&self, script: &str) -> Result<String> {
        let output = self.output(script)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{script}\non {}: {}\n{stdout}{}",
            self.host.name(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(stdout)
    }

    /// As [`Machine::run`], whatever comes of it.
    ///
    /// # Errors
    /// When nothing can be run.
    pub fn output(&self, script: &str) -> Result<Output> {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--mount", "--pid", "--cgroup", "--ipc", "--uts"])
            .args(["env", "-i", "LANG=C.UTF-8"])
            .arg("PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["sh", "-euc", &format!("cd {SOURCE}\n{script}")]);
        self.host.output(command)
    }

    /// A property of a service, as `systemctl show` names it: `MainPID`.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn property(&self, service: &str, name: &str) -> Result<String> {
        let value = self.run(&format!(
            "systemctl show --value --property {name} {service}"
        ))?;
        Ok(value.trim().to_owned())
    }
}
