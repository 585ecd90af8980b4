# Shared by the scripts of this folder: progress, packages, processes. Sourced, never run.
# Expects $repo and $home.
# shellcheck shell=bash disable=SC2034,SC2154

engine_packages=(docker.io iptables nftables e2fsprogs btrfs-progs mmdebstrap iproute2 procps util-linux)
build_packages=(build-essential ca-certificates curl git jq)
database_packages=(postgresql)

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'
else
    bold='' red='' plain=''
fi

note() { printf '       %s\n' "$1" >&2; }
warn() { printf ' !     %s\n' "$1" >&2; }

# die MESSAGE [HINT]
die() {
    printf '%serror:%s %s\n' "$red" "$plain" "$1" >&2
    [[ -z ${2:-} ]] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

# phase TITLE COMMAND…: runs the command under a title and says how long it took.
phase() {
    local title=$1 start=$EPOCHREALTIME spent
    shift
    printf '%s-----> %s%s\n' "$bold" "$title" "$plain" >&2
    "$@"
    spent=$((${EPOCHREALTIME/./} - ${start/./}))
    ((spent < 1000000)) || printf '       %d.%d s\n' $((spent / 1000000)) $((spent / 100000 % 10)) >&2
}

# apt_install PACKAGE…: installs what is missing, asks nothing, starts no service it did not need to.
apt_install() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *' installed' ]] || missing+=("$package")
    done
    # Debian 13 has the docker command in a package of its own.
    if ! command -v docker >/dev/null && apt-cache show docker-cli >/dev/null 2>&1; then missing+=(docker-cli); fi
    ((${#missing[@]})) || return 0
    note "${missing[*]}"
    # A private PostgreSQL is started by the gateway; Debian's own default cluster is not wanted.
    if [[ " ${missing[*]} " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    fi
    local log
    log=$(mktemp)
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
        die "apt could not install ${missing[*]}" "$(tail -n 3 "$log")"
    rm -f "$log"
}

# find_cargo: puts a cargo on PATH that is new enough, installing rustup's where none is.
find_cargo() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repo/Cargo.toml")
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    [[ -z ${SUDO_USER:-} ]] || PATH=$PATH:$(getent passwd "$SUDO_USER" | cut -d: -f6)/.cargo/bin
    have=$(cargo --version 2>/dev/null | cut -d' ' -f2)
    if [[ -n $have && $(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -1) == "$wanted" ]]; then return; fi
    note "Rust $wanted is needed (found: ${have:-none}); installing it with rustup"
    if ! command -v rustup >/dev/null; then
        if apt-cache show rustup >/dev/null 2>&1; then
            apt_install rustup
        else
            curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs | sh -s -- -qy --profile minimal -c clippy -c rustfmt --no-modify-path >&2 ||
                die "Rust could not be installed" "install Rust $wanted or newer by hand (https://rustup.rs) and run this again"
        fi
    fi
    { rustup toolchain install --profile minimal -c clippy -c rustfmt stable && rustup default stable; } >&2 ||
        die "Rust could not be installed" "install Rust $wanted or newer by hand (https://rustup.rs) and run this again"
}

# daemon NAME LOG COMMAND…: starts a process of its own session, remembers its pid.
daemon() {
    local name=$1 log=$2
    shift 2
    mkdir -p "$home/run" "$(dirname "$log")"
    setsid "$@" >>"$log" 2>&1 9>&- </dev/null &
    echo $! >"$home/run/$name.pid"
}

# stop_process NAME: ends what `daemon` started and waits for it.
stop_process() {
    local pid
    pid=$(pid_of "$1" || true)
    [[ -n $pid ]] || return 0
    kill "$pid" 2>/dev/null || true
    for _ in {1..300}; do
        [[ -d /proc/$pid ]] || { rm -f "$home/run/$1.pid" && return 0; }
        sleep 0.1
    done
    warn "$1 (process $pid) did not end within 30 s; killing it"
    kill -9 "$pid" 2>/dev/null || true
    rm -f "$home/run/$1.pid"
}

# wait_for SECONDS WHAT LOG COMMAND…: until the command succeeds.
wait_for() {
    local seconds=$1 what=$2 log=$3 deadline=$((SECONDS + $1))
    shift 3
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || die "$what did not come up within $seconds s" "$(tail -n 5 "$log" 2>/dev/null)"
        sleep 0.1
    done
}
