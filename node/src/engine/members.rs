//! A change of membership, from an operator's request to the reply: it is answered when the configuration that
//! it led to is committed, or when its entry was cut.

use super::{Engine, Reply, RequestError, Token};
use crate::command::Members;
use crate::raft::{self, Index, MembersRefusal, Micros, Term};
use std::sync::Arc;

/// A change that is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changing {
    token: Token,
    /// The first entry of the change.
    index: Index,
    term: Term,
}

impl Changing {
    /// Whether it is this one's.
    pub(super) fn is_of(&self, token: Token) -> bool {
        self.token == token
    }
}

impl Engine {
    pub(super) fn on_change_members(
        &mut self,
        now: Micros,
        token: Token,
        base: Index,
        target: Members,
    ) {
        let change = raft::Input::ChangeMembers { base, target };
        let mut output = self.raft.step(now, change);
        let proposed = output.members_proposed.take();
        self.absorb(output);
        match proposed {
            Some(Ok(index)) => {
                let term = self.raft.term();
                let change = Changing { token, index, term };
                // The core takes one at a time: what was waited for until now was taken back.
                if let Some(before) = self.pending.changing.replace(change) {
                    let why = "another change took its place";
                    self.reply(before.token, Err(RequestError::OutcomeUnknown(why)));
                }
            }
            Some(Err(refusal)) => self.reply(token, Err(refused(refusal))),
            None => unreachable!("the core answers each change"),
        }
    }

    /// Answers a change that is over: once a step.
    pub(super) fn advance_members_change(&mut self) {
        let Some(Changing { token, index, term }) = self.pending.changing else {
            return;
        };
        let members = self.raft.members();
        let is_over = self.raft.members_index() >= index
            && self.raft.members_committed()
            && !members.is_joint();
        // A leader that leaves hands over in the middle, and the next one goes on.
        let base_index = self.raft.base_index();
        let stands = index <= base_index || self.raft.term_at(index) == Some(term);
        let outcome = match (is_over, stands) {
            (true, _) => Ok(Reply::MembersChanged {
                index: self.raft.members_index(),
                members: Arc::clone(members),
            }),
            (false, true) => return,
            (false, false) => Err(RequestError::OutcomeUnknown(
                "another node leads by now, and has cut it off: look at the members before you ask again",
            )),
        };
        self.pending.changing = None;
        self.reply(token, outcome);
    }
}

fn refused(refusal: MembersRefusal) -> RequestError {
    match refusal {
        MembersRefusal::NotLeader { leader } => RequestError::NotLeader { leader },
        MembersRefusal::NotReady(why) => RequestError::NotReady(why),
        refusal => RequestError::Members(refusal),
    }
}
