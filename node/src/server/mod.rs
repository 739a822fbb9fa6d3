//! The loop: gather what waits, let the engine step, carry out its effects.
//!
//! One thread runs the loop, the connections and the answering of lease reads; the disk and the
//! dump have threads of their own. So nothing in a step waits: disk work is handed over and
//! reported durable later, messages go into the peers' queues, replies to those who wait. While
//! the disk works, steps go on; what they want written shares the next flush.

mod descriptors;
mod hang;
mod start;
mod stop;
mod watchdog;

pub use start::{Failure, run};

use crate::clock::Clock;
use crate::desk::{Desk, Inspection, Taken};
use crate::disk::{DISK_QUEUE_MAX, Directory, DiskError, DiskThread};
use crate::dump::{Asked, Dump, Happening};
use crate::engine::{DiskWork, Effects, Engine, Input, Request};
use crate::metrics::{Look, Metrics};
use crate::peers::Peers;
use crate::raft::{Contradiction, LogState, Micros, Raft, Role};
use crate::roster::{Configuration, Roster};
use crate::space::Space;
use crate::wal::{RefusedLeader, encode_promises};
use crate::witness::Witness;
use hang::HangWatch;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use watchdog::Watchdog;

/// With this many works for the disk outstanding, only the disk is listened to: requests and
/// messages wait in their own bounded queues, and time passes, so that a lease ends. The other
/// half of the disk's queue is for what time alone makes a node write, such as a new term.
const OUTSTANDING_WORKS_MAX: u64 = DISK_QUEUE_MAX as u64 / 2;

/// Everything the loop drives.
struct Server {
    engine: Engine,
    /// Whether this node leads with a valid lease, for those who look for the leader.
    leads: watch::Sender<bool>,
    clock: Arc<Clock>,
    desk: Arc<Desk>,
    disk: DiskThread,
    disk_failed: watch::Receiver<Option<Arc<str>>>,
    disk_stuck: bool,
    space: Arc<Space>,
    contradiction: Option<Contradiction>,
    hang_watch: HangWatch,
    /// Told of each step.
    watchdog: Watchdog,
    peers: Peers,
    roster: Arc<Roster>,
    /// Tells the others when this process has ended.
    witness: Option<Witness>,
    dump: Dump,
    metrics: Arc<Metrics>,
    /// Handed to the disk thread and reported durable, by ticket.
    submitted: u64,
    durable: u64,
}

/// Those that are in force, and committed.
fn configurations(raft: &Raft) -> (Configuration, Configuration) {
    let in_force = (raft.members_index(), Arc::clone(raft.members()));
    let committed = Arc::clone(raft.committed_members());
    (in_force, (raft.committed_members_index(), committed))
}

/// Tells of the configuration in force, if the log names one.
fn tell_configuration(dump: &Dump, raft: &Raft) {
    let index = raft.members_index();
    if index > 0 {
        dump.tell(Happening::Configuration {
            index,
            members: Arc::clone(raft.members()),
        });
    }
}

impl Server {
    /// Runs until the disk fails; it never ends otherwise. Dropped at a point of waiting, it
    /// leaves nothing half-done.
    async fn drive(&mut self) -> Failure {
        loop {
            let disk_only = self.submitted - self.durable >= OUTSTANDING_WORKS_MAX;
            let taken = self.desk.take(disk_only);
            let more = taken.more;
            let wake_at_us = self.step(taken);
            self.contradiction = self.contradiction.or_else(|| {
                let entry = self.roster.removed_by()?;
                Some(Contradiction::Removed { entry })
            });
            if let Some(contradiction) = self.contradiction {
                return Failure::Contradiction(contradiction);
            }
            if let Some(error) = self.disk_failed.borrow().clone() {
                return Failure::DiskFailed(error);
            }
            // A disk without room answers: it says so, and is waited for.
            let answered = match self.space.is_full() {
                true => self.submitted,
                false => self.durable,
            };
            let (watch, now) = (&mut self.hang_watch, Instant::now());
            if self.disk_stuck || watch.hangs(now, self.submitted, answered) {
                return Failure::DiskFailed("it has not answered for too long".into());
            }
            self.watchdog.stepped(now);
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            self.wait(wake_at_us).await;
        }
    }

    /// One step. Returns when the next is due at the latest.
    fn step(&mut self, taken: Taken) -> Option<Micros> {
        self.tell_requests(&taken.inputs);
        for input in &taken.inputs {
            if let Input::Durable { ticket } = input {
                self.durable = self.durable.max(*ticket);
            }
        }
        let now = self.clock.now_us();
        let (applied_before, since) = (self.metrics.applied_index(), Instant::now());
        let effects = self.engine.step(now, taken.inputs);
        let granted = self.tell_leadership(now);
        self.follow_members(now);
        let look = self.look(taken.waiting);
        if look.applied_index > applied_before {
            self.metrics.applied(since.elapsed());
        }
        self.metrics.look(look);
        let wake_at_us = effects.wake_at_us;
        self.carry_out(effects);
        self.dump.tell_all(granted);
        for inspection in taken.inspections {
            let look = Inspection {
                status: self.engine.status(),
                fsyncs: self.disk.fsyncs(),
                format_held_at: self.engine.raft().format_held_at(),
                format_growth_left: self.engine.format_growth_left(),
            };
            // Who has gone meanwhile does not want it.
            drop(inspection.send(look));
        }
        wake_at_us
    }

