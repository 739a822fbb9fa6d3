//! What the caller of a stream says of itself, and whether it is let in.
//!
//! Nodes that do not agree on who belongs to the cluster, or on how long a lease is, must not count
//! each other's votes or promises: such a mistake in their flags is refused here, by name.
//!
//! Once the log names a configuration, that rules, and flags do not: whom it names is let in, if its directory
//! is the one that was added, and so is who knows of a later one. Who was removed is told so, and ends. A node
//! that joins lets in whoever is of its cluster, because it does not know anybody yet.

use crate::command::{FORMAT_FIRST, FORMAT_NEWEST, Member};
use crate::identity::{Identity, address, id_text, parse_id};
use crate::raft::{ENDED_MAX, Incarnation, Index, NodeId, Run};
use crate::roster::{Greeted, Roster, Standing};
use std::sync::Arc;
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

/// The caller has another stream to the same node, which this one is to replace.
const RENEWS: &str = "raft-renews-stream";

/// The cluster's id, where it has one, that of the caller's directory, and that of its process.
const CLUSTER_ID: &str = "raft-cluster-id";
const DIRECTORY_ID: &str = "raft-directory-id";
const RUN_ID: &str = "raft-run-id";

/// Former runs of the caller's directory that have ended for certain: its lock shows it.
const ENDED_RUNS: &str = "raft-ended-runs";

/// The configuration that is in force where the caller is. Versions that do not say it know of none: they go by
/// their flags.
const CONFIGURATION: &str = "raft-configuration";
/// The caller joins a cluster and does not know yet who belongs to it.
const JOINS: &str = "raft-joins";
/// Where the caller is reached: a node that joins may know it from nobody else.
const PEER_ADDRESS: &str = "raft-peer-address";
const CLIENT_ADDRESS: &str = "raft-client-address";

/// In a refusal: the configuration that removed the caller.
const REMOVED_BY: &str = "raft-removed-by";

/// A caller that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Who it is.
    pub(super) id: NodeId,
    /// The id of its directory. 0: it is of a version that has none.
    pub(super) directory_id: u128,
    /// The id of its process. 0: likewise.
    pub(super) run_id: u64,
    /// The newest format that it reads.
    pub(super) reads_format: u64,
    /// Whether its stream replaces one that is up.
    pub(super) renews: bool,
    /// The id of its cluster. 0: it has none.
    pub(super) cluster_id: u128,
    /// Former runs of it that have ended for certain.
    pub(super) ended: Vec<Run>,
    /// What else it says of itself.
    pub(super) greeted: Greeted,
}

/// Writes down who this node is, and that it means to reach `target`.
pub(super) fn write(
    identity: &Identity,
    roster: &Roster,
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
        (CLUSTER_ID, identity.cluster_id()),
        (DIRECTORY_ID, identity.ids.directory),
    ] {
        if id != 0 {
            metadata.insert(name, ascii(&id_text(id))?);
        }
    }
    if identity.run_id != 0 {
        metadata.insert(RUN_ID, identity.run_id.into());
    }
    if !identity.ended_runs.is_empty() {
        let runs = identity.ended_runs.iter().map(|run| format!("{run:016x}"));
        metadata.insert(ENDED_RUNS, ascii(&runs.collect::<Vec<_>>().join(","))?);
    }
    if roster.is_to_join() {
        metadata.insert(JOINS, MetadataValue::from_static("1"));
    }
    metadata.insert(CONFIGURATION, roster.in_force().0.into());
    for (name, address) in [
        (PEER_ADDRESS, roster.peer_address(identity.id)),
        (CLIENT_ADDRESS, roster.client_address(identity.id)),
    ] {
        if let Ok(address) = ascii(&address) {
            metadata.insert(name, address);
        }
    }
    Ok(())
}

/// Writes down of which cluster whoever testifies is.
pub(super) fn write_cluster(
    cluster: &str,
    cluster_id: u128,
    metadata: &mut MetadataMap,
) -> Result<(), Status> {
    metadata.insert(CLUSTER, ascii(cluster)?);
    if cluster_id != 0 {
        metadata.insert(CLUSTER_ID, ascii(&id_text(cluster_id))?);
    }
    Ok(())
}

/// Notes that the stream replaces one of the same process, which is up: nothing is lost between the two.
pub(super) fn renews(metadata: &mut MetadataMap) {
    metadata.insert(RENEWS, MetadataValue::from_static("true"));
}

