#!/bin/sh
# Makes this machine one of two boxes that are a whole cluster.
set -eu

usage() {
    cat <<'EOT'
Makes this machine one of the boxes that are a whole cluster: each is director,
origin and edge. Viewers and encoders use one virtual IP address (VIP), which
the other box takes over when this one fails.

Usage: millrace init   --vip VIP --other ADDRESS [options]   the first box
       millrace join   --vip VIP --other ADDRESS [options]   each other box
       millrace undo   [--dry-run]
       millrace status

Commands:
  init    write keepalived.conf, origin.conf and edge.conf, start the programs,
          and say what to run on the other box
  join    the same, for a box that takes the VIP when the first one fails
  undo    stop what was started, and put back the files that were there
  status  say what was written, and whether it runs

`init` and `join` may be repeated, also with other answers. What is missing is
asked for on a terminal. A file that was edited since is kept as FILE.edited.

Options:
  --vip VIP             address for viewers and encoders; held by one box at a time
  --other ADDRESS       address of the other box; may be repeated
  --interface NAME      where the boxes reach each other [the way to --other]
  --address ADDRESS     this box's own address there [the kernel's choice]
  --password TEXT       of VRRP, up to 8 characters, the same on all boxes;
                        `init` makes one up
  --router-id N         VRRP's virtual_router_id, 1 to 255 [the VIP's last part]
  --fast                take over in a third of a second, not in four: VRRP 3,
                        which has no password, and ten checks a second
  --dry-run             print what would be written and run
  --no-start            write the files only, and say what to run
  -h, --help            show this

Examples:
  millrace init --vip 10.0.0.100 --other 10.0.0.2
  millrace join --vip 10.0.0.100 --other 10.0.0.1 --password 1a2b3c4d

Exit status: 0 done, 1 failed, 2 wrong usage, 3 `status` found something missing.
EOT
}

misuse() {
    printf 'millrace: %s (see millrace --help)\n' "$1" >&2
    exit 2
}

fail() {
    printf 'millrace: %s\n' "$1" >&2
    exit 1
}

say() {
    printf '%s\n' "$1"
}

# Runs a command, or prints it.
run() {
    if $dry_run; then
        say "would run: $*"
    else
        say "run: $*"
        "$@" || fail "this failed: $*"
    fi
}

configured=/etc/millrace
files='keepalived.conf origin.conf edge.conf'
# What was there before, and what has been started: `undo` reads it.
state=/var/lib/millrace
units='rtmp-origin rtmp-edge lb-user'
# Beside the edge, which has the port that viewers use.
origin_port=19350

# Asks for what no option has given, on a terminal; $1 is the option's name.
ask() {
    [ -t 0 ] || misuse "--$1 is missing"
    printf '%s: ' "$2" >&2
    read -r answer || answer=
    [ -n "$answer" ] || misuse "--$1 is missing"
    printf '%s' "$answer"
}

# The word behind $2 in the kernel's route to $1.
route_word() {
    ip -4 -oneline route get "$1" 2>/dev/null |
        awk -v word="$2" '{ for (i = 1; i < NF; i++) if ($i == word) { print $(i + 1); exit } }'
}

complete_answers() {
    [ -n "$vip" ] || vip=$(ask vip 'virtual IP address, for viewers and encoders')
    [ -n "$others" ] || others=$(ask other 'address of the other box')
    first_other=${others%% *}
    [ -n "$interface" ] || interface=$(route_word "$first_other" dev)
    [ -n "$interface" ] || fail "no route leads to $first_other: name the interface by --interface"
    [ -n "$address" ] || address=$(route_word "$first_other" src)
    [ -n "$address" ] || fail "$interface has no address towards $first_other: name it by --address"
    ip -4 -oneline address show dev "$interface" 2>/dev/null | grep -qF " $address/" ||
        fail "$interface does not have the address $address: see ip -4 address"
    [ -n "$router_id" ] || router_id=${vip##*.}
    for other in $others; do
        [ "$other" != "$address" ] || misuse "--other $other is this box itself"
        [ "$other" != "$vip" ] || misuse "--other $other is the VIP; expected the box's own address"
    done
    [ "$vip" != "$address" ] ||
        misuse "--vip $vip is this box's own address; expected an unused one beside it"
    if ! $fast && [ -z "$password" ]; then
        # A box that has one keeps it: the other box has it, too.
        password=$(sed -n 's/^ *auth_pass //p' "$configured/keepalived.conf" 2>/dev/null || true)
        if [ "$command" = init ] && { [ -z "$password" ] || ! is_set_up; }; then
            password=$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
        elif ! is_set_up; then
            password=$(ask password "password of the first box")
        fi
    fi
    case $password in
        *[!A-Za-z0-9._-]* | ?????????*)
            misuse "--password: up to 8 letters, digits, dots and dashes"
            ;;
    esac
}

