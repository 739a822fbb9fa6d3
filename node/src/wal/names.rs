//! Names of runs as they stand in files, and what the file `lock` says.
//!
//! ```text
//! 4711
//! boot=7d3c...e1 device=2049 inode=131
//! incarnation=9f3a1c20d1e2f3a4 ended=3f9a1c2077665544 all=yes
//! ```
//!
//! The lock on that file is held to the end of the process, by whom the file says. So whoever has the
//! lock of the very same file in the very same run of the kernel knows that this one has ended.
//! Versions that know no names write the first two lines alone: what a file of names says is then
//! not of the run that was the last.

use crate::raft::{Incarnation, Run};
use std::fmt::Write as _;

/// So many former runs are named in the lock; the oldest goes first.
const ENDED_KEPT_MAX: usize = 16;
/// In place of an empty list.
const NONE: &str = "NULL";
const ALL: &str = "yes";
const NOT_ALL: &str = "no";

/// The text of the file `lock`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockRecord {
    /// The process that has the lock, or had it last; empty where that is not known.
    pub holder: String,
    /// Names the file, and the run of the kernel in which its lock counts. `None`: not known.
    pub place: Option<String>,
    /// The run that has the lock. 0: it has no name.
    pub incarnation: Incarnation,
    /// Former runs of the same directory that have ended for certain, the newest last.
    pub ended: Vec<Incarnation>,
    /// So have all that there were before this one.
    pub all_ended: bool,
}

impl LockRecord {
    /// The file's text.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{}\n", self.holder);
        if let Some(place) = &self.place {
            writeln!(text, "{place}").expect("a String takes every text");
            if self.incarnation != 0 {
                let ended = encode_list(&self.ended);
                let all = if self.all_ended { ALL } else { NOT_ALL };
                let run = self.incarnation;
                writeln!(text, "incarnation={run:016x} ended={ended} all={all}")
                    .expect("a String takes every text");
            }
        }
        text.into_bytes()
    }

    /// Reads the file's text. What can't be read is left out: it proves less.
    pub fn decode(text: &str) -> Self {
        let mut lines = text.lines();
        let holder = lines.next().map_or("", str::trim).to_owned();
        let place = lines.next().filter(|line| line.starts_with("boot="));
        let run_line = lines.next().and_then(decode_run_line);
        let (incarnation, ended, all_ended) = run_line.unwrap_or_default();
        LockRecord {
            holder,
            place: place.map(str::to_owned),
            incarnation,
            ended,
            all_ended,
        }
    }

    /// Whether all runs up to and with the one that wrote this have ended, as whoever has the lock of the file at
    /// `place` knows. Before the first there was none.
    pub fn proves_all_ends(&self, place: Option<&str>) -> bool {
        *self == LockRecord::default() || self.proves_end(place) && self.all_ended
    }

    /// Whether the run that wrote this has ended, as whoever has the lock of the file at `place` knows.
    pub fn proves_end(&self, place: Option<&str>) -> bool {
        place.is_some() && self.place.as_deref() == place
    }

    /// What the next run, which has the lock of the file at `place`, makes of it.
    pub fn next(
        &self,
        holder: String,
        place: Option<String>,
        incarnation: Incarnation,
    ) -> LockRecord {
        let mut ended = self.ended.clone();
        if self.proves_end(place.as_deref()) && self.incarnation != 0 {
            ended.push(self.incarnation);
        }
        ended.drain(..ended.len().saturating_sub(ENDED_KEPT_MAX));
        LockRecord {
            all_ended: self.proves_all_ends(place.as_deref()),
            holder,
            place,
            incarnation,
            ended,
        }
    }
}

fn decode_run_line(line: &str) -> Option<(Incarnation, Vec<Incarnation>, bool)> {
    let (incarnation, rest) = line.strip_prefix("incarnation=")?.split_once(" ended=")?;
    let (ended, all) = rest.split_once(" all=")?;
    Some((decode_run(incarnation)?, decode_list(ended)?, all == ALL))
}

fn encode_list(runs: &[Incarnation]) -> String {
    let words: Vec<_> = runs.iter().map(|run| format!("{run:016x}")).collect();
    match words.is_empty() {
        true => NONE.to_owned(),
        false => words.join(","),
    }
}

fn decode_list(text: &str) -> Option<Vec<Incarnation>> {
    match text {
        NONE => Some(Vec::new()),
        runs => runs.split(',').map(decode_run).collect(),
    }
}

/// A run's name: 16 hexadecimal digits that are not all zero.
pub(super) fn decode_run(text: &str) -> Option<Incarnation> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let run = Incarnation::from_str_radix(text, 16).ok();
    run.filter(|run| digits && *run != 0)
}

