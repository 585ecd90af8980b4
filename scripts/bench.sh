#!/usr/bin/env bash
# Measures the promises on an installation of its own, built for release: ratios against references in the same run.
#
#   scripts/bench.sh [PART]…
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export MAGRATHEA_HOME=${MAGRATHEA_BENCH_HOME:-/var/lib/magrathea-bench}
export MAGRATHEA_PREFIX=magbench MAGRATHEA_API=127.0.0.1:17443 MAGRATHEA_AGENTS=127.0.0.1:17444 MAGRATHEA_SSH=127.0.0.1:17422
export MAGRATHEA_TEST_HTTP=28080 MAGRATHEA_TEST_HTTPS=28443
export MAGRATHEA_CLUSTERS=$repo/tests/clusters.yml MAGRATHEA_EXAMPLE='' MAGRATHEA_YES=1
export TD_CONFIG_DIR=$MAGRATHEA_HOME/td
home=$MAGRATHEA_HOME

# shellcheck source=scripts/lib.sh
. "$repo/scripts/lib.sh"

find_cargo
cd "$repo"
parts=(plan usage deploy changes all request push idle shell logs disk billing counting)
(($#)) || set -- "${parts[@]}"
for part in "$@"; do
    [[ " ${parts[*]} " == *" $part "* ]] || die "nothing is measured under the name $part" "one of ${parts[*]}"
done
# What needs no installation.
if [[ " $* " == *' plan '* ]]; then
    cargo run --quiet --release --locked -p magrathea-layers --example plan_bench
fi
if [[ " $* " == *' usage '* ]]; then
    phase "goaccess" apt_install goaccess
    cargo run --quiet --release --locked -p magrathea-agent --example usage_bench
fi
for part in "$@"; do [[ $part == plan || $part == usage ]] || installed=1; done
[[ ${installed-} ]] || exit 0
phase "packages" apt_install wrk curl
if [[ " $* " == *' disk '* ]]; then apt_install btrfs-progs; fi
# What pushes are compared with; at this runlevel Debian starts no server of its own.
if [[ " $* " == *' push '* ]]; then RUNLEVEL=1 apt_install openssh-server; fi
"$repo/scripts/local.sh" up
trap '"$repo/scripts/local.sh" clean' EXIT
cargo build --quiet --release --locked -p magrathea-tests --bin bench
cargo run --quiet --release --locked -p magrathea-tests --bin bench -- "$@"
