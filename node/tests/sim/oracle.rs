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
//! * A leader whose disk has owed it something for a whole lease has no lease.

use crate::machine::Machine;
use crate::plan::Plan;
use raft_node::command::Command;
use raft_node::engine::{LeaseRead, Query};
use raft_node::kv::Store;
use raft_node::raft::{Entry, Index, Micros, NodeId, Raft, Role, Term};
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
    /// The committed log, applied.
    reference: Store,
    seen: BTreeMap<NodeId, Seen>,
    keys: Vec<Query>,
    quorum: usize,
    lease_us: Micros,
    /// Clocks keep to the bound: leases must be right.
    leases: bool,
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
    terms: Vec<Term>,
    commit_index: Index,
    leads_in: Option<Term>,
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
            reference: Store::default(),
            seen: BTreeMap::new(),
            keys: keys.iter().map(get).chain([all_keys]).collect(),
            quorum: plan.nodes / 2 + 1,
            lease_us: plan.lease_us,
            leases: plan.clocks_in_bound,
        }
    }

    /// How many entries are committed.
    pub fn committed_index(&self) -> Index {
        self.committed.len() as Index
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
        self.seen.insert(id, seen);
        for index in first + 1..=commit_index {
            self.committed_at(machines, raft, id, index)?;
        }
        self.leases(machines, now)
    }

    fn log_matching(&mut self, seen: &mut Seen, raft: &Raft, id: NodeId) -> Checked {
        // Logs are only cut and appended to, so what changed is behind the last equal term.
        seen.terms.truncate(raft.last_index() as usize);
        while let Some(term) = seen.terms.last() {
            let index = seen.terms.len() as Index;
            if raft.entry(index).map(|entry| entry.term) == Some(*term) {
                break;
            }
            seen.terms.pop();
        }
        for entry in raft.entries(seen.terms.len() as Index, raft.last_index()) {
            let before = seen.terms.last().copied().unwrap_or(0);
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

    fn new_leader(&mut self, raft: &Raft, id: NodeId) -> Checked {
        let term = raft.term();
        let first = *self.leaders.entry(term).or_insert(id);
        if first != id {
            let detail = format!("nodes {first} and {id} in term {term}");
            return broken("one leader a term", detail);
        }
        for committed in self.committed.iter().filter(|c| c.in_term < term) {
            let entry = &committed.entry;
            if raft.entry(entry.index) != Some(entry) {
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
        id: NodeId,
        index: Index,
    ) -> Checked {
        let entry = raft.entry(index).expect("committed entries are in the log");
        if let Some(committed) = self.committed.get(index as usize - 1) {
            if committed.entry != *entry {
                let first = &committed.entry;
                let detail = format!("node {id} commits {entry:?}, before it was {first:?}");
                return broken("one entry is committed at an index", detail);
            }
            return Ok(());
        }
        let durable = |machine: &&Machine| machine.disk.holds(index, entry.term);
        let holders = machines.iter().filter(durable).count();
        if holders < self.quorum {
            let detail = format!("node {id} commits {entry:?}, durable on {holders} nodes");
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
            if later && running.engine.raft().entry(index) != Some(entry) {
                let detail = format!("leader {} lacks {entry:?}", machine.id);
                return broken("a leader holds what was committed before", detail);
            }
        }
        Ok(())
    }

    /// The rules about leases, at this true time.
    fn leases(&self, machines: &[Machine], now: Micros) -> Checked {
        for machine in machines {
            let Some(gate) = machine.open_gate(now) else {
                continue;
            };
            owed_by_disk(machine, now, self.lease_us)?;
            if !self.leases {
                continue;
            }
            let last = self.committed.last().map_or(0, |c| c.entry.term);
            if last > gate.term {
                let (id, term) = (machine.id, gate.term);
                let detail = format!(
                    "node {id} may answer in term {term} while {} of term {last} is committed",
                    self.committed.len()
                );
                return broken("no commit while an older lease lives", detail);
            }
            self.freshness(machine, now)?;
        }
        Ok(())
    }

    fn freshness(&self, machine: &Machine, now: Micros) -> Checked {
        let Some(running) = &machine.running else {
            return Ok(());
        };
        for query in &self.keys {
            let read = running.view.lease_read(query, || machine.clock.at(now));
            let LeaseRead::Done { answer, .. } = read else {
                continue;
            };
            let right = self.reference.read(query);
            if answer != right {
                let id = machine.id;
                let detail = format!("node {id} answers {query:?} with {answer:?}, not {right:?}");
                return broken("a lease read gives what is committed", detail);
            }
        }
        Ok(())
    }

    /// Everything again, slowly: whole logs, and what is durable.
    pub fn check_all(&self, machines: &[Machine]) -> Checked {
        for committed in &self.committed {
            let entry = &committed.entry;
            let durable = |machine: &&Machine| machine.disk.holds(entry.index, entry.term);
            let holders = machines.iter().filter(durable).count();
            if holders < self.quorum {
                let detail = format!("{entry:?} is durable on {holders} nodes");
                return broken("what is committed is durable on a majority", detail);
            }
        }
        for machine in machines {
            let Some(running) = &machine.running else {
                continue;
            };
            let raft = running.engine.raft();
            let logs = raft.entries(0, raft.commit_index());
            for (entry, committed) in logs.iter().zip(&self.committed) {
                if *entry != committed.entry {
                    let detail = format!("node {} holds {entry:?}", machine.id);
                    return broken("one entry is committed at an index", detail);
                }
            }
        }
        Ok(())
    }
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
