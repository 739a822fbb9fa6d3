
# The user that a node runs as reads what is shipped, whatever the login's umask is.
umask 022

# is_there BASE RELEASE: whether a release is there as a whole.
is_there() {
  [ -x "$1/bin/releases/$2/raft-node" ] && [ -s "$1/bin/releases/$2/sha256" ]
}

# point BASE NAME RELEASE: lets BASE/bin/NAME lead to a release, at once or not at all.
point() {
  ln -sfn "releases/$3" "$1/bin/.$2.new" && mv -fT "$1/bin/.$2.new" "$1/bin/$2"
}

# activate BASE RELEASE: makes a release the current one, where it is there.
activate() {
  if ! is_there "$1" "$2"; then
    echo host.active=no
    return 0
  fi
  old=$(readlink "$1/bin/current") || old=
  if [ "${old##*/}" != "$2" ]; then
    [ -z "$old" ] || point "$1" previous "${old##*/}" || exit 1
    point "$1" current "$2" || exit 1
  fi
  echo host.active=yes
}

# go_back BASE RELEASE: makes an older release the current one, where it is there. `previous` leads to
# it as well then: there is none to go back to from there, so whoever comes again goes no further.
go_back() {
  if ! is_there "$1" "$2"; then
    echo host.active=no
    return 0
  fi
  old=$(readlink "$1/bin/current") || old=
  if [ "${old##*/}" != "$2" ]; then
    point "$1" previous "$2" && point "$1" current "$2" || exit 1
  fi
  echo host.active=yes
}

# reads BASE RELEASE: up to which format a release reads, where it is there. Those that do not tell are from
# before there were others than the first.
reads() {
  is_there "$1" "$2" || return 0
  said=$("$1/bin/releases/$2/raft-node" --version 2>/dev/null) || return 0
  format=$(printf '%s\n' "$said" | sed -n 's/^reads formats up to \([0-9][0-9]*\)$/\1/p')
  echo "host.reads=${format:-1}"
}

# receive BASE RELEASE SHA256: takes a compressed binary from standard input. It is looked at in a
# folder of its own, and appears as a release as a whole or not at all. So a node that runs is
# never written to, and an upload that breaks changes nothing.
receive() {
  command -v gzip >/dev/null 2>&1 || {
    echo "there is no gzip: install it (apt-get install gzip, dnf install gzip)" >&2
    exit 1
  }
  releases=$1/bin/releases
  mkdir -p "$releases" || exit 1
  rm -rf "$releases"/.incoming.*
  incoming=$releases/.incoming.$$
  mkdir "$incoming" || exit 1
  trap 'rm -rf "$incoming"' EXIT
  trap 'exit 1' HUP INT TERM
  gzip -dc >"$incoming/raft-node" || exit 1
  sum=$(sha256sum <"$incoming/raft-node") || exit 1
  if [ "${sum%% *}" != "$3" ]; then
    echo "the binary arrived damaged; run this again" >&2
    exit 1
  fi
  chmod 755 "$incoming/raft-node" || exit 1
  if [ ! -x "$incoming/raft-node" ]; then
    # Its mode has just been set: only a mount takes that back.
    mounted=$(df -P "$releases" | awk 'NR == 2 { print $6 }')
    echo "raft-node does not run there: the file system of $releases lets no programs run (noexec); as" \
      "root there, \`mount -o remount,exec $mounted\` ends that" >&2
    exit 1
  fi
  if ! said=$("$incoming/raft-node" --version 2>&1); then
    echo "raft-node does not run there: $said" >&2
    exit 1
  fi
  echo "$3" >"$incoming/sha256" || exit 1
  sync "$incoming/raft-node" "$incoming/sha256" 2>/dev/null || sync
  rm -rf "${releases:?}/$2"
  mv "$incoming" "$releases/$2" || exit 1
}

# prune BASE KEEP: forgets the oldest releases, but none that is in use.
prune() {
  current=$(readlink "$1/bin/current") previous=$(readlink "$1/bin/previous") || previous=
  ls -t "$1/bin/releases" | tail -n "+$(($2 + 1))" | while read -r name; do
    case $name in "${current##*/}" | "${previous##*/}" | '') continue ;; esac
    rm -rf "${1:?}/bin/releases/$name"
  done
}
