#!/usr/bin/env bash
# A second cluster for the laboratory: a Docker Engine of its own in a network namespace of its own, an agent beside it, and
# an entry in the laboratory's clusters.yml. Only tests use it; see tests/src/second.rs.
#
#   tests/second.sh up PID      make it for that process, after taking away what an earlier one left
#   tests/second.sh down        take it away
#   tests/second.sh guard PID   take it away when that process has ended without doing so
#   tests/second.sh agent PID N start the agent of its N-th node, which was killed
#   tests/second.sh unplug|plug take its second node's network away, or give it back
#
# Its name is `far`. Settings (environment): those of scripts/local.sh; SECOND_HTTP and SECOND_HTTPS, its router's ports;
# SECOND_NODES=2 gives it a second node, which carries replicas alone: another engine in another network namespace, with a
# cable between the two.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lab=${MAGRATHEA_HOME:?}
prefix=${MAGRATHEA_PREFIX:?}
nodes=${SECOND_NODES:-1}
# An agent's folder bears the same path on every node of a cluster; on the second, another folder is mounted there.
data=$lab-far/agent
clusters=$lab/clusters.yml
api=${MAGRATHEA_API:?}

# shellcheck source=scripts/lib.sh
. "$repo/scripts/lib.sh"

# use 1|2: which of its nodes the functions below are about.
use() {
    node=node$1
    case $1 in
    1) home=$lab-far network=${prefix}far ;;
    2) home=$lab-far2 network=${prefix}far2 ;;
    esac
    address=10.99.98.$1
    socket=unix://$home/docker.sock
}
use 1

pid_of() { # NAME: the pid of a process that `daemon` started, when it still runs
    local file=$home/run/$1.pid pid
    [[ -r $file ]] && read -r pid <"$file" && [[ -d /proc/$pid ]] &&
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- "$1" && echo "$pid"
}

# Not `ip netns exec`: its mounts hide the control groups from the engine.
inside() { nsenter --net="/run/netns/$network" --mount="/proc/$(pid_of dockerd)/ns/mnt" "$@"; }

engine() { docker --host "$socket" "$@"; }

start_engine() {
    local apart=()
    mkdir -p "$home/run" "$home/agent" && chmod 700 "$home/agent"
    ip netns add "$network"
    ip -n "$network" link set lo up
    # shellcheck disable=SC2016 # the inner shell's
    [[ $home/agent == "$data" ]] || apart=(unshare --mount --propagation private sh -ec
        'mount --bind "$1" "$2"; shift 2; exec "$@"' sh "$home/agent" "$data")
    daemon dockerd "$home/dockerd.log" "${apart[@]}" nsenter --net="/run/netns/$network" dockerd --host "$socket" \
        --data-root "$home/docker" --exec-root "$home/exec" --pidfile "$home/engine.pid"
    wait_for 60 "the Docker Engine of $node" "$home/dockerd.log" engine info
}

# Between the two nodes, and to nowhere else.
lay_cable() {
    ip -n "${prefix}far" link add eth0 type veth peer name eth0 netns "${prefix}far2"
    for n in 1 2; do
        use $n
        ip -n "$network" addr add "$address/24" dev eth0
        ip -n "$network" link set eth0 up
    done
    use 1
}

unplug() { ip -n "${prefix}far2" link set eth0 down; }

plug() { ip -n "${prefix}far2" link set eth0 up; }

# copy_images PATTERN: the newest of each layer image that a release without build commands needs. Ids stay the same.
copy_images() {
    local tags
    tags=$(docker images --filter label=magrathea.image --format '{{.Repository}}:{{.Tag}}' 'magrathea/*' |
        awk -F: -v wanted="/($1):" '$0 ~ wanted && !/-build:|\/tomcat:/ && !seen[$1]++')
    # shellcheck disable=SC2086 # one word each
    docker save $tags | engine load >/dev/null
}

