//! How nodes run in the world: start, loop, disk, crash, pause.

use crate::client::{Client, told};
use crate::machine::{Held, Pause, Running};
use crate::oracle::{Checked, Failure, broken};
use crate::world::{Event, World};
use raft_node::engine::{DiskWork, Effects, Input, Reply, RequestError, Token};
use raft_node::raft::{self, ChunkWanted, LogState, Micros, NodeId};

/// Between something that comes in and the loop that takes it, with all that came meanwhile.
const LOOP_US: Micros = 20;
/// A node may ask to be woken at once this many times in a row.
const IDLE_STEPS_MAX: u32 = 100;

impl World {
    /// Starts the node on what its disk holds.
    pub fn start(&mut self, id: NodeId) -> Checked {
        let now = self.now;
        if self.machine(id).life > 0 {
            self.coverage.count("restarts", 1);
        }
        let life = self.machine(id).life + 1;
        let mut config = self.plan.config(id, life);
        config.formats.reads = self.machine(id).reads_format;
        let snapshot_log_bytes = self.plan.snapshot_log_bytes;
        let torn = self.machine(id).start(config, snapshot_log_bytes, now);
        let torn = torn.map_err(|detail| Failure {
            rule: "a node starts after a crash",
            detail,
        })?;
        self.coverage.count("torn tails", u64::from(torn));
        self.trace.say(now, || format!("n{id} starts, life {life}"));
        self.wake(id, 0);
        for other in self.ids().filter(|other| *other != id) {
            self.connect(id, other);
        }
        self.oracle.after_step(&self.machines, id, now)
    }

    /// The node dies with all that was not flushed, and now and then its machine.
    pub fn crash(&mut self, id: NodeId) {
        self.die(id, 40);
    }

    /// The process of the node dies, and its machine goes on.
    pub fn kill(&mut self, id: NodeId) {
        self.die(id, 0);
    }

    fn die(&mut self, id: NodeId, machine_dies_percent: u64) {
        let Some(running) = self.machine(id).running.take() else {
            return;
        };
        self.trace.say(self.now, || format!("n{id} dies"));
        self.watch_end(id, running.engine.raft().own_run());
        let (machines, random) = (&mut self.machines, &mut self.random);
        machines[id as usize - 1].disk.crash(random);
        if self.random.percent(machine_dies_percent) {
            self.reboot(id);
        }
        self.bury(id, &running);
    }

    /// The machine of a node that is down boots anew: its clock begins somewhere else.
    pub fn reboot(&mut self, id: NodeId) {
        let now = self.now;
        let shown_us = self.random.within(0..=1_000_000_000);
        let machine = self.machine(id);
        machine.clock.restart(now, shown_us);
        machine.boot += 1;
    }

    /// The node ends in good order, if its disk lets it.
    pub fn stop(&mut self, id: NodeId) {
        if self.machine(id).disk.stalls > 0 {
            return self.crash(id);
        }
        let now = self.now;
        let Some(running) = self.machine(id).stop(now) else {
            return;
        };
        self.coverage.count("stops in good order", 1);
        self.trace.say(now, || format!("n{id} stops"));
        self.bury(id, &running);
    }

    fn bury(&mut self, id: NodeId, running: &Running) {
        self.collect(Some(running.engine.status().counters));
        for other in self.ids().filter(|other| *other != id) {
            self.lose_connection_of_dead(id, other);
        }
        self.forget_calls(id);
    }

    /// Runs the loop of a node at the latest in `after_us`.
    pub(crate) fn wake(&mut self, id: NodeId, after_us: Micros) {
        let at_us = self.now + after_us;
        let machine = self.machine(id);
        let life = machine.life;
        let Some(running) = &mut machine.running else {
            return;
        };
        if running.step_at_us.is_some_and(|earlier| earlier <= at_us) {
            return;
        }
        running.step_at_us = Some(at_us);
        self.schedule(after_us, Event::Step { id, life });
    }

