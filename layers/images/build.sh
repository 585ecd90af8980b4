#!/usr/bin/env bash
# Builds the layer and stack images from Debian 13 packages into the local Docker Engine; what exists already is left.
#
#   build.sh [--refresh] [--only NAME...]
#   build.sh --remove
#
#   --only     builds these images and the ones below them, not all
#   --remove   removes every image that this script built and no container uses
#   --refresh  builds the base anew when it is older than a week, and with it everything above it
#
# Every image is tagged magrathea/NAME:HASH, where the hash covers its folder, its parent's image id and the extra
# packages. MAGRATHEA_PHP_PACKAGES names further Debian packages (php8.4-ldap, …) for the php image.
set -euo pipefail

images=$(cd "$(dirname "$0")" && pwd)
suite=trixie
# Name and parent, parents first.
tree="base:
router:base
varnish:base
nginx:base
mariadb:base
memcached:base
files:base
static:base
tomcat:base
php:static
php-build:php
tomcat-build:tomcat"

fail() {
  printf 'images: %s\n' "$*" >&2
  exit 1
}

say() { printf '  %-13s %s\n' "$1" "$2"; }

parent_of() {
  local line
  while read -r line; do
    [ "${line%%:*}" = "$1" ] && printf '%s' "${line#*:}" && return
  done <<<"$tree"
  return 1
}

# The hash of an image's folder (names, modes, contents) and of what else decides how it comes out.
hash_of() {
  local name=$1 parent_id=$2 extra=
  [ "$name" != php ] || extra=${MAGRATHEA_PHP_PACKAGES:-}
  {
    printf '%s\n' "$suite" "$parent_id" "$extra"
    cd "$images/$name"
    find . -type f -printf '%P %m\n' | LC_ALL=C sort
    find . -type f -print0 | LC_ALL=C sort -z | xargs -0 cat
  } | sha256sum | cut -c1-16
}

# The URI from which this machine's own apt takes Debian's security updates ($1: security) or the rest ($1: archive).
mirror() {
  # shellcheck disable=SC2016 # apt's placeholders, not the shell's
  apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE)' 'Identifier: Packages' | awk -v want="$1" '
    BEGIN { uri = "http://deb.debian.org/debian" (want == "security" ? "-security" : "") }
    $1 ~ /debian/ && (want == "security") == ($2 ~ /-security$/) { uri = $1; exit }
    END { print uri }'
}

keyring() {
  local file
  for file in /usr/share/keyrings/debian-archive-"$suite"-automatic.*; do
    [ -e "$file" ] || fail "this machine's keyring has no key of Debian $suite: apt-get install debian-archive-keyring (2025.1 or newer; Debian 12.11 has it)"
  done
  for file in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
    [ -e "$file" ] && printf '%s' "$file" && return
  done
  fail "no /usr/share/keyrings/debian-archive-keyring.*: apt-get install debian-archive-keyring"
}

build_base() {
  local tag=$1 archive security keys include value work option=()
  command -v mmdebstrap >/dev/null || fail "mmdebstrap is missing: apt-get install mmdebstrap"
  archive=$(mirror archive)
  security=$(mirror security)
  keys=$(keyring)
  include=$(paste -sd, "$images/base/packages")
  # The machine's own apt decides whether it goes through a proxy and whether an expired list is acceptable.
  for value in Acquire::http::Proxy Acquire::https::Proxy Acquire::Check-Valid-Until Acquire::Check-Date; do
    option+=("$(apt-config dump "$value")")
  done
  work=$logs/base.work
  mkdir "$work"
  { cat "$images/base/apt.conf"; printf '%s\n' "${option[@]}"; } >"$work/apt.conf"
  mmdebstrap --variant=apt --keyring="$keys" --include="$include" \
    --dpkgopt="$images/base/dpkg.cfg" --aptopt="$work/apt.conf" --customize-hook="$images/base/customize" \
    "$suite" "$work/base.tar" \
    "deb $archive $suite main" "deb $archive $suite-updates main" "deb $security $suite-security main"
  # Added last, because mmdebstrap takes away its own file of that name.
  tar --append --file "$work/base.tar" --owner=0 --group=0 --mode=755 --transform 's,^,./usr/sbin/,' \
    --directory "$images/base" policy-rc.d
  docker import --change 'LABEL magrathea.image=base' --change 'ENV LC_ALL=C.UTF-8' "$work/base.tar" "$tag" >/dev/null
}

