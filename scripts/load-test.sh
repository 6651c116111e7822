#!/bin/sh
# Many real viewers (ffmpeg) of one stream, and whether any of them starved.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    cat <<'EOF'
Pulls a stream with many ffmpeg viewers at once for a while, then says how they
fared. Nothing is decoded, so that one machine can hold some hundreds; beyond
that, use rtmp-load.

Usage: load-test.sh [OPTIONS] URL

Options:
  -n, --viewers N   how many viewers (10)
  -t, --seconds T   how long, counted from the first viewer's start (30)
  -r, --ramp N      how many viewers to start each second (20)
      --stall S     a viewer without a new frame for S seconds has starved (5)
  -h, --help        show this

Example:
  scripts/load-test.sh -n 50 -t 60 rtmp://172.16.1.200/live/livestream

The table:
  started         viewers that were started
  alive at end    those that still ran when the time was over
  bytes, frames   what all of them received (media without protocol, video frames)
  lowest, median  kilobits per second of media, over each viewer's own time
  errors          viewers that ended by themselves, with their last words

Exit status: 0 every viewer received video to the end; 1 some viewer starved
(ended early, received nothing, or stalled); 2 wrong usage.
EOF
}

is_count() {
    case $1 in
        '' | *[!0-9]* | 0* | ???????*) return 1 ;;
    esac
}

viewers=10
seconds=30
ramp=20
stall=5
url=

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        -n | --viewers | -t | --seconds | -r | --ramp | --stall)
            [ $# -ge 2 ] || misuse "$1 needs a number"
            is_count "$2" || misuse "$1 needs a whole number above 0, not $2"
            case $1 in
                -n | --viewers) viewers=$2 ;;
                -t | --seconds) seconds=$2 ;;
                -r | --ramp) ramp=$2 ;;
                --stall) stall=$2 ;;
            esac
            shift
            ;;
        -*) misuse "unknown option $1" ;;
        *)
            [ -z "$url" ] || misuse "one argument too many: $1"
            url=$1
            ;;
    esac
    shift
done
[ -n "$url" ] || misuse "the URL is missing"
case $url in
    rtmp://?*) ;;
    *) misuse "not an RTMP URL: $url (expected rtmp://host/app/stream)" ;;
esac
command -v ffmpeg >/dev/null || fail "ffmpeg is missing (Debian's package ffmpeg)"

work=$(mktemp -d "${TMPDIR:-/tmp}/millrace-load.XXXXXX")
pids=
cleanup() {
    # shellcheck disable=SC2086 # one word per process
    [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

now_ms() {
    date +%s%3N
}

start_viewer() {
    # A viewer whose server vanishes silently would wait for ever.
    ffmpeg -nostdin -hide_banner -loglevel info -nostats -rw_timeout 15000000 \
        -progress "$work/$1.progress" -stats_period 1 \
        -i "$url" -map 0 -c copy -f null - >/dev/null 2>"$work/$1.log" &
    pids="$pids $!"
    printf '%s %s\n' "$!" "$(now_ms)" >"$work/$1.pid"
}

# Reads every viewer's latest progress. Keeps for each of them when its frame
# counter last moved and its longest pause, in the file `state`; prints the sum
# of frames and the number of viewers that have any.
look() {
    touch "$work/state"
    tail -v -n 14 "$work"/*.progress 2>/dev/null | awk -v now="$(now_ms)" -v state="$work/state" '
        BEGIN {
            while ((getline line <state) > 0) {
                split(line, f, " ")
                frames[f[1]] = f[2]; moved[f[1]] = f[3]; pause[f[1]] = f[4]
            }
            close(state)
        }
        /^==> / { n = split($2, path, "/"); id = path[n]; sub(/\.progress$/, "", id) }
        /^frame=/ { sub(/^frame= */, ""); latest[id] = $0 + 0 }
        END {
            for (id in latest) {
                if (latest[id] > frames[id] + 0) {
                    # The wait for the first frame is a pause of its own kind.
                    if (frames[id] > 0 && now - moved[id] > pause[id]) pause[id] = now - moved[id]
                    frames[id] = latest[id]; moved[id] = now
                }
            }
            for (id in frames) {
                printf "%s %.0f %.0f %.0f\n", id, frames[id], moved[id], pause[id] >state
                sum += frames[id]; watching += frames[id] > 0
            }
            printf "%.0f %d\n", sum, watching
        }'
}

