
# Only one at a time looks at a lock and changes it. Whoever died over it is forgotten in a minute.
enter() {
  tries=0
  until mkdir "$1.busy" 2>/dev/null; do
    [ -d "${1%/*}" ] || exit 1
    [ -z "$(find "$1.busy" -prune -mmin +1 2>/dev/null)" ] || rmdir "$1.busy" 2>/dev/null
    if [ "$tries" -ge 60 ]; then
      mkdir "$1.busy" # Says what stands in the way.
      return
    fi
    sleep 0.02
    tries=$((tries + 1))
  done
}

read_lock() {
  TOKEN= HOLDER= UNTIL=0
  [ -r "$1" ] || return 0
  while IFS='=' read -r key value; do
    case $key in
      token) TOKEN=$value ;;
      holder) HOLDER=$value ;;
      until) UNTIL=$value ;;
    esac
  done <"$1"
  LEFT=$((UNTIL - $(date +%s)))
  # No lock is longer than an hour: a clock that was put back must not keep one for ever.
  if [ "$LEFT" -le 0 ] || [ "$LEFT" -gt 3600 ]; then TOKEN=; fi
}

# take_lock BASE TOKEN OF_A_DEAD_PROCESS HOLDER SECONDS: takes a lock, or makes an own one last.
take_lock() {
  mkdir -p "$1" && enter "$1/lock" || exit 1
  read_lock "$1/lock"
  case $TOKEN in
    '' | "$2" | "$3")
      printf 'token=%s\nholder=%s\nuntil=%s\n' "$2" "$4" "$(($(date +%s) + $5))" >"$1/lock.new" &&
        mv -f "$1/lock.new" "$1/lock" && echo host.lock=taken
      ;;
    *)
      echo host.lock=held
      echo "host.token=$TOKEN"
      echo "host.holder=$HOLDER"
      echo "host.left_seconds=$LEFT"
      ;;
  esac
  rmdir "$1/lock.busy"
}

# renew_lock BASE TOKEN HOLDER SECONDS: makes an own lock last. One that is gone, or someone else's,
# is lost, also where it is free again: someone may have had it meanwhile.
renew_lock() {
  if [ ! -d "$1" ]; then
    echo host.lock=lost
    return 0
  fi
  enter "$1/lock" || exit 1
  if grep -qxF "token=$2" "$1/lock" 2>/dev/null; then
    printf 'token=%s\nholder=%s\nuntil=%s\n' "$2" "$3" "$(($(date +%s) + $4))" >"$1/lock.new" &&
      mv -f "$1/lock.new" "$1/lock" && echo host.lock=taken
  else
    echo host.lock=lost
  fi
  rmdir "$1/lock.busy"
}

# leave_lock BASE TOKEN
leave_lock() {
  [ -d "$1" ] || return 0
  enter "$1/lock" || exit 1
  read_lock "$1/lock"
  [ "$TOKEN" != "$2" ] || rm -f "$1/lock"
  rmdir "$1/lock.busy"
  # After the last of a cluster was deleted, and the last cluster.
  rmdir "$1" 2>/dev/null && rmdir "${1%/*}" 2>/dev/null || :
}

# show_lock BASE
show_lock() {
  read_lock "$1/lock"
  [ -n "$TOKEN" ] || return 0
  echo "host.holder=$HOLDER"
  echo "host.left_seconds=$LEFT"
}
