#!/bin/sh
# The whole deployment at work on this machine: sets up, builds, shows.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    cat <<'EOF'
Shows the whole deployment at work on this machine: a director, an origin, two
edges and several viewers, each in a network namespace of its own. Installs
what is missing, builds, pushes a stream, pulls it through the virtual IP
address, kills an edge half-way and brings it back.

The first run builds the programs as a release does, which takes some minutes;
later ones start in seconds. The namespaces need root: an ordinary user's run
goes on through sudo, and still builds as that user.

Usage: scripts/demo.sh [OPTIONS]

Options:
  --seconds N   how long it lasts (60)
  --viewers N   how many viewers watch from the beginning (6)
  --edges N     how many edges serve them (2)
  --input FILE  push this file (H.264/AAC), over and over, not a generated picture
  --browser     show Chromium, too: a page that plays the stream from the VIP and
                connects again by itself
  --keep        leave the cluster running at the end and say how to look around
  --json        the summary as JSON on standard output, all else on standard error
  -h, --help    show this

Exit status: 0 every viewer received video with rising timestamps throughout,
1 something was not as it should be, 2 wrong usage.
EOF
}

# A whole number between two others.
is_between() {
    case $2 in
        '' | *[!0-9]* | 0?* | ?????*) return 1 ;;
    esac
    [ "$2" -ge "$1" ] && [ "$2" -le "$3" ]
}

# Mistakes are told before anything is installed or built.
examine() {
    while [ $# -gt 0 ]; do
        option=${1%%=*}
        case $option in
            -h | --help)
                usage
                exit 0
                ;;
            --keep | --json | --browser)
                [ "$option" = "$1" ] || misuse "$option takes no value"
                [ "$option" != --browser ] || browser=--browser
                ;;
            --seconds | --viewers | --edges | --input)
                if [ "$option" = "$1" ]; then
                    [ $# -ge 2 ] || misuse "$option needs a value"
                    value=$2
                    shift
                else
                    value=${1#*=}
                fi
                examine_value "$option" "$value"
                ;;
            *) misuse "unknown argument $1" ;;
        esac
        shift
    done
}

examine_value() {
    case $1 in
        --seconds) least=20 most=3600 ;;
        --viewers) least=1 most=60 ;;
        --edges) least=2 most=8 ;;
        --input)
            if [ ! -f "$2" ] || [ ! -r "$2" ]; then misuse "cannot read the file $2"; fi
            return
            ;;
    esac
    is_between "$least" "$2" "$most" ||
        misuse "$1 needs a whole number from $least to $most, not $2"
}

# Whether cargo has built everything that the demo runs at least once.
is_built() {
    for program in $programs; do
        [ -x "$(target_dir)/release/$program" ] || return 1
    done
}

# Builds what the demo runs, with cargo's own progress where somebody sees it.
build() {
    if is_built; then
        say "bringing the release build up to date ..."
    else
        say "building the XDP program and, optimised, $programs:" \
            "about $first_build_minutes minutes the first time, seconds from then on ..."
    fi
    quiet=
    [ -t 2 ] || quiet=--quiet
    packages=
    for program in $programs; do
        packages="$packages --package $program"
    done
    # shellcheck disable=SC2086 # a word each, or none
    {
        as_builder cargo build $quiet --release --package xtask
        as_builder "$(target_dir)/release/xtask" build-ebpf
        as_builder cargo build $quiet --release $packages
    }
}

# xtask plays the demo, the others are played with.
programs="lb-user rtmp-origin rtmp-edge xtask"
# On two cores.
first_build_minutes=5

browser=
examine "$@"
become_root "$@"

# Standard output is the demo's own.
{
    # shellcheck disable=SC2086 # a word or none
    "$source_root/scripts/setup.sh" --demo-only $browser
    find_cargo
    cd "$source_root"
    build
    cd "$OLDPWD"
} >&2

exec "$(target_dir)/release/xtask" demo "$@"
