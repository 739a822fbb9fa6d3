//! What must be true after every event, whatever happened. Looks at all nodes at once and at true
//! time, as nobody inside the cluster can.
//!
//! * One leader a term (Raft paper 5.2).
//! * Log matching: an index and a term name one entry, with one predecessor (5.3).
//! * Leader completeness: who leads holds all that was committed in earlier terms (5.4).
//! * State machine safety: nobody commits another entry at the same index. Nothing committed is
//!   lost: what is committed is durable on a majority, then and after every start.
//! * The commit index of a running node never goes back.
//! * Lease exclusion: while a node may answer from a lease of term T, nothing of a later term is
//!   committed. So an older leader can't miss what a newer one changed, though a newer one may
//!   serve, beside it, what both agree on.
//! * Lease freshness: what a node may answer from memory is what the committed log says.
//! * A snapshot holds what is committed, and at one index all are the same.
//! * What the newest leader counts as acknowledged by a follower is on that one's disk.
//! * A leader whose disk has owed it something for a whole lease has no lease.

use crate::machine::Machine;
use crate::plan::Plan;
use raft_node::command::{Command, Members};
use raft_node::engine::{Answer, LeaseRead, Query};
use raft_node::kv::Store;
use raft_node::raft::{Entry, Index, Micros, NodeId, Raft, Role, SnapshotId, Term};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The rule, in a few words: a smaller plan fails the same way if it breaks the same one.
    pub rule: &'static str,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

/// Whether all rules hold.
pub type Checked = Result<(), Failure>;

/// Fails with the rule's name.
pub fn broken<T>(rule: &'static str, detail: String) -> Result<T, Failure> {
    Err(Failure { rule, detail })
}

/// See the module.
#[derive(Debug)]
pub struct Oracle {
    leaders: HashMap<Term, NodeId>,
    /// Each entry ever seen, and the term before it.
    entries: HashMap<(Index, Term), (Arc<Command>, Term)>,
    committed: Vec<Committed>,
    /// The hash of the snapshot at an index.
    snapshots: HashMap<Index, (NodeId, SnapshotId)>,
    /// The committed log, applied.
    reference: Store,
    seen: BTreeMap<NodeId, Seen>,
    keys: Vec<Query>,
    /// Who votes as long as the log names nobody.
    first_members: Arc<Members>,
    lease_us: Micros,
    /// Clocks keep to the bound: leases must be right.
    leases: bool,
    compares_snapshots: bool,
}

#[derive(Debug)]
struct Committed {
    entry: Entry,
    /// The term of the leader that committed it.
    in_term: Term,
}

/// What was seen of one life of a node.
#[derive(Debug, Default)]
struct Seen {
    life: u64,
    /// The last entry that its log does not have any more.
    base_index: Index,
    /// Of the entries behind it.
    terms: Vec<Term>,
    commit_index: Index,
    leads_in: Option<Term>,
    /// In force after its last step.
    members: Arc<Members>,
}

impl Oracle {
    /// Nothing has happened yet. Lease reads of these keys are looked at, one by one and all
    /// together.
    pub fn new(plan: &Plan, keys: &[String]) -> Self {
        let get = |key: &String| Query::Get {
            key: key.as_str().into(),
        };
        let all_keys = Query::List {
            prefix: "".into(),
            after: None,
            limit: 100,
        };
        Oracle {
            leaders: HashMap::new(),
            entries: HashMap::new(),
            committed: Vec::new(),
            snapshots: HashMap::new(),
            reference: Store::default(),
            seen: BTreeMap::new(),
            keys: keys.iter().map(get).chain([all_keys]).collect(),
            first_members: Arc::new(Members::of_voters(1..=plan.voters as NodeId)),
            lease_us: plan.lease_us,
            leases: plan.clocks_in_bound,
            compares_snapshots: !plan.nodes_compare_states,
        }
    }

    /// The members that are committed.
    pub fn members(&self) -> Arc<Members> {
        let named = self.reference.configuration();
        Arc::clone(named.map_or(&self.first_members, |(_, members)| members))
    }

