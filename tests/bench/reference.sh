#!/usr/bin/env bash
# The reference of the request benchmark: the very same programs, from the same images' files, configured by hand on the
# host without containers. HAProxy :18180 → Varnish :18181 → apache + php-fpm :18182, and HAProxy :18183 → apache.
#
#   reference.sh start FOLDER | stop FOLDER
set -euo pipefail
verb=$1 folder=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

unpack() { # IMAGE
    [[ -d $folder/$1 ]] && return
    local id container
    id=$(docker images "magrathea/$1" --format '{{.ID}}' | head -1)
    container=$(docker create "$id" true)
    mkdir -p "$folder/$1"
    docker export "$container" | tar -xf - -C "$folder/$1"
    docker rm "$container" >/dev/null
    mkdir -p "$folder/$1"/{proc,dev,run,tmp}
    chmod 1777 "$folder/$1/tmp" "$folder/$1/run"
}

in_root() { # IMAGE NAME COMMAND…
    local image=$1 name=$2
    shift 2
    mountpoint -q "$folder/$image/dev" || mount --rbind /dev "$folder/$image/dev"
    mountpoint -q "$folder/$image/proc" || mount -t proc proc "$folder/$image/proc"
    setsid chroot "$folder/$image" "$@" >"$folder/$name.log" 2>&1 </dev/null &
    echo $! >"$folder/$name.pid"
}

start() {
    mkdir -p "$folder"
    unpack php
    unpack varnish
    unpack router
    mkdir -p "$folder/php/srv/app"
    cp "$here/site/"* "$folder/php/srv/app/"
    cp "$here/apache.conf" "$here/fpm.conf" "$folder/php/etc/"
    cp "$here/haproxy.cfg" "$folder/router/etc/reference.cfg"
    cp "$here/reference.vcl" "$folder/varnish/etc/"
    in_root php fpm php-fpm8.4 --nodaemonize --fpm-config /etc/fpm.conf
    in_root php apache apache2 -f /etc/apache.conf -DFOREGROUND
    in_root varnish varnish varnishd -F -a 127.0.0.1:18181 -T 127.0.0.1:18189 -f /etc/reference.vcl -s malloc,64m -n /tmp/varnish
    in_root router haproxy haproxy -f /etc/reference.cfg
    for _ in {1..100}; do
        curl -fs -o /dev/null http://127.0.0.1:18180/page.php && curl -fs -o /dev/null http://127.0.0.1:18183/page.php && return
        sleep 0.1
    done
    tail -n 5 "$folder"/*.log >&2
    exit 1
}

stop() {
    local name image
    for name in haproxy varnish apache fpm; do
        [[ -f $folder/$name.pid ]] || continue
        kill -TERM -- "-$(cat "$folder/$name.pid")" 2>/dev/null || true
    done
    sleep 1
    for image in php varnish router; do
        umount -l "$folder/$image/proc" "$folder/$image/dev" 2>/dev/null || true
    done
    rm -rf --one-file-system "$folder"
}

"$verb"
