//! Whom to ask next: the believed leader first, the others in turn, and a node that did not
//! answer only when no other is left. Pure: the time comes in as a value.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Member;
use super::ways;

/// How long a node that let an attempt time out is asked last. Short: it may come back as leader.
const SUSPECT_FOR: Duration = Duration::from_secs(1);

/// Addresses learnt from hints beyond the configured members: a cluster has few nodes, so more
/// than this is nonsense from the network.
const LEARNT_MAX: usize = 64;

/// The members, the believed leader, and who did not answer lately.
#[derive(Debug, Clone)]
pub struct Route {
    members: BTreeMap<u64, String>,
    /// Those that the client was given, whose addresses stand.
    configured: BTreeSet<u64>,
    /// The configuration of the cluster that is known, by its entry; 0: none.
    configuration: u64,
    /// Who votes by that. Empty: all.
    voters: BTreeSet<u64>,
    leader: Option<u64>,
    last_asked: u64,
    /// Until when a silent node is asked last.
    suspects: BTreeMap<u64, Instant>,
}

impl Route {
    /// A route over `members`; the first one asked is the first after `start` in id order, so that
    /// many clients that start together spread over the cluster.
    pub fn new(members: &[Member], start: u64) -> Self {
        let members: BTreeMap<u64, String> = members
            .iter()
            .map(|member| (member.id, member.address.clone()))
            .collect();
        Route {
            configured: members.keys().copied().collect(),
            configuration: 0,
            voters: BTreeSet::new(),
            members,
            leader: None,
            last_asked: start,
            suspects: BTreeMap::new(),
        }
    }

    /// The node to ask now. None only if there are no members.
    pub fn pick(&mut self, now: Instant) -> Option<Member> {
        let fresh = |id: &u64| self.suspects.get(id).is_none_or(|until| *until <= now);
        let votes = |id: &u64| self.voters.is_empty() || self.voters.contains(id);
        let in_turn = || {
            let after = self.members.keys().filter(|id| **id > self.last_asked);
            let before = self.members.keys().filter(|id| **id <= self.last_asked);
            after.chain(before).copied()
        };
        let id = self
            .leader
            .filter(fresh)
            .or_else(|| in_turn().find(|id| fresh(id) && votes(id)))
            .or_else(|| in_turn().find(fresh))
            .or_else(|| in_turn().next())?;
        self.last_asked = id;
        self.member(id)
    }

    /// The member with this id.
    pub fn member(&self, id: u64) -> Option<Member> {
        self.members.get(&id).map(|address| Member {
            id,
            address: address.clone(),
        })
    }

    /// All members, configured and learnt, by id.
    pub fn members(&self) -> Vec<Member> {
        self.members
            .iter()
            .map(|(&id, address)| Member {
                id,
                address: address.clone(),
            })
            .collect()
    }

    /// The believed leader.
    pub fn leader(&self) -> Option<u64> {
        self.leader
    }

    /// Nobody is believed to lead any more.
    pub fn forget_leader(&mut self) {
        self.leader = None;
    }

    /// `id` answered an operation that only a leader answers.
    pub fn led(&mut self, id: u64) {
        // It may have left meanwhile.
        self.leader = self.members.contains_key(&id).then_some(id);
        self.suspects.remove(&id);
    }

    /// `id` answered, whatever it said.
    pub fn answered(&mut self, id: u64) {
        self.suspects.remove(&id);
    }

    /// `asked` refused because it does not lead, and believes that `hint` does. The address in a
    /// hint is the one the nodes know; where the client was given its own address of that node
    /// (a tunnel, a published port) it keeps that one.
    pub fn hinted(&mut self, asked: u64, hint: Option<Member>) {
        match hint {
            Some(leader) if leader.id != asked => {
                let room = self.members.len() < self.configured.len() + LEARNT_MAX;
                if !self.members.contains_key(&leader.id) && room && !leader.address.is_empty() {
                    self.members.insert(leader.id, ways::to(&leader.address));
                }
                self.leader = self.members.contains_key(&leader.id).then_some(leader.id);
            }
            _ => self.failed(asked),
        }
    }

    /// The configuration that is known, by its entry; 0: none.
    pub fn configuration(&self) -> u64 {
        self.configuration
    }

    /// By the configuration of this entry these vote. Who was learnt before and is not among them is forgotten;
    /// who was configured is asked last, because it may only have been made a learner.
    pub fn learnt(&mut self, configuration: u64, voters: &[Member]) {
        if configuration <= self.configuration || voters.is_empty() {
            return;
        }
        let voters = &voters[..voters.len().min(LEARNT_MAX)];
        self.configuration = configuration;
        self.voters = voters.iter().map(|voter| voter.id).collect();
        let (configured, votes) = (&self.configured, &self.voters);
        self.members
            .retain(|id, _| configured.contains(id) || votes.contains(id));
        for voter in voters {
            if !self.configured.contains(&voter.id) && !voter.address.is_empty() {
                self.members.insert(voter.id, ways::to(&voter.address));
            }
        }
        let (members, votes) = (&self.members, &self.voters);
        self.leader
            .take_if(|id| !members.contains_key(id) || !votes.contains(id));
    }