    /// How many entries are committed.
    pub fn committed_index(&self) -> Index {
        self.committed.len() as Index
    }

    /// A process goes on under another number: its disk was taken away, and its node is started
    /// elsewhere.
    pub fn renumber(&mut self, id: NodeId, other: NodeId) {
        if let Some(seen) = self.seen.remove(&id) {
            self.seen.insert(other, seen);
        }
        let led = self.leaders.values_mut().filter(|leader| **leader == id);
        led.for_each(|leader| *leader = other);
    }

    /// Looks at a node that has just made a step.
    pub fn after_step(&mut self, machines: &[Machine], id: NodeId, now: Micros) -> Checked {
        let machine = &machines[id as usize - 1];
        let Some(running) = &machine.running else {
            return Ok(());
        };
        let raft = running.engine.raft();
        let mut seen = self.seen.remove(&id).unwrap_or_default();
        if seen.life != machine.life {
            seen = Seen {
                life: machine.life,
                ..Seen::default()
            };
        }
        self.snapshot(raft, id)?;
        self.members_in_force(raft, id)?;
        self.log_matching(&mut seen, raft, id)?;
        let leads_in = (raft.role() == Role::Leader).then(|| raft.term());
        if leads_in.is_some() && leads_in != seen.leads_in {
            self.new_leader(raft, id)?;
        }
        seen.leads_in = leads_in;
        let commit_index = raft.commit_index();
        if commit_index < seen.commit_index {
            let before = seen.commit_index;
            let detail = format!("node {id}: from {before} to {commit_index}");
            return broken("the commit index never goes back", detail);
        }
        let first = seen.commit_index;
        seen.commit_index = commit_index;
        // A step may commit by one configuration, and then put another in force.
        let before = std::mem::replace(&mut seen.members, Arc::clone(raft.members()));
        self.seen.insert(id, seen);
        self.acknowledged(machines, raft, id)?;
        for index in first + 1..=commit_index {
            self.committed_at(machines, raft, &before, id, index)?;
        }
        self.leases(machines, now)
    }

    fn log_matching(&mut self, seen: &mut Seen, raft: &Raft, id: NodeId) -> Checked {
        let base_index = raft.base_index();
        let gone = (base_index - seen.base_index.min(base_index)) as usize;
        match gone < seen.terms.len() {
            true => drop(seen.terms.drain(..gone)),
            false => seen.terms.clear(),
        }
        seen.base_index = base_index;
        // Logs are only cut and appended to, so what changed is behind the last equal term.
        seen.terms
            .truncate((raft.last_index() - base_index) as usize);
        while let Some(term) = seen.terms.last() {
            let index = base_index + seen.terms.len() as Index;
            if raft.entry(index).map(|entry| entry.term) == Some(*term) {
                break;
            }
            seen.terms.pop();
        }
        for entry in raft.entries(base_index + seen.terms.len() as Index, raft.last_index()) {
            let before = seen.terms.last().copied().unwrap_or(raft.base_term());
            let slot = (entry.index, entry.term);
            let known = self
                .entries
                .entry(slot)
                .or_insert_with(|| (Arc::clone(&entry.command), before));
            if known.1 != before || known.0 != entry.command {
                let detail = format!("node {id}: {entry:?} after term {before}, but {known:?}");
                return broken("an index and a term name one entry", detail);
            }
            seen.terms.push(entry.term);
        }
        Ok(())
    }

    /// Entries that a follower has, says its leader, are on its disk: until a later leader cuts them.
    fn acknowledged(&self, machines: &[Machine], raft: &Raft, id: NodeId) -> Checked {
        let newest = self.leaders.keys().max() == Some(&raft.term());
        if raft.role() != Role::Leader || !newest {
            return Ok(());
        }
        for (peer, index) in raft.matched() {
            let disk = &machines[peer as usize - 1].disk;
            let entry = raft.entry(index);
            let holds = match entry {
                Some(entry) => disk.holds(index, entry.term),
                None => index <= disk.last_index().max(disk.damaged_until),
            };
            if !holds {
                let (last, until) = (disk.last_index(), disk.damaged_until);
                let detail = format!(
                    "leader {id} counts {index} of node {peer}, whose disk ends at {last} \
                     (damaged until {until})"
                );
                return broken("what a leader counts is on the follower's disk", detail);
            }
        }
        Ok(())
    }