/// Who calls, if it may. `format` is in force here.
pub(super) fn admit(
    identity: &Identity,
    roster: &Roster,
    format: u64,
    metadata: &MetadataMap,
) -> Result<Caller, Status> {
    let said = Said(metadata);
    same_cluster(identity, &said)?;
    let id = said.text(NODE_ID).parse().unwrap_or(0);
    if id == 0 || id == identity.id {
        return Err(no_other_node(said.text(NODE_ID)));
    }
    let directory_id = said.id(DIRECTORY_ID);
    let configuration = said.number(CONFIGURATION);
    let standing = roster.standing(id, configuration);
    if let Standing::Removed { entry } = standing {
        return Err(removed(identity, id, entry));
    }
    if directory_id != 0 && directory_id == identity.ids.directory {
        let why = format!(
            "its directory is a copy of that of node {}, so both would hold the same votes: start it \
             with an empty directory, and it is filled from the leader",
            identity.id
        );
        return Err(Status::permission_denied(why));
    }
    let reads_format = match metadata.contains_key(READS_FORMAT) {
        true => said.text(READS_FORMAT).parse().unwrap_or(FORMAT_FIRST),
        false => FORMAT_FIRST,
    };
    if reads_format < format {
        let why = format!(
            "this cluster has gone over to format {format}, and the caller's version reads up to \
             {reads_format}: run a newer raft-node there"
        );
        return Err(Status::permission_denied(why));
    }
    judge(identity, roster, &said, standing)?;
    let address = |key| Arc::from(address(said.text(key)).unwrap_or_default());
    let member = Member {
        directory: directory_id,
        peer_address: address(PEER_ADDRESS),
        client_address: address(CLIENT_ADDRESS),
    };
    Ok(Caller {
        id,
        directory_id,
        run_id: said.number(RUN_ID),
        reads_format,
        renews: metadata.contains_key(RENEWS),
        cluster_id: said.id(CLUSTER_ID),
        ended: said.ended_runs(id),
        greeted: Greeted {
            member,
            configuration,
            joins: said.number(JOINS) > 0,
        },
    })
}

/// Whether whoever testifies to the end of a run of another node is of this cluster. It may not know the
/// cluster's id.
pub(super) fn same_cluster_as(identity: &Identity, metadata: &MetadataMap) -> Result<(), Status> {
    let said = Said(metadata);
    agree(
        &identity.cluster,
        said.text(CLUSTER),
        "this is a node of cluster",
    )?;
    same_id(identity, &said)
}

/// The same cluster, this very node, the same lease.
fn same_cluster(identity: &Identity, said: &Said<'_>) -> Result<(), Status> {
    let (own_id, own_lease) = (identity.id.to_string(), identity.lease_ms.to_string());
    for (own, key, what) in [
        (&identity.cluster, CLUSTER, "this is a node of cluster"),
        (
            &own_id,
            TARGET_ID,
            "the addresses are mixed up: this is node",
        ),
        (
            &own_lease,
            LEASE_MS,
            "the lease of this cluster in milliseconds is",
        ),
    ] {
        agree(own, said.text(key), what)?;
    }
    same_id(identity, said)
}

fn same_id(identity: &Identity, said: &Said<'_>) -> Result<(), Status> {
    let (own, theirs) = (identity.cluster_id(), said.id(CLUSTER_ID));
    if own != 0 && theirs != 0 && own != theirs {
        let why = format!(
            "this is a node of another cluster that is called '{}', too: its id is '{}', not '{}'; \
             stop whichever is left over, or give the two clusters other ports",
            identity.cluster,
            id_text(own),
            id_text(theirs)
        );
        return Err(Status::permission_denied(why));
    }
    Ok(())
}

fn agree(own: &str, theirs: &str, what: &str) -> Result<(), Status> {
    match own == theirs {
        true => Ok(()),
        false => Err(Status::permission_denied(format!(
            "{what} '{own}', not '{theirs}'"
        ))),
    }
}

/// Whether the caller belongs to the cluster. Where both sides go by their flags, those must be the same.
fn judge(
    identity: &Identity,
    roster: &Roster,
    said: &Said<'_>,
    standing: Standing,
) -> Result<(), Status> {
    let joins = said.number(JOINS) > 0;
    let by_flags = roster.in_force().0 == 0 && !roster.is_to_join();
    if by_flags && said.number(CONFIGURATION) == 0 && !joins {
        let own = members(identity);
        agree(&own, said.text(MEMBERS), "the nodes of this cluster are")?;
    }
    let caller = said.text(NODE_ID);
    match standing {
        Standing::Member { directory } => {
            let theirs = said.id(DIRECTORY_ID);
            match directory == 0 || theirs == 0 || directory == theirs {
                true => Ok(()),
                false => Err(Status::permission_denied(format!(
                    "node {caller} of this cluster is another member: its directory has the id '{}', not '{}'; \
                     start it with that, or add this one with an id of its own in place of {caller}",
                    id_text(directory),
                    id_text(theirs)
                ))),
            }
        }
        Standing::MayBe => Ok(()),
        // It may be about to be added.
        Standing::Stranger if joins => Err(Status::failed_precondition(format!(
            "node {caller} is no member of this cluster yet: an operator has to add it"
        ))),
        Standing::Stranger => Err(no_other_node(caller)),
        Standing::Removed { .. } => unreachable!("it was refused"),
    }
}

