#!/usr/bin/env bash
# Runs a whole Magrathea on this machine: gateway, agent, a one-node cluster and the example app.
#
#   scripts/local.sh up       set up what is missing, start, deploy the example, leave it running
#   scripts/local.sh stop     stop everything; all data stays
#   scripts/local.sh clean    stop, and remove exactly what `up` created
#   scripts/local.sh status   what runs
#
# Settings (environment): MAGRATHEA_HOME data and logs; MAGRATHEA_PREFIX names in the engine; MAGRATHEA_CLUSTERS the
# clusters.yml of the first start; MAGRATHEA_API, MAGRATHEA_AGENTS, MAGRATHEA_SSH listen addresses; MAGRATHEA_EXAMPLE= deploys none;
# MAGRATHEA_SKIP_BUILD=1 starts what was built before.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${MAGRATHEA_HOME:-/var/lib/magrathea}
prefix=${MAGRATHEA_PREFIX:-mag}
api=${MAGRATHEA_API:-127.0.0.1:7443}
agents=${MAGRATHEA_AGENTS:-127.0.0.1:7444}
ssh=${MAGRATHEA_SSH:-127.0.0.1:7422}
clusters_source=${MAGRATHEA_CLUSTERS:-$repo/clusters.yml}
example=${MAGRATHEA_EXAMPLE-$repo/examples/guestbook}
profile=${MAGRATHEA_PROFILE:-release}
td_config=${TD_CONFIG_DIR:-}
user=magrathea

# shellcheck source=scripts/lib.sh
. "$repo/scripts/lib.sh"
# shellcheck source=scripts/checks.sh
. "$repo/scripts/checks.sh"

