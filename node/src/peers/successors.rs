//! Which directories nodes have had, one after the other.
//!
//! A member that was purged, or that lost its disk, begins anew with a directory of its own. Should the
//! former one come back while that one is down, it holds votes and entries of the past under the same
//! name: it is refused, because others have counted on its successor since. So what was seen is kept, in
//! `members.txt`, by every node that saw it.

use crate::identity::{id_text, parse_id};
use crate::raft::NodeId;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// So many directories of a node are kept; who comes with an older one is taken for new.
const KEPT_MAX: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Successors {
    /// In the order in which they were seen first.
    seen: BTreeMap<NodeId, Vec<u128>>,
}

impl Successors {
    /// What [`Successors::encode`] wrote down. What makes no sense is left out: it only refuses less.
    pub fn decode(text: &str) -> Self {
        let mut successors = Successors::default();
        for line in text.lines() {
            let words = line.strip_prefix("node ").and_then(|it| it.split_once(' '));
            if let Some((node, id)) = words
                && let (Ok(node), Ok(id)) = (node.parse(), parse_id(id))
            {
                successors.push(node, id);
            }
        }
        successors
    }

    /// A line for each directory, the newest of a node last.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        for (node, ids) in &self.seen {
            for id in ids {
                writeln!(text, "node {node} {}", id_text(*id)).expect("a String takes every text");
            }
        }
        text
    }

    /// A node comes with a directory. Whether that is news; or why it is not let in.
    pub(super) fn note(&mut self, node: NodeId, directory: u128) -> Result<bool, String> {
        let seen = self.seen.get(&node).map_or(&[][..], Vec::as_slice);
        if directory == 0 || seen.last() == Some(&directory) {
            return Ok(false);
        }
        if seen.contains(&directory) {
            return Err(format!(
                "node {node} has had another directory since this one: start it with that (the newest \
                 of node {node} in members.txt beside logs.txt), or with an empty one, and it is filled \
                 from the leader"
            ));
        }
        self.push(node, directory);
        Ok(true)
    }

    fn push(&mut self, node: NodeId, directory: u128) {
        let seen = self.seen.entry(node).or_default();
        seen.push(directory);
        if seen.len() > KEPT_MAX {
            seen.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Who comes with a directory that had a successor is refused, also by who has only read of it; the
    // successor, and one that is new, are not. Of versions without ids nothing is known.
    #[test]
    fn a_directory_with_a_successor_is_refused() {
        let mut seen = Successors::default();
        assert_eq!(seen.note(3, 0xa), Ok(true));
        assert_eq!(seen.note(3, 0xa), Ok(false));
        assert_eq!(seen.note(3, 0xb), Ok(true));
        assert_eq!((seen.note(2, 0xa), seen.note(3, 0)), (Ok(true), Ok(false)));
        let mut read = Successors::decode(&(seen.encode() + "node x\nnode 3 zz\n"));
        for successors in [&mut seen, &mut read] {
            let refused = successors.note(3, 0xa).unwrap_err();
            assert!(refused.contains("another directory since"), "{refused}");
            assert_eq!(successors.note(3, 0xb), Ok(false));
            assert_eq!(successors.note(3, 0xc), Ok(true));
        }
        for id in 0x10..0x40 {
            assert_eq!(seen.note(3, id), Ok(true));
        }
        assert_eq!(seen.encode().matches("node 3 ").count(), KEPT_MAX);
    }
}
