//! From the members that a cluster has to those that cluster.yaml names.
//!
//! New nodes are started first, learn, and catch up; then one change of voters makes the whole difference, so
//! that a replacement never lowers what the cluster survives. A leader that leaves hands over before. The processes
//! of those who left are ended last.

use std::collections::BTreeMap;

use super::membership::Membership;
use super::{Facts, Step, Target};
use crate::cluster::{NodeId, list};

/// The format from which on members can change.
const FORMAT_MEMBERS: u64 = 3;

/// Who comes, who stays, who leaves; each rising.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    wanted: Vec<NodeId>,
    /// In cluster.yaml, and no member.
    new: Vec<NodeId>,
    /// Members that are to vote, and do not yet.
    learning: Vec<NodeId>,
    /// Members, and not in cluster.yaml.
    leaving: Vec<NodeId>,
    /// Not in cluster.yaml, no members, and not taken down yet.
    left: Vec<NodeId>,
}

impl Difference {
    fn new(wanted: Vec<NodeId>, known: &Membership, facts: &Facts) -> Self {
        let members = known.ids();
        let voters = known.voters();
        let of = |ids: &[NodeId], fits: &dyn Fn(&NodeId) -> bool| {
            ids.iter().copied().filter(fits).collect::<Vec<_>>()
        };
        let former = facts.former.keys().chain(&facts.former_silent);
        let former: Vec<NodeId> = former.copied().collect();
        Difference {
            new: of(&wanted, &|id| !members.contains(id)),
            learning: of(&wanted, &|id| members.contains(id) && !voters.contains(id)),
            leaving: of(&members, &|id| !wanted.contains(id)),
            left: of(&former, &|id| !members.contains(id)),
            wanted,
        }
    }

    fn changes_members(&self) -> bool {
        !(self.new.is_empty() && self.learning.is_empty() && self.leaving.is_empty())
    }
}

/// The nodes of cluster.yaml that are to join, and are not started as the others are.
pub(super) fn joining(target: &Target, facts: &Facts) -> Vec<NodeId> {
    let ids = target.nodes.iter().map(|node| node.layout.id);
    match &facts.membership {
        Some(known) => {
            let founders = known.ids();
            ids.filter(|id| !founders.contains(id)).collect()
        }
        None => ids.filter(|id| target.founders.joins(*id)).collect(),
    }
}

/// The steps to the members of cluster.yaml, behind all others.
///
/// # Errors
/// What stands in the way of that.
pub(super) fn steps(target: &Target, facts: &Facts) -> Result<Vec<Step>, Vec<String>> {
    let Some(known) = facts.membership.as_ref() else {
        return without_leader(target, facts);
    };
    let wanted: Vec<NodeId> = target.nodes.iter().map(|node| node.layout.id).collect();
    let difference = Difference::new(wanted, known, facts);
    if difference.changes_members() {
        let obstacles = obstacles(target, facts, known, &difference);
        if !obstacles.is_empty() {
            return Err(obstacles);
        }
    }
    Ok(in_order(facts, known, &difference))
}

/// Once the members run, they say who they are. Until then nothing changes; and whom this file has never had may be the
/// one that leads.
fn without_leader(target: &Target, facts: &Facts) -> Result<Vec<Step>, Vec<String>> {
    let is_wanted = |id: &NodeId| target.nodes.iter().any(|node| node.layout.id == *id);
    let others = facts.told_members.iter().copied();
    let others: Vec<NodeId> = others.filter(|id| !is_wanted(id)).collect();
    match never_known(facts, &others) {
        Some(obstacle) => Err(vec![obstacle]),
        None => Ok(Vec::new()),
    }
}

fn in_order(facts: &Facts, known: &Membership, difference: &Difference) -> Vec<Step> {
    let mut steps = Vec::new();
    let is_down = |id: &NodeId| facts.node(*id).is_some_and(|_| facts.alive(*id).is_none());
    let coming = [difference.new.clone(), difference.learning.clone()].concat();
    let down: Vec<NodeId> = difference.new.iter().copied().filter(is_down).collect();
    if !down.is_empty() {
        steps.push(Step::Join { nodes: down });
    }
    if !difference.new.is_empty() {
        let nodes = difference.new.clone();
        steps.push(Step::Learn { nodes });
    }
    if !coming.is_empty() {
        let entries = facts.last_index;
        let mut nodes = coming.clone();
        nodes.sort_unstable();
        steps.push(Step::CatchUp { nodes, entries });
    }
    if difference.changes_members() {
        change_voters(facts, known, difference, coming, &mut steps);
    }
    let mut gone = [difference.leaving.clone(), difference.left.clone()].concat();
    // Where nobody here knows where it is, there is nothing to do.
    gone.retain(|id| facts.former.contains_key(id) || facts.former_silent.contains(id));
    gone.sort_unstable();
    if !gone.is_empty() {
        steps.push(Step::TakeDown { nodes: gone });
    }
    steps
}

