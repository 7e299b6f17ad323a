# shellcheck shell=bash
# The network of the lab: namespaces, bridge, mirror, and what takes them away again.
#
# Everything has the prefix LAB_PREFIX, so that several labs live side by side. Namespaces of one
# lab: PREFIX-a 10.99.0.1 and fd99::1, PREFIX-b …2, PREFIX-c …3, PREFIX-sw (the switch), PREFIX-probe (span0).

LAB_PHONES=(a b c)
LAB_HOSTS=("${LAB_PHONES[@]}" sw probe)
LAB_OWNED=no   # yes: this process made the lab and takes it away
LAB_PIDS=()    # processes to end with this one
LAB_DIRS=()    # directories to remove with this one
: "${LAB_PREFIX:=}"

say() { echo "lab: $*" >&2; }
die() {
  say "$*"
  exit 1
}

lab_namespace() { # HOST
  [[ -n $LAB_PREFIX ]] || die "no lab: run \`lab up\` and export the LAB_PREFIX it prints"
  echo "$LAB_PREFIX-$1"
}

lab_in() { # HOST CMD…: in this shell's foreground
  local host=$1
  shift
  ip netns exec "$LAB_PREFIX-$host" "$@"
}

lab_up() {
  [[ $(id -u) == 0 ]] || die "needs root (network namespaces)"
  [[ -n $LAB_PREFIX ]] || LAB_PREFIX=cs$$
  [[ ! -e /run/netns/$LAB_PREFIX-sw ]] || die "$LAB_PREFIX is up already: use another LAB_PREFIX, or \`lab down\`"
  local host number=0 sw=$LAB_PREFIX-sw probe=$LAB_PREFIX-probe
  for host in "${LAB_HOSTS[@]}"; do ip netns add "$LAB_PREFIX-$host"; done
  # Before any interface exists: the probe must not even ask who is there.
  ip netns exec "$probe" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
  for host in "${LAB_PHONES[@]}"; do
    ip link add "port-$host" netns "$sw" type veth peer name eth0 netns "$LAB_PREFIX-$host"
  done
  ip link add mirror netns "$sw" type veth peer name span0 netns "$probe"
  ip -n "$probe" link set span0 arp off multicast off
  ip -n "$sw" link add bridge type bridge
  for host in "${LAB_PHONES[@]}"; do
    ip -n "$sw" link set "port-$host" master bridge up
    ip netns exec "$sw" tc qdisc add dev "port-$host" handle ffff: ingress
    ip netns exec "$sw" tc filter add dev "port-$host" parent ffff: protocol all prio 1 \
      u32 match u32 0 0 action mirred egress mirror dev mirror
  done
  ip -n "$sw" link set bridge up
  ip -n "$sw" link set mirror up
  for host in "${LAB_PHONES[@]}"; do
    number=$((number + 1))
    ip -n "$LAB_PREFIX-$host" addr add "10.99.0.$number/24" dev eth0
    ip -n "$LAB_PREFIX-$host" addr add "fd99::$number/64" dev eth0 nodad
    ip -n "$LAB_PREFIX-$host" link set eth0 up
    ip -n "$LAB_PREFIX-$host" link set lo up
    # A mirror port sees what the wire carries: whole packets, with checksums.
    ip netns exec "$LAB_PREFIX-$host" ethtool -K eth0 tx off tso off gso off gro off >/dev/null 2>&1 || true
  done
  # For what asks the recorder on the probe itself (metrics).
  ip -n "$probe" link set lo up
  ip -n "$probe" link set span0 up promisc on
}

lab_down() {
  local host pid
  [[ -n $LAB_PREFIX ]] || die "no LAB_PREFIX: nothing to take away"
  for host in "${LAB_HOSTS[@]}"; do
    [[ -e /run/netns/$LAB_PREFIX-$host ]] || continue
    for pid in $(ip netns pids "$LAB_PREFIX-$host"); do kill "$pid" 2>/dev/null || true; done
    ip netns del "$LAB_PREFIX-$host" || true
  done
}

lab_cleanup() {
  local pid directory
  for pid in "${LAB_PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  [[ $LAB_OWNED == no ]] || lab_down
  for directory in "${LAB_DIRS[@]}"; do rm -rf "$directory"; done
}

# Uses the lab of LAB_PREFIX, or makes one that ends with this process.
lab_own() {
  trap lab_cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  [[ -n $LAB_PREFIX && -e /run/netns/$LAB_PREFIX-sw ]] && return
  LAB_OWNED=yes
  lab_up
}

lab_transmitted() { # frames that span0 ever sent
  lab_in probe cat /sys/class/net/span0/statistics/tx_packets
}

lab_must_be_silent() {
  local sent
  sent=$(lab_transmitted)
  [[ $sent == 0 ]] || die "span0 sent $sent frames; a probe sends none"
}

# Starts tcpdump into FILE (unless it is `-`) and CMD on the probe. Waits until both listen.
lab_record() { # FILE [CMD…]
  local file=$1 tries
  shift
  LAB_DUMP='' LAB_PROBE=''
  if [[ $file != - ]]; then
    rm -f "$file"
    ip netns exec "$LAB_PREFIX-probe" tcpdump -Z root -B 16384 -U -nn -p -s 0 -i span0 -w "$file" 2>/dev/null &
    LAB_DUMP=$!
    LAB_PIDS+=("$LAB_DUMP")
    for ((tries = 0; tries < 50; tries++)); do
      [[ -s $file ]] && break
      sleep 0.1
    done
    [[ -s $file ]] || die "tcpdump does not start on span0"
  fi
  (($#)) || return 0
  ip netns exec "$LAB_PREFIX-probe" "$@" &
  LAB_PROBE=$!
  LAB_PIDS+=("$LAB_PROBE")
  sleep 2
  kill -0 "$LAB_PROBE" 2>/dev/null || {
    wait "$LAB_PROBE" || die "the probe's command failed at once (exit status $?)"
  }
}

# Ends what lab_record started, gives it LAB_STOP_SECONDS for that, returns CMD's exit status.
lab_stop_record() {
  local tries status=0
  sleep 1
  if [[ -n $LAB_DUMP ]]; then
    kill -INT "$LAB_DUMP" 2>/dev/null || true
    wait "$LAB_DUMP" || true
  fi
  [[ -n $LAB_PROBE ]] || return 0
  kill -TERM "$LAB_PROBE" 2>/dev/null || true
  for ((tries = 0; tries < ${LAB_STOP_SECONDS:-30} * 10; tries++)); do
    kill -0 "$LAB_PROBE" 2>/dev/null || break
    sleep 0.1
  done
  if kill -0 "$LAB_PROBE" 2>/dev/null; then
    kill -KILL "$LAB_PROBE"
    say "the probe's command did not end ${LAB_STOP_SECONDS:-30} s after SIGTERM"
  fi
  wait "$LAB_PROBE" || status=$?
  return "$status"
}
