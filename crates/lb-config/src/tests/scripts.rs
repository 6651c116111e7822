//! Scripts that cannot be run, or may not.

use super::*;

#[test]
fn a_script_that_others_may_write_is_told_under_script_security() {
    use std::os::unix::fs::PermissionsExt;

    if !nix::unistd::geteuid().is_root() {
        netbed::skip!("a file of root's needs root");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n").expect("written");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o757)).expect("it is ours");
    let script = script.display();
    let notify = format!("notify_up {script} root\nnotify_down {script} nobody");
    let told = |global: &str| {
        let text = format!("{global}\n{}", service("", &notify));
        messages(&load_text(&text).expect("accepted").warnings)
            .into_iter()
            .filter(|warning| warning.contains("is not run"))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(""), Vec::<String>::new());
    assert_eq!(
        told("global_defs {\nenable_script_security\n}"),
        [format!(
            "t.conf:7: warning: real_server 10.0.0.2:80: `notify_up`: `{script}` is not run: \
             others than root may write {script} (enable_script_security)"
        )]
    );
}

#[test]
fn a_script_whose_user_does_not_exist_is_named() {
    let notify = "notify_up /bin/true no-such-user";
    let warnings = load_text(&service("", notify)).expect("accepted").warnings;
    let warnings = messages(&warnings);
    let expected = "t.conf:4: warning: real_server 10.0.0.2:80: `notify_up`: `/bin/true` is not \
                    run: there is no user no-such-user";
    assert!(
        warnings.iter().any(|warning| warning == expected),
        "{warnings:#?}"
    );
}

#[test]
fn every_script_that_cannot_be_run_is_named_with_its_line_and_what_helps() {
    let text = r#"vrrp_script S {
            interval 2
            script "/no/such/script with words"
        }
        vrrp_script T {
            script "</dev/tcp/127.0.0.1/80"
        }
        vrrp_script F {
            script "</no/such/file"
        }
        vrrp_instance V {
            interface eth0
            virtual_router_id 1
            virtual_ipaddress { 10.0.0.1 }
            notify_master /no/such/notify
        }
        virtual_server 10.0.0.1 80 {
            quorum_down no-such-program
            real_server 10.0.0.2 80 {
                notify_up /etc/passwd
                MISC_CHECK { 
                    misc_path /tmp
                }
            }
        }"#;
    let warnings = messages(&load_text(text).expect("accepted").warnings);
    let user = nix::unistd::geteuid();
    let expected = [
        "t.conf:3: warning: vrrp_script S: `/no/such/script with words` is not run, and counts for \
         nothing: there is no /no/such/script; install it, or name the right path"
            .to_owned(),
        "t.conf:6: warning: vrrp_script T: `</dev/tcp/127.0.0.1/80` is run by bash, which alone \
         knows it (keepalived: by /bin/sh, where it fails if that is another shell)"
            .to_owned(),
        "t.conf:15: warning: vrrp_instance V: `notify_master`: `/no/such/notify` is not run: there \
         is no /no/such/notify; install it, or name the right path"
            .to_owned(),
        "t.conf:18: warning: virtual_server 10.0.0.1 80: `quorum_down`: `no-such-program` is not \
         run: there is no program no-such-program in PATH; install it, or name it with its path"
            .to_owned(),
        format!(
            "t.conf:20: warning: real_server 10.0.0.2:80: `notify_up`: `/etc/passwd` is not run: \
             /etc/passwd is not executable for the user {user}; `chmod a+rx /etc/passwd`"
        ),
        "t.conf:22: warning: real_server 10.0.0.2:80: `MISC_CHECK`: `/tmp` is not run, and the \
         server counts as up as far as it is concerned: /tmp is no file that can be run; name a \
         program"
            .to_owned(),
    ];
    assert_eq!(warnings, expected);
}
