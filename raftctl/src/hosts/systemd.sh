
# replace FILE TEXT: writes a file at once or not at all; says whether it was another before.
replace() {
  [ "$(cat "$1" 2>/dev/null)" != "$2" ] || return 1
  printf '%s\n' "$2" >"$1.new" && mv -f "$1.new" "$1"
}

# start_unit UNIT USER UNIT_TEXT LAUNCH_TEXT ID PID_FILE ARGS_FILE DATA_DIR ARGUMENT...
start_unit() {
  unit=$1 user=$2 unit_text=$3 launch_text=$4 id=$5 pid_file=$6 args_file=$7 data_dir=$8
  shift 8
  look_up "$pid_file"
  if [ "$STATE" != stopped ]; then
    echo "$id.started=no"
    return 0
  fi
  mkdir -p "$data_dir" "${pid_file%/*}" || return 0
  if ! id -u "$user" >/dev/null 2>&1; then
    useradd --system --no-create-home --home-dir / --shell /usr/sbin/nologin "$user" || return 0
    # Whoever deletes the last cluster deletes the user as well, if it was made here.
    clusters=${data_dir%/*/*}
    : >"$clusters/.made_user"
  fi
  rm -f "$pid_file"
  if is_lost "$pid_file" "$data_dir"; then refuse_lost "$id" "${pid_file%.pid}.log" && return 0; fi
  printf '%s\n' "$@" >"$args_file.new" && mv -f "$args_file.new" "$args_file" || return 0
  replace "${pid_file%.pid}.launch" "$launch_text" || :
  chown -R "$user:" "$data_dir" "${pid_file%/*}" || return 0
  if replace "/etc/systemd/system/$unit" "$unit_text"; then systemctl daemon-reload || return 0; fi
  rm -f "${pid_file%.pid}.held"
  systemctl --quiet enable "$unit" || return 0
  systemctl reset-failed "$unit" 2>/dev/null || :
  systemctl --no-block start "$unit" || return 0
  echo "$id.started=yes"
}

# hold PID_FILE: what is ended now stays so, until it is started: not even a reboot changes that.
hold() {
  [ ! -d "${1%/*}" ] || : >"${1%.pid}.held"
}

# remove_unit UNIT PID_FILE
remove_unit() {
  look_up "$2"
  [ "$STATE" = stopped ] || return 0
  rm -f "${2%.pid}.held" "${2%.pid}.launch"
  [ -e "/etc/systemd/system/$1" ] || return 0
  systemctl --quiet disable "$1" && rm -f "/etc/systemd/system/$1" && systemctl daemon-reload
}
