
# resolve PEER...: each peer's NAME,PORT as ADDRESS,PORT, one a line and address.
resolve() {
  for peer in "$@"; do
    name=${peer%,*}
    case $name in
      *:*) found=$name ;;
      *[!0-9.]*) found=$(getent ahosts "$name" | awk '{ print $1 }' | sort -u) ;;
      *) found=$name ;;
    esac
    if [ -z "$found" ]; then
      echo "cannot resolve $name, so nothing would be cut off from it; try \`getent ahosts $name\`" >&2
      return 1
    fi
    for address in $found; do echo "$address,${peer##*,}"; done
  done
}

# rules CHAIN_HOOK OWN_PORT PEER...: drops what comes from, or goes to, peers' ADDRESS,PORT.
rules() {
  hook=$1 own=$2
  shift 2
  [ "$hook" = input ] && side=saddr || side=daddr
  [ "$hook" = input ] && near=dport far=sport || near=sport far=dport
  echo "  chain $hook {"
  echo "    type filter hook $hook priority -300; policy accept;"
  for peer in "$@"; do
    address=${peer%,*}
    case $address in *:*) family=ip6 ;; *) family=ip ;; esac
    echo "    $family $side $address tcp $near $own drop"
    echo "    $family $side $address tcp $far ${peer##*,} drop"
  done
  echo "  }"
}

# filter TABLE MARK SECONDS OWN_PORT PEER...: a table of its own, so that nothing else is touched,
# and all of it can be taken away at once.
filter() {
  table=$1 mark=$2 seconds=$3
  shift 3
  if [ "$(id -u)" != 0 ]; then
    echo "a packet filter needs root: $(sudo -n true 2>&1); let the login use sudo without a" \
      "password (visudo), or leave --packet-filter out" >&2
    exit 1
  fi
  command -v nft >/dev/null || { echo "nft is missing; install nftables" >&2 && exit 1; }
  own=$1
  shift
  peers=$(resolve "$@") || exit 1
  set -- $peers
  text=$(
    echo "add table inet $table"
    echo "delete table inet $table"
    echo "table inet $table {"
    echo "  chain $mark { }"
    rules input "$own" "$@"
    rules output "$own" "$@"
    echo "}"
  )
  # It is taken away in time even if nobody comes back. The mark tells it from a later one.
  timer='sleep "$1"; nft list chain inet "$2" "$3" && nft delete table inet "$2"'
  if command -v setsid >/dev/null 2>&1; then launcher=setsid; else launcher=nohup; fi
  $launcher sh -c "$timer" heal "$seconds" "$table" "$mark" </dev/null >/dev/null 2>&1 &
  printf '%s\n' "$text" | nft -f - || exit 1
  echo host.filtered=yes
}

# unfilter TABLE
unfilter() {
  if command -v nft >/dev/null && nft list table inet "$1" >/dev/null 2>&1; then
    nft delete table inet "$1" || exit 1
    echo host.healed=yes
  else
    echo host.healed=no
  fi
}
