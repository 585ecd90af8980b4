#!/usr/bin/env bash
# Everything that is checked, on a fresh Debian machine too: installs what it needs, brings up an installation of its
# own (other data folder, ports and names than `make run`), runs every test, and takes the installation away again.
#
#   scripts/test.sh                   all of it
#   scripts/test.sh check             format, lints, docs and scripts only
#   scripts/test.sh e2e [FILTER]      the end-to-end tests only
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export MAGRATHEA_HOME=${MAGRATHEA_TEST_HOME:-/var/lib/magrathea-test}
export MAGRATHEA_PREFIX=maglab MAGRATHEA_API=127.0.0.1:17443 MAGRATHEA_AGENTS=127.0.0.1:17444 MAGRATHEA_SSH=127.0.0.1:17422
export MAGRATHEA_TEST_HTTP=28080 MAGRATHEA_TEST_HTTPS=28443
export MAGRATHEA_CLUSTERS=$repo/tests/clusters.yml MAGRATHEA_PROFILE=dev MAGRATHEA_YES=1
# The tests' sinks are on this machine.
export MAGRATHEA_DRAIN_TO=127.0.0.0/8
# Automatic scaling is followed without waiting for minutes.
export MAGRATHEA_SCALE_UP_AFTER=8s MAGRATHEA_SCALE_DOWN_AFTER=20s MAGRATHEA_SCALE_REST=5s
# Usage is told and disks are looked at without waiting for minutes.
export MAGRATHEA_USAGE_EVERY=2s MAGRATHEA_DISK_EVERY=5s
export TD_CONFIG_DIR=$MAGRATHEA_HOME/td
home=$MAGRATHEA_HOME

# shellcheck source=scripts/lib.sh
. "$repo/scripts/lib.sh"

test_packages=(openssl python3 python3-venv rsync shellcheck zstd)

in_repo() { (cd "$repo" && "$@"); }

check() {
    phase "formatting" in_repo cargo fmt --all --check
    phase "scripts" in_repo shellcheck -x scripts/*.sh layers/images/build.sh .ci/run
    phase "lints" in_repo cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS='-D warnings' phase "documentation" in_repo cargo doc --quiet --locked --workspace --no-deps
}

# nextest where it is installed, otherwise cargo's own runner; both read the same tests.
run_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        in_repo cargo nextest run --locked "$@"
    else
        local args=()
        while (($#)); do
            case $1 in
            --run-ignored) shift ;;
            *) args+=("$1") ;;
            esac
            shift
        done
        in_repo cargo test --locked "${args[@]}" -- --include-ignored --test-threads 2
    fi
}

unit() { phase "unit and integration tests" run_tests --workspace --exclude magrathea-tests; }

e2e() {
    phase "a laboratory" "$repo/scripts/local.sh" up
    phase "end-to-end tests" run_tests -p magrathea-tests --run-ignored all "$@"
}

leave_nothing() {
    "$repo/scripts/local.sh" clean
    local left
    left=$(docker ps -aq --filter "label=magrathea.owner=$MAGRATHEA_PREFIX" 2>/dev/null || true)
    [[ -z $left && ! -e $home ]] || die "clean left something behind: $left $(ls "$home" 2>/dev/null)"
}

[[ $EUID -eq 0 ]] || die "this needs root: the tests run a Docker Engine" "run it with sudo: sudo make test"
find_cargo
case ${1:-all} in
check)
    check
    ;;
e2e)
    shift
    e2e "$@"
    ;;
all)
    phase "packages" apt_install "${engine_packages[@]}" "${build_packages[@]}" "${database_packages[@]}" "${test_packages[@]}"
    check
    phase "a clean start" "$repo/scripts/local.sh" clean
    trap '"$repo/scripts/local.sh" clean || true' EXIT
    phase "a laboratory" "$repo/scripts/local.sh" up
    unit
    e2e
    trap - EXIT
    phase "taking the laboratory away" leave_nothing
    ;;
*) die "unknown: $1" "see the head of scripts/test.sh" ;;
esac