# Written at once, because the gateway reads it whenever it changes.
put_clusters() { cat >"$clusters.new" && mv -f "$clusters.new" "$clusters"; }

add_cluster() {
    [[ -f $clusters.alone ]] || cp "$clusters" "$clusters.alone"
    local address=127.0.0.2 other=
    if ((nodes > 1)); then address=10.99.98.1 other='      node2: {address: 10.99.98.2, layers: [app], zone: other}'; fi
    awk -v http="${SECOND_HTTP:?}" -v https="${SECOND_HTTPS:?}" -v address="$address" -v other="$other" '{ print } /^clusters:/ {
        print "  far:\n    domain: far.localhost"
        print "    routing: {listen: [127.0.0.1], http: " http ", https: " https "}"
        print "    db: {port: 13307}\n    nodes:\n      node1:\n        address: " address
        print "        layers: [storage, db, app, proxy, routing, support]"
        if (other) print other }' "$clusters.alone" | put_clusters
}

remove_cluster() { [[ ! -f $clusters.alone ]] || mv -f "$clusters.alone" "$clusters"; }

enrol_agent() {
    local token=$home/token
    (umask 077 && cd / && setpriv --reuid magrathea --regid magrathea --init-groups --inh-caps=-all --no-new-privs \
        env HOME="$lab/gateway" "$lab/bin/magrathea-gateway" node-token --data "$lab/gateway" --clusters "$clusters" \
        --cluster far --node "$node" >"$token" 2>>"$home/agent.log") || die "no token for the node" "$(tail -n 5 "$home/agent.log")"
    "$lab/bin/magrathea-agent" enrol --gateway "https://$api" --ca "$lab/gateway/pki/ca.pem" --token-file "$token" \
        --data "$home/agent" >>"$home/agent.log" 2>&1 || die "the agent of $node could not be enrolled" "$(tail -n 5 "$home/agent.log")"
    rm -f "$token"
    run_agent
}

run_agent() {
    daemon magrathea-agent "$home/agent.log" nsenter --net="/run/netns/$network" --mount="/proc/$(pid_of dockerd)/ns/mnt" \
        "$lab/bin/magrathea-agent" run --data "$data" --prefix "$prefix" --docker "$socket"
}

up() {
    down
    use 1
    mkdir -p "$home/run"
    echo "$1" >"$home/run/owner"
    start_engine
    copy_images '.*'
    if ((nodes > 1)); then
        use 2
        start_engine
        # What replicas stand on: of a release, only its own layers are to come.
        copy_images php
        lay_cable
    fi
    add_cluster
    for n in $(seq "$nodes"); do
        use "$n"
        enrol_agent
    done
}

agent() {
    use "$2"
    run_agent
}

down() {
    # First, so that nothing else is laid there.
    remove_cluster
    # The manager last: it is asked whether others run in its swarm.
    for n in 2 1; do
        use $n
        take_down
    done
}

take_down() {
    [[ -d $home ]] || return 0
    stop_process magrathea-agent
    if [[ -n $(pid_of dockerd || true) ]]; then
        inside "$lab/bin/magrathea-agent" clean --data "$data" --prefix "$prefix" --docker "$socket" >>"$home/agent.log" 2>&1 ||
            warn "the agent of $node could not clean up: $(tail -n 1 "$home/agent.log")"
        stop_process dockerd
    fi
    local mount
    awk -v home="$home/" 'index($2, home) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r mount; do
        umount --lazy "$mount" || true
    done
    [[ ! -e /run/netns/$network ]] || ip netns del "$network"
    rm -rf "$home"
}

guard() {
    while [[ -d /proc/$1 ]]; do sleep 0.2; done
    # By now another test may have made one of its own.
    use 1
    if [[ $(cat "$home/run/owner" 2>/dev/null) == "$1" ]]; then down; fi
}

case ${1:-} in
up | down | guard | agent | unplug | plug) "$@" ;;
*) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