is_set_up() {
    [ -d "$state/before" ]
}

# All boxes in one order, so that all directors spread connections alike.
boxes() {
    for box in $address $others; do
        say "$box"
    done | sort -t . -k 1,1n -k 2,2n -k 3,3n -k 4,4n -u
}

write_keepalived() {
    # As high as they may be: the lower, the longer a box waits before it leads (RFC 5798 6.1,
    # Skew_Time).
    case $command in
        init) priority=254 ;;
        *) priority=250 ;;
    esac
    if $fast; then
        delay=0.1 timeout=0.1 pause=0.05
    else
        delay=0.5 timeout=0.5 pause=0.2
    fi
    cat <<EOT
# Written by millrace $command; this box is $address.
vrrp_instance MILLRACE {
    # BACKUP on all boxes: one that comes back leaves the address where it is.
    state BACKUP
    nopreempt
    interface $interface
    virtual_router_id $router_id
    priority $priority
EOT
    if $fast; then
        cat <<EOT
    version 3
    advert_int 0.1
EOT
    else
        cat <<EOT
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass $password
    }
EOT
    fi
    cat <<EOT
    virtual_ipaddress {
        $vip
    }
}

virtual_server $vip 1935 {
    # By hash of address and port: another director sends connections the same way.
    lb_algo mh
    mh-port
    lb_kind DR
    protocol TCP
    delay_loop $delay
EOT
    for box in $(boxes); do
        cat <<EOT

    real_server $box 1935 {
        weight 1
        TCP_CHECK {
            connect_timeout $timeout
            retry 1
            delay_before_retry $pause
        }
    }
EOT
    done
    say '}'
}

write_origin() {
    cat <<EOT
# Written by millrace $command: the origin beside the edge of this box.
listen              $address:$origin_port;
max_connections     1000;
pid                 objs/origin.pid;
srs_log_file        ./objs/origin.log;
http_api {
    enabled         on;
    listen          127.0.0.1:1986;
}
vhost __defaultVhost__ {
    min_latency     on;
    tcp_nodelay     on;
}
EOT
}

write_edge() {
    # This box's own origin first: encoders that arrive here stay here.
    origins=$address:$origin_port
    for other in $others; do
        origins="$origins $other:$origin_port"
    done
    silence=3000
    ! $fast || silence=1000
    cat <<EOT
# Written by millrace $command: viewers and encoders connect here.
listen              1935;
max_connections     10000;
pid                 objs/edge.pid;
srs_log_file        ./objs/edge.log;
http_api {
    enabled         on;
    listen          127.0.0.1:1985;
}
vhost __defaultVhost__ {
    mode            remote;
    origin          $origins;
    # A box that has lost power says nothing.
    origin_connect_timeout  500;
    origin_read_timeout     $silence;
}
EOT
}

# Writes the three files below $1, and asks the programs about them.
compose() {
    write_keepalived >"$1/keepalived.conf"
    write_origin >"$1/origin.conf"
    write_edge >"$1/edge.conf"
    chmod 640 "$1/keepalived.conf"
    lb-user check -c "$1/keepalived.conf" >/dev/null 2>"$1/said" ||
        fail "these answers make no configuration: $(cat "$1/said")"
    for role in origin edge; do
        "rtmp-$role" -t -c "$1/$role.conf" >"$1/said" 2>&1 ||
            fail "these answers make no configuration: $(cat "$1/said")"
    done
    rm "$1/said"
}

