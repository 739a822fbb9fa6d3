//! Runs of nodes, by name: what can be said of one of them, and is never true of the next.
//!
//! Each run of a node has a random name, its *incarnation*, and never the number that follows on the
//! former one: a directory that was put back from a copy would use it twice.

use super::NodeId;
use std::collections::VecDeque;

/// Names one run of a node. 0: not known.
pub type Incarnation = u64;

/// So many ended runs are remembered; of one that is forgotten nothing is waived.
pub const ENDED_MAX: usize = 64;

/// Most runs that are named on record. Where there are more, nobody is.
pub const NAMES_MAX: usize = 16;

/// One run of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// Of which node. 0: not known.
    pub node: NodeId,
    /// Which run of it.
    pub incarnation: Incarnation,
}

impl Run {
    /// Nobody knows which run it is, so nothing that is said of a run is said of it.
    pub const UNKNOWN: Run = Run {
        node: 0,
        incarnation: 0,
    };

    /// Whether it has a name.
    pub fn is_named(self) -> bool {
        self.incarnation != 0
    }
}

/// To whom a node has promised what is not over yet, as it stands on its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The run that wrote it. 0: none, and the rest says nothing.
    pub by: Incarnation,
    /// To whom, in order. `None`: some of it may be to anyone.
    pub runs: Option<Vec<Run>>,
}

impl Names {
    /// Whether this on disk is as good as `now`: who finds it assumes no less. What another run wrote
    /// is not believed after this one, so it hides nothing.
    pub fn cover(&self, now: &Names) -> bool {
        match (&self.runs, &now.runs) {
            _ if self.by != now.by => true,
            (None, _) => true,
            (Some(_), None) => false,
            (Some(written), Some(now)) => now.iter().all(|run| written.contains(run)),
        }
    }
}

/// Runs that have ended for certain: somebody had the lock that they held.
#[derive(Debug, Default)]
pub(super) struct EndedRuns(VecDeque<Run>);

impl EndedRuns {
    pub(super) fn has(&self, run: Run) -> bool {
        self.0.contains(&run)
    }

    /// Returns whether that is news.
    pub(super) fn insert(&mut self, run: Run) -> bool {
        if !run.is_named() || self.has(run) {
            return false;
        }
        if self.0.len() >= ENDED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(run);
        true
    }

    /// All of them, the newest last.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = Run> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(incarnation: Incarnation) -> Run {
        Run {
            node: 1,
            incarnation,
        }
    }

    /// Goal: what is on disk is written anew before it would hide a run from the next start, and not
    /// otherwise.
    #[test]
    fn what_is_on_disk_covers_all_that_was_promised() {
        let names = |by, runs: Option<&[u64]>| Names {
            by,
            runs: runs.map(|runs| runs.iter().map(|it| run(*it)).collect()),
        };
        let written = names(7, Some(&[1, 2]));
        assert!(written.cover(&names(7, Some(&[]))));
        assert!(written.cover(&names(7, Some(&[2]))));
        assert!(!written.cover(&names(7, Some(&[2, 3]))), "one more");
        assert!(!written.cover(&names(7, None)), "anyone");
        assert!(names(7, None).cover(&names(7, Some(&[3]))));
        assert!(written.cover(&names(8, None)), "of another run");
    }

    /// Goal: a run that ended is known once, a nameless one never, and memory is bounded.
    #[test]
    fn ended_runs_are_remembered() {
        let mut ended = EndedRuns::default();
        assert!(!ended.insert(run(0)) && !ended.has(run(0)));
        assert!(ended.insert(run(1)) && !ended.insert(run(1)));
        assert!(!ended.has(Run { node: 2, ..run(1) }));
        (2..=ENDED_MAX as u64 + 1).for_each(|it| assert!(ended.insert(run(it))));
        assert!(!ended.has(run(1)) && ended.has(run(2)));
        assert_eq!(ended.all().count(), ENDED_MAX);
    }
}
