//! Requests that wait for something the log, a majority or a lease must bring.

use super::{Query, RequestError, Token};
use crate::kv::Applied;
use crate::raft::{Entry, Index, Micros, NodeId, Term};
use std::collections::{BTreeMap, HashMap};

/// Lease reads that wait for a lease, or for an older one to end; then further ones are refused.
const WAITING_READS_MAX: usize = 4096;
/// After leadership is lost, its writes may still be committed by the next leader: they are
/// waited for this long before their outcome is called unknown.
const LOST_LEADERSHIP_WAIT_US: Micros = 1_000_000;

/// What waits. Bounded: writes by the core's backlog, quorum reads by the core, lease reads here.
#[derive(Debug, Default)]
pub(super) struct Pending {
    writes: BTreeMap<Index, (Term, Token)>,
    /// Since when this node no longer leads although writes wait.
    lost_at_us: Option<Micros>,
    lease_reads: Vec<(Token, Query)>,
    pub(super) quorum_reads: HashMap<Token, Query>,
    pub(super) transfer: Option<Token>,
    /// A change of membership that is not over yet.
    pub(super) changing: Option<super::members::Changing>,
    /// Waits for the snapshot that is being taken.
    pub(super) snapshot: Option<Token>,
    /// A backup that waits for the state after this entry.
    pub(super) backup: Option<(Token, Index)>,
}

/// Who is to be told, and what.
pub(super) type Failed = (Token, RequestError);

impl Pending {
    pub(super) fn add_write(&mut self, index: Index, term: Term, token: Token) -> Option<Failed> {
        let replaced = self.writes.insert(index, (term, token))?;
        let why = "another entry took its place in the log";
        Some((replaced.1, RequestError::OutcomeUnknown(why)))
    }

    /// The write that stands at this entry, if one waits for it: with the entry's own outcome, or
    /// with the news that another leader's entry stands there and the write is gone.
    pub(super) fn applied(
        &mut self,
        entry: &Entry,
        applied: Applied,
        leader: Option<NodeId>,
    ) -> Option<(Token, Result<Applied, RequestError>)> {
        let (term, token) = self.writes.remove(&entry.index)?;
        let outcome = match term == entry.term {
            true => Ok(applied),
            false => Err(RequestError::NotLeader { leader }),
        };
        Some((token, outcome))
    }

    /// What was applied up to an entry is not known one by one: a snapshot took its place.
    pub(super) fn overtaken(&mut self, index: Index) -> Vec<Failed> {
        let later = self.writes.split_off(&(index + 1));
        let why = "a snapshot took the place of the log that held the write";
        let overtaken = std::mem::replace(&mut self.writes, later).into_values();
        overtaken
            .map(|(_, token)| (token, RequestError::OutcomeUnknown(why)))
            .collect()
    }

    /// Gives up writes of a leadership that was lost some time ago.
    pub(super) fn expire_writes(&mut self, leads: bool, now: Micros) -> Vec<Failed> {
        if leads || self.writes.is_empty() {
            self.lost_at_us = None;
            return Vec::new();
        }
        let lost_at_us = *self.lost_at_us.get_or_insert(now);
        if now < lost_at_us + LOST_LEADERSHIP_WAIT_US {
            return Vec::new();
        }
        self.lost_at_us = None;
        let why = "this node lost the leadership before the write was committed";
        let writes = std::mem::take(&mut self.writes).into_values();
        writes
            .map(|(_, token)| (token, RequestError::OutcomeUnknown(why)))
            .collect()
    }

    pub(super) fn wake_at(&self) -> Option<Micros> {
        self.lost_at_us.map(|at| at + LOST_LEADERSHIP_WAIT_US)
    }

    pub(super) fn add_lease_read(&mut self, token: Token, query: Query) -> Result<(), Failed> {
        if self.lease_reads.len() >= WAITING_READS_MAX {
            let why = "too many reads wait for the lease";
            return Err((token, RequestError::Overloaded(why)));
        }
        self.lease_reads.push((token, query));
        Ok(())
    }

    /// Takes out the waiting lease reads that may be looked at again.
    pub(super) fn take_lease_reads(&mut self, mut ready: impl FnMut(&Query) -> bool) -> Vec<Token> {
        let taken = self.lease_reads.extract_if(.., |(_, query)| ready(query));
        taken.map(|(token, _)| token).collect()
    }