    /// Hands something to the node's loop. False: the node is down.
    pub(crate) fn hand(&mut self, id: NodeId, input: Input) -> bool {
        let Some(running) = &mut self.machine(id).running else {
            return false;
        };
        running.inbox.push(input);
        self.wake(id, LOOP_US);
        true
    }

    pub(crate) fn on_step(&mut self, id: NodeId, life: u64) -> Checked {
        let now = self.now;
        let Some(running) = self.running(id, life) else {
            return Ok(());
        };
        if running.step_at_us != Some(now) {
            return Ok(()); // Another run was due earlier, and has been.
        }
        running.step_at_us = None;
        if running.pause.is_some() {
            return Ok(()); // The end of the pause wakes it.
        }
        let inputs = std::mem::take(&mut running.inbox);
        let own = self.machine(id).clock.at(now);
        let effects = self.step(id, own, inputs)?;
        if self.machine(id).running.is_some() {
            self.carry_out(id, effects);
        }
        Ok(())
    }

    /// One step of the engine with the given reading of its clock.
    fn step(&mut self, id: NodeId, own: Micros, inputs: Vec<Input>) -> Result<Effects, Failure> {
        let now = self.now;
        let machine = &mut self.machines[id as usize - 1];
        let running = machine.running.as_mut().expect("only a running node steps");
        let idle = inputs.is_empty();
        let effects = running.engine.step(own, inputs);
        let wake_at_us = effects.wake_at_us.unwrap_or(Micros::MAX);
        running.idle_steps = match idle && wake_at_us <= own {
            true => running.idle_steps + 1,
            false => 0,
        };
        if running.idle_steps > IDLE_STEPS_MAX {
            let status = running.engine.status();
            let detail =
                format!("node {id} asks to be woken at {wake_at_us}, it is {own}: {status:?}");
            return broken("a node rests when it has nothing to do", detail);
        }
        if let Some(contradiction) = effects.contradiction {
            self.on_contradiction(id, contradiction)?;
            return Ok(Effects::default());
        }
        let owes = |work: &&DiskWork| {
            let idle = work.flush_mark && work.metadata.is_none() && work.truncate_to.is_none();
            !work.append.is_empty() || idle
        };
        if let Some(work) = effects.disk.as_ref().filter(owes) {
            let leads_in = running.leads_in();
            running.works.push_back((work.ticket, own, leads_in));
        }
        let is_damaged = matches!(running.engine.raft().log_state(), LogState::Damaged { .. });
        let disk = &mut machine.disk;
        if !is_damaged && disk.damaged_until <= disk.last_index() {
            disk.damaged_until = 0;
        }
        self.trace.step(now, id, &effects);
        self.oracle.after_step(&self.machines, id, now)?;
        Ok(effects)
    }

    fn carry_out(&mut self, id: NodeId, effects: Effects) {
        let life = self.machine(id).life;
        if let Some(work) = effects.disk
            && self.machine(id).disk.submit(work)
        {
            self.begin_flush(id);
        }
        for work in effects.snapshots {
            if self.machine(id).disk.submit_ahead(work) {
                self.begin_ahead(id);
            }
        }
        self.read_chunks(id, &effects.chunks);
        for (to, message) in effects.messages {
            self.send(id, to, message);
        }
        for (token, reply) in effects.replies {
            self.on_reply(id, token, reply);
        }
        self.count_events(&effects.events);
        let now = self.now;
        let machine = self.machine(id);
        let wake_at_us = effects.wake_at_us.unwrap_or(Micros::MAX / 4);
        let due_us = machine.clock.true_time_of(wake_at_us, now);
        let waits = machine
            .running
            .as_ref()
            .is_some_and(|r| !r.inbox.is_empty());
        let after_us = if waits {
            LOOP_US
        } else {
            (due_us - now).max(LOOP_US)
        };
        debug_assert_eq!(life, self.machine(id).life);
        self.wake(id, after_us);
    }

