//! What the caller of a stream says of itself, and whether it is let in.
//!
//! Nodes that do not agree on who belongs to the cluster, or on how long a lease is, must not count
//! each other's votes or promises: such a mistake in their flags is refused here, by name.

use crate::identity::Identity;
use crate::raft::NodeId;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// The cluster that the caller belongs to.
const CLUSTER: &str = "raft-cluster";
/// Who calls.
const NODE_ID: &str = "raft-node-id";
/// Whom the caller means to reach.
const TARGET_ID: &str = "raft-target-node-id";
/// The ids of all nodes, in order.
const MEMBERS: &str = "raft-members";
/// The cluster's lease.
const LEASE_MS: &str = "raft-lease-ms";

/// Writes down who this node is, and that it means to reach `target`.
pub(super) fn write(
    identity: &Identity,
    target: NodeId,
    metadata: &mut MetadataMap,
) -> Result<(), Status> {
    metadata.insert(CLUSTER, ascii(&identity.cluster)?);
    metadata.insert(NODE_ID, identity.id.into());
    metadata.insert(TARGET_ID, target.into());
    metadata.insert(MEMBERS, ascii(&members(identity))?);
    metadata.insert(LEASE_MS, identity.lease_ms.into());
    Ok(())
}

/// Who calls, if it may.
pub(super) fn admit(identity: &Identity, metadata: &MetadataMap) -> Result<NodeId, Status> {
    let text = |key: &str| {
        let value = metadata.get(key).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    let own_id = identity.id.to_string();
    let (own_members, own_lease) = (members(identity), identity.lease_ms.to_string());
    for (own, theirs, what) in [
        (
            &identity.cluster,
            text(CLUSTER),
            "this is a node of cluster",
        ),
        (
            &own_id,
            text(TARGET_ID),
            "the addresses are mixed up: this is node",
        ),
        (&own_members, text(MEMBERS), "the nodes of this cluster are"),
        (
            &own_lease,
            text(LEASE_MS),
            "the lease of this cluster in milliseconds is",
        ),
    ] {
        if own != theirs {
            let why = format!("{what} '{own}', not '{theirs}'");
            return Err(Status::permission_denied(why));
        }
    }
    let caller = text(NODE_ID);
    let known = identity.peers().map(|(peer, _)| peer);
    let mut matching = known.filter(|peer| peer.to_string() == caller);
    matching.next().ok_or_else(|| {
        let why = format!("node '{caller}' is no other node of this cluster");
        Status::permission_denied(why)
    })
}

fn members(identity: &Identity) -> String {
    let ids: Vec<_> = identity.members.keys().map(u64::to_string).collect();
    ids.join(",")
}

fn ascii(text: &str) -> Result<MetadataValue<Ascii>, Status> {
    let refused = |_| Status::invalid_argument("the cluster's name is not plain ASCII");
    MetadataValue::try_from(text).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Member;

    fn node(id: NodeId, members: u64) -> Identity {
        let member = |id: u64| Member {
            peer_address: format!("host:{id}"),
            client_address: format!("host:{}", id + 100),
        };
        Identity {
            id,
            cluster: "demo".into(),
            lease_ms: 2_000,
            members: (1..=members).map(|id| (id, member(id))).collect(),
        }
    }

    fn greet(from: &Identity, target: NodeId) -> Result<NodeId, String> {
        let mut metadata = MetadataMap::new();
        write(from, target, &mut metadata).unwrap();
        admit(&node(1, 3), &metadata).map_err(|status| status.message().to_owned())
    }

    // A node that agrees on everything is let in; one that does not is told on what.
    #[test]
    fn only_those_that_agree() {
        assert_eq!(greet(&node(2, 3), 1), Ok(2));
        let change = |change: fn(&mut Identity)| {
            let mut other = node(2, 3);
            change(&mut other);
            greet(&other, 1).unwrap_err()
        };
        let cluster = change(|node| node.cluster = "prod".into());
        assert_eq!(cluster, "this is a node of cluster 'demo', not 'prod'");
        let lease = change(|node| node.lease_ms = 3_000);
        assert!(lease.ends_with("is '2000', not '3000'"), "{lease}");
        let members = greet(&node(2, 5), 1).unwrap_err();
        assert!(
            members.ends_with("are '1,2,3', not '1,2,3,4,5'"),
            "{members}"
        );
        let mixed_up = greet(&node(2, 3), 3).unwrap_err();
        assert!(
            mixed_up.ends_with("this is node '1', not '3'"),
            "{mixed_up}"
        );
        let itself = greet(&node(1, 3), 1).unwrap_err();
        assert!(itself.contains("'1' is no other node"), "{itself}");
        let nothing = admit(&node(1, 3), &MetadataMap::new());
        assert!(nothing.is_err());
    }
}
