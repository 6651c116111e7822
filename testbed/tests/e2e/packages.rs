//! Debian packages: what an upgrade and a removal leave of the deployment.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use netbed::INTERFACE;
use testbed::{Machine, PACKAGES, Source, VIP, packages};

use crate::units::{Deployment, on_the_deployment};

/// The later packages, in a machine.
const LATER: &str = "/srv/later";

/// Lines of shell: packs `$1` again as a version that is later, below `/srv/later`.
const PACK_LATER: &str = r#"
    mkdir -p /srv/later
    dpkg-deb --raw-extract "$1" /srv/later/tree
    sed -i 's/^Version: .*/&+later/' /srv/later/tree/DEBIAN/control
    dpkg-deb --build -Zgzip -z1 /srv/later/tree /srv/later
    rm -r /srv/later/tree
"#;

/// Installs a later version of a package that is there.
fn upgrade(machine: &Machine<'_>, package: &str) -> Result<String> {
    machine.run(&format!(
        "set -- {PACKAGES}/{package}_*.deb\n{PACK_LATER}\ndpkg --install {LATER}/{package}_*.deb"
    ))
}

/// The file that a service's process runs, with ` (deleted)` behind it once another is
/// installed in its place.
fn running(machine: &Machine<'_>, service: &str) -> Result<String> {
    let pid = machine.property(service, "MainPID")?;
    Ok(machine
        .run(&format!("readlink /proc/{pid}/exe"))?
        .trim()
        .to_owned())
}

#[test]
#[ignore = "needs root"]
fn an_upgrade_of_the_packages_disturbs_no_viewer() {
    on_the_deployment(|cluster, deployment| {
        let Deployment {
            origin,
            edge,
            director,
        } = deployment;
        cluster.push(&Source::Generated)?;
        let viewer = cluster.client(0).pull(&cluster.viewing_url())?;
        viewer.wait_for_more(25)?.ensure_rising()?;

        let edited = "echo '# edited' >>/etc/millrace";
        director.run(&format!("{edited}/keepalived.conf"))?;
        let first = director.property("lb-user", "MainPID")?;
        upgrade(director, "millrace-lb")?;
        assert_eq!(director.property("lb-user", "MainPID")?, first);
        assert_eq!(running(director, "lb-user")?, "/usr/bin/lb-user");
        director.run("grep -q edited /etc/millrace/keepalived.conf && lb-user list")?;
        viewer.wait_for_more(25)?.ensure_rising()?;

        for (machine, name) in [(origin, "origin"), (edge, "edge")] {
            let service = format!("rtmp-{name}");
            machine.run(&format!("{edited}/{name}.conf"))?;
            let first = machine.property(&service, "MainPID")?;
            let told = upgrade(machine, &format!("millrace-{name}"))?;
            ensure!(told.contains("goes on in place of"), "{told}");
            assert_eq!(machine.property(&service, "MainPID")?, first);
            assert_eq!(running(machine, &service)?, format!("/usr/bin/{service}"));
            machine.run(&format!("grep -q edited /etc/millrace/{name}.conf"))?;
            // Passwords and keys may stand in it.
            let mode = format!("stat -c %a:%U:%G /etc/millrace/{name}.conf");
            machine.run(&format!("test $({mode}) = 640:root:millrace"))?;
        }
        viewer.wait_for_more(25)?.ensure_rising()?;
        edge.run("systemctl restart rtmp-edge")?;
        assert_eq!(running(edge, "rtmp-edge")?, "/usr/bin/rtmp-edge");
        let viewer = cluster.client(0).pull(&cluster.viewing_url())?;
        viewer.wait_for_more(25)?.ensure_rising()?;
        Ok(())
    });
}

/// The files of ours where packages and services leave some, and at the top of the tree. The
/// rest is the host's, with the sources and what the tests write.
fn files(machine: &Machine<'_>) -> Result<Vec<String>> {
    const OURS: &str = r"\( -name '*millrace*' -o -name '*rtmp-edge*' -o -name '*rtmp-origin*' \
        -o -name '*lb-user*' \)";
    let found = machine.run(&format!(
        "find / -maxdepth 1 {OURS} &&
        find /boot /dev /etc /media /mnt /opt /run /usr /var {OURS}"
    ))?;
    Ok(found.lines().map(str::to_owned).collect())
}

#[test]
#[ignore = "needs root"]
fn removed_packages_leave_nothing_running_and_purged_ones_nothing() {
    on_the_deployment(|cluster, deployment| {
        let Deployment {
            origin,
            edge,
            director,
        } = deployment;
        // What a killed agent leaves is no reason to forward on.
        director.run("systemctl kill -s KILL lb-user && systemctl stop lb-user")?;
        director.run("dpkg --remove millrace-lb")?;
        assert!(!director.host().has_address(VIP)?, "the VIP is gone");
        let link = director.run(&format!("ip -details link show {INTERFACE}"))?;
        assert!(!link.contains("xdp"), "{link}");
        let pinned = director.run("find /sys/fs/bpf -mindepth 1 -not -name '*.debug'")?;
        assert_eq!(pinned, "", "nothing is pinned");

        edge.run("dpkg --remove millrace-edge millrace-realserver")?;
        assert!(!cluster.edge(0).host().has_address(VIP)?, "the VIP is gone");
        origin.run("dpkg --remove millrace-origin")?;
        for (machine, program, kept) in [
            (director, "lb-user", "keepalived.conf"),
            (edge, "rtmp-edge", "edge.conf"),
            (origin, "rtmp-origin", "origin.conf"),
        ] {
            let running = machine.output(&format!("pgrep -x {program}"))?;
            assert!(!running.status.success(), "{program} still runs");
            machine.run(&format!("test -f /etc/millrace/{kept}"))?;
        }

        director.run("dpkg --purge millrace-lb")?;
        edge.run("dpkg --purge millrace-edge millrace-realserver")?;
        origin.run("dpkg --purge millrace-origin")?;
        for machine in [director, edge, origin] {
            let left = files(machine)?;
            ensure!(left.is_empty(), "on {}: {left:#?}", machine.host().name());
        }
        Ok(())
    });
}

#[test]
fn packages_of_programs_hold_the_licences_of_their_libraries() {
    let packages = packages().expect("the packages are made");
    for (package, library) in [
        ("lb", "aya"),
        ("origin", "tokio"),
        ("edge", "tokio"),
        ("tools", "bytes"),
        ("realserver", "aya"),
    ] {
        let name = format!("millrace-{package}");
        let lines = format!(
            "dpkg-deb --fsys-tarfile {}/{name}_*.deb |
            tar -xO ./usr/share/doc/{name}/THIRD-PARTY.gz | gunzip",
            packages.display()
        );
        let output = Command::new("sh")
            .args(["-c", &lines])
            .output()
            .expect("sh can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(&format!("{library} ")), "{name}: {errors}");
        assert!(
            text.contains("Permission is hereby granted"),
            "{name}: {errors}"
        );
    }
}

#[test]
fn lintian_finds_no_error_in_the_packages() {
    let packages = packages().expect("the packages are made");
    let packages = fs::read_dir(packages).expect("their directory can be read");
    let packages: Vec<_> = packages
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "deb"))
        .collect();
    assert_eq!(packages.len(), 6, "{packages:?}");
    let output = Command::new("lintian")
        // The authors have no address of their own.
        .arg("--suppress-tags=bogus-mail-host,bogus-mail-host-in-debian-changelog")
        .args(["--allow-root", "--fail-on=error"])
        .args(packages)
        .output()
        .context("scripts/setup.sh installs lintian")
        .expect("lintian can be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
