
# What root makes here is for the nodes' user to read, whatever the login's umask is. What is not for
# everybody is narrowed where it is made.
umask 022

# put FILE TEXT...: writes a file, a line each, at once or not at all. It is made in the folder above
# that of the file, which is root's alone: nobody else can have laid a link there.
put() {
  file=$1 new=${1%/*/*}/.${1##*/}.new
  shift
  printf '%s\n' "$@" >"$new" && mv -fT "$new" "$file"
}

# share BASE RUN_DIR USER: root's is all that nodes read; their user may make files of its own beside
# those in RUN_DIR, and leave or take no others. Earlier versions gave it all of that folder, and left
# the others as the umask of the login made them.
share() {
  chmod a+rx "$1" "${1%/*}" && { [ ! -d "$1/bin" ] || chmod -R a+rX "$1/bin"; } &&
    chown "root:$(id -g "$3")" "$2" && chmod 1775 "$2"
}

# cancel UNIT: ends what systemd has begun, or is to begin, to start a node that does not run.
cancel() {
  [ ! -e "/etc/systemd/system/$1" ] || systemctl --quiet stop "$1" || :
}

# watched UNIT_TEXT EXECUTABLE: without what the program has no part in: an earlier release tells systemd nothing of its
# loop, and would be taken for stuck.
watched() {
  case $("$2" --help 2>/dev/null) in
    *WatchdogSec=*) printf '%s\n' "$1" ;;
    *) printf '%s\n' "$1" | grep -v '^WatchdogSec=' ;;
  esac
}

# unwatch UNIT: a node that is frozen on purpose is not stuck. What the unit does to be "reloaded" takes the watch from it,
# until the node goes on: with its next step it asks to be watched again.
unwatch() {
  ! grep -q '^WatchdogSec=' "/etc/systemd/system/$1" || systemctl --quiet reload "$1"
}

# start_unit UNIT USER UNIT_TEXT LAUNCH_TEXT ID PID_FILE ARGS_FILE DATA_DIR EXECUTABLE ARGUMENT...
# Whatever keeps the node from running after that, a lost log as well, its launcher tells.
start_unit() {
  unit=$1 user=$2 unit_text=$3 launch_text=$4 id=$5 pid_file=$6 args_file=$7 data_dir=$8 executable=$9
  shift 9
  find_node "$pid_file"
  if [ "$ALIVE" = yes ]; then
    echo "$id.started=no"
    return 0
  fi
  # systemd may be about to start it: at boot, or because it failed. What it writes must not be deleted.
  cancel "$unit"
  base=${data_dir%/*} run=${pid_file%/*}
  mkdir -p "$data_dir" "$run" || return 0
  if ! id -u "$user" >/dev/null 2>&1; then
    # A group of its own: whoever is in it may make files in the run folder.
    if getent group "$user" >/dev/null; then group="--gid $user"; else group=--user-group; fi
    useradd --system $group --no-create-home --home-dir / --shell /usr/sbin/nologin "$user" ||
      return 0
    # Whoever deletes the last cluster deletes the user as well, if it was made here.
    : >"${base%/*}/.made_user"
  fi
  share "$base" "$run" "$user" || return 0
  rm -f "$pid_file" "$pid_file.new"
  for own in "${pid_file%.pid}.log" "${pid_file%.pid}.log.1"; do
    # Never what a link leads to.
    [ ! -e "$own" ] || chown -h "$user:" "$own" || return 0
  done
  [ ! -e "${pid_file%.pid}.data" ] || put "${pid_file%.pid}.data" '' || return 0
  chmod 750 "$data_dir" && chown -Rh "$user:" "$data_dir" || return 0
  tls=$base/tls_node_$id
  if [ -d "$tls" ]; then
    # The folder is root's, so what is in it is what root has put there.
    chown -h "root:$(id -g "$user")" "$tls" && chmod 750 "$tls" || return 0
    [ ! -e "$tls/node.key" ] || chown -h "$user:" "$tls/node.key" || return 0
  fi
  put "$args_file" "$(printf '%s\n' "$@" | fitting "$executable")" && put "${pid_file%.pid}.launch" "$launch_text" || return 0
  unit_text=$(watched "$unit_text" "$executable")
  if [ "$(cat "/etc/systemd/system/$unit" 2>/dev/null)" != "$unit_text" ]; then
    put "/etc/systemd/system/$unit" "$unit_text" && systemctl daemon-reload || return 0
  fi
  rm -f "${pid_file%.pid}.held"
  systemctl --quiet enable "$unit" || return 0
  systemctl reset-failed "$unit" 2>/dev/null || :
  systemctl --no-block start "$unit" || return 0
  echo "$id.started=yes"
}

# hold PID_FILE: what is ended now stays so, until it is started: not even a reboot changes that.
hold() {
  [ ! -d "${1%/*}" ] || put "${1%.pid}.held" ''
}

# remove_unit UNIT PID_FILE
remove_unit() {
  look_up "$2"
  [ "$STATE" = stopped ] || return 0
  rm -f "${2%.pid}.held" "${2%.pid}.launch"
  [ -e "/etc/systemd/system/$1" ] || return 0
  systemctl --quiet disable "$1" && rm -f "/etc/systemd/system/$1" && systemctl daemon-reload
}
