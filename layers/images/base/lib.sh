# shellcheck shell=bash
# Shared by the entry points of the instance images.

# Starts the entry point again without any way to gain privileges; the engine's Swarm interface cannot say it. What the
# kernel says counts, not the environment, which is the app's.
no_new_privileges() {
  [[ $(</proc/self/status) = *$'\nNoNewPrivs:\t1\n'* ]] || exec setpriv --no-new-privs "$0" "$@"
}

# Puts the instance's secret values into this process's environment; call it only where the app itself will run.
load_secrets() {
  local entry
  [ -r /run/secrets/magrathea-env ] || return 0
  while IFS= read -r -d '' entry || [ -n "$entry" ]; do export "${entry?}"; done </run/secrets/magrathea-env
}

# Runs a command as the app instead of serving: hooks, cron jobs, tasks, shells.
run_command() {
  load_secrets
  exec "$@"
}

# Whether a process has children that still run.
has_children() {
  local child children=() state
  read -ra children 2>/dev/null <"/proc/$1/task/$1/children" || true
  for child in "${children[@]}"; do
    read -r state 2>/dev/null <"/proc/$child/stat" || continue
    [[ $state = *') Z '* ]] || return 0
  done
  return 1
}

# Waits until Apache, which was told to stop gracefully, has ended. Its parent looks only once a second whether the
# children are gone, so it is told.
await_apache() {
  while has_children "$1"; do sleep 0.02; done
  kill -s TERM "$1" 2>/dev/null || true
}

# Waits for the given processes; when one ends or a TERM comes, stops all of them, each with its own signal, in order.
#   supervise PID:SIGNAL...
supervise() {
  local part ended='' status=0
  trap 'ended=term' TERM INT QUIT
  wait -n "${@%%:*}" || status=$?
  trap '' TERM INT QUIT
  for part in "$@"; do
    kill -s "${part#*:}" "${part%%:*}" 2>/dev/null || true
    [ "${part#*:}" != WINCH ] || await_apache "${part%%:*}"
    wait "${part%%:*}" 2>/dev/null || true
  done
  [ -z "$ended" ] || exit 0
  echo "a server process ended with status $status; the replica stops" >&2
  exit "$((status == 0 ? 1 : status))"
}
