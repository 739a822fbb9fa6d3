//! Proof of death: a run that has ended serves no read, so nobody need wait for its lease.
//!
//! What comes in as [`super::Input::Ended`], or with a vote, is a fact and stays one: somebody had the lock
//! that the run held to the end of its process. It waives what was promised to that very run, here and
//! in the count of a candidate or a new leader, and is a reason to stand at once. Every read that the run
//! answered was answered before it ended, and what is committed under the waiver is committed after
//! the proof. Promises to others, and to nobody knows whom, stand as they are.
//!
//! A node without a name of its own takes no part: nothing proves anything to it.

use super::lease::{Slot, Waived};
use super::run::{Incarnation, NAMES_MAX, Names, Run};
use super::state::{Raft, State};
use super::{Event, Message, Micros, Mutation, NodeId, OpenPromise, Owed};

impl Raft {
    /// Former runs of this node that have ended for certain: what it tells whoever it meets.
    pub fn own_ended(&self) -> Vec<Run> {
        let own = |run: &Run| run.node == self.config.id;
        self.ended.all().filter(own).collect()
    }

    /// To whom this node has promised what is not over, itself and the candidate that it voted for
    /// included: what a leader is promised first is then on disk with the vote.
    pub fn names(&self) -> Names {
        let by = self.incarnation;
        let promised = self.promises.names(self.now).filter(|_| by != 0);
        let runs = promised.and_then(|mut runs| {
            if self.mutated(Mutation::NamesNotOnDisk) {
                runs.clear();
            }
            runs.extend(
                self.voted_run
                    .filter(|_| !self.mutated(Mutation::NamesNotOnDisk)),
            );
            runs.sort_unstable();
            runs.dedup();
            (runs.len() <= NAMES_MAX).then_some(runs)
        });
        Names { by, runs }
    }

    /// At the start: what the lock shows. It is told where the lock is looked at.
    pub(super) fn learn_own_ends(&mut self, ended: Vec<Incarnation>, former: Incarnation) {
        let anywhere = self.mutated(Mutation::StartElsewhereProves);
        let former = Some(former).filter(|_| anywhere);
        let waived = self.waived();
        for incarnation in ended.into_iter().chain(former) {
            let node = self.config.id;
            let run = Run { node, incarnation };
            if self.incarnation != 0 && self.ended.insert(run) {
                self.promises.waive(run, waived);
            }
        }
    }

    /// A run has ended for certain.
    pub(super) fn on_ended(&mut self, run: Run) {
        let known = self.incarnation == 0 || run == self.own_run();
        if known || !self.ended.insert(run) {
            return;
        }
        let term = self.term();
        self.counters.proofs += 1;
        self.event(Event::RunEnded { run, term });
        let waived = self.promises.waive(run, self.waived());
        self.tell_waived(&waived);
        match &self.state {
            State::Leader(_) => self.shorten_wait(run),
            State::Candidate(_) => self.waive_in_count(run),
            State::Follower => {}
        }
        if self.may_stand() && self.heard_run == Some(run) {
            self.on_leader_link_broken();
        }
        self.stand_if_no_leader_is_left();
    }

    /// A node that starts stands as soon as it can be heard, if all that its former run may have followed have
    /// ended. Another may lead by now: who hears it refuses. The first election since the start ends this, so
    /// nobody stands against whom the others are voting for.
    pub(super) fn stand_if_no_leader_is_left(&mut self) {
        let is_gone = |run: &Run| self.ended.has(*run);
        let former = self.former_leaders.as_ref();
        if former.is_some_and(|runs| runs.iter().all(is_gone)) && self.may_stand() {
            self.on_leader_link_broken();
        }
    }

    fn may_stand(&self) -> bool {
        match &self.state {
            State::Follower => true,
            State::Candidate(candidacy) => candidacy.pre,
            State::Leader(_) => false,
        }
    }

