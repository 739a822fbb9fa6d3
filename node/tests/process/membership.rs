//! Members come and go: real processes are added, made voters, removed, wiped and killed in between.

use crate::cluster::{Cluster, eventually, reason, request};
use raftkv::admin::{ChangeMembersRequest, Member, Membership, StatusReply};
use raftkv::kv::Consistency;
use raftkv::kv::kv_client::KvClient;
use rustix::process::Signal;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

const ID: &str = "--cluster-id=000000000000000000000000000000a1";

/// As the process ends where somebody has to decide.
const NEEDS_DECISION: Option<i32> = Some(3);

impl Cluster {
    /// The first `count` of `all` nodes, running, with a leader; the others are not there yet.
    pub async fn start_some(count: u64, all: usize) -> (Self, u64) {
        let mut cluster = Cluster::new(all, &[ID]);
        let founders: Vec<u64> = (1..=count).collect();
        for id in &founders {
            cluster.spawn_founder(*id, count);
        }
        let leader = cluster.leader_among(&founders).await;
        (cluster, leader)
    }

    pub fn spawn_founder(&mut self, id: u64, count: u64) {
        let founders: Vec<u64> = (1..=count).collect();
        self.spawn_with(id, &self.arguments_among(id, &founders));
    }

    /// Starts a node that joins, and knows one of the others.
    pub fn spawn_joining(&mut self, id: u64, knows: u64) {
        let mut arguments = self.arguments_among(id, &[id, knows]);
        arguments.push("--join".into());
        self.spawn_with(id, &arguments);
    }

    fn named(&self, id: u64, voter: bool) -> Member {
        Member {
            node_id: id,
            peer_address: self.peer_address(id),
            client_address: self.client_address(id),
            voter,
            ..Member::default()
        }
    }

    /// These voters, and these learners.
    pub fn target(&self, voters: &[u64], learners: &[u64]) -> Vec<Member> {
        let voters = voters.iter().map(|id| self.named(*id, true));
        let learners = learners.iter().map(|id| self.named(*id, false));
        voters.chain(learners).collect()
    }

    pub async fn try_change(
        &self,
        leader: u64,
        base_index: u64,
        members: Vec<Member>,
    ) -> Result<Membership, Status> {
        let change = ChangeMembersRequest {
            base_index,
            members,
        };
        let reply = self.admin(leader).change_members(change).await?;
        Ok(reply.into_inner().membership.unwrap())
    }

    pub async fn membership(&self, id: u64) -> Membership {
        let status = eventually("a status", async || self.status(id).await).await;
        status.membership.unwrap()
    }

    /// Changes the members, and asks again for as long as it is too early.
    pub async fn change(&self, leader: u64, voters: &[u64], learners: &[u64]) -> Membership {
        eventually("a change of members", async || {
            let base = self.membership(leader).await.index;
            let target = self.target(voters, learners);
            match self.try_change(leader, base, target).await {
                Ok(membership) => Some(membership),
                Err(status) => {
                    let early = ["has not caught up", "format 3", "lease would end", "is new"];
                    let is_early = early.iter().any(|words| status.message().contains(words));
                    assert!(is_early, "{status:?}");
                    None
                }
            }
        })
        .await
    }

    /// Waits until a node's log has this configuration, and knows that it is committed.
    pub async fn comes_to(&self, id: u64, index: u64) -> StatusReply {
        eventually("the configuration", async || {
            let status = self.status(id).await?;
            let membership = status.membership.as_ref()?;
            (membership.index >= index && membership.committed).then_some(status)
        })
        .await
    }

    /// The process ends by itself, and says that it was removed.
    pub async fn ends_as_removed(&mut self, id: u64) {
        assert_eq!(self.ended(id).await.code(), NEEDS_DECISION, "node {id}");
        let told = self.stderr(id);
        assert!(told.contains("was removed from its cluster"), "{told}");
    }
}

fn voters(membership: &Membership) -> Vec<u64> {
    let voters = membership.members.iter().filter(|member| member.voter);
    voters.map(|member| member.node_id).collect()
}

fn why_refused(status: &Result<Membership, Status>) -> &str {
    let refused = status.as_ref().unwrap_err();
    assert_eq!(reason(refused), "MEMBERS_REFUSED", "{refused:?}");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    refused.message()
}

/// Lease reads and writes at one node, each of which has to succeed, until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    /// How many reads, and how many writes, have succeeded.
    counts: [Arc<AtomicU64>; 2],
    clients: [JoinHandle<()>; 2],
}

