#!/usr/bin/env bash
# A second cluster for the laboratory: a Docker Engine of its own in a network namespace of its own, an agent beside it, and
# an entry in the laboratory's clusters.yml. Only tests use it; see tests/src/second.rs.
#
#   tests/second.sh up PID      make it for that process, after taking away what an earlier one left
#   tests/second.sh down        take it away
#   tests/second.sh guard PID   take it away when that process has ended without doing so
#
# Its name is `far`. Settings (environment): those of scripts/local.sh; SECOND_HTTP and SECOND_HTTPS, its router's ports.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lab=${MAGRATHEA_HOME:?}
home=$lab-far
prefix=${MAGRATHEA_PREFIX:?}
network=${prefix}far
socket=unix://$home/docker.sock
clusters=$lab/clusters.yml
api=${MAGRATHEA_API:?}

# shellcheck source=scripts/lib.sh
. "$repo/scripts/lib.sh"

pid_of() { # NAME: the pid of a process that `daemon` started, when it still runs
    local file=$home/run/$1.pid pid
    [[ -r $file ]] && read -r pid <"$file" && [[ -d /proc/$pid ]] &&
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- "$1" && echo "$pid"
}

# Not `ip netns exec`: its mounts hide the control groups from the engine.
inside() { nsenter --net="/run/netns/$network" "$@"; }

engine() { docker --host "$socket" "$@"; }

start_engine() {
    ip netns add "$network"
    ip -n "$network" link set lo up
    daemon dockerd "$home/dockerd.log" nsenter --net="/run/netns/$network" dockerd --host "$socket" \
        --data-root "$home/docker" --exec-root "$home/exec" --pidfile "$home/engine.pid"
    wait_for 60 "the second Docker Engine" "$home/dockerd.log" engine info
}

# The newest of each layer image that a release without build commands needs. Ids stay the same.
copy_images() {
    local tags
    tags=$(docker images --filter label=magrathea.image --format '{{.Repository}}:{{.Tag}}' 'magrathea/*' |
        awk -F: '!/-build:|\/tomcat:|\/base:/ && !seen[$1]++')
    # shellcheck disable=SC2086 # one word each
    docker save $tags | engine load >/dev/null
}

# Written at once, because the gateway reads it whenever it changes.
put_clusters() { cat >"$clusters.new" && mv -f "$clusters.new" "$clusters"; }

add_cluster() {
    [[ -f $clusters.alone ]] || cp "$clusters" "$clusters.alone"
    awk -v http="${SECOND_HTTP:?}" -v https="${SECOND_HTTPS:?}" '{ print } /^clusters:/ {
        print "  far:\n    domain: far.localhost"
        print "    routing: {listen: [127.0.0.1], http: " http ", https: " https "}"
        print "    db: {port: 13307}\n    nodes:\n      node1:\n        address: 127.0.0.2"
        print "        layers: [storage, db, app, proxy, routing, support]" }' "$clusters.alone" | put_clusters
}

remove_cluster() { [[ ! -f $clusters.alone ]] || mv -f "$clusters.alone" "$clusters"; }

start_agent() {
    local token=$home/token
    (umask 077 && cd / && setpriv --reuid magrathea --regid magrathea --init-groups --inh-caps=-all --no-new-privs \
        env HOME="$lab/gateway" "$lab/bin/magrathea-gateway" node-token --data "$lab/gateway" --clusters "$clusters" \
        --cluster far --node node1 >"$token" 2>>"$home/agent.log") || die "no token for the node" "$(tail -n 5 "$home/agent.log")"
    "$lab/bin/magrathea-agent" enrol --gateway "https://$api" --ca "$lab/gateway/pki/ca.pem" --token-file "$token" \
        --data "$home/agent" >>"$home/agent.log" 2>&1 || die "the second agent could not be enrolled" "$(tail -n 5 "$home/agent.log")"
    rm -f "$token"
    daemon magrathea-agent "$home/agent.log" nsenter --net="/run/netns/$network" \
        "$lab/bin/magrathea-agent" run --data "$home/agent" --prefix "$prefix" --docker "$socket"
}

up() {
    down
    mkdir -p "$home/run" "$home/agent" && chmod 700 "$home/agent"
    echo "$1" >"$home/run/owner"
    start_engine
    copy_images
    add_cluster
    start_agent
}

down() {
    # First, so that nothing else is laid there.
    remove_cluster
    [[ -d $home ]] || return 0
    stop_process magrathea-agent
    if [[ -n $(pid_of dockerd || true) ]]; then
        inside "$lab/bin/magrathea-agent" clean --data "$home/agent" --prefix "$prefix" --docker "$socket" >>"$home/agent.log" 2>&1 ||
            warn "the second agent could not clean up: $(tail -n 1 "$home/agent.log")"
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
    if [[ $(cat "$home/run/owner" 2>/dev/null) == "$1" ]]; then down; fi
}

case ${1:-} in
up | down | guard) "$@" ;;
*) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
