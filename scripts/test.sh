#!/bin/sh
# Every test of the project. The last line says how many passed and failed.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    cat <<'EOF'
Runs every test of the project: format, spelling, lints, the code's own
documentation, the build of the XDP program, unit tests, packet tests in this
kernel and in those that Debian 12 ships (in qemu), end-to-end tests in network
namespaces with real ffmpeg, and five minutes of a cluster on which everything
happens at once. Installs what is missing first. The namespaces and
the kernel's tests need root: an ordinary user's run goes on through sudo, and
still builds as that user.

Usage: scripts/test.sh [--quick]

Options:
  --quick     leave out the end-to-end tests, those five minutes and Debian's
              kernels
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

# How many tests run at once: most wait more than they compute.
test_threads=$(($(nproc) * 2))
[ "$test_threads" -le 8 ] || test_threads=8

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
        as_builder cargo fmt --manifest-path lb-ebpf/Cargo.toml --check &&
        as_builder cargo fmt --manifest-path fuzz/Cargo.toml --check
}

# lb-ebpf is looked at for this machine's processor, since rustup's toolchain has
# no `core` for the kernel's; inline assembly for that one is an unstable feature.
check_lints() {
    as_builder cargo clippy --quiet --locked --workspace --all-targets -- -D warnings &&
        as_builder env RUSTC_BOOTSTRAP=1 cargo clippy --quiet --locked --release \
            --manifest-path lb-ebpf/Cargo.toml -- -D warnings &&
        as_builder cargo clippy --quiet --locked --manifest-path fuzz/Cargo.toml \
            --all-targets -- -D warnings
}

check_documentation() {
    as_builder env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps
}

# Builds the tests and the programs that they drive, and notes where they are: the
# tests run as root, who may have no cargo.
build_tests() {
    as_builder cargo build --quiet --locked --workspace --bins --examples &&
        as_builder cargo test --quiet --locked --workspace --no-run &&
        as_builder cargo metadata --locked --format-version 1 >"$work/cargo-metadata.json" &&
        as_builder cargo nextest list --cargo-quiet --locked --workspace \
            --list-type binaries-only --message-format json >"$work/binaries.json"
}

# Packs the programs that were built, for the tests that install them.
pack() {
    programs=$(target_dir)/debug
    as_builder cargo xtask dist --quick --programs "$programs" --out "$programs/packages" \
        >"$work/dist.log" 2>&1 || {
        sed 's/^/   /' "$work/dist.log"
        return 1
    }
}

# Runs the tests that nextest's filter selects, and counts them. Those that are
# marked as ignored need root, which this script has.
run_tests() {
    report=$(target_dir)/nextest/default/junit.xml
    rm -f "$report"
    status=0
    env PATH="$cargo_bin:$PATH" cargo-nextest nextest run --hide-progress-bar \
        --cargo-metadata "$work/cargo-metadata.json" \
        --binaries-metadata "$work/binaries.json" \
        --run-ignored all --test-threads "$test_threads" --filterset "$1" </dev/null || status=$?
    # <testsuites name="…" tests="N" skipped="N" failures="N" errors="N" …>
    totals=$(sed -n 's/^<testsuites .* tests="\([0-9]*\)".* failures="\([0-9]*\)" errors="\([0-9]*\)".*/\1 \2 \3/p' \
        "$report" 2>/dev/null || true)
    if [ -z "$totals" ]; then
        # It ended before it could say anything.
        failed=$((failed + 1))
        return
    fi
    # What a test says that finds no systemd, no overlayfs, no group of memory.
    grep -o 'SKIPPED: [^<]*' "$report" >"$work/skips" || true
    sort "$work/skips" | uniq -c | sed 's/^/   /'
    skips=$(wc -l <"$work/skips")
    read -r tests failures errors <<EOF
$totals
EOF
    passed=$((passed + tests - failures - errors - skips))
    failed=$((failed + failures + errors))
    skipped=$((skipped + skips))
    if [ "$status" -ne 0 ] && [ $((failures + errors)) -eq 0 ]; then
        failed=$((failed + 1))
    fi
}

# Adds what test programs that nextest did not run have written to the counts.
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

begin_section "setup"
"$source_root/scripts/setup.sh"
find_cargo
end_section

check "format" check_format || true
check "shell scripts" shellcheck --external-sources scripts/*.sh .ci/run || true
check "spelling" "$(target_dir)/tools/bin/typos" || true
require "XDP program" as_builder cargo xtask build-ebpf
check "lints" check_lints || true
check "licences of dependencies" as_builder cargo xtask dependencies || true
check "documentation of the code" check_documentation || true
require "build" build_tests
require "packages" pack

begin_section "unit tests, and packet tests in the kernel"
run_tests 'not binary(e2e)'
end_section

begin_section "examples in the documentation"
as_builder cargo test --quiet --locked --workspace --doc >"$work/doc.log" 2>&1 ||
    sed 's/^/   /' "$work/doc.log"
count "$work/doc.log"
end_section

if $quick; then
    say "the end-to-end tests, the soak and Debian's kernels were left out"
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

    begin_section "end to end, in network namespaces"
    run_tests 'binary(e2e)'
    end_section

    check "everything at once, for five minutes" \
        "$(target_dir)/debug/xtask" soak --minutes 5 --seed 1 || true
fi

summary
[ "$failed" -eq 0 ]
