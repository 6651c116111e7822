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

Usage: sudo scripts/demo.sh [OPTIONS]

Options:
  --seconds N   how long it lasts (60)
  --viewers N   how many viewers watch from the beginning (6)
  --edges N     how many edges serve them (2)
  --input FILE  push this file (H.264/AAC), over and over, not a generated picture
  --keep        leave the cluster running at the end and say how to look around
  --json        the summary as JSON on standard output, all else on standard error
  -h, --help    show this

Exit status: 0 every viewer received video with rising timestamps throughout,
1 something was not as it should be, 2 wrong usage.
EOF
}

for argument in "$@"; do
    case $argument in
        -h | --help)
            usage
            exit 0
            ;;
    esac
done
require_root "$@"

# Standard output is the demo's own.
{
    "$source_root/scripts/setup.sh"
    find_cargo
    say "building ..."
    cd "$source_root"
    as_builder cargo xtask build-ebpf
    as_builder cargo build --quiet --workspace --bins
    cd "$OLDPWD"
} >&2

exec "$(target_dir)/debug/xtask" demo "$@"
