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
        // Writes are left: each ends by itself when its entry commits or leadership is lost.
    }
}
