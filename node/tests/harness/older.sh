#!/usr/bin/env bash
# Builds the last raft-node that knows nothing of formats from this repository's history, below the
# folder TARGET, and says where its binary lies. What is there already is not built again.
#   older.sh TARGET
set -euo pipefail
mkdir -p "$1"
target=$(realpath "$1")
cd "$(dirname "$0")"

commit=81ffcf2b580bea107b04b33727d06409c28a4d5e
folder=$target/former/$commit
binary=$folder/build/debug/raft-node
if [[ ! -e $binary ]]; then
  mkdir -p "$folder/source"
  top=$(git rev-parse --show-toplevel)
  git -C "$top" archive "$commit" | tar -x -C "$folder/source"
  cd "$folder/source"
  # It is built for a few tests: the time that the compiler saves counts for more than its own.
  CARGO_PROFILE_DEV_DEBUG=0 "${CARGO:-cargo}" build --quiet --locked -p raft-node \
    --config 'profile.dev.package."*".opt-level=0' \
    --config 'profile.dev.package.raft-node.opt-level=0' --target-dir "$folder/build" >&2
fi
echo "$binary"
