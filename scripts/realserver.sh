#!/bin/sh
# Makes this machine a real server of a direct-routing virtual service.
set -eu

usage() {
    cat <<'EOF'
Makes this machine accept a virtual IP address (VIP) that a director forwards
to it by direct routing, without ever answering ARP for it. A director that is
a real server itself needs it, too: while it holds the VIP, it answers ARP by
the interface on which VRRP has put it.

Usage: realserver.sh start  VIP [--persist] [--root DIR]
       realserver.sh stop   VIP [--persist] [--root DIR]
       realserver.sh status VIP

Commands:
  start   put VIP/32 on lo (label lo:0), set arp_ignore=1 and arp_announce=2 for
          all interfaces and lo, add a host route to the VIP on lo
  stop    undo that, and restore the kernel settings that `start` found
  status  say what is there; exit status 0 if everything is, 3 if not

`start` and `stop` may be repeated; what is done already is left alone.

Options:
  --persist   also survive a reboot: `start` writes a sysctl file and enables a
              systemd unit, `stop` removes them; says which files
  --root DIR  with --persist, write below DIR instead of / (for building images)
  -h, --help  show this

Examples:
  scripts/realserver.sh start 172.16.1.200 --persist
  scripts/realserver.sh status 172.16.1.200

Exit status: 0 done, 1 failed, 2 wrong usage, 3 `status` found something missing.
EOF
}

# A mistake of the caller's: said in one line, with the way out.
misuse() {
    printf 'realserver.sh: %s (see realserver.sh --help)\n' "$1" >&2
    exit 2
}

fail() {
    printf 'realserver.sh: %s\n' "$1" >&2
    exit 1
}

say() {
    printf '%s\n' "$1"
}

is_ipv4() {
    rest=$1.
    count=0
    while [ -n "$rest" ]; do
        octet=${rest%%.*}
        rest=${rest#*.}
        case $octet in
            '' | *[!0-9]* | ????* | 0?*) return 1 ;;
        esac
        [ "$octet" -le 255 ] || return 1
        count=$((count + 1))
    done
    [ "$count" -eq 4 ]
}

# Whether a host can have this address and announce it.
is_host_address() {
    case ${1%%.*} in
        0 | 127 | 22[4-9] | 2[3-5][0-9]) return 1 ;;
    esac
}

# The interface other than lo that has the address as this machine's own, if any. As /32 VRRP
# may have put it there, if this machine is a director, too, which answers ARP by that
# interface: where it is a real server of that address already, or the interface has an address
# of its own in a network that holds this one.
interface_with() {
    known=0
    [ ! -e "$state_dir/realserver-$1.vip" ] || known=1
    ip -4 -oneline address show |
        awk -v address="$1" -v known="$known" '
            # The number of the network with this prefix length that holds an address.
            function network(of, prefix, octets) {
                split(of, octets, ".")
                return int((((octets[1] * 256 + octets[2]) * 256 + octets[3]) * 256 + octets[4]) \
                    / 2 ^ (32 - prefix))
            }
            $2 == "lo" { next }
            $4 == address "/32" { as_host[$2] = 1; next }
            {
                split($4, parts, "/")
                if (parts[1] == address) own = $2
                else if (network(parts[1], parts[2]) == network(address, parts[2])) holds[$2] = 1
            }
            END {
                for (name in as_host) if (!known && !holds[name]) own = name
                if (own != "") print own
            }'
}

# The kernel settings that direct routing needs, `path value` per line.
settings() {
    cat <<'EOF'
net/ipv4/conf/all/arp_ignore 1
net/ipv4/conf/lo/arp_ignore 1
net/ipv4/conf/all/arp_announce 2
net/ipv4/conf/lo/arp_announce 2
EOF
}

has_address() {
    ip -4 -oneline address show dev lo | grep -qF " $vip/32 "
}

has_route() {
    [ -n "$(ip -4 route show "$vip/32" dev lo)" ]
}

# The file that keeps what a setting was before `start`.
saved_name() {
    printf 'realserver-%s.found' "$(printf '%s' "$1" | tr / .)"
}

# Several VIPs may share a machine: settings go back only with the last one.
other_vips() {
    for other in "$state_dir"/realserver-*.vip; do
        [ -e "$other" ] || continue
        [ "$other" = "$state_dir/realserver-$vip.vip" ] || return 0
    done
    return 1
}