usage() { sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

# --- what is already there -------------------------------------------------------------------------------------------

pid_of() { # NAME: the pid of a process `up` started, when it still runs
    local file=$home/run/$1.pid pid
    [[ -r $file ]] && read -r pid <"$file" && [[ -d /proc/$pid ]] &&
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- "$1" && echo "$pid"
}

created() { grep -qxF "$1" "$home/created" 2>/dev/null; }

# The record of what `clean` takes away; written before the thing is made.
will_create() { created "$1" || echo "$1" >>"$home/created"; }

# Only one of up, stop and clean is at work at any time.
take_lock() {
    mkdir -p "$home/run" "$home/log"
    exec 9>"$home/run/lock"
    flock -n 9 || die "another scripts/local.sh is at work on $home" "wait for it to end, or end it"
}

# --- setting up ------------------------------------------------------------------------------------------------------

install_packages() { apt_install "${engine_packages[@]}" "${build_packages[@]}" "${database_packages[@]}"; }

start_engine() {
    if docker info >/dev/null 2>&1; then
        return
    fi
    if [[ -d /run/systemd/system ]]; then
        systemctl start docker || die "the Docker Engine does not start" "$(journalctl -u docker -n 5 -o cat 2>/dev/null)"
    else
        will_create engine-process
        rm -f /var/run/docker.pid
        daemon dockerd "$home/log/dockerd.log" dockerd
    fi
    wait_for 60 "the Docker Engine" "$home/log/dockerd.log" docker info
}

build_workspace() {
    find_cargo
    local quiet=(--quiet)
    [[ ! -t 2 ]] || quiet=()
    [[ -x $home/bin/td ]] || note "the first build takes some minutes"
    (cd "$repo" && cargo build "${quiet[@]}" --locked --profile "$profile" -p magrathea-gateway -p magrathea-agent -p td-cli)
    local name built=${CARGO_TARGET_DIR:-$repo/target}/release
    # With sudo, what is built in a person's checkout stays theirs.
    [[ $(stat -c %u "$repo") == 0 ]] || chown -R --from=root --reference="$repo" "$(dirname "$built")"
    [[ $profile == release ]] || built=${built%release}debug
    mkdir -p "$home/bin"
    for name in magrathea-gateway magrathea-agent td; do
        if ! cmp -s "$built/$name" "$home/bin/$name"; then
            install -m 755 "$built/$name" "$home/bin/.$name.new"
            mv -f "$home/bin/.$name.new" "$home/bin/$name"
            changed_binaries+=("$name")
        fi
    done
    if [[ $home == /var/lib/magrathea && ! -e /usr/local/bin/td ]]; then
        will_create td-link
        ln -s "$home/bin/td" /usr/local/bin/td
    fi
}

build_images() { "$repo/layers/images/build.sh"; }

make_home() {
    mkdir -p "$home"/{run,log}
    if ! id "$user" >/dev/null 2>&1; then
        will_create user
        useradd --system --user-group --home-dir "$home/gateway" --no-create-home --shell /usr/sbin/nologin "$user"
    fi
    install -d -o "$user" -g "$user" -m 700 "$home/gateway"
    [[ -f $home/clusters.yml ]] || install -m 644 "$clusters_source" "$home/clusters.yml"
    chmod 755 "$home"
}

as_gateway() {
    setpriv --reuid "$user" --regid "$user" --init-groups --inh-caps=-all --no-new-privs \
        env HOME="$home/gateway" "$@"
}

gateway_flags() { printf '%s\n' --data "$home/gateway" --clusters "$home/clusters.yml" --rates "$home/rates.yml" --api "$api" --agents "$agents" --ssh "$ssh"; }

start_gateway() {
    local flags
    mapfile -t flags < <(gateway_flags)
    local running=
    if [[ -n $(pid_of magrathea-gateway || true) ]]; then
        if [[ " ${changed_binaries[*]-} " != *" magrathea-gateway "* ]]; then running=1; else stop_process magrathea-gateway; fi
    fi
    # Also beside one that runs: the credentials may be void, as after `td logout`.
    (cd / && as_gateway "$home/bin/magrathea-gateway" init "${flags[@]}" --credentials "$home/gateway/credentials.json" >>"$home/log/gateway.log" 2>&1) ||
        die "the gateway could not be set up" "$(tail -n 5 "$home/log/gateway.log")"
    if [[ -n $running ]]; then
        store_credentials
        return
    fi
    (cd / && daemon magrathea-gateway "$home/log/gateway.log" \
        setpriv --reuid "$user" --regid "$user" --init-groups --inh-caps=-all --no-new-privs \
        env HOME="$home/gateway" "$home/bin/magrathea-gateway" serve "${flags[@]}")
    store_credentials
    wait_for 30 "the gateway" "$home/log/gateway.log" "$home/bin/td" status --quiet
}

# td's credentials belong to the person who ran make, not to root.
td_folder() {
    if [[ -n $td_config ]]; then echo "$td_config"; else echo "$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)/.config/magrathea"; fi
}

store_credentials() {
    local owner=${SUDO_USER:-root} folder
    folder=$(td_folder)
    if [[ -z $td_config && ! -d $folder ]]; then
        [[ -d ${folder%/*} ]] || will_create "td-parent ${folder%/*}"
        will_create "td-config $folder"
        [[ -d ${folder%/*} ]] || install -d -o "$owner" -g "$(id -g "$owner")" -m 700 "${folder%/*}"
    fi
    install -d -o "$owner" -g "$(id -g "$owner")" -m 700 "$folder"
    # Who has logged in to this gateway stays who they are.
    local kept
    kept=$(jq -r '.gateway' "$folder/credentials.json" 2>/dev/null || true)
    if [[ $kept == "$(jq -r '.gateway' "$home/gateway/credentials.json")" ]] && TD_CONFIG_DIR=$folder "$home/bin/td" whoami --quiet >/dev/null 2>&1; then
        export TD_CONFIG_DIR=$folder
        return
    fi
    if ! cmp -s "$home/gateway/credentials.json" "$folder/credentials.json"; then
        install -o "$owner" -g "$(id -g "$owner")" -m 600 "$home/gateway/credentials.json" "$folder/credentials.json"
    fi
    export TD_CONFIG_DIR=$folder
}

start_agent() {
    local token=$home/run/node-token
    if [[ -n $(pid_of magrathea-agent || true) ]]; then
        [[ " ${changed_binaries[*]-} " == *" magrathea-agent "* ]] || return 0
        stop_process magrathea-agent
    fi
    mkdir -p "$home/agent" && chmod 700 "$home/agent"
    if [[ ! -f $home/agent/certificate.pem ]]; then
        local cluster node flags
        mapfile -t flags < <(gateway_flags)
        read -r cluster node < <("$home/bin/td" status --json | jq -r '.clusters[0] | "\(.name) \(.nodes[0].name)"')
        (umask 077 && cd / && as_gateway "$home/bin/magrathea-gateway" node-token "${flags[@]:0:4}" --cluster "$cluster" --node "$node" >"$token" 2>>"$home/log/gateway.log")
        "$home/bin/magrathea-agent" enrol --gateway "https://$api" --ca "$home/gateway/pki/ca.pem" --token-file "$token" --data "$home/agent" >>"$home/log/agent.log" 2>&1 ||
            die "the agent could not be enrolled" "$(tail -n 5 "$home/log/agent.log")"
        rm -f "$token"
    fi
    daemon magrathea-agent "$home/log/agent.log" "$home/bin/magrathea-agent" run --data "$home/agent" --prefix "$prefix"
}

# Every node that carries more than replicas is connected, and every shared service runs.
cluster_is_ready() {
    "$home/bin/td" status --json | jq -e '
        [.clusters[].nodes[] | select(.layers != ["app"])] | length > 0 and all(
            .state == "connected" and (.services | length > 0 and all(.running >= .wanted and .running > 0)))'
}

wait_for_cluster() { wait_for 180 "the cluster's layers" "$home/log/agent.log" cluster_is_ready; }

# APP JQ-CONDITION: asks about the app's instances.
app_has() { "$home/bin/td" app info -a "$1" --json 2>/dev/null | jq -e "$2" >/dev/null; }

deploy_example() {
    [[ -n $example ]] || return 0
    local name
    name=$(basename "$example")
    if app_has "$name" 'any(.instances[]; .release)'; then
        # After a stop the gateway brings back what served, without a deploy.
        for _ in {1..300}; do
            if app_has "$name" 'all(.instances[]; .state == "serving")'; then
                note "$name serves already"
                return
            fi
            sleep 0.1
        done
        warn "$name has a release and does not serve; deploying it again"
    fi
    "$home/bin/td" app deploy --dirty -C "$example" || die "the example app could not be deployed" "the reason stands above; logs are in $home/log"
}

show_example() {
    [[ -n $example ]] || return 0
    local url
    url=$("$home/bin/td" app open -a "$(basename "$example")" --print)
    # When all containers died with their engine, they are only just coming up.
    for _ in {1..150}; do ! fetches "$url" 2>/dev/null || break; sleep 0.2; done
    fetches "$url" || die "$url does not answer" "see td status and $home/log"
    echo
    echo "  $(basename "$example") serves at  $url"
    echo "  td is at                $(command -v td || echo "$home/bin/td")   (try: td status)"
    echo "  logs are in             $home/log"
}

fetches() {
    local host=${1#*://}
    curl -fsS -o /dev/null --max-time 10 --connect-to "::127.0.0.1:" "$1" || curl -fsS -o /dev/null --max-time 10 -H "Host: ${host%%/*}" "http://127.0.0.1:${host##*:}"
}

up() {
    changed_binaries=()
    [[ $EUID -eq 0 ]] || die "this needs root" "run it with sudo: sudo make run"
    [[ ! -d $home ]] || take_lock
    phase "checking the machine" check_machine
    take_lock
    phase "installing packages" install_packages
    phase "starting the Docker Engine" start_engine
    check_swarm
    will_create engine-objects
    if [[ -z ${MAGRATHEA_SKIP_BUILD:-} ]]; then
        phase "building the workspace" build_workspace
        phase "building the layer images" build_images
    fi
    make_home
    phase "starting the gateway" start_gateway
    phase "starting the agent" start_agent
    phase "laying the cluster's layers" wait_for_cluster
    phase "deploying the example" deploy_example
    show_example
}

# --- taking down -----------------------------------------------------------------------------------------------------

stop() {
    [[ $EUID -eq 0 ]] || die "this needs root" "run it with sudo: sudo make stop"
    [[ -d $home ]] || { note "nothing to stop: $home does not exist" && return; }
    take_lock
    phase "stopping the agent" stop_process magrathea-agent
    if [[ -x $home/bin/magrathea-agent ]] && docker info >/dev/null 2>&1; then
        phase "stopping the cluster's services" "$home/bin/magrathea-agent" stop --data "$home/agent" --prefix "$prefix"
    fi
    phase "stopping the gateway" stop_process magrathea-gateway
    stop_engine
}

# The engine goes with the installation that started it, unless others are at home in it.
stop_engine() {
    created engine-process || return 0
    local others
    others=$(docker ps -q --filter label=magrathea.owner 2>/dev/null | sort)
    others=$(comm -23 <(echo "$others") <(docker ps -q --filter "label=magrathea.owner=$prefix" 2>/dev/null | sort))
    if [[ -n $others ]]; then
        note "the Docker Engine stays: another installation runs in it"
        return 0
    fi
    phase "stopping the Docker Engine" stop_process dockerd
}

clean() {
    [[ $EUID -eq 0 ]] || die "this needs root" "run it with sudo: sudo make clean"
    [[ -d $home ]] || { note "nothing to clean: $home does not exist" && return; }
    if [[ -t 0 && -z ${MAGRATHEA_YES:-} ]]; then
        read -rp "This removes every app, database and file under $home. Type yes: " answer
        [[ $answer == yes ]] || die "nothing was removed"
    fi
    take_lock
    stop_process magrathea-agent
    stop_process magrathea-gateway
    if [[ -x $home/bin/magrathea-agent ]] && created engine-objects; then
        start_engine
        phase "removing what is in the engine" "$home/bin/magrathea-agent" clean --data "$home/agent" --prefix "$prefix"
        if [[ $home == /var/lib/magrathea ]]; then phase "removing the layer images" "$repo/layers/images/build.sh" --remove; fi
    fi
    stop_engine
    if created td-link; then rm -f /usr/local/bin/td; fi
    local folder packages
    sed -n 's/^td-config //p' "$home/created" 2>/dev/null | while read -r folder; do rm -rf "$folder"; done
    sed -n 's/^td-parent //p' "$home/created" 2>/dev/null | while read -r folder; do rmdir --ignore-fail-on-non-empty "$folder" 2>/dev/null || true; done
    if created user; then userdel "$user" 2>/dev/null || true; fi
    packages=$(sed -n 's/^package //p' "$home/created" 2>/dev/null | paste -sd' ')
    rm -rf "$home"
    note "removed $home"
    [[ -z $packages ]] || note "the Debian packages that were missing stay: $packages"
}

status() {
    local name
    for name in dockerd magrathea-gateway magrathea-agent; do
        printf '%-18s %s\n' "$name" "$(pid_of "$name" || echo 'not started by make run')"
    done
    [[ ! -x $home/bin/td ]] || TD_CONFIG_DIR=$(td_folder) "$home/bin/td" status
}

case ${1:-} in
up | stop | clean | status) "$1" ;;
*) usage >&2 && exit 2 ;;
esac