/// One change; two where every voter leaves, because somebody has to lead meanwhile.
fn change_voters(
    facts: &Facts,
    known: &Membership,
    difference: &Difference,
    mut join: Vec<NodeId>,
    steps: &mut Vec<Step>,
) {
    join.sort_unstable();
    let mut leave = difference.leaving.clone();
    let leader = facts.leader.filter(|id| leave.contains(id));
    if let Some(from) = leader {
        let stays = |id: &NodeId| difference.wanted.contains(id);
        if !known.voters().iter().any(stays) {
            let mut members = [difference.wanted.clone(), vec![from]].concat();
            members.sort_unstable();
            leave.retain(|id| *id != from);
            steps.push(Step::ChangeVoters {
                members,
                join: std::mem::take(&mut join),
                leave: std::mem::replace(&mut leave, vec![from]),
            });
        }
        steps.push(Step::HandOver { from });
    }
    steps.push(Step::ChangeVoters {
        members: difference.wanted.clone(),
        join,
        leave,
    });
}

/// Why the members can't be those of cluster.yaml, and what to do.
fn obstacles(
    target: &Target,
    facts: &Facts,
    known: &Membership,
    difference: &Difference,
) -> Vec<String> {
    let mut obstacles = Vec::new();
    obstacles.extend(used_ids(known, &difference.wanted));
    obstacles.extend(unreachable(facts, difference));
    obstacles.extend(never_known(facts, &difference.leaving));
    obstacles.extend(taken_addresses(target, known, difference));
    if target
        .format_max
        .is_some_and(|format| format < FORMAT_MEMBERS)
    {
        obstacles.push(format!(
            "`format_max` in cluster.yaml holds the cluster, and changes of its members need format \
             {FORMAT_MEMBERS}: take that line away, `raftctl up`, then change the nodes"
        ));
    }
    if obstacles.is_empty() {
        // What does not run on a host that answers is started before.
        let lives = |id| facts.runs(id) || facts.hosts.contains_key(&id);
        obstacles.extend(too_few(known, &difference.wanted, lives));
    }
    obstacles
}

/// Why some of these ids can't be; nothing where all can.
#[must_use]
pub fn used_ids(known: &Membership, wanted: &[NodeId]) -> Option<String> {
    let is_used = |id: &&NodeId| known.retired.contains(id);
    let used: Vec<NodeId> = wanted.iter().filter(is_used).copied().collect();
    if used.is_empty() {
        return None;
    }
    let (was, again) = match used.as_slice() {
        [_] => (
            "was the id of a node that left, and nobody gets it",
            "another id",
        ),
        _ => (
            "were the ids of nodes that left, and nobody gets them",
            "other ids",
        ),
    };
    let taken = known.retired.iter().chain(known.members.keys());
    let free = taken.chain(wanted).max().map_or(1, |id| id + 1)..;
    let mut instead = used.iter().zip(free);
    let items = wanted.iter().map(|id| match used.contains(id) {
        true => instead.next().map_or(*id, |(_, free)| free),
        false => *id,
    });
    let mut items: Vec<NodeId> = items.collect();
    items.sort_unstable();
    let items: Vec<String> = items.iter().map(|id| format!("{{id: {id}}}")).collect();
    Some(format!(
        "{} {was} again: write {again}, as in nodes: [{}]",
        list(&used),
        items.join(", ")
    ))
}

/// Who is to join has to be there, as long as others count on it.
fn unreachable(facts: &Facts, difference: &Difference) -> Vec<String> {
    let coming = difference.new.iter().chain(&difference.learning);
    let away = coming.filter_map(|id| Some((id, facts.left_behind.get(id)?)));
    away.map(|(id, error)| format!("node {id} can't join: {error}"))
        .collect()
}