    /// What is read is what is durable by now.
    fn read_chunks(&mut self, id: NodeId, chunks: &[ChunkWanted]) {
        for wanted in chunks {
            let disk = &self.machine(id).disk;
            if disk.stalls > 0 {
                continue;
            }
            let ChunkWanted {
                peer,
                snapshot,
                offset,
                ..
            } = *wanted;
            let data = disk.read(wanted).into();
            let chunk = Input::Chunk {
                peer,
                snapshot,
                offset,
                data,
            };
            self.hand(id, chunk);
        }
    }

    fn on_reply(&mut self, id: NodeId, token: Token, reply: Result<Reply, RequestError>) {
        if token == self.operator_token {
            return self
                .trace
                .say(self.now, || format!("n{id} -> operator {reply:?}"));
        }
        let (client, attempt) = Client::of_token(token);
        if reply == Ok(Reply::LookAgain) {
            return self.read_under_lease(client, attempt, None);
        }
        if matches!(reply, Ok(Reply::Read { .. })) {
            self.coverage.count("quorum reads", 1);
        }
        self.answer(client, attempt, told(reply));
    }

    fn begin_flush(&mut self, id: NodeId) {
        let life = self.machine(id).life;
        let flush_us = self.random.within(self.plan.flush_us.clone());
        self.schedule(flush_us, Event::Flushed { id, life });
    }

    /// The next work beside the log begins.
    fn begin_ahead(&mut self, id: NodeId) {
        let life = self.machine(id).life;
        let flush_us = self.random.within(self.plan.flush_us.clone());
        if !self.network.calm {
            self.machine(id).disk.is_full = self.random.percent(2);
        }
        self.schedule(flush_us, Event::WrittenAhead { id, life });
    }

    pub(crate) fn on_written_ahead(&mut self, id: NodeId, life: u64) {
        let machine = self.machine(id);
        if machine.life != life || machine.running.is_none() {
            return;
        }
        let stalls = machine.disk.stalls > 0 && !machine.disk.ahead_goes_on;
        if stalls || machine.disk.ahead_stalls {
            machine.disk.ahead_overdue = true;
            return;
        }
        let Some((ticket, more, told)) = machine.disk.finish_ahead() else {
            return;
        };
        if more {
            self.begin_ahead(id);
        }
        if let Some(told) = told {
            self.hand(id, told);
        }
        self.hand(id, Input::SnapshotWritten { ticket });
    }

    pub(crate) fn on_flushed(&mut self, id: NodeId, life: u64) {
        let machine = self.machine(id);
        if machine.life != life || machine.running.is_none() {
            return;
        }
        if machine.disk.stalls > 0 {
            machine.disk.overdue = true;
            return;
        }
        let Some((ticket, more)) = machine.disk.finish() else {
            return;
        };
        if let Some(running) = &mut machine.running {
            running.works.retain(|work| work.0 > ticket);
        }
        if more {
            self.begin_flush(id);
        }
        self.hand(id, Input::Durable { ticket });
    }

    /// What a node writes beside its log gets there again.
    pub fn unstall_ahead(&mut self, id: NodeId) {
        let machine = self.machine(id);
        machine.disk.ahead_stalls = false;
        let life = machine.life;
        if std::mem::take(&mut machine.disk.ahead_overdue) {
            self.on_written_ahead(id, life);
        }
    }

    /// The disk of a node goes on.
    pub fn unstall(&mut self, id: NodeId) {
        let machine = self.machine(id);
        machine.disk.stalls = machine.disk.stalls.saturating_sub(1);
        let life = machine.life;
        if machine.disk.stalls > 0 {
            return;
        }
        let disk = &mut machine.disk;
        let overdue = std::mem::take(&mut disk.overdue);
        let ahead_overdue = std::mem::take(&mut disk.ahead_overdue);
        if overdue {
            self.on_flushed(id, life);
        }
        if ahead_overdue {
            self.on_written_ahead(id, life);
        }
    }