    pub(super) fn abandon(&mut self, abandoned: Token) {
        self.lease_reads.retain(|(token, _)| *token != abandoned);
        self.quorum_reads.remove(&abandoned);
        if self.transfer == Some(abandoned) {
            self.transfer = None;
        }
        self.snapshot.take_if(|token| *token == abandoned);
        self.changing.take_if(|it| it.is_of(abandoned));
        self.backup.take_if(|(token, _)| *token == abandoned);
        // Writes are left: each ends by itself when its entry commits or leadership is lost.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::kv::WriteResult;
    use std::sync::Arc;

    const WRITTEN: Applied = Applied::Written {
        result: WriteResult::Set,
        resent: false,
    };

    fn entry(index: Index, term: Term) -> Entry {
        Entry {
            index,
            term,
            command: Arc::new(Command::NoOp),
        }
    }

    fn tokens(failed: &[Failed]) -> Vec<Token> {
        failed.iter().map(|(token, _)| *token).collect()
    }

    /// Goal: a write whose place in the log another write takes may still be committed by a node
    /// that holds it: its client is told that the outcome is unknown, never that nothing was done.
    #[test]
    fn the_outcome_of_a_replaced_write_is_unknown() {
        let mut pending = Pending::default();
        assert_eq!(pending.add_write(5, 2, 70), None);
        let replaced = pending.add_write(5, 4, 71);
        assert!(
            matches!(replaced, Some((70, RequestError::OutcomeUnknown(_)))),
            "{replaced:?}"
        );
        let told = pending.applied(&entry(5, 4), WRITTEN, None);
        assert_eq!(told, Some((71, Ok(WRITTEN))));
    }

    /// Goal: who waits at an index is told what happened if its own entry is committed there, and
    /// that nothing was done if another one is. Each is told once.
    #[test]
    fn a_write_is_told_what_stands_at_its_index() {
        let mut pending = Pending::default();
        pending.add_write(5, 2, 70);
        pending.add_write(6, 2, 71);
        assert_eq!(pending.applied(&entry(4, 2), WRITTEN, None), None);
        let own = pending.applied(&entry(5, 2), WRITTEN, None);
        assert_eq!(own, Some((70, Ok(WRITTEN))));
        let leader = Some(3);
        let other = pending.applied(&entry(6, 3), WRITTEN, leader);
        let refused = Err(RequestError::NotLeader { leader });
        assert_eq!(other, Some((71, refused)));
        assert_eq!(pending.applied(&entry(6, 3), WRITTEN, leader), None);
    }

    /// Goal: writes of a lost leadership wait for the next leader a bounded time, from the loss on,
    /// and are then of unknown outcome; who leads again in time gives up none.
    #[test]
    fn writes_of_a_lost_leadership_are_given_up_in_time() {
        let mut pending = Pending::default();
        let wait_us = LOST_LEADERSHIP_WAIT_US;
        assert_eq!(pending.expire_writes(false, 0), vec![]);
        assert_eq!(pending.wake_at(), None, "nothing waits");
        pending.add_write(5, 2, 70);
        assert_eq!(pending.expire_writes(true, 10), vec![]);
        assert_eq!(pending.wake_at(), None, "it leads");

        assert_eq!(pending.expire_writes(false, 20), vec![]);
        assert_eq!(pending.wake_at(), Some(20 + wait_us));
        assert_eq!(pending.expire_writes(true, 30), vec![]);
        assert_eq!(pending.wake_at(), None, "it leads again");

        assert_eq!(pending.expire_writes(false, 40), vec![]);
        assert_eq!(pending.expire_writes(false, 39 + wait_us), vec![]);
        pending.add_write(6, 2, 71);
        let given_up = pending.expire_writes(false, 40 + wait_us);
        assert_eq!(tokens(&given_up), [70, 71]);
        let unknown = |(_, error): &Failed| matches!(error, RequestError::OutcomeUnknown(_));
        assert!(given_up.iter().all(unknown), "{given_up:?}");
        assert_eq!(pending.wake_at(), None, "nothing waits any more");
        assert_eq!(pending.expire_writes(false, 90 + wait_us), vec![]);
    }

    /// Goal: reads that wait for a lease are bounded, go when they are ready or abandoned, and
    /// leave the others.
    #[test]
    fn waiting_reads_are_bounded_and_taken_once() {
        let query = |key: &str| Query::Get { key: key.into() };
        let mut pending = Pending::default();
        for token in 0..WAITING_READS_MAX as Token {
            let key = if token == 7 { "ready" } else { "not yet" };
            assert_eq!(pending.add_lease_read(token, query(key)), Ok(()));
        }
        let refused = pending.add_lease_read(9_999, query("ready"));
        assert!(
            matches!(refused, Err((9_999, RequestError::Overloaded(_)))),
            "{refused:?}"
        );
        let ready = |looked_at: &Query| *looked_at == query("ready");
        assert_eq!(pending.take_lease_reads(ready), [7]);
        assert!(pending.take_lease_reads(ready).is_empty());
        pending.abandon(3);
        let left = pending.take_lease_reads(|_| true);
        assert_eq!(left.len(), WAITING_READS_MAX - 2);
        assert!(!left.contains(&3));
    }

    /// Goal: of writes that a snapshot took the place of, up to its last entry, nobody knows what became;
    /// later ones wait on.
    #[test]
    fn writes_in_a_snapshot_are_of_unknown_outcome() {
        let mut pending = Pending::default();
        (4..=7).for_each(|index| assert_eq!(pending.add_write(index, 2, index), None));
        let overtaken = pending.overtaken(5);
        assert_eq!(tokens(&overtaken), [4, 5]);
        let unknown = |(_, error): &Failed| matches!(error, RequestError::OutcomeUnknown(_));
        assert!(overtaken.iter().all(unknown), "{overtaken:?}");
        assert_eq!(tokens(&pending.overtaken(6)), [6], "once");
        let told = pending.applied(&entry(7, 2), WRITTEN, None);
        assert_eq!(told, Some((7, Ok(WRITTEN))));
    }

    /// Goal: who no longer waits is forgotten, and nobody else.
    #[test]
    fn the_abandoned_are_forgotten() {
        let mut pending = Pending {
            transfer: Some(1),
            snapshot: Some(6),
            backup: Some((7, 9)),
            ..Pending::default()
        };
        let query = Query::Get { key: "k".into() };
        pending.quorum_reads.insert(2, query);
        pending.add_write(5, 2, 3);
        (3..6).for_each(|token| pending.abandon(token));
        assert_eq!(pending.transfer, Some(1));
        assert_eq!((pending.snapshot, pending.backup), (Some(6), Some((7, 9))));
        (6..8).for_each(|token| pending.abandon(token));
        assert_eq!((pending.snapshot, pending.backup), (None, None));
        assert_eq!(pending.quorum_reads.len(), 1);
        (1..3).for_each(|token| pending.abandon(token));
        assert_eq!(pending.transfer, None);
        assert!(pending.quorum_reads.is_empty());
        let told = pending.applied(&entry(5, 2), WRITTEN, None);
        assert_eq!(told, Some((3, Ok(WRITTEN))), "a write ends by itself");
    }
}
