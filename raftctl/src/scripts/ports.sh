
# ports ID PID_FILE PORT_IN_HEXADECIMAL|...: who else listens on the ports of a node that does not
# run, where /proc can tell.
ports() {
  look_up "$2"
  [ "$STATE" = stopped ] || return 0
  for table in /proc/net/tcp /proc/net/tcp6; do
    [ -r "$table" ] || continue
    grep -E "^ *[0-9]+: [0-9A-F]+:($3) [0-9A-F:]+ 0A " "$table"
  done | while read -r _ local _ _ _ _ _ _ _ inode _; do
    port=$(printf '%d' "0x${local##*:}")
    pid=$(ls -l /proc/[0-9]*/fd 2>/dev/null | awk -v socket="socket:[$inode]" '
      /^\/proc\// { split($0, part, "/"); pid = part[3] }
      $NF == socket { print pid; exit }')
    exe=
    [ -z "$pid" ] || exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || exe=
    exe=${exe% (deleted)}
    echo "$1.port_taken=$port ${pid:-?} ${exe:-?}"
  done
}