    /// What leaves a log is committed, and the same state everywhere.
    fn snapshot(&mut self, raft: &Raft, id: NodeId) -> Checked {
        let Some(snapshot) = raft.snapshot() else {
            return Ok(());
        };
        let SnapshotId { index, term, .. } = snapshot;
        let first = *self.snapshots.entry(index).or_insert((id, snapshot));
        if first.1 != snapshot && self.compares_snapshots {
            let (other, before) = first;
            let detail = format!("node {id} has {snapshot:?}, node {other} {before:?}");
            return broken("all snapshots at an index are the same", detail);
        }
        let term_at = |index: Index| {
            let committed = self.committed.get((index as usize).checked_sub(1)?);
            committed.map(|committed| committed.entry.term)
        };
        let committed = term_at(index);
        let (base_index, base_term) = (raft.base_index(), raft.base_term());
        let base_differs = term_at(base_index).is_some_and(|term| term != base_term);
        if committed != Some(term) || base_index > index || base_differs {
            let detail = format!("node {id}: {snapshot:?}, committed there: {committed:?}");
            return broken("a snapshot holds what is committed", detail);
        }
        Ok(())
    }

    /// Which members are in force is told by the log, or by the snapshot that it goes on from.
    fn members_in_force(&self, raft: &Raft, id: NodeId) -> Checked {
        let index = raft.members_index();
        let named = self.reference.configuration().map_or(0, |named| named.0);
        let is_named = match raft.entry(index).map(|entry| &*entry.command) {
            Some(Command::Members(members)) => members == raft.members(),
            Some(_) => false,
            None => index <= raft.base_index(),
        };
        let knows = named > raft.base_index() || index >= named;
        match is_named && knows {
            true => Ok(()),
            false => {
                let detail = format!("node {id}: entry {index}: {:?}", raft.members());
                broken("the log names the members in force", detail)
            }
        }
    }

    fn new_leader(&mut self, raft: &Raft, id: NodeId) -> Checked {
        let term = raft.term();
        let first = *self.leaders.entry(term).or_insert(id);
        if first != id {
            let detail = format!("nodes {first} and {id} in term {term}");
            return broken("one leader a term", detail);
        }
        for committed in self.committed.iter().filter(|c| c.in_term < term) {
            let entry = &committed.entry;
            if lacks(raft, entry) {
                let detail = format!("leader {id} of term {term} lacks {entry:?}");
                return broken("a leader holds what was committed before", detail);
            }
        }
        Ok(())
    }

    fn committed_at(
        &mut self,
        machines: &[Machine],
        raft: &Raft,
        before: &Members,
        id: NodeId,
        index: Index,
    ) -> Checked {
        let Some(entry) = raft.entry(index) else {
            // In its snapshot, which was looked at.
            return Ok(());
        };
        if let Some(committed) = self.committed.get(index as usize - 1) {
            if committed.entry != *entry {
                let first = &committed.entry;
                let detail = format!("node {id} commits {entry:?}, before it was {first:?}");
                return broken("one entry is committed at an index", detail);
            }
            return Ok(());
        }
        let holds = |id| machines[id as usize - 1].disk.holds(index, entry.term);
        if !raft.members().has_quorum(holds) && !before.has_quorum(holds) {
            let detail = format!("node {id} commits {entry:?} by {:?}", raft.members());
            return broken("what is committed is durable on a majority", detail);
        }
        self.reference.apply(index, &entry.command);
        self.committed.push(Committed {
            entry: entry.clone(),
            in_term: raft.term(),
        });
        for machine in machines {
            let Some(running) = &machine.running else {
                continue;
            };
            let later = running.leads_in().is_some_and(|term| term > raft.term());
            if later && lacks(running.engine.raft(), entry) {
                let detail = format!("leader {} lacks {entry:?}", machine.id);
                return broken("a leader holds what was committed before", detail);
            }
        }
        Ok(())
    }

