# What must be true of a machine before `local.sh up` changes anything on it. Sourced by local.sh, never run.
# shellcheck shell=bash disable=SC2154

minimum_disk_gib=6

# need_port PORT HINT: dies when something listens there already.
need_port() {
    local port=$1 hint=$2 hex by=''
    printf -v hex %04X "$port"
    # A minimal machine has no ss.
    grep -qsE "^ *[0-9]+: [0-9A-F]+:$hex [0-9A-F]+:0000 0A" /proc/net/tcp /proc/net/tcp6 || return 0
    [[ $(ss -Hltnp "sport = :$port" 2>/dev/null) =~ \(\(\"([^\"]+)\",pid=([0-9]+) ]] && by=" by ${BASH_REMATCH[1]} (process ${BASH_REMATCH[2]})"
    die "port $port is in use$by" "$hint; nothing was changed"
}

# Data, images and the build may lie on three file systems.
check_disk() {
    local at free images
    images=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null) || images=
    for at in "$home" "${images:-/var/lib/docker}" "$repo"; do
        while [[ ! -d $at ]]; do at=$(dirname "$at"); done
        free=$(($(df --output=avail -k "$at" | tail -1) / 1048576))
        ((free >= minimum_disk_gib)) ||
            die "$at has $free GiB free; data, images and the build need $minimum_disk_gib GiB" "free some space there; MAGRATHEA_HOME may name another folder for the data; nothing was changed"
    done
}

check_swarm() {
    local swarm
    for _ in {1..40}; do
        swarm=$(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}' 2>/dev/null) || return 0
        # An engine that has just been started needs a moment.
        [[ $swarm == pending* ]] || break
        sleep 0.5
    done
    case $swarm in
    "active false") die "this machine's Docker Engine is a worker of another swarm" "use an engine of its own, or make the node a manager; nothing in it was changed" ;;
    pending* | error* | locked*) die "this machine's Docker Engine is in a swarm that is not usable (${swarm%% *})" "mend it with docker swarm, or leave it; nothing in it was changed" ;;
    esac
}

check_machine() {
    if ! grep -qE '^VERSION_ID="?(12|13)"?' /etc/os-release || ! grep -q '^ID=debian' /etc/os-release; then
        warn "this is not Debian 12 or 13; going on, untested"
    fi
    command -v apt-get >/dev/null || die "this machine has no apt" "Debian 12 or 13 is needed"
    created engine-objects || check_disk
    check_swarm
    local port
    if [[ -z $(pid_of magrathea-gateway || true) ]]; then
        for port in "${api##*:}" "${agents##*:}" "${ssh##*:}"; do need_port "$port" "stop what listens there, or set MAGRATHEA_API / MAGRATHEA_AGENTS / MAGRATHEA_SSH"; done
    fi
    if ! router_runs; then
        for port in $(router_ports); do need_port "$port" "the router needs it: stop what listens there, or change routing: in $(clusters_file)"; done
    fi
}

router_ports() { grep -oE '\bhttps?: *[0-9]+' "$(clusters_file)" | tr -dc '0-9\n' | sort -u; }

clusters_file() { if [[ -f $home/clusters.yml ]]; then echo "$home/clusters.yml"; else echo "$clusters_source"; fi; }

router_runs() {
    command -v docker >/dev/null && docker info >/dev/null 2>&1 &&
        [[ -n $(docker ps -q --filter "label=com.docker.swarm.service.name=$prefix-router" 2>/dev/null) ]]
}