# Keeps what was there before the first time, file by file.
keep_former() {
    ! is_set_up || return 0
    mkdir -p "$state/new" "$state/written" || fail "cannot create $state"
    for file in $files; do
        [ -e "$configured/$file" ] || continue
        { cp -p "$configured/$file" "$state/new/$file" &&
            cp -p "$configured/$file" "$state/written/$file"; } ||
            fail "cannot copy $configured/$file"
    done
    for unit in $units; do
        ! systemctl --quiet is-enabled "$unit" 2>/dev/null || : >"$state/new/$unit.enabled"
    done
    mv "$state/new" "$state/before"
    say "kept the former files in $state/before"
}

# Keeps a file that was edited since it was written here.
keep_edited() {
    [ -e "$configured/$1" ] || return 0
    ! cmp -s "$state/written/$1" "$configured/$1" || return 0
    if $dry_run; then
        say "would keep the edited $configured/$1 as $configured/$1.edited"
    else
        cp -p --backup=numbered "$configured/$1" "$configured/$1.edited" ||
            fail "cannot copy $configured/$1"
        say "kept the edited $configured/$1 as $configured/$1.edited"
    fi
}

install_files() {
    $dry_run || mkdir -p "$configured" "$state/written" || fail "cannot create $configured"
    changed=
    for file in $files; do
        if cmp -s "$1/$file" "$configured/$file"; then
            say "unchanged $configured/$file"
            $dry_run || cp -p "$1/$file" "$state/written/$file" || fail "cannot write $state"
            continue
        fi
        ! is_set_up || keep_edited "$file"
        if $dry_run; then
            say "would write $configured/$file:"
            sed 's/^/    /' "$1/$file"
        else
            # At once, whoever reads it; and whoever may, still may.
            { cp -p "$1/$file" "$configured/$file.new" &&
                { [ ! -e "$configured/$file" ] || {
                    chown --reference="$configured/$file" "$configured/$file.new" &&
                        chmod --reference="$configured/$file" "$configured/$file.new"
                }; } &&
                cp -p "$1/$file" "$state/written/$file" &&
                mv "$configured/$file.new" "$configured/$file"; } ||
                fail "cannot write $configured/$file"
            say "wrote $configured/$file"
        fi
        changed="$changed $file"
    done
}

has_changed() {
    case "$changed " in
        *" $1 "*) return 0 ;;
    esac
    return 1
}

# The VIPs that this box has, or is to have, as a real server: the last one is the present one.
vips() {
    cat "$state/vip" 2>/dev/null || true
}

other_vips() {
    vips | grep -vxF "$vip" || true
}

# Servers are restarted where their file has changed, since some directives need it; the
# director takes its file without a stop.
start_units() {
    for former_vip in $(other_vips); do
        run millrace-realserver stop "$former_vip" --persist
    done
    $dry_run || say "$vip" >"$state/vip"
    run millrace-realserver start "$vip" --persist
    for unit in $units; do
        if ! systemctl --quiet is-active "$unit" 2>/dev/null; then
            run systemctl enable --now "$unit"
        elif [ "$unit" = lb-user ] && has_changed keepalived.conf; then
            run systemctl reload lb-user
        elif has_changed "${unit#rtmp-}.conf"; then
            run systemctl restart "$unit"
        fi
    done
}