count_alive() {
    alive=0
    for pid in $pids; do
        if kill -0 "$pid" 2>/dev/null; then alive=$((alive + 1)); fi
    done
}

# One line that is rewritten on a terminal, and written now and then elsewhere.
progress() {
    line="$elapsed/$seconds s: $started started, $alive alive, $watching watching, $frames frames"
    if [ -t 1 ]; then
        printf '\r\033[K%s' "$line"
    elif [ $((elapsed % 10)) -eq 0 ] || [ "$elapsed" -ge "$seconds" ]; then
        say "$line"
    fi
}

say "$viewers viewers of $url for $seconds s"
begin=$(now_ms)
started=0
elapsed=0
while [ "$elapsed" -lt "$seconds" ]; do
    target=$(((elapsed + 1) * ramp))
    while [ "$started" -lt "$viewers" ] && [ "$started" -lt "$target" ]; do
        started=$((started + 1))
        start_viewer "$started"
    done
    sleep 1
    elapsed=$((($(now_ms) - begin) / 1000))
    read -r frames watching <<EOF
$(look)
EOF
    count_alive
    progress
done
if [ -t 1 ]; then printf '\n'; fi

# Who is alive now has watched to the end; asked to end, ffmpeg sums up.
end=$(now_ms)
: >"$work/alive"
for id in $(seq 1 "$started"); do
    read -r pid _ <"$work/$id.pid"
    if kill -INT "$pid" 2>/dev/null; then say "$id" >>"$work/alive"; fi
done
for pid in $pids; do
    wait "$pid" || true
done
pids=

# One line per viewer: id, bytes, frames, longest pause, kbit/s, how it fared.
for id in $(seq 1 "$started"); do
    read -r _ since <"$work/$id.pid"
    read -r _ seen moved pause <<EOF
$(grep "^$id " "$work/state" || echo "$id 0 0 0")
EOF
    kilobytes=$(sed -n 's/^\[*.*video:\([0-9]*\)[kK]i*B audio:\([0-9]*\)[kK]i*B.*/\1 \2/p' \
        "$work/$id.log" | tail -n 1 | awk '{ print $1 + $2 }')
    kilobytes=${kilobytes:-0}
    if ! grep -qx "$id" "$work/alive"; then
        fate=ended
        # How long it lasted is when its last frame came.
        [ "$moved" -gt "$since" ] && last=$moved || last=$end
    else
        last=$end
        fate=well
        [ $((end - moved)) -lt $((stall * 1000)) ] && [ "$pause" -lt $((stall * 1000)) ] ||
            fate=stalled
    fi
    [ "$seen" -gt 0 ] || [ "$fate" = ended ] || fate=nothing
    rate=$((kilobytes * 8192 / (last > since ? last - since : 1)))
    say "$id $((kilobytes * 1024)) $seen $pause $rate $fate"
done >"$work/table"

sort -n -k5,5 "$work/table" | awk -v bold="$bold" -v plain="$plain" '
    { bytes += $2; frames += $3; rate[NR] = $5; fate[$6]++ }
    END {
        alive = NR - fate["ended"]
        median = NR % 2 ? rate[(NR + 1) / 2] : (rate[NR / 2] + rate[NR / 2 + 1]) / 2
        printf "\n%s%8s %13s %13s %10s %14s %14s %7s%s\n", bold, "started", "alive at end", \
            "bytes", "frames", "lowest kbit/s", "median kbit/s", "errors", plain
        printf "%8d %13d %13.0f %10.0f %14.0f %14.0f %7d\n", NR, alive, bytes, frames, rate[1], median, \
            fate["ended"]
    }'

starved=0
while read -r id _ seen pause _ fate; do
    case $fate in
        well) continue ;;
        ended) reason="ended early: $(grep -v '^ \|^Input\|^Output' "$work/$id.log" | tail -n 1)" ;;
        nothing) reason="received no video" ;;
        stalled) reason="stalled for more than $stall s, after $seen frames" ;;
    esac
    starved=$((starved + 1))
    [ "$starved" -gt 10 ] || say "viewer $id $reason"
done <"$work/table"
[ "$starved" -le 10 ] || say "... and $((starved - 10)) more"

if [ "$starved" -gt 0 ]; then
    say "${red}$starved of $started viewers starved$plain"
    exit 1
fi
say "${green}no viewer starved$plain"
