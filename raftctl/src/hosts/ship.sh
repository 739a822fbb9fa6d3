
# point BASE NAME RELEASE: lets BASE/bin/NAME lead to a release, at once or not at all.
point() {
  ln -sfn "releases/$3" "$1/bin/.$2.new" && mv -fT "$1/bin/.$2.new" "$1/bin/$2"
}

# activate BASE RELEASE: makes a release the current one, where it is there.
activate() {
  if [ ! -x "$1/bin/releases/$2/raft-node" ]; then
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

# roll_back BASE: makes the previous release the current one.
roll_back() {
  old=$(readlink "$1/bin/previous") || old=
  if [ -z "$old" ] || [ ! -x "$1/bin/$old/raft-node" ]; then
    echo host.active=no
    return 0
  fi
  activate "$1" "${old##*/}"
}

# receive BASE RELEASE SHA256: takes a compressed binary from standard input. It is looked at in a
# folder of its own, and appears as a release as a whole or not at all. So a node that runs is
# never written to, and an upload that breaks changes nothing.
receive() {
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
