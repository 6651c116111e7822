#!/bin/sh
# Installs what building, testing and showing Millrace needs on Debian 12.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    cat <<'EOF'
Installs what building, testing and showing Millrace needs on Debian 12 beside
rustup's stable toolchain. What is there already is left alone, so that this
may be run again at any time; with nothing missing it takes a second. Where it
has to install and is not run by root, it runs itself again through sudo.

Usage: scripts/setup.sh [--build-only | --demo-only] [--browser] [--dry-run]

Options:
  --build-only  only what building the programs needs
  --demo-only   only what building them and the demo need
  --browser     with --demo-only: what the demo needs to show a browser, too
  --dry-run     say what is missing and change nothing; exit status 1 if
                anything is
  -h, --help    show this

What it may install:
  with apt        a C compiler and linker; debhelper; ffmpeg, iproute2 and the servers that
                  the tests compare with; chromium and python3, for tests and
                  demo with a browser; where no Rust toolchain carries the source of
                  `core`, Debian's rustc-web, for the XDP program;
                  for the tests on Debian's own kernels qemu and busybox (17 MB
                  to download), for those of metrics prometheus (23 MB), each
                  left out where that would remove something
  with rustup     rustfmt and clippy
  with pip        typos, into a virtual environment within the build's folder
  with cargo      bpf-linker and cargo-nextest, into the cargo of the user behind
                  sudo
No service is started or enabled by it.
EOF
}

purpose=tests
browser=false
dry_run=false
for argument in "$@"; do
    case $argument in
        -h | --help)
            usage
            exit 0
            ;;
        --build-only) purpose=build ;;
        --demo-only) purpose=demo ;;
        --browser) browser=true ;;
        --dry-run) dry_run=true ;;
        *) misuse "unknown argument $argument" ;;
    esac
done

[ "$purpose" != tests ] || browser=true

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Whether a toolchain of rustup's carries the source that `-Z build-std` needs.
rustup_carries_core() {
    as_builder rustup toolchain list 2>/dev/null | cut -d' ' -f1 | while read -r toolchain; do
        sysroot=$(as_builder rustc "+$toolchain" --print sysroot 2>/dev/null) || continue
        if [ -e "$sysroot/lib/rustlib/src/rust/library/core/Cargo.toml" ]; then
            say "$toolchain"
        fi
    done | grep -q .
}

has_linker() {
    as_builder bpf-linker --version >/dev/null 2>&1
}

# The LLVM that Debian's rustc-web is made with: the linker must not be older.
llvm_version() {
    version=$(apt-cache depends rustc-web 2>/dev/null | sed -n 's/.*libllvm\([0-9][0-9]*\).*/\1/p')
    say "${version:-22}"
}

# Prints the packages that are wanted, one per line.
wanted_packages() {
    say gcc
    say libc6-dev
    if ! rustup_carries_core; then
        printf '%s\n' rustc-web cargo-web rust-web-src
    fi
    if ! has_linker; then
        say "llvm-$llvm-dev"
    fi
    [ "$purpose" = build ] || printf '%s\n' ffmpeg iproute2
    # Packs the programs (cargo xtask dist).
    [ "$purpose" = demo ] || say debhelper
    if $browser; then
        printf '%s\n' chromium python3
    fi
    [ "$purpose" != tests ] || printf '%s\n' \
        bird2 curl dnsmasq-base etcd-client etcd-server ethtool fish g++ \
        gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-bad gstreamer1.0-plugins-base \
        gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly gstreamer1.0-tools iputils-ping \
        keepalived libnginx-mod-rtmp lintian mpv nftables nginx openssl procps python3-gi \
        python3-venv rtmpdump shellcheck sudo systemd tcpdump zsh
}

# What the tests on Debian's own kernels and those of metrics need, which are
# skipped without.
optional_packages() {
    [ "$purpose" = tests ] || return 0
    # Either busybox will do, and the two cannot stand beside each other.
    command -v busybox >/dev/null || say busybox-static
    printf '%s\n' prometheus qemu-system-x86
}

# Of the packages whose names come in, those that are not there.
missing_of() {
    while read -r package; do
        is_installed "$package" || printf '%s ' "$package"
    done
}

missing_packages() {
    wanted_packages | missing_of
}

# Updates the package lists, once.
update_lists() {
    ! $lists_are_new || return 0
    lists_are_new=true
    apt-get -o DPkg::Lock::Timeout=300 -qq update ||
        say "the package lists could not all be refreshed; trying with what is there"
}

