#!/usr/bin/env bash
# Prepares a machine for a Raft node. Google's guest agent runs it as root at every boot, so every step
# looks first and changes only what is missing. A data disk that holds anything is never formatted.
set -euo pipefail

root=${RAFT_ROOT:-}                                        # set by the tests alone
device=${RAFT_DATA_DEVICE:-/dev/disk/by-id/google-raft-data}
mount_point=$root/opt/raftkv
ready=$root/run/raft-host-ready                            # raftctl waits for this file

say() { echo "raft startup: $*"; }

wait_for_device() {
  local second
  for second in $(seq 1 60); do
    [ -b "$device" ] && return 0
    sleep 1
  done
  say "the data disk $device did not appear within 60 s"
  return 1
}

# blkid answers 2 when it finds nothing on the disk, and only then is there nothing to lose. Any other
# failure (an unreadable disk, say) ends the script.
format_if_blank() {
  local found=0
  blkid --probe "$device" >/dev/null || found=$?
  case $found in
    0) say "the data disk holds a file system, kept as it is" ;;
    2) say "the data disk is blank, formatting it"
       mkfs.ext4 -q -m 0 -L raft-data "$device" ;;
    *) say "blkid cannot tell what is on $device (exit code $found), nothing was formatted"
       return 1 ;;
  esac
}

mount_data() {
  mkdir -p "$mount_point"
  # By label: a machine that is made anew finds the same disk, whatever its device is called.
  if ! grep -q '^LABEL=raft-data ' "$root/etc/fstab" 2>/dev/null; then
    echo "LABEL=raft-data /opt/raftkv ext4 defaults,noatime,nofail 0 2" >> "$root/etc/fstab"
  fi
  # From the second boot on it is mounted before this script runs.
  mountpoint -q "$mount_point" || mount -t ext4 -o noatime "$device" "$mount_point"
  # A disk that was enlarged: the file system follows. It says "nothing to do" when it already fits.
  resize2fs "$device" >/dev/null 2>&1 || say "resize2fs failed, the file system keeps its size"
}

# Writes stdin to a file unless it holds just that; true when it changed.
put() {
  local file=$root$1 content
  content=$(cat)
  if [ -f "$file" ] && [ "$(cat "$file")" = "$content" ]; then
    return 1
  fi
  mkdir -p "$(dirname "$file")"
  printf '%s\n' "$content" > "$file"
}

reload() {
  if [ -z "$root" ]; then
    systemctl reload-or-restart "$1" || say "could not reload $1"
  fi
}

limits() {
  put /etc/security/limits.d/90-raft.conf <<'TXT' || true
* soft nofile 65536
* hard nofile 65536
TXT
}

# raftctl opens several sessions at once, and sshd drops logins beyond ten by default.
sshd_limits() {
  if put /etc/ssh/sshd_config.d/90-raft.conf <<'TXT'
MaxStartups 64:30:128
MaxSessions 64
TXT
  then reload ssh; fi
}

# Leases bound clock drift, not clock error, but logs of several machines are read side by side.
clock() {
  if [ ! -d "$root/etc/chrony" ]; then
    say "chrony is not installed, the image's own time service stays"
    return 0
  fi
  if put /etc/chrony/conf.d/90-raft.conf <<'TXT'
server metadata.google.internal prefer iburst
TXT
  then reload chrony; fi
}

rm -f "$ready"
wait_for_device
format_if_blank
mount_data
limits
sshd_limits
clock
mkdir -p "$(dirname "$ready")"
touch "$ready"
say "ready"
