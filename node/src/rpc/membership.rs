//! Who belongs to the cluster, on the wire of operators.

use super::{Front, Refusal};
use crate::command::{MEMBERS_MAX, Member, Members};
use crate::engine::{Reply, Request as EngineRequest, RequestError};
use crate::identity::{address, id_text, parse_id};
use crate::raft::Index;
use crate::roster::Roster;
use raftkv::{MEMBERS_METADATA, MEMBERS_METADATA_BIN, admin as wire, kv};
use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::http;
use tonic::metadata::{MetadataMap, MetadataValue};

/// A configuration, as operators are told of it.
pub(super) fn membership(index: Index, committed: bool, members: &Members) -> wire::Membership {
    let nodes = members.nodes.iter().map(|(id, member)| wire::Member {
        node_id: *id,
        directory_id: id_text(member.directory),
        peer_address: member.peer_address.to_string(),
        client_address: member.client_address.to_string(),
        voter: members.voters.contains(id),
        outgoing: members.outgoing.contains(id),
    });
    wire::Membership {
        index,
        committed,
        joint: members.is_joint(),
        members: nodes.collect(),
        retired_ids: members.retired.iter().copied().collect(),
    }
}

/// The configuration that a client knows; `None`: it does not ask for others.
pub(super) fn known(headers: &http::HeaderMap) -> Option<Index> {
    let known = headers.get(MEMBERS_METADATA)?;
    known.to_str().ok()?.parse().ok()
}

/// Tells who votes by now, if that is news to a client that knows the configuration of this entry.
pub(super) fn tell_news(roster: &Roster, known: Index, headers: &mut http::HeaderMap) {
    let (index, members) = roster.committed();
    if index <= known {
        return;
    }
    let address = |node_id| kv::MemberAddress {
        node_id,
        client_address: roster.client_address(node_id),
    };
    let voters = members.all_voters().into_iter().map(address);
    let voters = voters.filter(|voter| !voter.client_address.is_empty());
    let news = kv::ClusterMembers {
        index,
        voters: voters.collect(),
    };
    let mut metadata = MetadataMap::from_headers(std::mem::take(headers));
    let value = MetadataValue::from_bytes(&news.to_bytes());
    metadata.insert_bin(MEMBERS_METADATA_BIN, value);
    *headers = metadata.into_headers();
}

/// Carries a change out, and waits until it is over.
pub(super) async fn change(
    front: &Front,
    request: wire::ChangeMembersRequest,
    deadline: Instant,
) -> Result<wire::ChangeMembersReply, Status> {
    let base = request.base_index;
    let target = target(request.members).map_err(Refusal::invalid)?;
    front.must_lead()?;
    let target = completed(&front.roster, target).map_err(Refusal::invalid)?;
    let change = EngineRequest::ChangeMembers { base, target };
    match front.ask(change, deadline).await? {
        Some(Ok(Reply::MembersChanged { index, members })) => Ok(wire::ChangeMembersReply {
            membership: Some(membership(index, true, &members)),
        }),
        Some(Ok(other)) => unreachable!("a change of members is not answered by {other:?}"),
        Some(Err(error)) => Err(front.refuse(&error).into_status()),
        None => {
            let error = RequestError::OutcomeUnknown(
                "the change is not over in time, and goes on: look at the members (raftctl status)",
            );
            Err(front.refuse(&error).into_status())
        }
    }
}

/// The nodes that are named. What is left out of a node is empty.
fn target(members: Vec<wire::Member>) -> Result<Members, String> {
    if members.len() > MEMBERS_MAX {
        return Err(format!("a cluster has at most {MEMBERS_MAX} nodes"));
    }
    let mut target = Members::default();
    for named in members {
        let id = named.node_id;
        let of_node = |what: &'static str| {
            move |why: String| format!("the {what} of node {id} is none: {why}")
        };
        let address = |text: String, what| match &*text {
            "" => Ok("".into()),
            text => address(text).map(Into::into).map_err(of_node(what)),
        };
        let directory = match &*named.directory_id {
            "" => Ok(0),
            text => parse_id(text).map_err(of_node("directory id")),
        };
        let member = Member {
            directory: directory?,
            peer_address: address(named.peer_address, "peer address")?,
            client_address: address(named.client_address, "client address")?,
        };
        if id == 0 {
            return Err("0 is no id of a node: they count from 1".into());
        }
        if target.nodes.insert(id, member).is_some() {
            return Err(format!("node {id} is named twice"));
        }
        if named.voter {
            target.voters.insert(id);
        }
    }
    Ok(target)
}

