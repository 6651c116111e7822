# shellcheck shell=sh
# What the scripts of this folder share. Sourced, with `set -eu` in force.

# shellcheck disable=SC2034 # for the scripts that source this
source_root=$(cd "$(dirname "$0")/.." && pwd)

# Bold, green, red: on a terminal only, and not where the user asks for none.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    # shellcheck disable=SC2034
    bold=$(printf '\033[1m')
    # shellcheck disable=SC2034
    green=$(printf '\033[32m')
    red=$(printf '\033[31m')
    plain=$(printf '\033[0m')
else
    # shellcheck disable=SC2034
    bold='' green='' red='' plain=''
fi

say() {
    printf '%s\n' "$*"
}

fail() {
    printf '%s%s: %s%s\n' "$red" "$(basename "$0")" "$*" "$plain" >&2
    exit 1
}

# A mistake of the caller's: said in one line, with the way out.
misuse() {
    printf '%s: %s (see %s --help)\n' "$(basename "$0")" "$*" "$(basename "$0")" >&2
    exit 2
}

# Runs the script again as root, through sudo, where its user is not root: a root
# shell on a bare machine has no sudo, an ordinary user's shell needs it. sudo
# clears the environment; what decides where cargo builds is handed on.
become_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null ||
        fail "needs root, and there is no sudo here: run it in a root shell (su -)"
    set -- "$0" "$@"
    for name in CARGO_HOME CARGO_TARGET_DIR RUSTUP_HOME NO_COLOR; do
        eval "value=\${$name:-}"
        # shellcheck disable=SC2154 # set by eval
        [ -z "$value" ] || set -- "$name=$value" "$@"
    done
    exec sudo -- env "$@"
}

# Who builds: the user behind sudo, where they have a Rust toolchain, so that
# nothing in their source tree and their cargo's home becomes root's; else
# whoever runs this. Sets `builder` and `cargo_bin`.
find_cargo() {
    builder=$(id -un)
    cargo_bin=
    for user in "${SUDO_USER:-}" "$builder"; do
        [ -n "$user" ] || continue
        home=$(getent passwd "$user" | cut -d: -f6)
        for directory in "${CARGO_HOME:-$home/.cargo}/bin" "$home/.cargo/bin"; do
            if [ -x "$directory/cargo" ]; then
                builder=$user
                cargo_bin=$directory
                return
            fi
        done
    done
    # rustup may have been installed for everybody (as in container images).
    if found=$(command -v cargo) && [ "$found" != /usr/bin/cargo ]; then
        cargo_bin=$(dirname "$found")
        return
    fi
    fail "no Rust toolchain found. Install rustup's stable one as ${SUDO_USER:-$builder}," \
        "then run this again: https://rustup.rs"
}

# Runs a command as the builder, with cargo in PATH.
as_builder() {
    if [ "$builder" = "$(id -un)" ]; then
        env PATH="$cargo_bin:$PATH" "$@"
    else
        runuser -u "$builder" -- env PATH="$cargo_bin:$PATH" \
            HOME="$(getent passwd "$builder" | cut -d: -f6)" "$@"
    fi
}

# Where cargo puts what it builds for this workspace.
target_dir() {
    case ${CARGO_TARGET_DIR:-} in
        '') say "$source_root/target" ;;
        /*) say "$CARGO_TARGET_DIR" ;;
        *) say "$source_root/$CARGO_TARGET_DIR" ;;
    esac
}
