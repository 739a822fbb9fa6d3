//! What is done with the directories of nodes that do not run, as text. Pure.
//!
//! raft-node itself knows what its files mean: it makes a directory, and tells what one holds.

use super::assemble;
use super::layout::NodeLayout;
use super::shell::{call, quote};

/// How a directory is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore<'a> {
    /// The program on the host.
    pub executable: &'a str,
    /// Of the new cluster.
    pub cluster_id: &'a str,
    /// Its nodes, as in 1,2,3.
    pub voters: &'a str,
    /// Whether the backup comes compressed.
    pub is_packed: bool,
    /// Where to what is there is moved; otherwise nothing may be there.
    pub aside: Option<&'a str>,
}

/// Makes the directory of a node that does not run out of a backup on standard input. Answers `made=<JSON>`.
#[must_use]
pub fn restore(node: &NodeLayout, what: &Restore) -> String {
    const RESTORE: &str = r#"
# restore ID PID_FILE DATA_DIR EXECUTABLE CLUSTER_ID PACKED ASIDE VOTERS
restore() {
  find_node "$2"
  if [ "$ALIVE" = yes ]; then
    echo "node $1 runs; stop it first" >&2
    exit 1
  fi
  if [ ! -x "$4" ]; then
    echo "raft-node is not there ($4)" >&2
    exit 1
  fi
  mkdir -p "${3%/*}" || exit 1
  made=$(
    if [ "$6" = yes ]; then gzip -dc; else cat; fi |
      "$4" restore --data-dir "$3" --cluster-id "$5" --voters "$8" ${7:+--set-aside} ${7:+"$7"} -
  ) || exit
  echo "$1.made=$made"
}
"#;
    let words = [
        &*node.id.to_string(),
        &node.pid_file,
        &node.data_dir,
        what.executable,
        what.cluster_id,
        if what.is_packed { "yes" } else { "no" },
        what.aside.unwrap_or_default(),
        what.voters,
    ];
    assemble(&[RESTORE], &[call("restore", words)])
}

/// Tells what the directories of nodes hold, and changes nothing. Answers `found=<JSON>` each.
#[must_use]
pub fn inspect(nodes: &[NodeLayout], executable: &str) -> String {
    const INSPECT: &str = r#"
# inspect ID DATA_DIR EXECUTABLE
inspect() {
  if [ ! -x "$3" ]; then
    echo "raft-node is not there ($3)" >&2
    exit 1
  fi
  found=$("$3" inspect --data-dir "$2") || exit
  echo "$1.found=$found"
}
"#;
    let one = |node: &NodeLayout| {
        let id = node.id.to_string();
        call("inspect", [&*id, &node.data_dir, executable])
    };
    let calls: Vec<String> = nodes.iter().map(one).collect();
    assemble(&[INSPECT], &calls)
}

/// Streams the state of a node that does not run to standard output, and nothing else.
#[must_use]
pub fn export(node: &NodeLayout, executable: &str) -> String {
    let (program, folder) = (quote(executable), quote(&node.data_dir));
    format!("exec {program} export --data-dir {folder}\n")
}
