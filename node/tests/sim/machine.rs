//! A machine: a clock, a disk, and at times a running node.

use crate::clock::Clock;
use crate::disk::Disk;
use raft_node::command::{Command, FORMAT_FIRST, FORMAT_MEMBERS, FORMAT_NEWEST};
use raft_node::engine::{Effects, Engine, Input, ReadGate, ReadView, Start};
use raft_node::raft::{Config, LEASE_US_MAX, Micros, NodeId, Role, Term};
use raft_node::wal::{DamageMark, Files, LockRecord, Recovery, recover_behind};
use raft_node::wal::{decode_lease, decode_promises, encode_lease, encode_promises};
use std::collections::VecDeque;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct Machine {
    /// The node that runs here.
    pub id: NodeId,
    /// Survives a crash, but shows something else after it.
    pub clock: Clock,
    /// Survives a crash, as far as it was flushed.
    pub disk: Disk,
    /// What a stop in good order wrote down, until the next start takes it.
    pub kept_promises: Option<Vec<u8>>,
    /// `lease.txt`, durable.
    pub lease: Vec<u8>,
    /// An operator said that what damage cost is given up.
    pub accepts_damage: bool,
    /// Names the boot of the machine: with the next one its clock shows something else.
    pub boot: u64,
    /// How many times the node was started.
    pub life: u64,
    /// The text of the file `lock`.
    pub lock: String,
    /// Where that file is: a copy has another place.
    pub file: u64,
    /// It takes part in proofs: otherwise it tells nobody its name.
    pub names_runs: bool,
    /// It ended because it was removed.
    pub is_removed: bool,
    /// The newest format that the version installed here reads.
    pub reads_format: u64,
    /// The node, while it is up.
    pub running: Option<Running>,
}

/// A running node.
#[derive(Debug)]
pub struct Running {
    /// The node itself.
    pub engine: Engine,
    /// What its lease reads look at.
    pub view: Arc<ReadView>,
    /// What it has not looked at yet.
    pub inbox: Vec<Input>,
    /// When its loop runs next, in true time.
    pub step_at_us: Option<Micros>,
    /// It stands still.
    pub pause: Option<Pause>,
    /// Disk works with entries that are not durable yet: ticket, own time of the request, and the
    /// term in which this node led then.
    pub works: VecDeque<(u64, Micros, Option<Term>)>,
    /// Loop runs in a row that had nothing to do and asked for the next at once.
    pub idle_steps: u32,
}

/// A node that stands still: its process is stopped, its clock goes on.
#[derive(Debug)]
pub struct Pause {
    /// True time at which it goes on.
    pub until_us: Micros,
    /// What it was doing.
    pub held: Held,
}

/// What a paused node had in hand.
#[derive(Debug)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// It had read its clock and taken its inbox.
    Inputs(Micros, Vec<Input>),
    /// It had made the step, but nothing of it has left.
    Effects(Box<Effects>),
}

impl Machine {
    /// A machine that has not run yet; whoever wrote its disk had a lease of `lease_us`.
    pub fn new(id: NodeId, clock: Clock, disk: Disk, lease_us: Micros) -> Self {
        Machine {
            id,
            clock,
            disk,
            kept_promises: None,
            lease: encode_lease(lease_us),
            accepts_damage: false,
            boot: 0,
            life: 0,
            lock: String::new(),
            file: 1,
            names_runs: true,
            is_removed: false,
            reads_format: FORMAT_NEWEST,
            running: None,
        }
    }

    /// Starts the node on what the disk holds. Returns whether it had to cut a torn tail off.
    pub fn start(
        &mut self,
        config: Config,
        snapshot_log_bytes: Option<u64>,
        true_us: Micros,
    ) -> Result<bool, String> {
        assert!(self.running.is_none(), "node {} runs already", self.id);
        let snapshot = self.disk.named_snapshot();
        let files = Files {
            logs: self.disk.metadata.is_some().then_some(&self.disk.logs),
            metadata: self.disk.metadata.as_deref(),
            damaged: self.disk.mark.as_deref(),
            mark: self.disk.flush_mark.as_deref(),
        };
        let recovery = recover_behind(snapshot, files);
        let mut recovery = recovery.map_err(|error| format!("node {}: {error}", self.id))?;
        self.judge_formats(&recovery)?;
        if let Some(kept) = self.kept_promises.take() {
            recovery.recovered.kept_promises = decode_promises(&self.origin(), &kept);
        }
        self.take_lock(&mut recovery);
        let recovered = &mut recovery.recovered;
        let lease_us = decode_lease(&self.lease).unwrap_or(LEASE_US_MAX);
        recovered.former_lease_us = recovered.former_lease_us.min(lease_us);
        // Never lowered: in no story a node runs with a shorter lease for so long.
        self.lease = encode_lease(lease_us.max(config.lease_us));
        self.judge_damage(&recovery)?;
        self.disk.settle(&recovery);
        if std::mem::take(&mut self.accepts_damage) {
            self.disk.accept(recovery.accept(None).encode());
        }
        let found = recovery.recovered.last_index();
        if found != self.disk.last_index() {
            let durable = self.disk.last_index();
            return Err(format!(
                "node {}: {durable} entries durable, {found} recovered",
                self.id
            ));
        }
        if self.disk.metadata.is_none() {
            // The real node makes its files before it takes part in anything.
            self.disk.metadata = Some(raft_node::wal::Metadata::default().encode());
        }
        self.life += 1;
        let now = self.clock.at(true_us);
        let start = Start {
            log: recovery.log,
            store: recovery.store,
            snapshot_log_bytes,
        };
        let engine = Engine::behind(start, config, recovery.recovered, now);
        self.running = Some(Running {
            view: engine.view(),
            engine,
            inbox: Vec::new(),
            step_at_us: None,
            pause: None,
            works: VecDeque::new(),
            idle_steps: 0,
        });
        Ok(recovery.torn.is_some())
    }

