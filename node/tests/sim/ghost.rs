//! A process without its disk: the disk was taken to another machine, where the node is started,
//! while the old process lives on and does not know. As with a disk that is attached elsewhere by
//! force, or a host that hangs and comes back.
//!
//! Both are the same node to its peers. Each peer talks with one of the two, as addresses and
//! routes have it, until the old process ends.

use crate::clock::Clock;
use crate::disk::Disk;
use crate::machine::Machine;
use crate::oracle::Checked;
use crate::world::World;
use raft_node::raft::NodeId;
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug)]
pub struct Ghost {
    /// Whose old process it is.
    of: NodeId,
    /// The peers that still talk with it.
    friends: BTreeSet<NodeId>,
}

impl World {
    /// The number under which the ghost goes on.
    pub fn ghost_id(&self) -> NodeId {
        self.plan.nodes as NodeId + 1
    }

    /// Takes the disk of a running node to another machine, without a word to its process. The node
    /// is not started there yet. False: there is nothing to take, or it was done before.
    pub fn take_disk(&mut self, id: NodeId, friends: BTreeSet<NodeId>) -> bool {
        let boot = self.machine(id).boot + 1;
        let file = self.machine(id).file;
        self.take_disk_to(id, friends, (boot, file))
    }

    /// The same, with what the disk held copied to another place of the same machine.
    pub fn copy_disk(&mut self, id: NodeId, friends: BTreeSet<NodeId>) -> bool {
        let boot = self.machine(id).boot;
        let file = self.machine(id).file + 1;
        self.take_disk_to(id, friends, (boot, file))
    }

    fn take_disk_to(
        &mut self,
        id: NodeId,
        friends: BTreeSet<NodeId>,
        (boot, file): (u64, u64),
    ) -> bool {
        let ghost_id = self.ghost_id();
        let running = self.machine(id).running.as_ref();
        let lives = running.is_some_and(|running| running.pause.is_none());
        if !lives || self.machines.len() >= ghost_id as usize {
            return false;
        }
        self.coverage.count("disks taken from living processes", 1);
        self.trace
            .say(self.now, || format!("the disk of n{id} is taken away"));
        let offset_us = self.random.within(0..=1_000_000_000);
        let clock = Clock::new(offset_us, &self.plan.clocks[id as usize - 1].1);
        let machine = &mut self.machines[id as usize - 1];
        let mut disk = std::mem::replace(&mut machine.disk, Disk::gone());
        disk.crash(&mut self.random);
        disk.stalls = 0;
        let elsewhere = Machine {
            lease: machine.lease.clone(),
            life: machine.life,
            lock: machine.lock.clone(),
            names_runs: machine.names_runs,
            boot,
            file,
            ..Machine::new(id, clock, disk, 0)
        };
        let mut old = std::mem::replace(machine, elsewhere);
        old.id = ghost_id;
        if let Some(running) = &mut old.running {
            running.step_at_us = None;
        }
        self.machines.push(old);
        self.oracle.renumber(id, ghost_id);
        for client in &mut self.clients {
            if let Some(call) = client.call.as_mut().filter(|call| call.target == id) {
                call.target = ghost_id;
            }
        }
        for other in self.others(id) {
            if !friends.contains(&other) {
                self.lose_connection_of_dead(id, other);
            }
        }
        self.ghost = Some(Ghost { of: id, friends });
        self.wake(ghost_id, 0);
        true
    }

    /// The old process ends at last.
    pub fn end_ghost(&mut self) -> Checked {
        let Some(Ghost { of, friends }) = self.ghost.take() else {
            return Ok(());
        };
        let ghost_id = self.ghost_id();
        self.trace.say(self.now, || format!("n{ghost_id} dies"));
        if let Some(running) = self.machine(ghost_id).running.take() {
            self.collect(Some(running.engine.status().counters));
        }
        self.forget_calls(ghost_id);
        for friend in friends {
            self.lose_connection_of_dead(of, friend);
            self.connect(of, friend);
        }
        Ok(())
    }

    /// Which node a process is to its peers.
    pub fn node_of(&self, process: NodeId) -> NodeId {
        match &self.ghost {
            Some(ghost) if process == self.ghost_id() => ghost.of,
            _ => process,
        }
    }

    /// Whether what this process sends to a peer gets there at all.
    pub fn talks_with(&self, process: NodeId, peer: NodeId) -> bool {
        let node = self.node_of(process);
        self.process_for(peer, node) == process
    }

    /// The process of a node that a peer talks with.
    pub fn process_for(&self, peer: NodeId, node: NodeId) -> NodeId {
        match &self.ghost {
            Some(ghost) if ghost.of == node && ghost.friends.contains(&peer) => self.ghost_id(),
            _ => node,
        }
    }

    /// The process of a node that a client talks with.
    pub fn process_for_client(&self, client: usize, node: NodeId) -> NodeId {
        match &self.ghost {
            Some(ghost) if ghost.of == node && client % 2 == 1 => self.ghost_id(),
            _ => node,
        }
    }
}