impl Load {
    async fn start(cluster: &Cluster, leader: u64) -> Self {
        cluster.set(request(900, 1), "k0", "v").await;
        let stop = Arc::new(AtomicBool::new(false));
        let counts = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let [reads, writes] = counts.clone();
        let reading = read(cluster.kv(leader), reads, Arc::clone(&stop));
        let writing = write(cluster.kv(leader), writes, Arc::clone(&stop));
        Load {
            stop,
            counts,
            clients: [tokio::spawn(reading), tokio::spawn(writing)],
        }
    }

    /// Reads and writes go on succeeding.
    async fn goes_on(&self) {
        let now = || {
            self.counts
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed))
        };
        let before = now();
        eventually("reads and writes go on", async || {
            let has_risen = now().iter().zip(before).all(|(now, was)| *now > was + 20);
            has_risen.then_some(())
        })
        .await;
    }

    /// Ends it; none has failed.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}

async fn read(mut kv: KvClient<Channel>, count: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let get = raftkv::kv::GetRequest {
            key: "k0".into(),
            consistency: Consistency::Lease.into(),
        };
        kv.get(get).await.expect("a lease read");
        count.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

async fn write(mut kv: KvClient<Channel>, count: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let number = count.load(Ordering::Relaxed) + 1;
        let set = raftkv::kv::SetRequest {
            request: request(901, number),
            key: format!("k{}", number % 100),
            value: "v".repeat(100),
        };
        kv.set(set).await.expect("a write");
        count.store(number, Ordering::Relaxed);
    }
}

// Three become five and three again while clients read and write at the leader: no request fails. What
// a node that was started with three is told by its log outlives its flags; who was removed ends, and ends
// again when it is started again; a node that was removed is no peer of anybody.
#[tokio::test]
async fn grows_and_shrinks_under_load() {
    let (mut cluster, leader) = Cluster::start_some(3, 5).await;
    let load = Load::start(&cluster, leader).await;
    cluster.spawn_joining(4, 1);
    cluster.spawn_joining(5, 2);
    let learning = cluster.change(leader, &[1, 2, 3], &[4, 5]).await;
    assert_eq!((voters(&learning).len(), learning.members.len()), (3, 5));
    load.goes_on().await;
    let grown = cluster.change(leader, &[1, 2, 3, 4, 5], &[]).await;
    assert!(!grown.joint && grown.committed, "{grown:?}");
    load.goes_on().await;
    for id in cluster.ids() {
        let status = cluster.comes_to(id, grown.index).await;
        assert_eq!(voters(status.membership.as_ref().unwrap()), [1, 2, 3, 4, 5]);
        let directory = |it: &Member| it.node_id == id && it.directory_id == status.directory_id;
        let of_itself = status.membership.as_ref().unwrap();
        assert!(of_itself.members.iter().any(directory), "{of_itself:?}");
    }
    let leads = cluster.told(leader).await;
    assert_eq!(leads.survives_failures, Some(2));

    // Its flags name three, and its log five.
    let followers = cluster.others(leader);
    let (first, second) = (followers[0], followers[1]);
    cluster.kill(first);
    cluster.spawn_founder(first, 3);
    cluster.comes_to(first, grown.index).await;
    cluster.connected(leader, first, true).await;

    let left: Vec<u64> = cluster.ids();
    let left: Vec<u64> = left
        .into_iter()
        .filter(|id| *id != first && *id != second)
        .collect();
    let shrunk = cluster.change(leader, &left, &[]).await;
    assert_eq!(shrunk.retired_ids, [first, second]);
    for id in [first, second] {
        cluster.ends_as_removed(id).await;
        cluster.spawn_founder(id, 3);
        cluster.ends_as_removed(id).await;
    }
    for id in left {
        cluster.comes_to(id, shrunk.index).await;
        eventually("nobody looks for who left", async || {
            let status = cluster.status(id).await?;
            status.unreachable_peers.is_empty().then_some(())
        })
        .await;
    }
    load.goes_on().await;
    load.end().await;
    let dump = cluster.text(leader, "dump.txt");
    let line = format!("Configuration {}: voters 1,2,3,4,5.", grown.index);
    assert!(dump.contains(&line), "{line}");
    let learners = format!(
        "Configuration {}: voters 1,2,3; learners 4,5.",
        learning.index
    );
    assert!(dump.contains(&learners), "{learners}");
}