fn no_other_node(caller: &str) -> Status {
    Status::permission_denied(format!("node '{caller}' is no other node of this cluster"))
}

/// Tells a node that it was removed, in a way that it can act upon.
fn removed(identity: &Identity, id: NodeId, entry: Index) -> Status {
    let mut status = Status::permission_denied(format!(
        "node {id} was removed from this cluster (configuration {entry}), and its id is never used again: add the \
         machine with an id and a directory of its own"
    ));
    let metadata = status.metadata_mut();
    metadata.insert(REMOVED_BY, entry.into());
    if let Ok(cluster) = ascii(&id_text(identity.cluster_id())) {
        metadata.insert(CLUSTER_ID, cluster);
    }
    status
}

/// What a refusal says of the end of this node: the configuration that removed it, and the cluster of the node
/// that says so.
pub(super) fn removed_by(status: &Status) -> Option<(Index, u128)> {
    let said = Said(status.metadata());
    let entry = said.text(REMOVED_BY).parse().ok()?;
    Some((entry, said.id(CLUSTER_ID)))
}

/// What the other side says.
struct Said<'a>(&'a MetadataMap);

impl Said<'_> {
    fn text(&self, key: &str) -> &str {
        let value = self.0.get(key).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// 0: none.
    fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or(0)
    }

    /// Former runs of the caller, without those that make no sense.
    fn ended_runs(&self, node: NodeId) -> Vec<Run> {
        let words = self.text(ENDED_RUNS).split(',').take(ENDED_MAX);
        let parsed = words.filter_map(|word| Incarnation::from_str_radix(word, 16).ok());
        let named = parsed.filter(|incarnation| *incarnation != 0);
        named.map(|incarnation| Run { node, incarnation }).collect()
    }

    /// 0: none.
    fn id(&self, key: &str) -> u128 {
        parse_id(self.text(key)).unwrap_or(0)
    }
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
    use crate::command::Members;
    use crate::identity;
    use crate::raft::Ids;

    fn node(id: NodeId, members: u64) -> Identity {
        let member = |id: u64| identity::Member {
            peer_address: format!("host:{id}"),
            client_address: format!("host:{}", id + 100),
        };
        Identity::of_test(id, (1..=members).map(|id| (id, member(id))))
    }

    /// Of a node that goes by its flags, or joins.
    fn by_flags(identity: &Identity) -> Roster {
        let voters = identity.members.keys().filter(|_| !identity.joins);
        let members = Arc::new(Members::of_voters(voters.copied()));
        at(identity, 0, members)
    }

    fn at(identity: &Identity, entry: Index, members: Arc<Members>) -> Roster {
        let configuration = (entry, members);
        Roster::new(
            &Arc::new(identity.clone()),
            configuration.clone(),
            configuration,
        )
    }

    fn said_by(from: &Identity, roster: &Roster, target: NodeId) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        write(from, roster, target, &mut metadata).unwrap();
        metadata
    }

    fn admitted(to: &Identity, metadata: &MetadataMap) -> Result<Caller, Status> {
        admit(to, &by_flags(to), FORMAT_FIRST, metadata)
    }

    fn greet(from: &Identity, target: NodeId) -> Result<NodeId, String> {
        let metadata = said_by(from, &by_flags(from), target);
        let admitted = admitted(&node(1, 3), &metadata);
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
        let nothing = admitted(&node(1, 3), &MetadataMap::new());
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
            let metadata = said_by(from, &by_flags(from), to.id);
            admitted(to, &metadata).map_err(|status| status.message().to_owned())
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
        let mut metadata = said_by(&node(2, 3), &by_flags(&node(2, 3)), 1);
        let here = node(1, 3);
        let admitted =
            |format, metadata: &MetadataMap| admit(&here, &by_flags(&here), format, metadata);
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

    fn configuration(voters: &[u64], retired: &[u64]) -> Arc<Members> {
        let mut members = Members::of_voters(voters.iter().copied());
        for (id, member) in &mut members.nodes {
            member.directory = u128::from(*id) + 10;
        }
        members.retired = retired.iter().copied().collect();
        Arc::new(members)
    }

    fn with_directory(id: NodeId, directory: u128) -> Identity {
        Identity {
            ids: Ids {
                cluster: 7,
                directory,
            },
            ..node(id, 3)
        }
    }

    // Where the log names a configuration, that rules, whatever the flags of both sides are: whom it names is
    // let in, with the directory that was added, and nobody else; but who knows of a later one is.
    #[test]
    fn the_configuration_rules() {
        let here = with_directory(1, 11);
        let roster = at(&here, 20, configuration(&[1, 2, 4], &[]));
        let greet = |from: &Identity, theirs: &Roster| {
            let metadata = said_by(from, theirs, 1);
            let admitted = admit(&here, &roster, FORMAT_FIRST, &metadata);
            admitted.map_err(|status| (status.code(), status.message().to_owned()))
        };
        let four = with_directory(4, 14);
        let by = |identity: &Identity, entry| at(identity, entry, configuration(&[1, 4], &[]));
        let caller = greet(&four, &by(&four, 20)).unwrap();
        assert_eq!((caller.id, caller.cluster_id), (4, 7));
        assert!(greet(&four, &by_flags(&four)).is_ok(), "it is behind");
        let wiped = with_directory(4, 99);
        let (_, why) = greet(&wiped, &by(&wiped, 20)).unwrap_err();
        assert!(why.contains("another member"), "{why}");
        let three = with_directory(3, 13);
        let (_, why) = greet(&three, &by_flags(&three)).unwrap_err();
        assert!(why.contains("'3' is no other node"), "{why}");
        assert!(greet(&three, &by(&three, 20)).is_err());
        let later = greet(&three, &by(&three, 21)).unwrap();
        assert_eq!(later.greeted.configuration, 21);
        assert_eq!(&*later.greeted.member.peer_address, "host:3");
        let joining = Identity {
            joins: true,
            ..three
        };
        let (code, why) = greet(&joining, &by_flags(&joining)).unwrap_err();
        assert_eq!(code, tonic::Code::FailedPrecondition, "{why}");
    }

    // Who goes by its flags lets in who knows a configuration, and one of its own that begins anew; who joins
    // lets in all of the same cluster.
    #[test]
    fn before_the_log_names_a_configuration() {
        let here = node(1, 3);
        let of = |identity: &Identity| at(identity, 9, configuration(&[1, 2, 5], &[]));
        assert!(admitted(&here, &said_by(&node(5, 5), &of(&node(5, 5)), 1)).is_ok());
        let joins = |id| Identity {
            joins: true,
            ..node(id, 5)
        };
        let again = said_by(&joins(2), &by_flags(&joins(2)), 1);
        assert!(admitted(&here, &again).is_ok());
        let stranger = said_by(&joins(5), &by_flags(&joins(5)), 1);
        assert!(admitted(&here, &stranger).is_err());
        for from in [node(2, 3), joins(4)] {
            assert!(admitted(&joins(1), &said_by(&from, &by_flags(&from), 1)).is_ok());
        }
        // Versions that say none of this go by their flags.
        let mut older = said_by(&node(2, 3), &by_flags(&node(2, 3)), 1);
        for key in [CONFIGURATION, JOINS, PEER_ADDRESS, CLIENT_ADDRESS] {
            older.remove(key);
        }
        let caller = admitted(&here, &older).unwrap();
        assert_eq!(caller.greeted, Greeted::default());
        let mut other = node(2, 3);
        other.cluster = "prod".into();
        assert!(admitted(&joins(1), &said_by(&other, &by_flags(&other), 1)).is_err());
    }

    // A node that was removed is told which configuration did it, and by which cluster, whatever it knows.
    #[test]
    fn who_was_removed_is_told() {
        let here = with_directory(1, 11);
        let roster = at(&here, 30, configuration(&[1, 2], &[3]));
        let three = with_directory(3, 13);
        for theirs in [by_flags(&three), at(&three, 99, configuration(&[3], &[]))] {
            let metadata = said_by(&three, &theirs, 1);
            let refused = admit(&here, &roster, FORMAT_FIRST, &metadata).unwrap_err();
            assert_eq!(removed_by(&refused), Some((30, 7)));
        }
        let other = Status::permission_denied("for another reason");
        assert_eq!(removed_by(&other), None);
    }
}