# Keeps packages from starting their services while they are installed: the
# tests start what they need themselves, in namespaces. Status 1 if they could
# not be installed, with what apt-get said in $apt_log.
install_packages() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy" "$apt_log"' EXIT
    fi
    services=
    for service in nginx keepalived prometheus; do
        case " $* " in
            *" $service "*) services="$services $service" ;;
        esac
    done
    # The packages of these are called otherwise than their services.
    case " $* " in
        *" etcd-server "*) services="$services etcd" ;;
    esac
    case " $* " in
        *" bird2 "*) services="$services bird" ;;
    esac
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 -qq -o Dpkg::Use-Pty=0 --yes \
        --no-install-recommends --no-remove install "$@" >"$apt_log" 2>&1 || return 1
    # Nor at the next boot: they were not asked for as services.
    for service in $services; do
        if command -v systemctl >/dev/null; then
            systemctl disable --quiet "$service" 2>/dev/null || true
        fi
    done
}

find_cargo
apt_log=$(mktemp)
trap 'rm -f "$apt_log"' EXIT
trap 'exit 130' INT TERM

if ! command -v apt-get >/dev/null; then
    fail "this script knows Debian's apt only. Elsewhere install by hand what --help lists"
fi

done_something=false
lists_are_new=false

llvm=$(llvm_version)
missing=$(missing_packages)
if [ -n "$missing" ]; then
    say "missing packages: $missing"
    if $dry_run; then
        done_something=true
    else
        become_root "$@"
        update_lists
        # Which packages they are may only be known now.
        llvm=$(llvm_version)
        missing=$(missing_packages)
        say "installing them with apt-get ..."
        # shellcheck disable=SC2086 # one word per package
        install_packages $missing || {
            cat "$apt_log" >&2
            fail "apt-get could not install: $missing"
        }
        done_something=true
    fi
fi

missing=$(optional_packages | missing_of)
if [ -n "$missing" ]; then
    say "missing packages, without which some tests are skipped: $missing"
    if ! $dry_run; then
        become_root "$@"
        update_lists
        say "installing them with apt-get ..."
        for package in $missing; do
            if install_packages "$package"; then
                done_something=true
            else
                sed 's/^/   /' "$apt_log"
                say "$package is left out: apt-get could not install it beside what is there"
            fi
        done
    fi
fi

for component in rustfmt clippy; do
    case $component in
        rustfmt) probe=fmt ;;
        *) probe=$component ;;
    esac
    if [ "$purpose" = tests ] && ! as_builder cargo "$probe" --version >/dev/null 2>&1; then
        say "missing: $component for rustup's toolchain"
        $dry_run || as_builder rustup --quiet component add "$component" ||
            fail "rustup could not add $component"
        done_something=true
    fi
done

if ! has_linker; then
    say "missing: bpf-linker, which links the XDP program"
    if ! $dry_run; then
        say "building it with cargo, for $builder (about a minute) ..."
        as_builder env LLVM_PREFIX="/usr/lib/llvm-$llvm" cargo install --quiet bpf-linker \
            --version '^0.13' --locked --no-default-features --features "llvm-$llvm" ||
            fail "cargo could not install bpf-linker"
    fi
    done_something=true
fi

# PyPI has it built, which spares compiling it.
typos=$(target_dir)/tools/bin/typos
if [ "$purpose" = tests ] && [ ! -x "$typos" ]; then
    say "missing: typos, which looks for misspelt words"
    if ! $dry_run; then
        tools=$(target_dir)/tools
        as_builder python3 -m venv "$tools" || fail "python3 could not make $tools"
        as_builder "$tools/bin/pip" install --quiet --disable-pip-version-check 'typos==1.52.*' ||
            fail "pip could not install typos"
    fi
    done_something=true
fi

if [ "$purpose" = tests ] && ! as_builder cargo nextest --version >/dev/null 2>&1; then
    say "missing: cargo-nextest, which runs the tests"
    if ! $dry_run; then
        say "building it with cargo, for $builder (about five minutes) ..."
        as_builder cargo install --quiet cargo-nextest --version '^0.9' --locked ||
            fail "cargo could not install cargo-nextest"
    fi
    done_something=true
fi

if ! $done_something; then
    say "nothing is missing"
elif $dry_run; then
    exit 1
else
    say "everything is there now"
fi
