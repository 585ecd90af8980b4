# Shared by the scripts of this folder: progress, packages, processes. Sourced, never run.
# Expects $repo and $home.
# shellcheck shell=bash disable=SC2034,SC2154

engine_packages=(docker.io iptables nftables e2fsprogs btrfs-progs mmdebstrap iproute2 procps util-linux)
build_packages=(build-essential ca-certificates curl git jq openssh-client)
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
    local package log missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *' installed' ]] || missing+=("$package")
    done
    if ((${#missing[@]} == 0)) && command -v docker >/dev/null; then return 0; fi
    log=$(mktemp)
    # A new machine may have no lists at all, so what apt knows is asked after this.
    apt-get update -q >"$log" 2>&1 || die "apt-get update failed" "$(tail -n 3 "$log")"
    # Debian 13 has the docker command in a package of its own.
    if ! command -v docker >/dev/null && apt-cache show docker-cli >/dev/null 2>&1; then missing+=(docker-cli); fi
    ((${#missing[@]})) || return 0
    note "${missing[*]}"
    # A private PostgreSQL is started by the gateway; Debian's own default cluster is not wanted.
    if [[ " ${missing[*]} " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qy -o DPkg::Lock::Timeout=300 --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
        die "apt could not install ${missing[*]}" "$(tail -n 3 "$log")"
    rm -f "$log"
    [[ ! -d $home ]] || printf 'package %s\n' "${missing[@]}" >>"$home/created"
}

# Whether the cargo that PATH and the environment lead to is new enough.
cargo_is() {
    local have
    have=$(cargo --version 2>/dev/null | cut -d' ' -f2)
    [[ -n $have && $(printf '%s\n%s\n' "$1" "$have" | sort -V | head -1) == "$1" ]]
}

# find_cargo: puts a cargo on PATH that is new enough, installing rustup's where none is. What the person has chosen as
# their default toolchain stays.
find_cargo() {
    local wanted person='' by_hand
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repo/Cargo.toml")
    by_hand="install Rust $wanted or newer by hand (https://rustup.rs) and run this again"
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    ! cargo_is "$wanted" || return 0
    [[ -z ${SUDO_USER:-} ]] || person=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    if [[ -n $person && -d $person/.rustup ]]; then
        PATH=$PATH:$person/.cargo/bin
        export RUSTUP_HOME=$person/.rustup
        ! cargo_is "$wanted" || return 0
        unset RUSTUP_HOME
    fi
    export RUSTUP_TOOLCHAIN=stable
    # Asked for a toolchain that is not there, rustup's cargo would fetch it without a word.
    if rustup toolchain list 2>/dev/null | grep -q '^stable' && cargo_is "$wanted"; then return 0; fi
    note "Rust $wanted or newer is not here; installing it with rustup (some 600 MB)"
    if ! command -v rustup >/dev/null; then
        if apt-cache show rustup >/dev/null 2>&1; then
            apt_install rustup
        else
            curl --proto '=https' --tlsv1.2 -fsS https://static.rust-lang.org/rustup/rustup-init.sh |
                RUSTUP_TOOLCHAIN='' sh -s -- -qy --default-toolchain none --no-modify-path >&2 || die "rustup could not be installed" "$by_hand"
        fi
    fi
    rustup toolchain install stable --profile minimal -c clippy -c rustfmt >&2 || die "Rust could not be installed" "$by_hand"
    cargo_is "$wanted" || die "the newest stable Rust is older than $wanted" "$by_hand"
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