    fn look(&self, waiting: usize) -> Look {
        let raft = self.engine.raft();
        let lease = raft.lease_status();
        Look {
            leads: lease.role == Role::Leader,
            term: lease.term,
            commit_index: raft.commit_index(),
            applied_index: self.engine.applied_index(),
            last_index: raft.last_index(),
            snapshot_index: raft.snapshot().map_or(0, |snapshot| snapshot.index),
            lease_until_us: lease.lease_until_us,
            old_lease_until_us: lease.old_lease_until_us,
            spare_nodes: raft.spare_nodes() as u64,
            members: raft.members().nodes.len() as u64,
            voters: raft.members().all_voters().len() as u64,
            configuration_index: raft.members_index(),
            waiting: waiting as u64,
            damaged: matches!(raft.log_state(), LogState::Damaged { .. }),
        }
    }

    /// Brings who is dialed and let in in line with the configuration that is in force, before any message of this
    /// step leaves.
    fn follow_members(&mut self, now: Micros) {
        let raft = self.engine.raft();
        let (before, members) = (self.roster.in_force(), raft.members());
        let (in_force, committed) = configurations(raft);
        if !self.roster.update(now, in_force, committed) {
            return;
        }
        self.peers.follow();
        if let Some(witness) = &mut self.witness {
            witness.follow(self.roster.ways(), self.roster.cluster_id());
        }
        if !Arc::ptr_eq(&before.1, members) {
            tell_configuration(&self.dump, raft);
        }
    }

    /// Tells those who look for the leader; what is to be told of a lease that is new, behind what made it.
    fn tell_leadership(&self, now: Micros) -> Option<Happening> {
        let gate = self.engine.view().gate();
        let leads = gate.role == Role::Leader && now < gate.lease_until_us;
        let has_changed = |before: &mut bool| std::mem::replace(before, leads) != leads;
        let is_new = self.leads.send_if_modified(has_changed) && leads;
        is_new.then(|| Happening::LeaseGranted {
            term: self.engine.raft().lease_status().term,
            lease_us: gate.lease_until_us - now,
        })
    }

    /// In the order in which it must be: the disk starts first, so that it works while messages
    /// and replies leave.
    fn carry_out(&mut self, effects: Effects) {
        if let Some(work) = effects.disk {
            self.submit(work);
        }
        for work in effects.snapshots {
            self.disk_stuck |= self.disk.submit_snapshot(work).is_err();
        }
        for wanted in effects.chunks {
            self.disk.read(wanted);
        }
        self.disk.forget(effects.let_go);
        self.contradiction = effects.contradiction;
        self.peers.send_all(effects.messages);
        self.desk.answer(effects.replies);
        for event in &effects.events {
            self.metrics.count(event);
        }
        self.dump
            .tell_all(effects.events.into_iter().map(Happening::Raft));
    }

    fn submit(&mut self, work: DiskWork) {
        self.submitted = work.ticket;
        // The queue is full only when the disk has hung for minutes; a thread that has ended has
        // told why.
        self.disk_stuck |= self.disk.submit(work).is_err();
    }

    fn tell_requests(&self, inputs: &[Input]) {
        if self.engine.raft().role() != Role::Leader {
            return;
        }
        let writes = inputs.iter().filter_map(|input| match input {
            Input::Request {
                request: Request::Write { operation, .. },
                ..
            } => Some(Happening::Received(Asked::write(operation))),
            _ => None,
        });
        let mut count = 0;
        self.dump.tell_all(writes.inspect(|_| count += 1));
        if count > 0 {
            self.metrics.batch(count);
        }
    }

    /// The end of a node that refused what a leader asked for: what was agreed on is written down, so
    /// that an operator may give up the rest.
    fn note_refusal(self) {
        let note: Box<dyn FnOnce(Directory) -> Result<(), DiskError>> = match self.contradiction {
            Some(Contradiction::LeaderLacksCommitted {
                term,
                keep,
                committed,
                ..
            }) => {
                let refused = RefusedLeader {
                    keep,
                    term,
                    committed,
                };
                Box::new(move |directory| directory.note_refusal(refused))
            }
            Some(other @ Contradiction::OtherState { .. }) => {
                Box::new(move |directory| directory.note_other_state(&other.to_string()))
            }
            Some(Contradiction::TwoLeaders { .. } | Contradiction::Removed { .. }) | None => return,
        };
        let noted = self.disk.finish().map(note);
        match noted {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::error!("could not write down what was refused: {error}"),
            None => tracing::error!("could not write down what was refused: the disk has failed"),
        }
    }

    /// The end of the loop: everything is flushed, and what the node promised is written down, so
    /// that its next run need not assume the worst.
    fn keep_promises(self) -> Result<(), Failure> {
        let promises = self.engine.raft().promises(self.clock.now_us());
        let Some(directory) = self.disk.finish() else {
            return Err(Failure::DiskFailed(
                "it failed, or did not answer, while the node stopped".into(),
            ));
        };
        // Without the file they count as forgotten, which is safe and only costs a wait.
        if let Some(origin) = self.clock.origin()
            && let Err(error) = directory.keep_promises(&encode_promises(&origin, &promises))
        {
            tracing::warn!("could not write down the promises to leaders: {error}");
        }
        Ok(())
    }

    async fn wait(&mut self, wake_at_us: Option<Micros>) {
        let now = self.clock.now_us();
        // Without a time of its own: look again soon enough for a clock that jumps.
        let wait_us = wake_at_us.map_or(1_000_000, |at| at.saturating_sub(now));
        let wait = Duration::from_micros(wait_us.min(1_000_000)).min(self.watchdog.rest_max());
        tokio::select! {
            biased;
            () = self.desk.filled() => {}
            _ = self.disk_failed.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}
