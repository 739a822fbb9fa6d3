
# alone RUN_DIR: only one script at a time starts nodes of a cluster; whoever comes second finds them
# running. The system gives the lock back, however this script ends.
alone() {
  mkdir -p "$1" || exit 1
  command -v flock >/dev/null 2>&1 || return 0
  exec 9>"${1%/*}/starting" || exit 1
  tries=0
  # Not every flock knows how to wait for a time.
  until flock -n 9; do
    if [ "$tries" -ge 300 ]; then
      echo "someone else is starting nodes there; wait until they are done, and run this again" >&2
      exit 1
    fi
    sleep 0.1
    tries=$((tries + 1))
  done
}

# fitting EXECUTABLE: of arguments, a line each, those that the program takes. Options of which earlier
# versions know nothing, and that they can do without, are left out where it does not tell of them: so a
# cluster can be taken back.
fitting() {
  help=$("$1" --help 2>/dev/null 9>&-) || help=
  while IFS= read -r word; do
    case $word in
      --cluster-id | --proof-of-death | --snapshot-log-kib | --format-max | --metrics-listen)
        case $help in
          *"$word "*) ;;
          *) IFS= read -r word && continue ;;
        esac
        ;;
    esac
    printf '%s\n' "$word"
  done
}

# start ID PID_FILE ARGS_FILE OUTPUT_FILE DATA_DIR EXECUTABLE SHA256 ARGUMENT...
start() {
  id=$1 pid_file=$2 args_file=$3 output_file=$4 data_dir=$5 executable=$6 sha256=$7
  shift 7
  find_node "$pid_file"
  if [ "$ALIVE" = yes ]; then
    echo "$id.started=no"
    return 0
  fi
  mkdir -p "$data_dir" "${pid_file%/*}" || return 0
  rm -f "$pid_file"
  if is_lost "$pid_file" "$data_dir"; then refuse_lost "$id" "$output_file" && return 0; fi
  printf '%s\n' "$@" | fitting "$executable" >"$args_file.new" && mv -f "$args_file.new" "$args_file" || return 0
  [ ! -f "$output_file" ] || mv -f "$output_file" "$output_file.1"
  program=$executable
  if executable=$(readlink -f "$program") && [ -f "$executable" ] && [ ! -x "$executable" ]; then
    echo "raft-node may not be run from where it lies ($executable): its file system is mounted noexec," \
      "or its mode was changed; \`raftctl up\` tells more" >"$output_file"
    echo "$id.started=no"
    return 0
  fi
  if [ ! -x "$executable" ]; then
    echo "raft-node is not there ($program); \`raftctl up\` brings it" >"$output_file"
    echo "$id.started=no"
    return 0
  fi
  # What was shipped tells itself what it is.
  [ ! -r "${executable%/*}/sha256" ] || sha256=$(cat "${executable%/*}/sha256")
  # A session of its own: neither the end of this script nor a closed terminal reaches the node.
  if command -v setsid >/dev/null 2>&1; then launcher=setsid; else launcher=nohup; fi
  # Asked once, and only where a node is started.
  [ "${in_scope-unasked}" != unasked ] || linger
  # The process writes its own pid file before it becomes the node. So there is no moment in which
  # a node runs and nobody knows of it, even if this script ends at once.
  RECORD_START=$RECORD_START BOOT_NOW=$BOOT_NOW $launcher $in_scope sh -c '
    unset NOTIFY_SOCKET
    eval "$RECORD_START"
    printf "pid=%s\nstart=%s\nboot=%s\nexecutable=%s\nsha256=%s\n" \
      "$$" "$started" "$BOOT_NOW" "$2" "$4" >"$1.new" && mv -f "$1.new" "$1" || exit 1
    unset RECORD_START BOOT_NOW
    cd / && exec "$2" "@$3"
  ' node "$pid_file" "$executable" "$args_file" "$sha256" \
    </dev/null >"$output_file" 2>&1 9>&- &
  echo "$id.started=yes"
}

# How a process learns when it began.
RECORD_START='
  if [ -r /proc/self/stat ]; then
    IFS= read -r stat <"/proc/$$/stat"
    set_start() { started=${20}; }
    set_start ${stat##*) }
  else
    set_start() { shift; started=$*; }
    set_start x $(ps -o lstart= -p "$$")
  fi
'

# settle ID PID_FILE ARGS_FILE: waits, some seconds at most, until the process has become the node, or is gone.
settle() {
  tries=0
  while look_up "$2" && [ "$STATE" = stopped ] && [ "$tries" -lt 300 ]; do
    [ "$RECORD" = absent ] || [ "$NOW_STATE" != gone ] || break
    sleep 0.01
    tries=$((tries + 1))
  done
  report "$1" "$2" "$3"
}