    /// Whatever a crash cut short: a log never holds what metadata.txt does not announce, or a version
    /// that does not read it would take it for damage and cut it. No version starts on what it does
    /// not read.
    fn judge_formats(&self, recovery: &Recovery) -> Result<(), String> {
        let id = self.id;
        let announced = recovery.recovered.format.max(FORMAT_FIRST);
        let held = recovery.recovered.entries.iter();
        let held = held.map(|entry| match &*entry.command {
            Command::Format(format) => format.version,
            Command::Members(_) => FORMAT_MEMBERS,
            Command::NoOp | Command::Write(_) => FORMAT_FIRST,
        });
        let held = held.max().unwrap_or(FORMAT_FIRST);
        if held > announced {
            return Err(format!(
                "node {id}: a log of format {held} is announced as {announced}"
            ));
        }
        match announced > self.reads_format {
            true => Err(format!("node {id} does not read format {announced}")),
            false => Ok(()),
        }
    }

    /// Damage is found where it was done, and nowhere else; its mark is kept as long as needed.
    fn judge_damage(&mut self, recovery: &Recovery) -> Result<(), String> {
        let corrupt = std::mem::take(&mut self.disk.corrupt);
        // What was changed and is known costs nothing.
        let mended = corrupt && recovery.damage.is_none() && !recovery.mends.is_empty();
        if recovery.damage.is_some() != corrupt && !mended {
            let found = &recovery.damage;
            return Err(format!(
                "node {}: damaged: {corrupt}, found: {found:?}",
                self.id
            ));
        }
        match &recovery.damage_mark {
            DamageMark::Keep => {}
            DamageMark::Write(mark) => self.disk.mark = Some(mark.clone()),
            DamageMark::Remove => self.disk.mark = None,
        }
        self.disk.damaged_until = recovery.recovered.damaged_until;
        Ok(())
    }

    /// Ends the node in good order: all is flushed, and its promises are written down.
    pub fn stop(&mut self, true_us: Micros) -> Option<Running> {
        let running = self.running.take()?;
        while self.disk.finish().is_some() {}
        while self.disk.finish_ahead().is_some() {}
        let promises = running.engine.raft().promises(self.clock.at(true_us));
        self.kept_promises = Some(encode_promises(&self.origin(), &promises));
        Some(running)
    }

    /// As the real node does it. Only who lives has the lock, so whoever starts gets it.
    fn take_lock(&mut self, recovery: &mut Recovery) {
        let place = self.place();
        let former = LockRecord::decode(&self.lock);
        let incarnation = self.id * 1_000 + self.life + 1;
        let next = former.next("1".into(), Some(place.clone()), incarnation);
        let recovered = &mut recovery.recovered;
        recovered.former_run_ended = former.proves_end(Some(&place));
        recovered.all_ended = former.proves_all_ends(Some(&place));
        if self.names_runs {
            recovered.former_run = former.incarnation;
            recovered.incarnation = incarnation;
            recovered.ended.clone_from(&next.ended);
        }
        self.lock = String::from_utf8(next.encode()).expect("a text");
    }

    /// Names the file of the lock, and the run of the kernel in which that counts.
    pub fn place(&self) -> String {
        format!(
            "boot={}.{} device=1 inode={}",
            self.id, self.boot, self.file
        )
    }

    /// Whoever reads kept promises must measure with the same clock.
    fn origin(&self) -> String {
        format!("boot {}", self.boot)
    }

    /// The gate that lease reads see here, if they would be answered at this true time.
    pub fn open_gate(&self, true_us: Micros) -> Option<ReadGate> {
        let gate = self.running.as_ref()?.view.gate();
        let leads = gate.role == Role::Leader && self.clock.at(true_us) < gate.lease_until_us;
        (leads && (gate.own_term_applied || gate.limbo.is_some())).then_some(gate)
    }
}

impl Running {
    /// The term it leads in, by its own belief.
    pub fn leads_in(&self) -> Option<Term> {
        let raft = self.engine.raft();
        (raft.role() == Role::Leader).then(|| raft.term())
    }
}