    /// The rules about leases, at this true time. The nodes are asked as a client asks them: what
    /// they think of their lease decides, not what the oracle makes of it.
    fn leases(&self, machines: &[Machine], now: Micros) -> Checked {
        for machine in machines {
            let Some(running) = &machine.running else {
                continue;
            };
            let leads = running.view.gate().role == Role::Leader;
            // Who does not lead answers nothing, whatever the key.
            let asked = if leads { self.keys.len() } else { 1 };
            let mut answers = self.keys[..asked].iter().filter_map(|query| {
                match running.view.lease_read(query, || machine.clock.at(now)) {
                    LeaseRead::Done { answer, .. } => Some((query, answer)),
                    LeaseRead::Wait | LeaseRead::NotLeader { .. } => None,
                }
            });
            let first = answers.next();
            if first.is_none() && machine.open_gate(now).is_none() {
                continue;
            }
            owed_by_disk(machine, now, self.lease_us)?;
            if self.leases {
                self.nothing_later(machine)?;
                let mut all = first.into_iter().chain(answers);
                all.try_for_each(|(query, answer)| self.freshness(machine.id, query, &answer))?;
            }
        }
        Ok(())
    }

    /// This node may answer, so nothing of a later term is committed.
    fn nothing_later(&self, machine: &Machine) -> Checked {
        let term = machine.running.as_ref().map(|r| r.view.gate().term);
        let last = self.committed.last().map_or(0, |c| c.entry.term);
        match term {
            Some(term) if last > term => {
                let detail = format!(
                    "node {} may answer in term {term} while {} of term {last} is committed",
                    machine.id,
                    self.committed.len()
                );
                broken("no commit while an older lease lives", detail)
            }
            _ => Ok(()),
        }
    }

    fn freshness(&self, id: NodeId, query: &Query, answer: &Answer) -> Checked {
        let right = self.reference.read(query);
        if *answer == right {
            return Ok(());
        }
        let detail = format!("node {id} answers {query:?} with {answer:?}, not {right:?}");
        broken("a lease read gives what is committed", detail)
    }

    /// Everything again, slowly: whole logs, and what is durable.
    pub fn check_all(&self, machines: &[Machine]) -> Checked {
        let members = self.members();
        for committed in &self.committed {
            let entry = &committed.entry;
            let holds = |id| {
                machines[id as usize - 1]
                    .disk
                    .holds(entry.index, entry.term)
            };
            if !members.has_quorum(holds) {
                let detail = format!("{entry:?}, by {members:?}");
                return broken("what is committed is durable on a majority", detail);
            }
        }
        for machine in machines {
            let Some(running) = &machine.running else {
                continue;
            };
            let raft = running.engine.raft();
            let logs = raft.entries(0, raft.commit_index());
            let committed = self.committed.iter().skip(raft.base_index() as usize);
            for (entry, committed) in logs.iter().zip(committed) {
                if *entry != committed.entry {
                    let detail = format!("node {} holds {entry:?}", machine.id);
                    return broken("one entry is committed at an index", detail);
                }
            }
        }
        Ok(())
    }
}

/// Whether a log does not have an entry; what it let go of is in its snapshot.
fn lacks(raft: &Raft, entry: &Entry) -> bool {
    entry.index > raft.base_index() && raft.entry(entry.index) != Some(entry)
}

fn owed_by_disk(machine: &Machine, now: Micros, lease_us: Micros) -> Checked {
    let Some(running) = &machine.running else {
        return Ok(());
    };
    let leads_in = running.leads_in();
    let own = machine.clock.at(now);
    let owed = running
        .works
        .iter()
        .find(|(_, since_us, term)| *term == leads_in && own >= since_us + lease_us);
    match owed {
        Some((ticket, since_us, _)) if leads_in.is_some() => {
            let waited_ms = (own - since_us) / 1_000;
            let detail = format!("node {}: work {ticket} for {waited_ms} ms", machine.id);
            broken("a stalled disk ends the lease", detail)
        }
        _ => Ok(()),
    }
}