/// Who was never in this cluster.yaml was brought in by somebody else: an old file must not make it leave.
fn never_known(facts: &Facts, leaving: &[NodeId]) -> Option<String> {
    let is_known = |id: &NodeId| facts.former.contains_key(id) || facts.former_silent.contains(id);
    let leaving = leaving.iter().copied();
    let strange: Vec<NodeId> = leaving.filter(|id| !is_known(id)).collect();
    let (first, them) = (
        ids(&strange),
        if strange.len() == 1 { "it" } else { "them" },
    );
    let first = first.replace(',', " ");
    (!strange.is_empty()).then(|| {
        format!(
            "this cluster.yaml has never had {}, which the cluster has: take over the file of whoever added {them}; or \
             write {them} there, and `raftctl remove {first}`",
            list(&strange)
        )
    })
}

fn taken_addresses(target: &Target, known: &Membership, difference: &Difference) -> Vec<String> {
    let mut owners: BTreeMap<&str, NodeId> = BTreeMap::new();
    for id in &difference.leaving {
        let member = &known.members[id];
        let (peer, client) = target.founders.addresses(*id).unwrap_or_default();
        let addresses = [&*member.peer_address, &member.client_address, peer, client];
        owners.extend(
            addresses
                .into_iter()
                .filter(|it| !it.is_empty())
                .map(|it| (it, *id)),
        );
    }
    let mut obstacles = Vec::new();
    for id in &difference.new {
        let Some(addresses) = target.addresses.get(id) else {
            continue;
        };
        let taken = |address: &String| Some((address.clone(), *owners.get(address.as_str())?));
        if let Some((address, owner)) = [&addresses.0, &addresses.1].into_iter().find_map(taken) {
            obstacles.push(format!(
                "node {id} is to have the address of node {owner}, {address}, which is a member until \
                 the new one has caught up: give node {id} another host; or `raftctl remove {owner}` \
                 first, then `raftctl add {id}`"
            ));
        }
    }
    obstacles
}

/// Why a change must not be made: nothing would work afterwards, nodes that live would go while others are dead and
/// stay, or most of those that live would go at once. Nothing where it may be made.
#[must_use]
pub fn too_few(
    known: &Membership,
    wanted: &[NodeId],
    lives: impl Fn(NodeId) -> bool,
) -> Option<String> {
    let live = |ids: &[NodeId]| ids.iter().filter(|id| lives(**id)).count() as i64;
    let spare = |ids: &[NodeId]| live(ids) - (ids.len() / 2 + 1) as i64;
    let voters = known.voters();
    let (before, after) = (spare(&voters), spare(wanted));
    let dead: Vec<NodeId> = wanted.iter().copied().filter(|id| !lives(*id)).collect();
    let leaves = |id: &NodeId| !wanted.contains(id) && lives(*id);
    let leaving: Vec<NodeId> = voters.iter().copied().filter(leaves).collect();
    let (their, first) = (ids(&dead), dead.first().copied().unwrap_or_default());
    let is_one = dead.len() == 1;
    if after < 0 {
        let does = if is_one { "does" } else { "do" };
        return Some(format!(
            "{} {does} not run, and the others of cluster.yaml would be no majority of {}: bring back what is \
             dead (`raftctl start {their}`), or replace it (`raftctl replace {first}`)",
            list(&dead),
            list(wanted)
        ));
    }
    let is_new = |id: &&NodeId| !voters.contains(id);
    let comes = wanted.iter().filter(is_new).count();
    let shrinks = after < before || comes < leaving.len();
    if !dead.is_empty() && !leaving.is_empty() && shrinks {
        let (does, it) = if is_one {
            ("does", "it")
        } else {
            ("do", "them")
        };
        return Some(format!(
            "{} {does} not run: to remove {}, which does, would leave the cluster with less; bring {it} back \
             first (`raftctl start {their}`), or replace {it} (`raftctl replace {first}`)",
            list(&dead),
            list(&leaving)
        ));
    }
    if 2 * leaving.len() as i64 > live(&voters) && comes < leaving.len() {
        return Some(format!(
            "most of the nodes that vote now and run ({}) would leave at once: {}; take fewer out of cluster.yaml \
             at a time, with `raftctl up` after each",
            list(&voters),
            list(&leaving)
        ));
    }
    None
}

/// As a selector.
fn ids(ids: &[NodeId]) -> String {
    let ids: Vec<String> = ids.iter().map(NodeId::to_string).collect();
    ids.join(",")
}

#[cfg(test)]
mod tests;