start() {
    mkdir -p "$state_dir" || fail "cannot create $state_dir"
    # The settings come first: with the address there and without them, this
    # machine would answer ARP requests that are meant for the director.
    settings | while read -r path value; do
        found=$(cat "/proc/sys/$path") || fail "the kernel has no setting $path"
        saved=$state_dir/$(saved_name "$path")
        # After a reboot, sysctl.d has set it already: what was found before
        # `--persist` lies on disk.
        if [ ! -e "$saved" ]; then
            if [ -e "$kept_dir/$(saved_name "$path")" ]; then
                cp "$kept_dir/$(saved_name "$path")" "$saved"
            else
                printf '%s\n' "$found" >"$saved"
            fi
        fi
        if [ "$found" != "$value" ]; then
            printf '%s\n' "$value" >"/proc/sys/$path" || fail "cannot set $path"
            say "set $path = $value (was $found)"
        fi
    done
    : >"$state_dir/realserver-$vip.vip"
    ip link set lo up
    if ! has_address; then
        ip address add "$vip/32" dev lo label lo:0 scope host || fail "cannot add $vip to lo"
        say "added $vip/32 to lo (lo:0)"
    fi
    if ! has_route; then
        ip route replace "$vip/32" dev lo scope host || fail "cannot add a route to $vip"
        say "added the host route $vip dev lo"
    fi
    say "$vip: this machine is a real server"
}

stop() {
    if has_route; then
        ip route del "$vip/32" dev lo || fail "cannot remove the route to $vip"
        say "removed the host route $vip dev lo"
    fi
    if has_address; then
        ip address del "$vip/32" dev lo || fail "cannot remove $vip from lo"
        say "removed $vip/32 from lo"
    fi
    rm -f "$state_dir/realserver-$vip.vip"
    if ! other_vips; then
        settings | while read -r path value; do
            saved=$state_dir/$(saved_name "$path")
            [ -e "$saved" ] || continue
            found=$(cat "$saved")
            if [ "$(cat "/proc/sys/$path")" != "$found" ]; then
                printf '%s\n' "$found" >"/proc/sys/$path" || fail "cannot restore $path"
                say "restored $path = $found"
            fi
            rm -f "$saved"
        done
        rmdir "$state_dir" 2>/dev/null || true
    fi
    say "$vip: this machine is no real server"
}

status() {
    missing=0
    if has_address; then
        say "ok       $vip/32 on lo"
    else
        say "missing  $vip/32 on lo"
        missing=1
    fi
    if has_route; then
        say "ok       host route $vip dev lo"
    else
        say "missing  host route $vip dev lo"
        missing=1
    fi
    while read -r path value; do
        now=$(cat "/proc/sys/$path" 2>/dev/null || echo none)
        if [ "$now" = "$value" ]; then
            say "ok       $path = $value"
        else
            say "missing  $path = $value (is $now)"
            missing=1
        fi
    done <<EOF
$(settings)
EOF
    [ "$missing" -eq 0 ] || exit 3
}

sysctl_file() {
    printf '%s/etc/sysctl.d/60-millrace-realserver.conf' "$root"
}

unit_name() {
    printf 'millrace-realserver@%s.service' "$vip"
}

unit_file() {
    printf '%s/etc/systemd/system/%s' "$root" "$(unit_name)"
}

wanted_by() {
    printf '%s/etc/systemd/system/multi-user.target.wants/%s' "$root" "$(unit_name)"
}

installed_script=/usr/local/sbin/millrace-realserver

# The unit for any VIP that Debian's package millrace-realserver has, beside the script.
packaged_unit=/lib/systemd/system/millrace-realserver@.service