// A node that was away when it was removed is told by the others when it comes back, and its log is not needed for
// that; its id is never given out again, neither by an operator nor to a node that starts with it.
#[tokio::test]
async fn who_was_away_is_told() {
    let (mut cluster, _) = Cluster::start_some(3, 4).await;
    cluster.kill(3);
    let leader = cluster.leader_among(&[1, 2]).await;
    let left = cluster.change(leader, &[1, 2], &[]).await;
    assert_eq!(left.retired_ids, [3]);
    cluster.spawn_founder(3, 3);
    cluster.ends_as_removed(3).await;
    cluster.spawn_founder(3, 3);
    cluster.ends_as_removed(3).await;

    let again = cluster.target(&[1, 2], &[3]);
    let refused = cluster.try_change(leader, left.index, again).await;
    assert!(why_refused(&refused).contains("nobody gets it again"));
    fs::remove_dir_all(cluster.data_dir(3)).unwrap();
    cluster.spawn_joining(3, 1);
    cluster.ends_as_removed(3).await;
}

// A member is a node with its directory: one that lost its disk is refused by name, whether it
// joins or not, and so is its directory id in a change.
#[tokio::test]
async fn a_wiped_disk_is_another_member() {
    let (mut cluster, _) = Cluster::start_some(3, 4).await;
    cluster.spawn_joining(4, 1);
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let grown = cluster.change(leader, &[1, 2, 3], &[4]).await;
    cluster.comes_to(4, grown.index).await;
    // Its directory is known since it was connected, and named with the next change.
    let grown = cluster.change(leader, &[1, 2, 3, 4], &[]).await;
    cluster.kill(4);
    fs::remove_dir_all(cluster.data_dir(4)).unwrap();
    cluster.spawn_joining(4, 1);
    eventually("it is refused", async || {
        let status = cluster.status(4).await?;
        let mut refusals = status.unreachable_peers.iter();
        refusals
            .any(|it| it.reason == "rejected" && it.text.contains("another member"))
            .then_some(())
    })
    .await;
    let other = cluster.told(4).await.directory_id;
    let mut target = cluster.target(&[1, 2, 3, 4], &[]);
    target[3].directory_id = other;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let refused = cluster.try_change(leader, grown.index, target).await;
    assert!(why_refused(&refused).contains("another directory"));
    assert!(cluster.told(4).await.leader_id == 0 || cluster.text(4, "logs.txt").is_empty());
}

// Of two changes that are made against the same configuration one is made, and the other refused.
#[tokio::test]
async fn two_changes_at_once() {
    let (mut cluster, leader) = Cluster::start_some(3, 5).await;
    cluster.spawn_joining(4, 1);
    cluster.spawn_joining(5, 1);
    let base = cluster.change(leader, &[1, 2, 3], &[]).await.index;
    let four = cluster.try_change(leader, base, cluster.target(&[1, 2, 3], &[4]));
    let five = cluster.try_change(leader, base, cluster.target(&[1, 2, 3], &[5]));
    let (four, five) = tokio::join!(four, five);
    assert_ne!(four.is_ok(), five.is_ok(), "{four:?} {five:?}");
    let late = cluster
        .try_change(leader, base, cluster.target(&[1, 2, 3], &[4, 5]))
        .await;
    assert!(why_refused(&late).contains("have changed meanwhile"));
    let follower = cluster.others(leader)[0];
    let elsewhere = cluster
        .try_change(follower, base, cluster.target(&[1], &[]))
        .await;
    assert_eq!(reason(&elsewhere.unwrap_err()), "NOT_LEADER");
}

// A node that joins takes over the cluster's id; one of another cluster of the same name is refused, and
// neither gets anything. Before it is added it is told so, and is no trouble.
#[tokio::test]
async fn who_joins_is_of_the_cluster() {
    let (mut cluster, leader) = Cluster::start_some(3, 5).await;
    let without = |cluster: &Cluster, id| {
        let mut arguments = cluster.arguments_among(id, &[id, 1]);
        arguments.retain(|it| it != ID);
        arguments.push("--join".into());
        arguments
    };
    let mut other = without(&cluster, 5);
    other.push("--cluster-id=000000000000000000000000000000b2".into());
    let four = without(&cluster, 4);
    cluster.spawn_with(4, &four);
    cluster.spawn_with(5, &other);
    let said = |id: u64, reason: &'static str, words: &'static str| {
        let cluster = &cluster;
        async move {
            eventually(words, async || {
                let status = cluster.status(id).await?;
                let mut refused = status.unreachable_peers.iter();
                refused
                    .any(|it| it.reason == reason && it.text.contains(words))
                    .then_some(())
            })
            .await;
        }
    };
    said(4, "not_member", "an operator has to add it").await;
    said(5, "rejected", "another cluster that is called").await;
    let four = cluster.told(4).await;
    assert_eq!((&*four.cluster_id, four.term), ("", 0), "it does not stand");
    let added = cluster.change(leader, &[1, 2, 3], &[4, 5]).await;
    let four = cluster.comes_to(4, added.index).await;
    assert!(ID.ends_with(&four.cluster_id) && !four.cluster_id.is_empty());
    let kept = format!("clusterId {}", four.cluster_id);
    assert!(cluster.text(4, "metadata.txt").contains(&kept), "{kept}");
    said(leader, "rejected", "another cluster that is called").await;
    assert_eq!(cluster.told(5).await.last_index, 0);
}

