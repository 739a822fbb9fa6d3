//! Who knows for certain that a run has ended: whoever watches it, and gets its lock then; and the next
//! run of the node, which tells whom it greets.

use crate::world::{Event, World};
use raft_node::engine::Input;
use raft_node::raft::{NodeId, Run};
use raft_node::wal::LockRecord;

impl World {
    /// A run has ended. Who watches it finds out some time later.
    pub(crate) fn watch_end(&mut self, id: NodeId, run: Run) {
        let Some(witness_us) = self.plan.witness_us.clone().filter(|_| run.is_named()) else {
            return;
        };
        let place = self.machine(id).place();
        let after_us = self.witness_random.within(witness_us);
        self.schedule(after_us, Event::Witness { id, run, place });
    }

    /// It asks for the lock of the very file that it has open. It is gone if the machine is; the next run
    /// may have the lock, or have had it: then the file names another run.
    pub(crate) fn on_witness(&mut self, id: NodeId, run: Run, place: &str) {
        let machine = self.machine(id);
        let is_there = machine.place() == place && machine.running.is_none();
        if !is_there || LockRecord::decode(&machine.lock).incarnation != run.incarnation {
            return;
        }
        self.coverage.count("testimonies", 1);
        self.trace
            .say(self.now, || format!("n{id}: run {run:?} has ended"));
        for to in self.others(id) {
            if !self.network.is_cut(id, to) {
                let delay_us = self
                    .witness_random
                    .within(self.plan.network.delay_us.clone());
                self.schedule(delay_us, Event::Testimony { to, run });
            }
        }
    }

    pub(crate) fn on_testimony(&mut self, to: NodeId, run: Run) {
        self.trace.say(self.now, || format!("n{to} hears: {run:?}"));
        self.hand(to, Input::Ended { run });
    }

    /// A node is told what the process that it talks with knows of its own former runs.
    pub(crate) fn hear_greeting(&mut self, to: NodeId, peer: NodeId) {
        let process = self.process_for(to, peer);
        let running = self.machine(process).running.as_ref();
        let ended = running.map(|running| running.engine.raft().own_ended());
        for run in ended.unwrap_or_default() {
            self.hand(to, Input::Ended { run });
        }
    }

    /// The run of a node that lives.
    pub fn run_of(&self, id: NodeId) -> Option<Run> {
        let running = self.machines[id as usize - 1].running.as_ref()?;
        Some(running.engine.raft().own_run())
    }
}
