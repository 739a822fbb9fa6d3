//! How faults befall the world, and how they end.

use crate::fault::{Direction, FaultKind, Target, Undo};
use crate::oracle::Checked;
use crate::world::{Event, World};
use raft_node::engine::{Input, Request};
use raft_node::raft::NodeId;

impl World {
    pub(crate) fn on_fault(&mut self, number: usize) -> Checked {
        let fault = self.plan.faults[number];
        self.trace
            .say(self.now, || format!("fault: {:?}", fault.kind));
        let undo = match fault.kind {
            FaultKind::Isolate(target, direction) => {
                let id = self.resolve(target);
                let others: Vec<NodeId> = self.ids().filter(|other| *other != id).collect();
                self.cut_all(id, &others, direction)
            }
            FaultKind::CutPair(target, other, direction) => {
                let id = self.resolve(target);
                self.cut_all(id, &[other], direction)
            }
            FaultKind::Split(bits) => self.split(bits),
            FaultKind::Crash(target) => {
                let id = self.resolve(target);
                self.crash_all(vec![id])
            }
            FaultKind::Damage(target) => {
                let id = self.resolve(target);
                self.damage(id);
                Undo::Start(vec![id])
            }
            FaultKind::Stop(target) => {
                let id = self.resolve(target);
                self.stop(id);
                if self.random.percent(20) && self.machine(id).running.is_none() {
                    self.reboot(id);
                }
                Undo::Start(vec![id])
            }
            FaultKind::RestartRest(target) => {
                let id = self.resolve(target);
                let rest = self.ids().filter(|other| *other != id).collect();
                self.crash_all(rest)
            }
            FaultKind::IsolateAndRestartRest(target) => {
                let id = self.resolve(target);
                let rest: Vec<NodeId> = self.ids().filter(|other| *other != id).collect();
                let healed = self.cut_all(id, &rest, Direction::Both);
                // The others come back while this one is still cut off.
                self.schedule(fault.lasts_us, Event::FaultEnds(healed));
                let started = self.crash_all(rest);
                self.schedule(fault.lasts_us / 8, Event::FaultEnds(started));
                return Ok(());
            }
            FaultKind::RestartAll => {
                let all = self.ids().collect();
                self.crash_all(all)
            }
            FaultKind::Pause(target, point) => {
                let id = self.resolve(target);
                self.begin_reads(id);
                return self.pause(id, fault.lasts_us, point);
            }
            FaultKind::StallDisk(target) => {
                let id = self.resolve(target);
                self.machine(id).disk.stalls += 1;
                Undo::Unstall(id)
            }
            FaultKind::Transfer(target) => {
                let id = self.resolve(Target::Leader);
                self.transfer(id, target);
                return Ok(());
            }
            FaultKind::Members(change) => {
                self.wish(change);
                return Ok(());
            }
            FaultKind::Slow(target, direction, extra_us) => {
                let id = self.resolve(target);
                let others: Vec<NodeId> = self.ids().collect();
                let ways = directions(id, &others, direction);
                for (from, to) in &ways {
                    self.network.slow(*from, *to, extra_us);
                }
                Undo::Hasten(ways)
            }
            FaultKind::BreakLink(target, other) => {
                let id = self.resolve(target);
                if id != other {
                    self.break_connection(id, other);
                }
                return Ok(());
            }
            FaultKind::TakeDisk(target, bits) => {
                let id = self.resolve(target);
                let friends = self.others(id).into_iter();
                let friends = friends.filter(|other| bits >> other & 1 == 1).collect();
                let taken = match bits >> 63 {
                    0 => self.take_disk(id, friends),
                    _ => self.copy_disk(id, friends),
                };
                if !taken {
                    return Ok(());
                }
                self.start_again(id)?;
                Undo::EndGhost
            }
        };
        self.schedule(fault.lasts_us, Event::FaultEnds(undo));
        Ok(())
    }

    pub(crate) fn resolve(&self, target: Target) -> NodeId {
        match target {
            Target::Leader => self.leader().unwrap_or(1),
            Target::Node(id) => id,
        }
    }

    fn cut_all(&mut self, id: NodeId, others: &[NodeId], direction: Direction) -> Undo {
        let cuts = directions(id, others, direction);
        cuts.iter().for_each(|(from, to)| self.cut(*from, *to));
        Undo::Heal(cuts)
    }

    fn split(&mut self, bits: u64) -> Undo {
        let side = |id: NodeId| bits >> id & 1;
        let pairs = self.ids().flat_map(|a| self.ids().map(move |b| (a, b)));
        let cuts: Vec<_> = pairs.filter(|(a, b)| side(*a) != side(*b)).collect();
        cuts.iter().for_each(|(from, to)| self.cut(*from, *to));
        Undo::Heal(cuts)
    }

    /// Changes a byte of the log of a node that dies, if the others can make up for it.
    pub fn damage(&mut self, id: NodeId) {
        self.crash(id);
        let (machines, random) = (&mut self.machines, &mut self.random);
        // Where members come and go, too few may be left that know.
        if self.plan.voters < 3 || self.plan.voters < self.plan.nodes || self.damaged {
            return;
        }
        if machines[id as usize - 1].disk.corrupt(random) {
            self.damaged = true;
            self.coverage.count("damaged logs", 1);
        }
    }

    fn crash_all(&mut self, ids: Vec<NodeId>) -> Undo {
        ids.iter().for_each(|id| self.crash(*id));
        Undo::Start(ids)
    }

    /// An operator asks a node to hand the leadership over.
    pub fn transfer(&mut self, id: NodeId, target: Option<NodeId>) {
        let token = self.operator_token;
        let request = Request::Transfer { target };
        self.hand(id, Input::Request { token, request });
    }

    pub(crate) fn on_fault_ends(&mut self, undo: Undo) -> Checked {
        match undo {
            Undo::Heal(cuts) => cuts.into_iter().for_each(|(from, to)| self.heal(from, to)),
            Undo::Start(ids) => {
                for id in ids {
                    self.start_again(id)?;
                }
            }
            Undo::Hasten(ways) => ways
                .into_iter()
                .for_each(|(from, to)| self.network.slow(from, to, 0)),
            Undo::Unstall(id) => self.unstall(id),
            Undo::EndGhost => self.end_ghost()?,
        }
        Ok(())
    }

    /// The end of all faults: everything is up, connected and on time.
    pub(crate) fn calm(&mut self) -> Checked {
        self.trace.say(self.now, || "the faults are over".into());
        self.network.calm = true;
        self.end_ghost()?;
        for from in self.ids() {
            for to in self.ids().filter(|to| *to != from) {
                self.network.slow(from, to, 0);
                while self.network.is_cut(from, to) {
                    self.heal(from, to);
                }
            }
        }
        for id in self.ids() {
            while self.machine(id).disk.stalls > 0 {
                self.unstall(id);
            }
            self.start_again(id)?;
        }
        Ok(())
    }

    /// Starts a node that is down. One that has ended because it was removed stays so.
    fn start_again(&mut self, id: NodeId) -> Checked {
        let machine = self.machine(id);
        match machine.running.is_none() && !machine.is_removed {
            true => self.start(id),
            false => Ok(()),
        }
    }
}

fn directions(id: NodeId, others: &[NodeId], direction: Direction) -> Vec<(NodeId, NodeId)> {
    let mut ways = Vec::new();
    for other in others.iter().copied().filter(|other| *other != id) {
        if !matches!(direction, Direction::Outbound) {
            ways.push((other, id));
        }
        if !matches!(direction, Direction::Inbound) {
            ways.push((id, other));
        }
    }
    ways
}
