//! What the caller of a stream says of itself, and whether it is let in.
//!
//! Nodes that do not agree on who belongs to the cluster, or on how long a lease is, must not count
//! each other's votes or promises: such a mistake in their flags is refused here, by name.

use crate::command::{FORMAT_FIRST, FORMAT_NEWEST};
use crate::identity::{Identity, id_text, parse_id};
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

/// The newest format that the caller reads. Versions that do not say it read the first alone.
const READS_FORMAT: &str = "raft-reads-format";

/// The cluster's id, where it has one, that of the caller's directory, and that of its process.
const CLUSTER_ID: &str = "raft-cluster-id";
const DIRECTORY_ID: &str = "raft-directory-id";
const RUN_ID: &str = "raft-run-id";

/// A caller that is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Who it is.
    pub(super) id: NodeId,
    /// The id of its directory. 0: it is of a version that has none.
    pub(super) directory_id: u128,
    /// The id of its process. 0: likewise.
    pub(super) run_id: u64,
    /// The newest format that it reads.
    pub(super) reads_format: u64,
}

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
    metadata.insert(READS_FORMAT, FORMAT_NEWEST.into());
    for (name, id) in [
        (CLUSTER_ID, identity.ids.cluster),
        (DIRECTORY_ID, identity.ids.directory),
    ] {
        if id != 0 {
            metadata.insert(name, ascii(&id_text(id))?);
        }
    }
    if identity.run_id != 0 {
        metadata.insert(RUN_ID, identity.run_id.into());
    }
    Ok(())
}

/// Who calls, if it may. `format` is in force here.
pub(super) fn admit(
    identity: &Identity,
    format: u64,
    metadata: &MetadataMap,
) -> Result<Caller, Status> {
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
    let their_cluster = parse_id(text(CLUSTER_ID)).unwrap_or(0);
    let own_cluster = identity.ids.cluster;
    if own_cluster != 0 && their_cluster != 0 && own_cluster != their_cluster {
        let why = format!(
            "this is a node of another cluster that is called '{}', too: its id is '{}', not '{}'; \
             stop whichever is left over, or give the two clusters other ports",
            identity.cluster,
            id_text(own_cluster),
            id_text(their_cluster)
        );
        return Err(Status::permission_denied(why));
    }
    let directory_id = parse_id(text(DIRECTORY_ID)).unwrap_or(0);
    if directory_id != 0 && directory_id == identity.ids.directory {
        let why = format!(
            "its directory is a copy of that of node {}, so both would hold the same votes: start it \
             with an empty directory, and it is filled from the leader",
            identity.id
        );
        return Err(Status::permission_denied(why));
    }
    let reads_format = match metadata.contains_key(READS_FORMAT) {
        true => text(READS_FORMAT).parse().unwrap_or(FORMAT_FIRST),
        false => FORMAT_FIRST,
    };
    if reads_format < format {
        let why = format!(
            "this cluster has gone over to format {format}, and the caller's version reads up to \
             {reads_format}: run a newer raft-node there"
        );
        return Err(Status::permission_denied(why));
    }
    let caller = text(NODE_ID);
    let known = identity.peers().map(|(peer, _)| peer);
    let mut matching = known.filter(|peer| peer.to_string() == caller);
    let id = matching.next().ok_or_else(|| {
        let why = format!("node '{caller}' is no other node of this cluster");
        Status::permission_denied(why)
    })?;
    Ok(Caller {
        id,
        directory_id,
        run_id: text(RUN_ID).parse().unwrap_or(0),
        reads_format,
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
    use crate::raft::Ids;

    fn node(id: NodeId, members: u64) -> Identity {
        let member = |id: u64| Member {
            peer_address: format!("host:{id}"),
            client_address: format!("host:{}", id + 100),
        };
        Identity {
            id,
            cluster: "demo".into(),
            ids: Default::default(),
            run_id: 0,
            lease_ms: 2_000,
            members: (1..=members).map(|id| (id, member(id))).collect(),
        }
    }

    fn greet(from: &Identity, target: NodeId) -> Result<NodeId, String> {
        let mut metadata = MetadataMap::new();
        write(from, target, &mut metadata).unwrap();
        let admitted = admit(&node(1, 3), FORMAT_FIRST, &metadata);
        let caller = admitted.map_err(|status| status.message().to_owned())?;
        assert_eq!(caller.reads_format, FORMAT_NEWEST);
        Ok(caller.id)
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
        let nothing = admit(&node(1, 3), FORMAT_FIRST, &MetadataMap::new());
        assert!(nothing.is_err());
    }

    // A cluster of the same name is told by its id, from both sides; a copy of a directory by the
    // directory's. Who has none is let in: it is of a version before ids.
    #[test]
    fn only_those_of_the_same_cluster_with_a_directory_of_their_own() {
        let with = |id: NodeId, cluster: u128, directory: u128| Identity {
            ids: Ids { cluster, directory },
            ..node(id, 3)
        };
        let greet = |from: &Identity, to: &Identity| {
            let mut metadata = MetadataMap::new();
            write(from, to.id, &mut metadata).unwrap();
            let admitted = admit(to, FORMAT_FIRST, &metadata);
            admitted.map_err(|status| status.message().to_owned())
        };
        let (here, there) = (with(1, 7, 11), with(2, 8, 12));
        for (from, to) in [(&here, &there), (&there, &here)] {
            let refused = greet(from, to).unwrap_err();
            assert!(
                refused.contains("another cluster that is called 'demo'"),
                "{refused}"
            );
        }
        let caller = greet(&with(2, 7, 12), &here).unwrap();
        assert_eq!((caller.id, caller.directory_id), (2, 12));
        assert!(greet(&node(2, 3), &here).is_ok() && greet(&here, &node(2, 3)).is_ok());
        let copied = greet(&with(2, 7, 11), &here).unwrap_err();
        assert!(copied.contains("a copy of that of node 1"), "{copied}");
    }

    // Who says nothing of formats reads the first one alone: let in as that, and refused by name once
    // another is in force.
    #[test]
    fn only_those_that_read_the_format_in_force() {
        let mut metadata = MetadataMap::new();
        write(&node(2, 3), 1, &mut metadata).unwrap();
        let admitted = |format, metadata: &MetadataMap| admit(&node(1, 3), format, metadata);
        assert!(admitted(FORMAT_NEWEST, &metadata).is_ok());
        metadata.remove(READS_FORMAT);
        let old = admitted(FORMAT_FIRST, &metadata).unwrap();
        assert_eq!(old.reads_format, FORMAT_FIRST);
        let refused = admitted(2, &metadata).unwrap_err();
        assert!(
            refused.message().contains("gone over to format 2"),
            "{refused}"
        );
    }
}
