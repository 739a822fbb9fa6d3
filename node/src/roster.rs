//! Who belongs to the cluster, as the machine around the core sees it: who is dialed and where, who is let in,
//! and where clients find a node.
//!
//! What counts is the configuration in force and, while that is not committed, the one before it: it
//! may come back. Where the log names none, the nodes that this one was started with. Addresses are
//! taken from the flags first, because they are an operator's newest word, then from the log, then from what a node said of
//! itself when it greeted: a node that joins may not know yet who leads.

use crate::command::{MEMBERS_MAX, Member, Members};
use crate::identity::Identity;
use crate::raft::{Index, Micros, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A configuration, and the entry that put it in force. 0: what nodes were started with.
pub type Configuration = (Index, Arc<Members>);

/// See the module.
#[derive(Debug)]
pub struct Roster {
    identity: Arc<Identity>,
    state: Mutex<State>,
    /// Somebody has to go.
    gone: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    in_force: Configuration,
    committed: Configuration,
    /// Who left, and until when it is still sent to: it is told that it left.
    departing: BTreeMap<NodeId, (Micros, Member)>,
    /// What nodes said of themselves.
    greeted: BTreeMap<NodeId, Greeted>,
    /// The configuration that removed this node, as another one said.
    removed_by: Option<Index>,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeted {
    /// Its directory and addresses.
    pub member: Member,
    /// The configuration that is in force there.
    pub configuration: Index,
    /// It joins, and knows of none.
    pub joins: bool,
}

/// How a caller stands to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It belongs to it, and if its directory is known, it is this one.
    Member {
        /// The directory. 0: not known.
        directory: u128,
    },
    /// It was removed, and its id is never used again.
    Removed {
        /// The configuration that does not name it.
        entry: Index,
    },
    /// It knows of a later configuration, or this node of none.
    MayBe,
    /// No configuration names it.
    Stranger,
}

impl State {
    /// Whom the configurations name; without any, whom the flags name.
    fn nodes(&self, identity: &Identity) -> BTreeSet<NodeId> {
        let named = [&self.in_force, &self.committed];
        let named = named.iter().flat_map(|it| it.1.nodes.keys());
        let named: BTreeSet<NodeId> = named.copied().collect();
        match named.is_empty() {
            true => identity.members.keys().copied().collect(),
            false => named,
        }
    }

    /// What the log says of a node, or the node itself.
    fn known(&self, id: NodeId, holds: impl Fn(&Member) -> bool) -> Option<&Member> {
        let of_log = [&self.in_force, &self.committed].map(|it| it.1.nodes.get(&id));
        let of_former = self.departing.get(&id).map(|(_, member)| member);
        let of_itself = self.greeted.get(&id).map(|it| &it.member);
        let all = of_log.into_iter().chain([of_former, of_itself]);
        all.flatten().find(|member| holds(member))
    }

    fn peer_address(&self, identity: &Identity, id: NodeId) -> Option<String> {
        if let Some(member) = identity.members.get(&id) {
            return Some(member.peer_address.clone());
        }
        let known = self.known(id, |member| !member.peer_address.is_empty());
        known.map(|member| member.peer_address.to_string())
    }

    fn client_address(&self, identity: &Identity, id: NodeId) -> String {
        if let Some(member) = identity.members.get(&id) {
            return member.client_address.clone();
        }
        let known = self.known(id, |member| !member.client_address.is_empty());
        known.map_or_else(String::new, |member| member.client_address.to_string())
    }
}

impl Roster {
    /// Of a node whose log names these.
    pub fn new(
        identity: &Arc<Identity>,
        in_force: Configuration,
        committed: Configuration,
    ) -> Self {
        let state = State {
            in_force,
            committed,
            ..State::default()
        };
        Roster {
            identity: Arc::clone(identity),
            state: Mutex::new(state),
            gone: watch::channel(()).0,
        }
    }

    /// Takes in what is in force, and what is committed of it, at the time `now`. Returns whether anything
    /// is new.
    pub fn update(&self, now: Micros, in_force: Configuration, committed: Configuration) -> bool {
        let mut state = self.lock();
        let same = |one: &Configuration, other: &Configuration| {
            one.0 == other.0 && Arc::ptr_eq(&one.1, &other.1)
        };
        if same(&state.in_force, &in_force) && same(&state.committed, &committed) {
            return self.drop_departed(now, &mut state);
        }
        let before = state.nodes(&self.identity);
        let former = [state.in_force.1.clone(), state.committed.1.clone()];
        (state.in_force, state.committed) = (in_force, committed);
        let after = state.nodes(&self.identity);
        let until = now + self.identity.lease_ms * 1000;
        for id in before.difference(&after) {
            let member = former.iter().find_map(|it| it.nodes.get(id)).cloned();
            let left = (until, member.unwrap_or_default());
            state.departing.insert(*id, left);
        }
        state.departing.retain(|id, _| !after.contains(id));
        // Others knew more than this node when they greeted, and are no members by what it knows now.
        let entry = state.committed.0;
        let stays = |id: &NodeId, it: &mut Greeted| after.contains(id) || it.configuration > entry;
        state.greeted.retain(stays);
        self.drop_departed(now, &mut state);
        true
    }

    fn drop_departed(&self, now: Micros, state: &mut State) -> bool {
        let before = state.departing.len();
        state.departing.retain(|_, (until, _)| now < *until);
        let any = state.departing.len() < before;
        if any {
            self.gone.send_replace(());
        }
        any
    }

    /// The configuration in force.
    pub fn in_force(&self) -> Configuration {
        self.lock().in_force.clone()
    }

    /// The last configuration that is committed.
    pub fn committed(&self) -> Configuration {
        self.lock().committed.clone()
    }

    /// Whether nothing is known yet of who belongs to the cluster: this node is to join it.
    pub fn is_to_join(&self) -> bool {
        self.lock().in_force.1.nodes.is_empty()
    }

    /// The id of the cluster; 0: it has none, or this node has not heard it yet.
    pub fn cluster_id(&self) -> u128 {
        self.identity.cluster_id()
    }

    /// All other nodes that this one talks to, and where it dials each.
    pub fn ways(&self) -> BTreeMap<NodeId, String> {
        let state = self.lock();
        let own = self.identity.id;
        let mut ids = state.nodes(&self.identity);
        ids.extend(state.departing.keys());
        ids.extend(state.greeted.keys());
        ids.remove(&own);
        let retired = &state.committed.1.retired;
        ids.retain(|id| !retired.contains(id) || state.departing.contains_key(id));
        let address = |id| Some((id, state.peer_address(&self.identity, id)?));
        ids.into_iter().filter_map(address).collect()
    }

    /// Whether the id is that of another node of the cluster.
    pub fn is_peer(&self, id: NodeId) -> bool {
        id != self.identity.id && self.lock().nodes(&self.identity).contains(&id)
    }

    /// All other nodes of the cluster.
    pub fn peers(&self) -> Vec<NodeId> {
        let nodes = self.lock().nodes(&self.identity).into_iter();
        nodes.filter(|id| *id != self.identity.id).collect()
    }

    /// Where clients reach a node; empty where nobody knows.
    pub fn client_address(&self, id: NodeId) -> String {
        self.lock().client_address(&self.identity, id)
    }

    /// Where other nodes reach a node; empty where nobody knows.
    pub fn peer_address(&self, id: NodeId) -> String {
        let address = self.lock().peer_address(&self.identity, id);
        address.unwrap_or_default()
    }

    /// The directory of a node, by the configuration or by what it said of itself. 0: not known.
    pub fn directory(&self, id: NodeId) -> u128 {
        if id == self.identity.id {
            return self.identity.ids.directory;
        }
        let state = self.lock();
        let known = state.known(id, |member| member.directory != 0);
        known.map_or(0, |member| member.directory)
    }

    /// How a node stands to the cluster that says that this configuration is in force where it is.
    pub fn standing(&self, id: NodeId, configuration: Index) -> Standing {
        let state = self.lock();
        let (entry, committed) = &state.committed;
        if committed.retired.contains(&id) {
            return Standing::Removed { entry: *entry };
        }
        let named = [&state.in_force, &state.committed].map(|it| it.1.nodes.get(&id));
        let mut named = named.into_iter().flatten();
        match named.next() {
            Some(member) => Standing::Member {
                directory: member.directory,
            },
            None if state.in_force.1.nodes.is_empty() => Standing::MayBe,
            None if configuration > state.in_force.0 => Standing::MayBe,
            None => Standing::Stranger,
        }
    }

    /// Takes in what a node says of itself that was let in.
    pub fn greeted(&self, id: NodeId, greeted: Greeted) {
        let mut state = self.lock();
        if state.greeted.len() < 2 * MEMBERS_MAX || state.greeted.contains_key(&id) {
            state.greeted.insert(id, greeted);
        }
    }

    /// Whether what a node sends is of no use any more: it was removed, and was told.
    pub fn is_gone(&self, id: NodeId) -> bool {
        let state = self.lock();
        state.committed.1.retired.contains(&id) && !state.departing.contains_key(&id)
    }

    /// Tells when [`Roster::is_gone`] may have come to hold for somebody.
    pub fn watch_gone(&self) -> watch::Receiver<()> {
        self.gone.subscribe()
    }

    /// Another node says that this one was removed. It is believed if it is of the very cluster: others have
    /// other ids.
    pub fn hear_removed(&self, entry: Index, cluster: u128) {
        if cluster != 0 && cluster == self.identity.cluster_id() {
            self.lock().removed_by = Some(entry);
        }
    }

    /// The configuration that removed this node: by its log, or by what another node said, unless this one knows
    /// a later configuration.
    pub fn removed_by(&self) -> Option<Index> {
        let state = self.lock();
        let (entry, committed) = &state.committed;
        if committed.retired.contains(&self.identity.id) {
            return Some(*entry);
        }
        state.removed_by.filter(|by| by > entry)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process, so a poisoned lock is never seen outside tests.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity;

    const LEASE_US: Micros = 2_000_000;

    /// Node 1, started with nodes 1 to 3.
    fn identity(joins: bool, cluster: u128) -> Arc<Identity> {
        let member = |id: u64| identity::Member {
            peer_address: format!("flag{id}:7400"),
            client_address: format!("flag{id}:7500"),
        };
        Arc::new(Identity {
            ids: crate::raft::Ids {
                cluster,
                directory: 11,
            },
            joins,
            lease_ms: LEASE_US / 1000,
            ..Identity::of_test(1, (1..=3).map(|id| (id, member(id))))
        })
    }

    fn configuration(entry: Index, voters: &[u64], retired: &[u64]) -> Configuration {
        let mut members = Members::of_voters(voters.iter().copied());
        for (id, member) in &mut members.nodes {
            member.peer_address = format!("log{id}:7400").into();
            member.client_address = format!("log{id}:7500").into();
            member.directory = u128::from(*id) + 10;
        }
        members.retired = retired.iter().copied().collect();
        (entry, Arc::new(members))
    }

    fn roster(voters: &[u64]) -> Roster {
        let at_first = configuration(0, voters, &[]);
        Roster::new(&identity(false, 7), at_first.clone(), at_first)
    }

    fn dialed(roster: &Roster) -> Vec<String> {
        roster.ways().into_values().collect()
    }

    // New nodes are dialed at once, by the flags' address first; who leaves when that is committed, and for one
    // lease more; who comes back into force with what was cut never went.
    #[test]
    fn ways_go_with_the_configuration() {
        let roster = roster(&[1, 2, 3]);
        assert_eq!(dialed(&roster), ["flag2:7400", "flag3:7400"]);
        let before = roster.committed();
        let without_2 = configuration(9, &[1, 3, 4], &[2]);
        assert!(roster.update(100, without_2.clone(), before.clone()));
        let all = ["flag2:7400", "flag3:7400", "log4:7400"];
        assert_eq!(dialed(&roster), all);
        assert!(
            !roster.update(150, without_2.clone(), before.clone()),
            "the same"
        );
        assert!(
            roster.update(200, before.clone(), before.clone()),
            "it was cut"
        );
        assert_eq!(roster.lock().departing.keys().collect::<Vec<_>>(), [&4]);
        roster.update(300, without_2.clone(), before);
        assert!(roster.update(400, without_2.clone(), without_2.clone()));
        assert_eq!(dialed(&roster), all);
        assert!(!roster.is_gone(2) && !roster.is_peer(2));
        let gone = roster.watch_gone();
        let later = |now| roster.update(now, without_2.clone(), without_2.clone());
        assert!(!later(399 + LEASE_US));
        assert!(later(400 + LEASE_US) && gone.has_changed().unwrap());
        assert_eq!(dialed(&roster), ["flag3:7400", "log4:7400"]);
        assert!(roster.is_gone(2) && !roster.is_gone(4));
    }

    // Addresses: the flags' word, then the log's, then the node's own; who greeted and is a member of nothing
    // that this node knows is dialed until it knows as much.
    #[test]
    fn addresses_have_an_order() {
        let roster = roster(&[1, 2, 3]);
        let said = |configuration| Greeted {
            member: Member {
                directory: 99,
                peer_address: "own:7400".into(),
                client_address: "own:7500".into(),
            },
            configuration,
            joins: false,
        };
        roster.greeted(3, said(20));
        roster.greeted(5, said(20));
        roster.greeted(6, said(30));
        assert_eq!(dialed(&roster).last().unwrap(), "own:7400");
        assert_eq!(roster.client_address(3), "flag3:7500");
        assert_eq!(roster.client_address(5), "own:7500");
        let grown = configuration(20, &[1, 2, 3, 4], &[]);
        roster.update(1, grown.clone(), grown);
        assert_eq!(roster.client_address(4), "log4:7500");
        assert_eq!(roster.client_address(5), "", "a stranger by now");
        assert_eq!(roster.ways().keys().collect::<Vec<_>>(), [&2, &3, &4, &6]);
        assert_eq!((roster.directory(3), roster.directory(6)), (13, 99));
        for id in 100..1_000 {
            roster.greeted(id, said(99));
        }
        assert!(roster.ways().len() <= 3 + 2 * MEMBERS_MAX);
    }

    // Whoever joins dials whom its flags name, and takes all for members until its log knows better.
    #[test]
    fn who_joins_knows_nobody() {
        let identity = identity(true, 0);
        let roster = Roster::new(&identity, Default::default(), Default::default());
        assert!(roster.is_to_join());
        assert_eq!(dialed(&roster), ["flag2:7400", "flag3:7400"]);
        assert_eq!(roster.standing(9, 0), Standing::MayBe);
        let named = configuration(8, &[2, 4], &[]);
        roster.update(1, named, Default::default());
        assert_eq!(roster.standing(9, 8), Standing::Stranger);
        assert_eq!(roster.standing(9, 9), Standing::MayBe);
        assert_eq!(roster.standing(4, 0), Standing::Member { directory: 14 });
        assert!(identity.take_over(5) && !identity.take_over(6));
        assert_eq!(identity.cluster_id(), 5);
    }

    // The word of another node that this one was removed counts if it is of the very cluster, and this one
    // knows nothing later; the own log counts in any case.
    #[test]
    fn who_is_believed_that_this_node_was_removed() {
        for (cluster, own, known, entry, believed) in [
            (7, 7, 10, 20, true),
            (8, 7, 10, 20, false),
            (0, 0, 10, 20, false),
            (7, 7, 20, 20, false),
        ] {
            let known = configuration(known, &[1, 2], &[]);
            let roster = Roster::new(&identity(false, own), known.clone(), known);
            assert_eq!(roster.removed_by(), None);
            roster.hear_removed(entry, cluster);
            let by = roster.removed_by();
            assert_eq!(by, believed.then_some(entry), "{cluster} {own}");
        }
        let removed = configuration(30, &[2, 3], &[1]);
        let uncommitted = roster(&[1, 2, 3]);
        uncommitted.update(1, removed.clone(), uncommitted.committed());
        assert_eq!(uncommitted.removed_by(), None);
        uncommitted.update(2, removed.clone(), removed);
        assert_eq!(uncommitted.removed_by(), Some(30));
    }
}