    /// Stops the process of a node for a while; what it reads for clients at this moment it will
    /// have taken before the pause and look at its clock after it.
    pub fn pause(
        &mut self,
        id: NodeId,
        lasts_us: Micros,
        point: crate::fault::PausePoint,
    ) -> Checked {
        let (now, until_us) = (self.now, self.now + lasts_us);
        let machine = self.machine(id);
        let life = machine.life;
        let own = machine.clock.at(now);
        let Some(running) = machine.running.as_mut().filter(|r| r.pause.is_none()) else {
            return Ok(());
        };
        let inputs = match point {
            crate::fault::PausePoint::BeforeClock => None,
            _ => Some(std::mem::take(&mut running.inbox)),
        };
        self.trace
            .say(now, || format!("n{id} stands still {point:?}"));
        self.read_in_flight(id, until_us);
        let held = match (inputs, point) {
            (None, _) => Held::Nothing,
            (Some(inputs), crate::fault::PausePoint::BeforeEffects) => {
                Held::Effects(Box::new(self.step(id, own, inputs)?))
            }
            (Some(inputs), _) => Held::Inputs(own, inputs),
        };
        if let Some(running) = &mut self.machine(id).running {
            running.pause = Some(Pause { until_us, held });
        }
        self.coverage.count("pauses", 1);
        self.schedule(lasts_us, Event::Resume { id, life });
        Ok(())
    }

    pub(crate) fn on_resume(&mut self, id: NodeId, life: u64) -> Checked {
        let now = self.now;
        let Some(running) = self.running(id, life) else {
            return Ok(());
        };
        let Some(pause) = running.pause.take_if(|pause| pause.until_us <= now) else {
            return Ok(());
        };
        self.trace.say(now, || format!("n{id} goes on"));
        let effects = match pause.held {
            Held::Nothing => None,
            Held::Inputs(own, inputs) => Some(self.step(id, own, inputs)?),
            Held::Effects(effects) => Some(*effects),
        };
        if self.machine(id).running.is_none() {
            return Ok(());
        }
        if let Some(effects) = effects {
            self.carry_out(id, effects);
        }
        self.resume_requests(id);
        self.wake(id, 0);
        Ok(())
    }

    pub(crate) fn running(&mut self, id: NodeId, life: u64) -> Option<&mut Running> {
        let machine = self.machine(id);
        let current = machine.life == life;
        machine.running.as_mut().filter(|_| current)
    }

    fn count_events(&mut self, events: &[raft::Event]) {
        for event in events {
            match event {
                raft::Event::DiskStalled { .. } => self.coverage.count("stalled disks noticed", 1),
                raft::Event::LeaseRenewalFailed { .. } => {
                    self.coverage.count("leases not renewed", 1);
                }
                raft::Event::RunEnded { .. } => self.coverage.count("ends of runs proved", 1),
                raft::Event::PromiseWaived { .. } => self.coverage.count("promises waived", 1),
                raft::Event::WaitWaived { .. } => self.coverage.count("waits waived", 1),
                raft::Event::BecameLeader { .. } => self.coverage.count("leaders", 1),
                raft::Event::SnapshotTaken { .. } => self.coverage.count("snapshots taken", 1),
                raft::Event::SnapshotSkipped { .. } => self.coverage.count("snapshots left out", 1),
                raft::Event::SnapshotDamaged { .. } => {
                    self.coverage.count("snapshots found damaged", 1);
                }
                raft::Event::StateDiffers { .. } => {
                    self.coverage.count("states found to differ", 1);
                }
                raft::Event::SnapshotInstalled { .. } => {
                    self.coverage.count("snapshots installed", 1);
                }
                _ => {}
            }
        }
    }

    /// Adds up what the nodes counted themselves.
    pub(crate) fn collect_counters(&mut self) {
        for at in 0..self.machines.len() {
            let running = self.machines[at].running.as_ref();
            let counters = running.map(|running| running.engine.status().counters);
            self.collect(counters);
        }
    }

    pub(crate) fn collect(&mut self, counters: Option<raft::Counters>) {
        let Some(counters) = counters else {
            return;
        };
        self.coverage
            .count("deferred commits", counters.deferred_commits);
        self.coverage
            .count("old lease waits", counters.old_lease_waits);
        self.coverage.count("transfers", counters.transfers);
        self.coverage.count("log conflicts", counters.conflicts);
    }
}
