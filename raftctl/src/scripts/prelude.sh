set -u
export LC_ALL=C

# What a process is doing and when it began. A number alone can belong to someone else by now.
examine() {
  NOW_STATE=gone NOW_START= THREADS=0
  if [ -r /proc/self/stat ]; then
    stat=
    { IFS= read -r stat; } 2>/dev/null <"/proc/$1/stat" || return 0
    set -- ${stat##*) }
    NOW_STATE=$1 THREADS=${18} NOW_START=${20}
  else
    stat=$(ps -o stat= -o lstart= -p "$1" 2>/dev/null) || return 0
    set -- $stat
    NOW_STATE=$1
    shift
    NOW_START=$*
  fi
  case $NOW_STATE in
    # Its first thread may have ended before the others, which hold its ports and locks until they have, too.
    [ZX]*) if [ "$THREADS" -gt 1 ]; then NOW_STATE=running; else NOW_STATE=gone; fi ;;
    [Tt]*) NOW_STATE=paused ;;
    *) NOW_STATE=running ;;
  esac
}

# Which run of the machine this is: process start times begin anew with each.
boot() {
  if [ -r /proc/sys/kernel/random/boot_id ]; then
    cat /proc/sys/kernel/random/boot_id
  else
    sysctl -n kern.boottime 2>/dev/null || :
  fi
}
BOOT_NOW=$(boot)

# look_up PID_FILE: the process that was started with it, if it is still the same one. It is ALIVE
# before it has become the node: the file is written by what becomes it.
look_up() {
  PID= START= BOOT= EXECUTABLE= SHA256= STATE=stopped RECORD=absent ALIVE=no
  [ -r "$1" ] || return 0
  RECORD=present
  while IFS='=' read -r key value; do
    case $key in
      pid) PID=$value ;;
      start) START=$value ;;
      boot) BOOT=$value ;;
      executable) EXECUTABLE=$value ;;
      sha256) SHA256=$value ;;
    esac
  done <"$1"
  case $PID in '' | *[!0-9]*) PID= && return 0 ;; esac
  examine "$PID"
  [ "$NOW_STATE" != gone ] && [ "$NOW_START" = "$START" ] && [ "$BOOT_NOW" = "$BOOT" ] || return 0
  is_of_writer "$PID" "$1" || return 0
  ALIVE=yes
  exe=$(readlink "/proc/$PID/exe" 2>/dev/null) || exe=
  case ${exe% (deleted)} in '' | "$EXECUTABLE") STATE=$NOW_STATE ;; esac
}

# is_of_writer PID FILE: whether a process belongs to whoever wrote the file. Where nodes have a user
# of their own, that user writes the pid files: they must not have root end anybody else's process.
is_of_writer() {
  uid=
  if [ -r "/proc/$1/status" ]; then
    while read -r key uid _ && [ "$key" != Uid: ]; do :; done 2>/dev/null <"/proc/$1/status"
  else
    uid=$(ps -o uid= -p "$1" 2>/dev/null) || return 1
  fi
  set -- ${uid:-gone} $(ls -ldn "$2" 2>/dev/null)
  [ "$1" = "${4-}" ]
}

# find_node PID_FILE: the same, and waits, some seconds at most, until what lives has become the node.
find_node() {
  tries=0
  while look_up "$1" && [ "$STATE" = stopped ] && [ "$ALIVE" = yes ] && [ "$tries" -lt 300 ]; do
    sleep 0.01
    tries=$((tries + 1))
  done
}

# report ID PID_FILE ARGS_FILE: what is known of a node.
report() {
  look_up "$2"
  echo "$1.state=$STATE"
  echo "$1.record=$RECORD"
  if [ "$STATE" != stopped ]; then
    echo "$1.pid=$PID"
    echo "$1.executable=$EXECUTABLE"
    echo "$1.sha256=$SHA256"
  fi
  [ ! -r "$3" ] || sed "s/^/$1.argument=/" "$3"
}

# lines NAME FILE: each line of a small file, the last one too where nothing ends it.
lines() {
  [ -r "$2" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do printf '%s=%s\n' "$1" "$line"; done <"$2"
}

# wait_until STATE TENTHS_OF_A_SECOND PID_FILE: polls, finely at first.
wait_until() {
  tries=0
  while look_up "$3" && [ "$STATE" != "$1" ]; do
    [ "$tries" -lt "$(($2 + 20))" ] || return 1
    if [ "$tries" -lt 20 ]; then sleep 0.01; else sleep 0.1; fi
    tries=$((tries + 1))
  done
}

# is_lost PID_FILE DATA_DIR: a log was seen there, and is gone.
is_lost() { [ -e "${1%.pid}.data" ] && [ ! -s "$2/logs.txt" ]; }

# refuse_lost ID OUTPUT_FILE
refuse_lost() {
  echo "raft-node was not started: the log of node $1 is gone; \`raftctl plan\` says more" >"$2"
  echo "$1.started=no"
}