    /// Whether a message comes from a run that has ended. What asks for a promise is then too late: nobody needs
    /// it, and nobody waits for the answer.
    pub(super) fn is_too_late(&self, from: NodeId, message: &Message) -> bool {
        match *message {
            Message::Append { incarnation, .. } | Message::InstallSnapshot { incarnation, .. } => {
                self.ended.has(Run {
                    node: from,
                    incarnation,
                })
            }
            _ => false,
        }
    }

    /// What a voter tells a candidate, beside the longest of it.
    pub(super) fn owed_to_others(&self, candidate: Run) -> Owed {
        if self.incarnation == 0 {
            return Owed::default();
        }
        let now = self.now;
        let slots = self.promises.owed(candidate);
        let open = slots
            .open(now)
            .map(|((leader, term), until_us)| OpenPromise {
                leader,
                term,
                remaining_ms: (until_us - now).div_ceil(1_000),
            });
        let promises: Vec<_> = open.collect();
        let ended = self.ended.all().rev().take(NAMES_MAX).collect();
        // More than a few are told as one, to anyone.
        let promises = Some(promises).filter(|promises| promises.len() <= NAMES_MAX);
        Owed { promises, ended }
    }

    /// Takes in what a voter owes to others, from now on. Nothing longer is ever promised than
    /// `most_us`; who tells nothing counts with a whole lease.
    pub(super) fn count_owed(&mut self, longest_ms: Option<u64>, owed: Owed, most_us: Micros) {
        for run in owed.ended {
            self.on_ended(run);
        }
        let (now, lease_us) = (self.now, self.config.lease_us);
        let until = |ms: u64| now + ms.saturating_mul(1_000).min(most_us);
        let told: Vec<(Slot, Micros)> = match owed.promises.filter(|_| self.incarnation != 0) {
            Some(promises) => promises
                .iter()
                .map(|it| ((it.leader, it.term), until(it.remaining_ms)))
                .collect(),
            None => vec![((Run::UNKNOWN, 0), longest_ms.map_or(now + lease_us, until))],
        };
        let (gone, stands): (Vec<_>, Vec<_>) = told
            .into_iter()
            .partition(|(slot, _)| self.ended.has(slot.0));
        let State::Candidate(candidacy) = &mut self.state else {
            return;
        };
        for (slot, until_us) in stands {
            candidacy.old_leases.add(slot, until_us);
        }
        let waived = gone.into_iter().map(|(_, until_us)| until_us).max();
        candidacy.waived_until_us = candidacy.waived_until_us.max(waived.unwrap_or(0));
    }

    fn waive_in_count(&mut self, run: Run) {
        let waived = self.waived();
        if let State::Candidate(candidacy) = &mut self.state {
            let gone = candidacy.old_leases.waive(run, waived);
            let until_us = gone.iter().map(|(_, until)| *until).max().unwrap_or(0);
            candidacy.waived_until_us = candidacy.waived_until_us.max(until_us);
        }
    }

    /// A new leader waits for one lease less. Where it was the last, the wait ends with this step.
    fn shorten_wait(&mut self, run: Run) {
        let (now, term, waived) = (self.now, self.term(), self.waived());
        let Some(leading) = self.leadership_mut() else {
            return;
        };
        leading.old_leases.waive(run, waived);
        let before = leading.old_lease_until_us;
        leading.old_lease_until_us = before.min(leading.old_leases.until());
        if !leading.old_lease_over && leading.old_lease_until_us <= now && before > now {
            self.counters.waits_waived += 1;
            self.event(Event::WaitWaived {
                term,
                remaining_us: before - now,
            });
        }
    }

    fn tell_waived(&mut self, waived: &[(Slot, Micros)]) {
        for ((leader, term), until_us) in waived.iter().filter(|it| it.1 > self.now) {
            self.counters.promises_waived += 1;
            let remaining_us = until_us - self.now;
            self.out.events.push(Event::PromiseWaived {
                leader: *leader,
                term: *term,
                remaining_us,
            });
        }
    }

    fn waived(&self) -> Waived {
        match self.config.mutation {
            Some(Mutation::EndWaivesNode) => Waived::Node,
            Some(Mutation::EndWaivesUnknown) => Waived::Unknown,
            _ => Waived::Run,
        }
    }
}
