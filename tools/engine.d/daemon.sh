# Starting and stopping the private dockerd.

daemon_pid() {  # of the running dockerd, never of a stranger that inherited its number
  local pid
  pid=$(cat "$home/dockerd.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  grep -qaF -- "--host=unix://$socket" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

start_script() {
  cat <<'TEXT'
# The daemon has a mount namespace of its own: what it mounts disappears with it, a containerd that
# the machine may run is out of its sight, and its sockets have the short paths that the kernel demands.
set -eu
home=$1 short=$2
shift 2
. "$home/inner.sh"
mkdir -p "$home/run"
mount --bind "$home/run" "$short"
mountpoint -q /sys/fs/cgroup || mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
  for name in $(awk '!/^#/ && $4 == 1 {print $1}' /proc/cgroups); do
    mountpoint -q "/sys/fs/cgroup/$name" && continue
    mkdir -p "/sys/fs/cgroup/$name"
    mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name" 2>/dev/null || rmdir "/sys/fs/cgroup/$name"
  done
fi
exec dockerd "$@"
TEXT
}

start_daemon() {
  local started
  remember_host
  make_bridge
  mkdir -p "$short"
  rm -f "$home/dockerd.pid"
  echo '{}' >"$home/daemon.json"  # /etc/docker/daemon.json belongs to another engine
  start_script >"$home/start.sh"
  setsid unshare --mount --propagation slave sh "$home/start.sh" "$home" "$short" \
    --config-file="$home/daemon.json" --host="unix://$socket" --pidfile="$home/dockerd.pid" \
    --data-root="$home/data" --exec-root="$short/docker" \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent="/$cgroup" \
    --bridge="$bridge" --fixed-cidr="$pool.0.0/24" --default-address-pool "base=$pool.0.0/16,size=24" \
    --log-level=warn </dev/null >>"$home/dockerd.log" 2>&1 8>&- 9>&- &
  started=$!
  for _ in $(seq 300); do
    ! private_answers >/dev/null || return 0
    kill -0 "$started" 2>/dev/null || break
    sleep 0.2
  done
  tail -5 "$home/dockerd.log" >&2
  die "the private engine did not start" "read $home/dockerd.log"
}

stop_daemon() {
  local pid
  if pid=$(daemon_pid); then
    kill "$pid"
    for _ in $(seq 300); do daemon_pid >/dev/null || break; sleep 0.1; done
    if daemon_pid >/dev/null; then say "it does not stop by itself: killing it"; kill -9 "$pid"; fi
  fi
  # A killed dockerd leaves containerd, shims with their containers, proxies and a directory of run time state.
  for pid in $(our_processes); do end_tree "$pid"; done
  for _ in $(seq 50); do [ "$(our_processes)" ] || break; sleep 0.1; done
  rm -rf --one-file-system "$home/run" "$home/dockerd.pid" "$socket"
}

our_processes() {  # those that run from our tree
  local process
  for process in /proc/[0-9]*; do
    case $(readlink "$process/exe" 2>/dev/null) in
      "$tree"/usr/bin/containerd* | "$tree"/usr/*bin/docker-proxy*) echo "${process#/proc/}" ;;
    esac
  done
}

end_tree() {
  local child
  for child in $(cat "/proc/$1"/task/*/children 2>/dev/null); do end_tree "$child"; done
  kill -9 "$1" 2>/dev/null || true
}
