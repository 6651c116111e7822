#!/bin/sh
# Every test of the project. The last line says how many passed and failed.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    cat <<'EOF'
Runs every test of the project: format, lints, the build of the XDP program,
unit tests, packet tests in this kernel and in those that Debian 12 ships (in
qemu), end-to-end tests in network namespaces with real ffmpeg. Installs what is
missing first. The namespaces and the kernel's tests need root: an ordinary
user's run goes on through sudo, and still builds as that user.

Usage: scripts/test.sh [--quick]

Options:
  --quick     leave out the end-to-end tests and Debian's kernels
  -h, --help  show this

The last line is `N passed, N failed`, with `, N skipped` where there are any.
Exit status: 0 if nothing failed.
EOF
}

quick=false
for argument in "$@"; do
    case $argument in
        -h | --help)
            usage
            exit 0
            ;;
        --quick) quick=true ;;
        *) misuse "unknown argument $argument" ;;
    esac
done
become_root "$@"
cd "$source_root"

work=$(mktemp -d "${TMPDIR:-/tmp}/millrace-test.XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

passed=0
failed=0
skipped=0
began=$(date +%s)

# How many end-to-end tests run at once: they wait more than they compute.
e2e_threads=$(($(nproc) * 2))
[ "$e2e_threads" -le 8 ] || e2e_threads=8

begin_section() {
    section=$1
    section_began=$(date +%s)
    printf '\n%s== %s%s\n' "$bold" "$section" "$plain"
}

end_section() {
    say "   ($(($(date +%s) - section_began)) s)"
}

summary() {
    printf '\n%s s in all\n' "$(($(date +%s) - began))"
    line="$passed passed, $failed failed"
    [ "$skipped" -eq 0 ] || line="$line, $skipped skipped"
    say "$line"
}

# A check that is one thing: it counts as one test.
check() {
    begin_section "$1"
    shift
    if "$@"; then
        passed=$((passed + 1))
        end_section
    else
        failed=$((failed + 1))
        printf '%s   failed: %s%s\n' "$red" "$section" "$plain"
        return 1
    fi
}

# Without this there is nothing to test.
require() {
    check "$@" || {
        summary
        exit 1
    }
}

check_format() {
    as_builder cargo fmt --all --check &&
        as_builder cargo fmt --manifest-path lb-ebpf/Cargo.toml --check
}

build_tests() {
    as_builder cargo build --quiet --workspace --bins --examples || return 1
    if ! as_builder cargo test --quiet --workspace --no-run --message-format=json \
        >"$work/artifacts.json"; then
        # The compiler's own words are within the JSON.
        as_builder cargo test --quiet --workspace --no-run
        return 1
    fi
    # Each test program, after the directory of its package. The programs that
    # the tests drive are among the artifacts too, built from a target that is
    # tested, but not with the profile that makes a test of it.
    sed -n 's|.*"manifest_path":"\([^"]*\)/Cargo\.toml".*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*|\1 \2|p' \
        "$work/artifacts.json" >"$work/programs"
    [ -s "$work/programs" ]
}

# Adds what a test runner has written to the counts.
count() {
    results=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored.*/\1 \2 \3/p' \
        "$1")
    skips=$(grep -c '^SKIPPED' "$1" || true)
    if [ -z "$results" ]; then
        # It ended before it could say anything.
        failed=$((failed + 1))
        return
    fi
    while read -r p f i; do
        passed=$((passed + p))
        failed=$((failed + f))
        skipped=$((skipped + i))
    done <<EOF
$results
EOF
    passed=$((passed - skips))
    skipped=$((skipped + skips))
}

# Runs one test program in its package's directory; silent unless it fails.
run_quietly() {
    directory=$1
    program=$2
    name=$(basename "$program" | sed 's/-[0-9a-f]*$//')
    log=$work/$(basename "$program").log
    status=0
    (cd "$directory" && "$program" --quiet) >"$log" 2>&1 || status=$?
    result=$(grep '^test result' "$log" | tail -n 1 || true)
    if [ "$status" -eq 0 ]; then
        say "   $(basename "$directory") $name: ${result#test result: }"
        grep '^SKIPPED' "$log" | sort | uniq -c | sed 's/^/   /' || true
    else
        sed 's/^/   /' "$log"
        printf '%s   failed: %s %s (status %s)%s\n' \
            "$red" "$(basename "$directory")" "$name" "$status" "$plain"
    fi
    count "$log"
}

begin_section "setup"
"$source_root/scripts/setup.sh"
find_cargo
end_section

check "format" check_format || true
check "shell scripts" shellcheck --external-sources scripts/*.sh .ci/run || true
require "XDP program" as_builder cargo xtask build-ebpf
check "lints" as_builder cargo clippy --quiet --workspace --all-targets -- -D warnings || true
require "build" build_tests

begin_section "unit tests, and packet tests in the kernel"
while read -r directory program; do
    case $(basename "$program") in
        e2e-*) ;;
        *) run_quietly "$directory" "$program" </dev/null ;;
    esac
done <"$work/programs"
end_section

begin_section "examples in the documentation"
as_builder cargo test --quiet --workspace --doc >"$work/doc.log" 2>&1 || sed 's/^/   /' "$work/doc.log"
count "$work/doc.log"
end_section

if $quick; then
    say "the end-to-end tests and Debian's kernels were left out"
else
    begin_section "packet tests in Debian's kernels, in qemu"
    {
        as_builder cargo xtask test-kernels </dev/null 2>&1 || : >"$work/kernels-failed"
    } | tee "$work/kernels.log"
    # A kernel that was left out has no result to take its line from.
    skipped=$((skipped + $(grep -c '^SKIPPED: Linux ' "$work/kernels.log" || true)))
    sed '/^SKIPPED: Linux /d' "$work/kernels.log" >"$work/kernels-tried.log"
    failed_before=$failed
    [ ! -s "$work/kernels-tried.log" ] || count "$work/kernels-tried.log"
    # Nor has one that did not come as far as its tests.
    if [ -e "$work/kernels-failed" ] && [ "$failed" -eq "$failed_before" ]; then
        failed=$((failed + 1))
    fi
    end_section

    while read -r directory program; do
        case $(basename "$program") in
            e2e-*) ;;
            *) continue ;;
        esac
        begin_section "end to end, in network namespaces"
        # Shown while they run: they take some minutes.
        (cd "$directory" && "$program" --test-threads "$e2e_threads") </dev/null 2>&1 |
            tee "$work/e2e.log"
        count "$work/e2e.log"
        end_section
    done <"$work/programs"
fi

summary
[ "$failed" -eq 0 ]
