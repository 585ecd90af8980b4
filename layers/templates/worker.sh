# The first process of a worker's container: runs $1 as a group of its own, hands a TERM on to all of it, and then waits
# until all of it has ended. When it ends by itself, the replica ends with its status.
setsid bash -c "$1" &
group=$!
stopping=
stop() {
  stopping=1
  kill -TERM -- "-$group" 2>/dev/null || kill -TERM "$group" 2>/dev/null
}
trap stop TERM INT
while :; do
  wait "$group"
  status=$?
  kill -0 "$group" 2>/dev/null || break
done
[ -z "$stopping" ] || while kill -0 -- "-$group" 2>/dev/null; do sleep 0.05; done
exit "$status"