// A learner that is killed on its way goes on from where it was, and becomes a voter.
#[tokio::test]
async fn a_learner_is_killed_on_its_way() {
    let (mut cluster, leader) = Cluster::start_some(3, 4).await;
    for sequence in 1..=40 {
        let (key, value) = (format!("k{sequence}"), "v".repeat(100_000));
        cluster
            .try_set(leader, request(7, sequence), &key, &value)
            .await
            .unwrap();
    }
    cluster.spawn_joining(4, 1);
    let added = cluster.change(leader, &[1, 2, 3], &[4]).await;
    cluster.kill(4);
    let behind = cluster
        .try_change(leader, added.index, cluster.target(&[1, 2, 3, 4], &[]))
        .await;
    if behind.is_err() {
        why_refused(&behind);
    }
    cluster.spawn_joining(4, 1);
    let grown = cluster.change(leader, &[1, 2, 3, 4], &[]).await;
    cluster.comes_to(4, grown.index).await;
    cluster.caught_up(&[leader, 4]).await;
    assert_eq!(voters(&grown), [1, 2, 3, 4]);
}

// A leader that is to leave hands over in the middle of it. Whoever asked it is answered before it ends.
#[tokio::test]
async fn a_leader_hands_over_before_it_leaves() {
    let (mut cluster, leader) = Cluster::start_some(3, 3).await;
    let stay = cluster.others(leader);
    let base = cluster.change(leader, &[1, 2, 3], &[]).await.index;
    let change = cluster.try_change(leader, base, cluster.target(&stay, &[]));
    let left = change.await.unwrap();
    assert_eq!(
        (voters(&left), &*left.retired_ids),
        (stay.clone(), &[leader][..])
    );
    cluster.ends_as_removed(leader).await;
    cluster.set_among(&stay, "k", "v").await;
}

// All nodes are killed while two majorities are needed, because the new voters are frozen: whoever leads then
// brings the change to an end by itself, and the cluster goes on.
#[tokio::test]
async fn all_are_killed_in_the_middle() {
    let (mut cluster, leader) = Cluster::start_some(3, 5).await;
    cluster.spawn_joining(4, 1);
    cluster.spawn_joining(5, 1);
    let added = cluster.change(leader, &[1, 2, 3], &[4, 5]).await;
    for id in [4, 5] {
        cluster.comes_to(id, added.index).await;
    }
    cluster.set(None, "before", "v").await;
    cluster.caught_up(&[leader, 4, 5]).await;
    for id in [4, 5] {
        cluster.signal(id, Signal::STOP);
    }
    let target = cluster.target(&[leader, 4, 5], &[]);
    let mut admin = cluster.admin(leader);
    let change = ChangeMembersRequest {
        base_index: added.index,
        members: target,
    };
    let asked = tokio::spawn(async move { admin.change_members(change).await });
    let follower = cluster.others(leader)[0];
    for id in [leader, follower] {
        eventually("two majorities are needed", async || {
            let status = cluster.status(id).await?;
            status.membership?.joint.then_some(())
        })
        .await;
    }
    for id in cluster.ids() {
        cluster.kill(id);
    }
    assert!(asked.await.unwrap().is_err());
    for id in [1, 2, 3] {
        cluster.spawn_founder(id, 3);
    }
    for id in [4, 5] {
        cluster.spawn_joining(id, 1);
    }
    let ended = eventually("the end of the change", async || {
        for id in [leader, 4, 5] {
            if let Some(status) = cluster.status(id).await
                && let Some(membership) = status.membership
                && status.lease_remaining_ms.is_some()
                && membership.index > added.index
                && membership.committed
                && !membership.joint
            {
                return Some(membership);
            }
        }
        None
    })
    .await;
    assert_eq!(voters(&ended), voters_of(&[leader, 4, 5]));
    for id in [1, 2, 3].into_iter().filter(|id| *id != leader) {
        cluster.ends_as_removed(id).await;
    }
    cluster.set_among(&[leader, 4, 5], "after", "v").await;
    assert_eq!(cluster.get("before").await.as_deref(), Some("v"));
}

fn voters_of(ids: &[u64]) -> Vec<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}
