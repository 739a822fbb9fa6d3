//! What those hear of new members who do not know them: nodes that were away, and clients.

use crate::cluster::{Cluster, eventually, reason};
use raftkv::admin::{Role, TransferLeadershipRequest};
use raftkv::kv::{ClusterMembers, Consistency, GetRequest};
use raftkv::{LEADER_ADDRESS_METADATA, MEMBERS_METADATA, MEMBERS_METADATA_BIN};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

impl Cluster {
    async fn hand_over(&self, leader: u64, target_id: u64) {
        let transfer = TransferLeadershipRequest { target_id };
        self.admin(leader)
            .transfer_leadership(transfer)
            .await
            .unwrap();
    }

    /// A lease read at a node by a client that knows this configuration.
    async fn read_knowing(&self, id: u64, known: u64) -> Result<MetadataMap, Status> {
        let mut get = Request::new(get_k());
        get.metadata_mut().insert(MEMBERS_METADATA, known.into());
        let reply = self.kv(id).get(get).await?;
        Ok(reply.into_parts().0)
    }
}

fn get_k() -> GetRequest {
    GetRequest {
        key: "k".into(),
        consistency: Consistency::Lease.into(),
    }
}

fn news(metadata: &MetadataMap) -> Option<ClusterMembers> {
    let bytes = metadata.get_bin(MEMBERS_METADATA_BIN)?.to_bytes().unwrap();
    ClusterMembers::from_bytes(&bytes)
}

// A node that was away comes back when all whom it knew have left: those that came after them call it, it lets
// them in because they know a later configuration, and answers where they say that they are.
#[tokio::test]
async fn all_whom_a_node_knew_are_gone() {
    let (mut cluster, _) = Cluster::start_some(3, 5).await;
    cluster.kill(3);
    let leader = cluster.leader_among(&[1, 2]).await;
    cluster.spawn_joining(4, 1);
    cluster.spawn_joining(5, 2);
    cluster.change(leader, &[1, 2, 3], &[4, 5]).await;
    cluster.change(leader, &[1, 2, 3, 4, 5], &[]).await;
    cluster.hand_over(leader, 4).await;
    let without_3 = cluster.change(4, &[3, 4, 5], &[]).await;
    for id in [1, 2] {
        cluster.ends_as_removed(id).await;
    }
    cluster.spawn_founder(3, 3);
    let back = cluster.comes_to(3, without_3.index).await;
    assert_ne!(back.role(), Role::Leader);
    cluster.connected(4, 3, true).await;
    cluster.set_among(&[3, 4, 5], "k", "v").await;

    // Its flags do not name the leader: where clients find that, its log says.
    let refused = cluster
        .try_get(3, "k", Consistency::Lease)
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "NOT_LEADER");
    let named = refused.metadata().get(LEADER_ADDRESS_METADATA).unwrap();
    let leader = cluster.leader_among(&[3, 4, 5]).await;
    assert_eq!(named.to_str().unwrap(), cluster.client_address(leader));
}

// A client is told who votes by now, once, with an answer or with a refusal; nobody is told anything of a
// cluster whose members never changed, nor of learners.
#[tokio::test]
async fn clients_are_told_who_votes_by_now() {
    let (mut cluster, leader) = Cluster::start_some(3, 4).await;
    let follower = cluster.others(leader)[0].min(cluster.others(leader)[1]);
    let quiet = cluster.read_knowing(leader, 0).await.unwrap();
    assert_eq!(news(&quiet), None);
    cluster.spawn_joining(4, 1);
    let learning = cluster.change(leader, &[1, 2, 3], &[4]).await;
    let told = cluster.read_knowing(leader, 0).await.unwrap();
    let told = news(&told).unwrap();
    assert_eq!((told.index, told.voters.len()), (learning.index, 3));
    let grown = cluster.change(leader, &[1, 2, 3, 4], &[]).await;
    cluster.comes_to(follower, grown.index).await;
    let refused = cluster
        .read_knowing(follower, learning.index)
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "NOT_LEADER");
    let told = news(refused.metadata()).unwrap();
    let fourth = &told.voters[3];
    assert_eq!((told.index, fourth.node_id), (grown.index, 4));
    assert_eq!(fourth.client_address, cluster.client_address(4));
    let known = cluster.read_knowing(leader, grown.index).await.unwrap();
    assert_eq!(news(&known), None);
    let does_not_ask = cluster.kv(leader).get(get_k()).await.unwrap();
    assert_eq!(news(does_not_ask.metadata()), None);
}

// A node that joins and one that was removed are no trouble of the others, whose lease goes on: its term is
// that of before.
#[tokio::test]
async fn who_comes_and_goes_disturbs_nobody() {
    let (mut cluster, leader) = Cluster::start_some(3, 4).await;
    let term = cluster.told(leader).await.term;
    cluster.spawn_joining(4, 1);
    let added = cluster.change(leader, &[1, 2, 3], &[4]).await;
    cluster.comes_to(4, added.index).await;
    cluster.change(leader, &[1, 2, 3], &[]).await;
    cluster.ends_as_removed(4).await;
    for _ in 0..3 {
        cluster.spawn_joining(4, 1);
        cluster.ends_as_removed(4).await;
    }
    let status = eventually("a status", async || cluster.status(leader).await).await;
    assert_eq!((status.term, status.role()), (term, Role::Leader));
    assert_eq!(status.membership.unwrap().retired_ids, [4]);
}