/// Runs of nodes: `2/9f3a1c20d1e2f3a4,3/...`.
pub(super) fn encode_runs(runs: &[Run]) -> String {
    let run = |run: &Run| format!("{}/{:016x}", run.node, run.incarnation);
    let words: Vec<_> = runs.iter().map(run).collect();
    match words.is_empty() {
        true => NONE.to_owned(),
        false => words.join(","),
    }
}

/// `None`: it can't be read, and may be to anyone.
pub(super) fn decode_runs(text: &str) -> Option<Vec<Run>> {
    let run = |word: &str| {
        let (node, incarnation) = word.split_once('/')?;
        Some(Run {
            node: node.parse().ok()?,
            incarnation: decode_run(incarnation)?,
        })
    };
    match text {
        NONE => Some(Vec::new()),
        runs => runs.split(',').map(run).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Names;
    use crate::wal::Metadata;

    const HERE: &str = "boot=b device=1 inode=2";

    fn run_at(place: &str, former: &LockRecord, incarnation: Incarnation) -> LockRecord {
        let next = former.next("7".into(), Some(place.into()), incarnation);
        let read = LockRecord::decode(&String::from_utf8(next.encode()).unwrap());
        assert_eq!(read, next);
        read
    }

    // Only the very same file under the same kernel proves that the former run has ended; what was
    // proved stays so, wherever the file goes.
    #[test]
    fn a_run_proves_the_end_of_the_one_before() {
        let first = run_at(HERE, &LockRecord::default(), 1);
        assert!(first.ended.is_empty());
        let second = run_at(HERE, &first, 2);
        assert_eq!(second.ended, [1]);
        assert!(first.all_ended && second.all_ended);
        for other in [
            "boot=c device=1 inode=2",
            "boot=b device=2 inode=2",
            "boot=b device=1 inode=3",
        ] {
            assert!(!second.proves_end(Some(other)));
            let elsewhere = run_at(other, &second, 3);
            assert_eq!(elsewhere.ended, [1], "{other}");
            let next = run_at(other, &elsewhere, 4);
            assert!(next.ended == [1, 3] && !next.all_ended, "2 may live");
        }
        assert!(!second.proves_end(None));
        assert_eq!(run_at(HERE, &second, 3).ended, [1, 2]);
        let many = (4..40).fold(second, |former, run| run_at(HERE, &former, run));
        assert_eq!(many.ended.len(), ENDED_KEPT_MAX);
        assert_eq!(many.ended.last(), Some(&38));
    }

    // A version that knows no names leaves none behind; what is torn or changed proves less.
    #[test]
    fn what_cannot_be_read_proves_nothing() {
        let older = LockRecord::decode(&format!("7\n{HERE}\n"));
        assert!(older.proves_end(Some(HERE)), "of a run without a name");
        assert!(run_at(HERE, &older, 2).ended.is_empty());
        for text in [
            "",
            "7",
            "7\nincarnation=9f3a1c20d1e2f3a4 ended=NULL\n",
            "7\nboot=b device=1 inode=2\nincarnation=9f3a ended=NULL all=yes\n",
            "7\nboot=b device=1 inode=2\nincarnation=9f3a1c20d1e2f3a4 ended=NULL\n",
            "7\nboot=b device=1 inode=2\nincarnation=9f3a1c20d1e2f3a4\n",
            "7\nboot=b device=1 inode=2\nincarnation=0000000000000000 ended=NULL all=yes\n",
            "7\nboot=b device=1 inode=2\nincarnation=9f3a1c20d1e2f3a4 ended=1,2 all=yes\n",
        ] {
            assert_eq!(LockRecord::decode(text).incarnation, 0, "{text:?}");
        }
        let nameless = LockRecord {
            holder: "7".into(),
            place: Some(HERE.into()),
            ..LockRecord::default()
        };
        assert_eq!(nameless.encode(), format!("7\n{HERE}\n").as_bytes());
    }

    // The names stand behind all that older versions know; where one of the two lines is missing or
    // makes no sense, nobody is named.
    #[test]
    fn names_stand_in_metadata() {
        let run = |node| Run {
            node,
            incarnation: 0xab,
        };
        let names = |runs| Metadata {
            names: Names { by: 7, runs },
            ..Metadata::default()
        };
        for runs in [Some(vec![]), Some(vec![run(1), run(3)])] {
            let metadata = names(runs);
            assert_eq!(Metadata::decode(&metadata.encode()), Ok(metadata));
        }
        let text = String::from_utf8(names(Some(vec![run(3)])).encode()).unwrap();
        let lines = "incarnation 0000000000000007\npromisedTo 3/00000000000000ab\ncrc ";
        assert!(text.contains(lines), "{text}");
        assert_eq!(names(None).encode(), Metadata::default().encode());
        for damaged in ["3/ab", "3", "", "x/00000000000000ab", "3/0000000000000000"] {
            assert_eq!(decode_runs(damaged), None, "{damaged}");
        }
    }
}
