# What outlives a daemon on the host (bridges, packet filter rules, control groups), and taking it away again.

remember_host() {  # what `forget_host` puts back; taken before the first start after a boot
  local boot
  boot=$(cat /proc/sys/kernel/random/boot_id)
  [ "$(before boot)" != "$boot" ] || return 0
  {
    echo "boot=$boot"
    echo "forward=$(cat /proc/sys/net/ipv4/ip_forward)"
    echo "policy=$(inner iptables -S FORWARD 2>/dev/null | awk 'NR == 1 {print $3}')"
    echo "chains=$(inner iptables -S 2>/dev/null | grep -c '^-N DOCKER' || true)"
    echo "rundir=$([ -d "$short" ] && ! others_mount && echo yes || echo no)"
  } >"$home/host-before"
}

others_mount() { grep -qs " $short " /proc/[0-9]*/mountinfo; }
others_run() { grep -qs '^[0-9]* (dockerd) [^Z]' /proc/[0-9]*/stat; }  # asked when ours has stopped

before() { sed -n "s/^$1=//p" "$home/host-before" 2>/dev/null || true; }

make_bridge() {
  inner ip link show "$bridge" >/dev/null 2>&1 || inner ip link add "$bridge" type bridge
  inner ip addr replace "$pool.0.1/24" dev "$bridge"
  inner ip link set "$bridge" up
}

our_bridges() {
  inner ip -o -4 addr show | awk -v net="$pool." -v own="$bridge" 'index($4, net) == 1 && ($2 == own || $2 ~ /^br-/) {print $2}'
}

forget_host() {
  local name
  [ -e "$home/host-before" ] || return 0
  delete_rules nat "[ /]${pool/./[.]}[.]| ($({ echo "$bridge"; our_bridges; } | paste -sd'|')) "
  delete_rules filter "[ /]${pool/./[.]}[.]| ($({ echo "$bridge"; our_bridges; } | paste -sd'|')) "
  for name in $(our_bridges); do inner ip link del "$name" || true; done
  if ! others_run; then
    [ "$(before chains)" != 0 ] || remove_chains
    [ "$(before policy)" != ACCEPT ] || inner iptables -P FORWARD ACCEPT
    [ "$(before forward)" != 0 ] || echo 0 >/proc/sys/net/ipv4/ip_forward
  fi
  [ "$(before rundir)" = yes ] || others_mount || rmdir "$short" 2>/dev/null || true
  find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null || true
  rm -f "$home/host-before"
}

delete_rules() {  # TABLE PATTERN
  local rule
  inner iptables -t "$1" -S 2>/dev/null | awk -v wanted="$2" '/^-A/ && $0 ~ wanted {sub("-A", "-D"); print}' |
    while read -r rule; do eval "inner iptables -t $1 $rule" 2>/dev/null || true; done
}

remove_chains() {  # only where no other engine had made them before
  local table chain
  for table in nat filter; do
    delete_rules "$table" '-j DOCKER'
    for chain in $(our_chains "$table"); do inner iptables -t "$table" -F "$chain"; done
    for chain in $(our_chains "$table"); do inner iptables -t "$table" -X "$chain"; done
  done
}

our_chains() { inner iptables -t "$1" -S 2>/dev/null | awk '$1 == "-N" && $2 ~ /^DOCKER/ {print $2}'; }