build_image() {
  local name=$1 tag=$2 parent=$3
  DOCKER_BUILDKIT=0 docker build --quiet --network host --label "magrathea.image=$name" --build-arg "PARENT=$parent" \
    --build-arg "EXTRA_PACKAGES=${MAGRATHEA_PHP_PACKAGES:-}" --tag "$tag" "$images/$name" >/dev/null
}

stale() { [ "$(($(date +%s) - $(date +%s -d "$(docker inspect --format '{{.Created}}' "$1")")))" -gt 604800 ]; }

# Makes one image if it is wanted and missing, then all that stand on it, at the same time.
ensure() {
  local name=$1 parent_id=$2 tag id started took child children=()
  [[ " $wanted " = *" $name "* ]] || return 0
  tag=magrathea/$name:$(hash_of "$name" "$parent_id")
  id=${present[$tag]:-}
  if [ -n "$id" ] && [ "$name" = base ] && [ "$refresh" = yes ] && stale "$tag"; then id=; fi
  if [ -n "$id" ]; then
    say "$name" "present"
  else
    say "$name" "building"
    started=$(date +%s%N)
    # In the background, because errexit is off in whatever an || looks at.
    if [ "$name" = base ]; then build_base "$tag"; else build_image "$name" "$tag" "$parent_id"; fi >"$logs/$name" 2>&1 &
    wait "$!" || {
      tail -n 30 "$logs/$name" >&2
      fail "$name did not build"
    }
    id=$(docker inspect --format '{{.Id}}' "$tag")
    took=$((($(date +%s%N) - started) / 1000000))
    say "$name" "built in $((took / 1000)).$(printf '%03d' $((took % 1000))) s"
  fi
  local line pids=() pid status=0
  while read -r line; do
    [ "${line#*:}" = "$name" ] && children+=("${line%%:*}")
  done <<<"$tree"
  for child in "${children[@]}"; do
    ensure "$child" "$id" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  return "$status"
}

# Removes what was built, older versions too. One that a container runs on is another installation's, and stays.
remove() {
  local tag tags=()
  mapfile -t tags < <(docker images --filter label=magrathea.image --format '{{.Repository}}:{{.Tag}}' 'magrathea/*')
  for tag in "${tags[@]}"; do docker rmi "$tag" >/dev/null 2>&1 || say "${tag#magrathea/}" "stays: a container uses it"; done
}

refresh=no remove=no only=
while [ $# -gt 0 ]; do
  case $1 in
  --refresh) refresh=yes ;;
  --remove) remove=yes ;;
  --only) shift && only=$* && break ;;
  *) fail "usage: build.sh [--refresh] [--only NAME...] | --remove" ;;
  esac
  shift
done

wanted=
for name in ${only:-$(cut -d: -f1 <<<"$tree")}; do
  while [ -n "$name" ]; do
    wanted+=" $name"
    name=$(parent_of "$name") || fail "there is no image of that name; there are: $(cut -d: -f1 <<<"$tree" | paste -sd' ')"
  done
done

# Two builds at the same time would do everything twice.
exec 9<"$images/build.sh"
flock --nonblock 9 || {
  say "images" "another build is at work; waiting for it"
  flock 9
}
# The shell lets its background jobs ignore Ctrl-C.
trap 'kill 0' INT
command -v docker >/dev/null || fail "docker is missing: apt-get install docker.io"
if [ "$remove" = yes ]; then
  remove
  exit
fi
declare -A present=()
listing=$(docker images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}' 'magrathea/*') || fail "the Docker Engine does not answer"
while read -r tag id; do [ -z "$tag" ] || present[$tag]=$id; done <<<"$listing"
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
ensure base ''
