//! Writes the man pages and shell completions of the programs, as they lie below `/`:
//! `cli-docs DIRECTORY`.
//!
//! It is a program of its own, since xtask builds the XDP program that `lb-user` embeds and
//! can link nothing that needs it, and since an operator's programs need no such command.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use clap::{Command, CommandFactory};
use clap_complete::Shell;

/// Where each shell looks for completions that packages install.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "usr/share/bash-completion/completions"),
    (Shell::Zsh, "usr/share/zsh/vendor-completions"),
    (Shell::Fish, "usr/share/fish/vendor_completions.d"),
];

const MAN_PAGES: &str = "usr/share/man/man1";

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let (Some(directory), None) = (arguments.next(), arguments.next()) else {
        bail!("usage: cli-docs DIRECTORY");
    };
    write_all(Path::new(&directory))
}

fn write_all(root: &Path) -> Result<()> {
    for command in programs() {
        write_completions(root, &command)?;
        let pages = make(root, MAN_PAGES)?;
        clap_mangen::generate_to(command, &pages)
            .with_context(|| format!("cannot write to {}", pages.display()))?;
    }
    Ok(())
}

/// The command lines of the programs that packages hold.
fn programs() -> [Command; 5] {
    [
        lb_user::cli::command(),
        rtmp_edge::command(),
        rtmp_load::Options::command(),
        rtmp_origin::command(),
        second_chance::cli::command(),
    ]
}

fn write_completions(root: &Path, command: &Command) -> Result<()> {
    let name = command.get_name().to_owned();
    for (shell, folder) in COMPLETIONS {
        let folder = make(root, folder)?;
        let written = clap_complete::generate_to(shell, &mut command.clone(), &name, &folder)?;
        if shell == Shell::Bash {
            // bash-completion looks for a file of the command's name.
            fs::rename(written, folder.join(&name))?;
        }
    }
    Ok(())
}

fn make(root: &Path, folder: &str) -> Result<PathBuf> {
    let path = root.join(folder);
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_and_subcommand_has_a_page_and_each_shell_its_completions() {
        let root = tempfile::tempdir().expect("a directory");
        write_all(root.path()).expect("it can be written to");
        let page = |name: &str| root.path().join(MAN_PAGES).join(format!("{name}.1"));
        for command in programs() {
            let name = command.get_name();
            assert!(page(name).exists(), "{name}");
            for subcommand in command.get_subcommands() {
                let name = format!("{name}-{}", subcommand.get_name());
                assert!(page(&name).exists(), "{name}");
            }
            for (folder, file) in [
                (COMPLETIONS[0].1, name.to_owned()),
                (COMPLETIONS[1].1, format!("_{name}")),
                (COMPLETIONS[2].1, format!("{name}.fish")),
            ] {
                let path = root.path().join(folder).join(file);
                let text = fs::read_to_string(&path).unwrap_or_default();
                assert!(text.contains(name), "{}", path.display());
            }
        }
    }

    /// What a shell prints for lines of its own language that end without a failure. `$1` is
    /// the name of a program, `$2` its file of completions.
    fn ask(shell: &[&str], lines: &str, name: &str, file: &Path) -> String {
        let output = std::process::Command::new(shell[0])
            .args(&shell[1..])
            .args(["-c", lines, shell[0], name])
            .arg(file)
            .output()
            .expect("scripts/setup.sh installs the shells");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && errors.is_empty(),
            "{name} in {shell:?}: {errors}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn each_shell_reads_its_completions() {
        const BASH: &str = r#"source "$2"; COMP_WORDS=("$1" ""); COMP_CWORD=1
            function=$(complete -p "$1"); function=${function#*-F }
            "${function%% *}" "$1" "" "$1"; echo "${COMPREPLY[@]}""#;
        const ZSH: &str = r#"zsh -n "$2"; fpath=("${2:h}" $fpath)
            autoload -Uz compinit; compinit -D -u; autoload +X "$_comps[$1]"; print "$_comps[$1]""#;
        const FISH: &str = r#"source $argv[3]; complete --do-complete "$argv[2] --""#;
        let root = tempfile::tempdir().expect("a directory");
        write_all(root.path()).expect("it can be written to");
        for command in programs() {
            let name = command.get_name();
            let [bash, zsh, fish] = [
                (COMPLETIONS[0].1, name.to_owned()),
                (COMPLETIONS[1].1, format!("_{name}")),
                (COMPLETIONS[2].1, format!("{name}.fish")),
            ]
            .map(|(folder, file)| root.path().join(folder).join(file));
            let offered = ask(&["bash", "--norc"], BASH, name, &bash);
            assert!(offered.contains("--help"), "{name} in bash: {offered}");
            let function = ask(&["zsh", "-f"], ZSH, name, &zsh);
            assert_eq!(function.trim(), format!("_{name}"), "in zsh");
            let offered = ask(&["fish", "--no-config"], FISH, name, &fish);
            assert!(offered.contains("--help"), "{name} in fish: {offered}");
        }
    }
}