persist() {
    mkdir -p "$root/etc/sysctl.d" "$(dirname "$(wanted_by)")" ||
        fail "cannot create directories below $root/etc"
    {
        say "# Direct routing: written by $(basename "$0") start --persist."
        settings | while read -r path value; do
            say "$(printf '%s' "$path" | tr / .) = $value"
        done
    } >"$(sysctl_file)" || fail "cannot write $(sysctl_file)"
    say "wrote $(sysctl_file)"
    if [ -z "$root" ]; then
        mkdir -p "$kept_dir" || fail "cannot create $kept_dir"
        settings | while read -r path _; do
            name=$(saved_name "$path")
            [ -e "$kept_dir/$name" ] || cp "$state_dir/$name" "$kept_dir/$name" ||
                fail "cannot write $kept_dir/$name"
        done
        say "wrote $kept_dir (what the settings were before)"
    fi
    if [ -e "$root$packaged_unit" ]; then
        unit=$packaged_unit
    else
        write_unit
        unit=/etc/systemd/system/$(unit_name)
    fi
    # What `systemctl enable` does, without asking for a running systemd.
    ln -sf "$unit" "$(wanted_by)" || fail "cannot write $(wanted_by)"
    say "enabled $(unit_name)"
}

# The script and a unit that starts it, for a machine without the package.
write_unit() {
    mkdir -p "$root$(dirname "$installed_script")" ||
        fail "cannot create $root$(dirname "$installed_script")"
    if ! cmp -s "$0" "$root$installed_script"; then
        cp -- "$0" "$root$installed_script" || fail "cannot write $root$installed_script"
        chmod 755 "$root$installed_script"
        say "wrote $root$installed_script"
    fi
    cat >"$(unit_file)" <<EOF || fail "cannot write $(unit_file)"
[Unit]
Description=Virtual IP address $vip of a direct-routing real server
After=network-pre.target systemd-sysctl.service
Before=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$installed_script start $vip
ExecStop=$installed_script stop $vip

[Install]
WantedBy=multi-user.target
EOF
    say "wrote $(unit_file)"
}

forget() {
    for file in "$(wanted_by)" "$(unit_file)"; do
        if [ -e "$file" ] || [ -L "$file" ]; then
            rm -f "$file" || fail "cannot remove $file"
            say "removed $file"
        fi
    done
    for unit in "$(dirname "$(wanted_by)")"/millrace-realserver@*.service; do
        # Another VIP still needs what they share.
        [ ! -L "$unit" ] || return 0
    done
    rm -f "$root$kept_dir"/realserver-*.found
    rmdir "$root$kept_dir" 2>/dev/null || true
    for file in "$(sysctl_file)" "$root$installed_script"; do
        if [ -e "$file" ]; then
            rm -f "$file" || fail "cannot remove $file"
            say "removed $file"
        fi
    done
}

command=
vip=
persist=false
root=
state_dir=/run/millrace
kept_dir=/var/lib/millrace-realserver

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --persist) persist=true ;;
        --root)
            [ $# -ge 2 ] || misuse "--root needs a directory"
            root=${2%/}
            shift
            ;;
        --root=*) root=${1#--root=} ;;
        -*) misuse "unknown option $1" ;;
        *)
            if [ -z "$command" ]; then
                command=$1
            elif [ -z "$vip" ]; then
                vip=$1
            else
                misuse "one argument too many: $1"
            fi
            ;;
    esac
    shift
done

case $command in
    start | stop | status) ;;
    '') misuse "a command is missing: start, stop or status" ;;
    *) misuse "unknown command $command: expected start, stop or status" ;;
esac
[ -n "$vip" ] || misuse "the virtual IP address is missing"
is_ipv4 "$vip" || misuse "not an IPv4 address: $vip"
is_host_address "$vip" || misuse "$vip is no address that a director could hold"
command -v ip >/dev/null || fail "the program ip is missing (Debian's package iproute2)"
if [ -n "$root" ] && ! $persist; then
    misuse "--root only has a meaning with --persist"
fi
if [ "$command" != status ] && [ "$(id -u)" -ne 0 ]; then
    fail "needs root: run it in a root shell, or with sudo"
fi

if [ "$command" = start ] && [ -z "$root" ]; then
    interface=$(interface_with "$vip")
    [ -z "$interface" ] ||
        misuse "$vip is this machine's own address on $interface; the VIP is the director's"
fi

case $command in
    status) status ;;
    start)
        # An image that is being built has no running kernel of its own.
        [ -n "$root" ] || start
        if $persist; then persist; fi
        ;;
    stop)
        [ -n "$root" ] || stop
        if $persist; then forget; fi
        ;;
esac