/// With what the request leaves out of nodes that are known here: a node that joins must find all others, and a
/// member is known by its directory.
fn completed(roster: &Roster, mut target: Members) -> Result<Members, String> {
    let (_, current) = roster.in_force();
    for (id, member) in &mut target.nodes {
        let before = current.nodes.get(id);
        if member.directory == 0 && before.is_some_and(|before| before.directory == 0) {
            member.directory = roster.directory(*id);
        }
        if member.peer_address.is_empty() {
            member.peer_address = roster.peer_address(*id).into();
        }
        if member.client_address.is_empty() {
            member.client_address = roster.client_address(*id).into();
        }
        let nowhere = member.peer_address.is_empty() || member.client_address.is_empty();
        if before.is_none() && nowhere {
            return Err(format!(
                "node {id} is new: say where other nodes, and where clients, reach it"
            ));
        }
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{self, Identity};
    use std::sync::Arc;

    fn roster(index: Index) -> Roster {
        let own = identity::Member {
            peer_address: "n1:7400".into(),
            client_address: "n1:7500".into(),
        };
        let identity = Identity::of_test(1, [(1, own)]);
        let mut members = Members::of_voters([1, 2, 3]);
        members.nodes.insert(4, Member::default());
        for (id, member) in &mut members.nodes {
            member.client_address = format!("inside{id}:7500").into();
        }
        let configuration = (index, Arc::new(members));
        Roster::new(&Arc::new(identity), configuration.clone(), configuration)
    }

    fn named(id: u64) -> wire::Member {
        wire::Member {
            node_id: id,
            peer_address: format!("host{id}:7400"),
            voter: id < 3,
            ..Default::default()
        }
    }

    // A client is told of a later configuration than it knows, by the addresses that count here, and of
    // nothing else; one that does not ask is told nothing.
    #[test]
    fn who_knows_less_is_told() {
        let told = |known: &str| {
            let mut headers = http::HeaderMap::new();
            let mut asked = http::HeaderMap::new();
            asked.insert(MEMBERS_METADATA, known.parse().unwrap());
            tell_news(&roster(9), super::known(&asked)?, &mut headers);
            let metadata = MetadataMap::from_headers(headers);
            let news = metadata.get_bin(MEMBERS_METADATA_BIN)?.to_bytes().unwrap();
            kv::ClusterMembers::from_bytes(&news)
        };
        let news = told("8").unwrap();
        let voters: Vec<_> = news.voters.iter().map(|it| &*it.client_address).collect();
        assert_eq!(news.index, 9);
        assert_eq!(voters, ["n1:7500", "inside2:7500", "inside3:7500"]);
        assert_eq!((told("9"), told("nonsense")), (None, None));
        assert_eq!(known(&http::HeaderMap::new()), None);
    }

    // What makes no sense is refused with the reason; what is left out of a known node is filled in.
    #[test]
    fn requests_are_checked_and_completed() {
        let refused = |change: fn(&mut wire::Member)| {
            let mut other = named(2);
            change(&mut other);
            target(vec![named(1), other]).unwrap_err()
        };
        assert!(refused(|it| it.node_id = 1).contains("named twice"));
        assert!(refused(|it| it.node_id = 0).contains("no id"));
        assert!(refused(|it| it.peer_address = "host".into()).contains("HOST:PORT"));
        assert!(refused(|it| it.client_address = "a,b:1".into()).contains("client address"));
        assert!(refused(|it| it.directory_id = "x".into()).contains("32 hexadecimal"));
        let many = (1..=MEMBERS_MAX as u64 + 1).map(named).collect();
        assert!(target(many).unwrap_err().contains("at most 32"));
        let mut new = named(9);
        let asked = target(vec![named(1), named(2), new.clone()]).unwrap();
        let nowhere = completed(&roster(9), asked).unwrap_err();
        assert!(nowhere.contains("node 9 is new"), "{nowhere}");
        new.client_address = "host9:7500".into();
        let asked = target(vec![named(1), named(2), new]).unwrap();
        assert_eq!(asked.voters, [1, 2].into());
        let completed = completed(&roster(9), asked).unwrap();
        let client = |id| &*completed.nodes[&id].client_address;
        assert_eq!(
            [client(1), client(2), client(9)],
            ["n1:7500", "inside2:7500", "host9:7500"]
        );
        assert_eq!(&*completed.nodes[&1].peer_address, "host1:7400");
    }
}