    /// `id` failed fast: refused, stopping, broken off. Asking it again is cheap, so the next hint
    /// that names it is followed.
    pub fn failed(&mut self, id: u64) {
        if self.leader == Some(id) {
            self.leader = None;
        }
    }

    /// `id` let an attempt time out. Asking it again is dear, so it is asked last for a while,
    /// even where others, who have not noticed yet, still name it as leader.
    pub fn silent(&mut self, id: u64, now: Instant) {
        self.suspects.insert(id, now + SUSPECT_FOR);
        self.failed(id);
    }

    /// How many nodes there are to ask.
    pub fn len(&self) -> usize {
        self.members.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(ids: &[u64]) -> Route {
        let members: Vec<Member> = ids.iter().map(|&id| member(id)).collect();
        Route::new(&members, 0)
    }

    fn member(id: u64) -> Member {
        Member {
            id,
            address: format!("host{id}:7500"),
        }
    }

    fn picks(route: &mut Route, now: Instant, count: usize) -> Vec<u64> {
        (0..count).map(|_| route.pick(now).unwrap().id).collect()
    }

    /// Without a leader everybody is asked in turn; with one, only the leader.
    #[test]
    fn the_leader_first_else_all_in_turn() {
        let now = Instant::now();
        let mut route = route(&[1, 2, 3]);
        assert_eq!(picks(&mut route, now, 4), [1, 2, 3, 1]);
        route.hinted(1, Some(member(3)));
        assert_eq!(picks(&mut route, now, 3), [3, 3, 3]);
    }

    /// A hung leader must not be asked again at once only because followers still believe in it.
    #[test]
    fn a_silent_leader_is_asked_last_however_often_it_is_named() {
        let now = Instant::now();
        let mut route = route(&[1, 2, 3]);
        route.led(2);
        route.silent(2, now);
        route.hinted(3, Some(member(2)));
        assert_eq!(picks(&mut route, now, 4), [1, 3, 1, 3]);
        route.hinted(3, Some(member(2)));
        assert_eq!(
            route.pick(now + SUSPECT_FOR).unwrap().id,
            2,
            "its time is over"
        );
    }

    /// When nobody answers, everybody is asked again; the client never runs out of nodes.
    #[test]
    fn all_silent_means_all_in_turn() {
        let now = Instant::now();
        let mut route = route(&[1, 2]);
        route.silent(1, now);
        route.silent(2, now);
        assert_eq!(picks(&mut route, now, 3), [1, 2, 1]);
    }

    /// A leader that joined later is reached through the address in the hint, while the address
    /// that the client was given for a known node stands.
    #[test]
    fn hints_add_unknown_nodes_and_keep_known_addresses() {
        let mut route = route(&[1]);
        route.hinted(
            1,
            Some(Member {
                id: 9,
                address: "host9:7500".into(),
            }),
        );
        assert_eq!(route.leader(), Some(9));
        assert_eq!(route.member(9).unwrap().address, "host9:7500");
        // One that only nodes understand is reached as was noted.
        ways::note([("n8.inside:7500", "10.9.8.7:7500")].into_iter());
        let told = Member {
            id: 8,
            address: "n8.inside:7500".into(),
        };
        route.hinted(9, Some(told));
        assert_eq!(route.member(8).unwrap().address, "10.9.8.7:7500");
        route.hinted(
            9,
            Some(Member {
                id: 1,
                address: "inside:7500".into(),
            }),
        );
        assert_eq!(route.member(1).unwrap().address, "host1:7500");
    }

    /// Who votes by now is asked, at the address that the client was given where it was given one; who left is
    /// asked last, or forgotten where it was only learnt. What is older changes nothing.
    #[test]
    fn a_client_goes_with_its_cluster() {
        let now = Instant::now();
        let mut route = route(&[1, 2, 3]);
        route.led(1);
        let moved = Member {
            id: 3,
            address: "inside:7500".into(),
        };
        route.learnt(9, &[moved, member(4)]);
        assert_eq!(route.leader(), None, "it left");
        assert_eq!(picks(&mut route, now, 3), [3, 4, 3]);
        assert_eq!(route.member(3).unwrap().address, "host3:7500");
        route.learnt(8, &[member(1), member(2)]);
        assert_eq!(route.configuration(), 9);
        route.silent(3, now);
        route.silent(4, now);
        assert!([1, 2].contains(&route.pick(now).unwrap().id));
        route.learnt(12, &[member(5)]);
        assert_eq!(route.member(4), None);
        assert_eq!(picks(&mut route, now, 2), [5, 5]);
        route.learnt(13, &[]);
        assert_eq!(route.configuration(), 12, "nothing is learnt of it");
    }

    /// A node that names itself, or nobody, is no leader.
    #[test]
    fn a_hint_without_a_leader_forgets_the_asked_one_only() {
        let mut route = route(&[1, 2]);
        route.led(1);
        route.hinted(2, None);
        assert_eq!(route.leader(), Some(1));
        route.hinted(1, None);
        assert_eq!(route.leader(), None);
    }

    /// Hints come from the network: nonsense must not fill the memory.
    #[test]
    fn learnt_addresses_are_bounded() {
        let mut route = route(&[1]);
        for id in 2..1000 {
            route.hinted(1, Some(member(id)));
        }
        assert_eq!(route.len(), 1 + LEARNT_MAX);
    }
}