set_up() {
    for program in lb-user rtmp-origin rtmp-edge millrace-realserver ip; do
        command -v "$program" >/dev/null || fail "the program $program is missing: apt install \
millrace-lb millrace-origin millrace-edge millrace-realserver iproute2"
    done
    complete_answers
    # The servers read their files as another user.
    umask 022
    composed=$(mktemp -d)
    trap 'rm -rf "$composed"' EXIT
    compose "$composed"
    $dry_run || keep_former
    install_files "$composed"
    if $start; then
        start_units
    else
        stop=
        for former_vip in $(other_vips); do
            stop="${stop}millrace-realserver stop $former_vip --persist && "
        done
        if ! $dry_run; then
            # `undo` takes them all back.
            { other_vips && say "$vip"; } >"$state/vip.new" && mv "$state/vip.new" "$state/vip"
        fi
        say "Then run: ${stop}millrace-realserver start $vip --persist &&\
 systemctl enable --now $units"
    fi
    $dry_run || next_steps
}

next_steps() {
    say ''
    say "This box is $address; encoders and viewers use rtmp://$vip/live/STREAM."
    say 'See what runs here: millrace status'
    [ "$command" = init ] || return 0
    extra=
    if $fast; then extra=' --fast'; else extra=" --password $password"; fi
    for other in $others; do
        rest=" --other $address"
        for third in $others; do
            [ "$third" = "$other" ] || rest="$rest --other $third"
        done
        say "On $other: millrace join --vip $vip$rest$extra"
    done
}

undo() {
    is_set_up || fail "there is nothing to undo: $state/before is missing"
    for unit in lb-user rtmp-edge rtmp-origin; do
        if [ -e "$state/before/$unit.enabled" ]; then
            run systemctl stop "$unit"
        else
            run systemctl disable --now "$unit"
        fi
    done
    for vip in $(vips); do
        run millrace-realserver stop "$vip" --persist
    done
    for file in $files; do
        keep_edited "$file"
        if [ -e "$state/before/$file" ]; then
            run cp -p "$state/before/$file" "$configured/$file"
        else
            run rm -f "$configured/$file"
        fi
    done
    run rm -rf "$state/before" "$state/written" "$state/vip"
    say 'Units that were enabled before are stopped: start them when you like.'
}

status() {
    missing=0
    is_set_up || {
        say 'missing  this machine is no box: millrace init, or millrace join'
        exit 3
    }
    vip=$(vips | tail -n 1)
    for file in $files; do
        if grep -q '^# Written by millrace' "$configured/$file" 2>/dev/null; then
            say "ok       $configured/$file"
        else
            say "missing  $configured/$file is not what millrace has written"
            missing=1
        fi
    done
    if millrace-realserver status "$vip" >/dev/null 2>&1; then
        say "ok       this box accepts $vip"
    else
        say "missing  this box does not accept $vip: millrace-realserver status $vip"
        missing=1
    fi
    for unit in $units; do
        if systemctl --quiet is-active "$unit" 2>/dev/null; then
            say "ok       $unit runs"
        else
            say "missing  $unit does not run: systemctl status $unit"
            missing=1
        fi
    done
    [ "$missing" -eq 0 ] || exit 3
    lb-user list
}

command=
vip=
others=
interface=
address=
password=
router_id=
fast=false
dry_run=false
start=true

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --vip | --other | --interface | --address | --password | --router-id)
            [ $# -ge 2 ] || misuse "$1 needs a value"
            case $1 in
                --vip) vip=$2 ;;
                --other) others="${others:+$others }$2" ;;
                --interface) interface=$2 ;;
                --address) address=$2 ;;
                --password) password=$2 ;;
                --router-id) router_id=$2 ;;
            esac
            shift
            ;;
        --fast) fast=true ;;
        --dry-run) dry_run=true ;;
        --no-start) start=false ;;
        -*) misuse "unknown option $1" ;;
        *)
            [ -z "$command" ] || misuse "one argument too many: $1"
            command=$1
            ;;
    esac
    shift
done

case $command in
    init | join | undo) ;;
    status)
        status
        exit 0
        ;;
    '') misuse 'a command is missing: init, join, undo or status' ;;
    *) misuse "unknown command $command: expected init, join, undo or status" ;;
esac
if ! $dry_run && [ "$(id -u)" -ne 0 ]; then
    fail 'needs root: run it in a root shell, or with sudo'
fi
case $command in
    undo) undo ;;
    *) set_up ;;
esac
