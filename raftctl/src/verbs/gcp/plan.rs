//! `plan`: infrastructure, files and processes in one list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Progress, leaving, planned};
use crate::cluster::gcp::SshVia;
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result, exit};
use crate::hosts::control::HostFacts;
use crate::hosts::inventory::{Host, Inventory};
use crate::local::binary;
use crate::local::folder_lock::FolderLock;
use crate::ops::{Context, facts, target};
use crate::plan::{self as steps, Facts, Obstacles, Step, Target};
use crate::providers::gcp::allocation::Allocation;
use crate::providers::gcp::changes::Change;
use crate::providers::gcp::events::Action;
use crate::providers::gcp::machines::Machines;
use crate::providers::gcp::{self, Infrastructure, Purpose, spread};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::verbs::up;

/// Prints what `up` would do. Nothing is made.
///
/// # Errors
/// The plan would lose data, or something stands in the way.
pub async fn plan(cluster: Cluster, options: &Options, allow_data_loss: bool) -> Result<()> {
    let progress = Progress::new();
    // Terraform's folder is written to, also by a plan.
    let _lock = FolderLock::take(&cluster, "plan").await?;
    let purpose = Purpose::Up { allow_data_loss };
    gcp::remember_named(&cluster)?;
    let former = leaving::former(&cluster).await?;
    let infrastructure = planned(&cluster, purpose, &former, options, &progress).await?;
    let remark = spread::remark(&infrastructure.allocation);
    let remark = remark.map(|(text, advice)| format!("{text}; {advice}"));
    if let Some(remark) = &remark {
        progress.note(remark);
    }
    let steps = node_steps(&cluster, &infrastructure, allow_data_loss, &progress);
    let (steps, obstacles) = match steps.await? {
        Ok(steps) => (steps, Vec::new()),
        Err(Obstacles(obstacles)) => (Vec::new(), obstacles),
    };
    match options.output {
        // What is refused is not done: no list of steps comes before the reason.
        Output::Text if !obstacles.is_empty() => {}
        Output::Text => out::print(&text(&cluster, &infrastructure, &steps))?,
        Output::Json => {
            let mut plan = as_json(&cluster, &infrastructure, &steps, &obstacles);
            plan["remarks"] = json!(remark.as_slice());
            out::json(&plan)?;
        }
    }
    if obstacles.is_empty() {
        return Ok(());
    }
    Err(Error::Usage(obstacles.join("\n")))
}

/// Refuses, before any machine is made for them, members that the cluster can't have. All else that may stand in
/// the way of a node is looked at once the machines are as they should be: they may be what mends it.
///
/// # Errors
/// As said.
pub async fn refuse_members(cluster: &Cluster, infrastructure: &Infrastructure) -> Result<()> {
    let allocation = &infrastructure.allocation;
    let is_new = allocation.members.is_empty() || gcp::machines(cluster).is_err();
    if infrastructure.changes.is_empty() || is_new {
        return Ok(()); // Nothing is made; or there are no nodes yet that could mind.
    }
    let (target, facts) = match look(cluster, infrastructure).await {
        Ok(seen) => seen,
        // Machines that do not answer tell of nothing, and may be what is to be mended.
        Err(error) if error.exit_code() == exit::REMOTE => return Ok(()),
        Err(error) => return Err(error),
    };
    refused(&target, &facts, infrastructure)
        .map_err(|obstacles| Error::Usage(obstacles.to_string()))
}

fn refused(
    target: &Target,
    facts: &Facts,
    infrastructure: &Infrastructure,
) -> std::result::Result<(), Obstacles> {
    let blank: Vec<NodeId> = infrastructure.blank.iter().copied().collect();
    steps::refuse_members(target, facts, &blank)
}

/// What is to be done on the machines once they are there.
async fn node_steps(
    cluster: &Cluster,
    infrastructure: &Infrastructure,
    allow_data_loss: bool,
    progress: &Progress,
) -> Result<std::result::Result<Vec<Step>, Obstacles>> {
    if is_unaddressed(cluster, infrastructure) {
        progress.note(
            "the machines have no external addresses yet: what is to be done on them is seen once they have",
        );
        return Ok(Ok(Vec::new()));
    }
    let (target, mut facts) = look(cluster, infrastructure).await?;
    if let Err(obstacles) = refused(&target, &facts, infrastructure) {
        return Ok(Err(obstacles));
    }
    if allow_data_loss {
        facts.accept_lost_data();
    }
    facts.leave_obstructed(cluster.majority());
    for (id, error) in &facts.left_behind {
        progress.note(&format!("going on without node {id}: {error}"));
    }
    Ok(steps::plan(&target, &facts))
}

/// Whether the machines are to be given the external addresses by which they would be looked at.
fn is_unaddressed(cluster: &Cluster, infrastructure: &Infrastructure) -> bool {
    let is_changed = |change: &Change| {
        change.resource_type == "google_compute_instance" && change.action == Action::Update
    };
    let Ok(machines) = gcp::machines(cluster) else {
        return false;
    };
    let mut machines = machines.nodes.values();
    cluster.gcp.ssh_via() == SshVia::External
        && infrastructure.changes.iter().any(is_changed)
        && infrastructure.started.is_empty()
        && machines.all(|machine| machine.external_ip.is_none())
}

/// What a plan leaves of the nodes that can't be looked at before it is carried out. `up` goes by the
/// same, once it has carried it out: addresses and data disks outlive machines.
struct Account<'a> {
    changes: &'a [Change],
    allocation: &'a Allocation,
    machines: Option<Machines>,
    started: &'a BTreeSet<String>,
}

impl Account<'_> {
    fn is_touched(&self, name: &str, resource_type: &str, actions: &[Action]) -> bool {
        self.changes.iter().any(|change| {
            change.resource_type == resource_type
                && change.key.as_deref() == Some(name)
                && actions.contains(&change.action)
        })
    }

    /// The nodes whose machines are not there to look at: they are yet to be made, or switched on.
    fn unseen(&self) -> BTreeSet<NodeId> {
        let is_unseen = |name: &str| {
            let machines = self.machines.as_ref();
            let is_made = machines.is_some_and(|machines| machines.nodes.contains_key(name));
            let making = [Action::Create, Action::Replace, Action::Import];
            // Before the cluster was up there is nothing on any machine, and it may be booting.
            !is_made
                || self.is_touched(name, "google_compute_instance", &making)
                || self.started.contains(name)
                || self.allocation.members.is_empty()
        };
        let nodes = self.allocation.nodes.iter();
        let unseen = nodes.filter(|(_, at)| is_unseen(&at.name));
        unseen.map(|(id, _)| *id).collect()
    }

    /// The internal addresses that stay, of some nodes.
    fn addresses(&self, ids: &BTreeSet<NodeId>) -> BTreeMap<NodeId, String> {
        let making = [Action::Create, Action::Replace];
        let address = |id: &NodeId| {
            let name = &self.allocation.nodes.get(id)?.name;
            let machine = self.machines.as_ref()?.nodes.get(name)?;
            let is_new = self.is_touched(name, "google_compute_address", &making);
            (!is_new).then(|| (*id, machine.internal_ip.clone()))
        };
        ids.iter().filter_map(address).collect()
    }

    /// Whether a node's disk stays.
    fn keeps_disk(&self, id: NodeId) -> bool {
        let making = [Action::Create, Action::Replace];
        let at = self.allocation.nodes.get(&id);
        at.is_some_and(|at| !self.is_touched(&at.name, "google_compute_disk", &making))
    }

    /// Whether there is data on it.
    fn has_data(&self, id: NodeId) -> bool {
        self.keeps_disk(id) && self.allocation.members.contains(&id)
    }

    /// What such a node will be found like. A member's data, and the release that ran it, are on its disk.
    fn facts(&self, id: NodeId, release: Option<&String>) -> HostFacts {
        let mut facts = HostFacts::blank(id);
        if self.has_data(id) {
            facts.setting.release = release.cloned();
            for node in &mut facts.nodes {
                node.has_data = true;
            }
        }
        facts
    }
}

/// The nodes as they are to be, and what is known of them. A data disk that is to grow has space.
async fn look(cluster: &Cluster, infrastructure: &Infrastructure) -> Result<(Target, Facts)> {
    let allocation = &infrastructure.allocation;
    let account = Account {
        changes: &infrastructure.changes,
        allocation,
        machines: gcp::machines(cluster).ok(),
        started: &infrastructure.started,
    };
    let new = account.unseen();
    let addresses = account.addresses(&new);
    let inventory = gcp::hosts::with_placeholders(cluster, allocation, &new, &addresses).await?;
    let whole = Context {
        cluster: Arc::new(cluster.clone()),
        inventory: Arc::new(inventory),
        identity: Default::default(),
    };
    let mut facts = existing_facts(&whole, &new).await?;
    if new.iter().any(|id| account.keeps_disk(*id)) {
        // Its log may be on the disk that a new machine will find.
        facts.hidden.clear();
    }
    let releases = facts.hosts.values();
    let release = releases
        .filter_map(|host| host.setting.release.clone())
        .next();
    if release.is_none() {
        let is_unasked = |id: &NodeId| account.has_data(*id);
        facts.unasked = new.iter().copied().filter(is_unasked).collect();
    }
    let blank = new
        .iter()
        .map(|id| (*id, account.facts(*id, release.as_ref())));
    facts.hosts.extend(blank);
    for (id, at) in &allocation.nodes {
        if let Some(host) = facts.hosts.get_mut(id)
            && account.is_touched(&at.name, "google_compute_disk", &[Action::Update])
        {
            host.disk_free_kib = u64::MAX;
        }
    }
    let target = target::target(&whole, &binary::locate(cluster)?, &facts)?;
    Ok((target, facts))
}

/// What the machines say that are there.
async fn existing_facts(whole: &Context, new: &BTreeSet<NodeId>) -> Result<Facts> {
    let is_made = |host: &&Host| !host.nodes.iter().any(|id| new.contains(id));
    let hosts: Vec<Host> = whole
        .inventory
        .hosts
        .iter()
        .filter(is_made)
        .cloned()
        .collect();
    if hosts.is_empty() {
        return Ok(Facts::default());
    }
    let inventory = Inventory {
        hosts,
        members: whole.inventory.members.clone(),
    };
    let made = Context {
        cluster: Arc::clone(&whole.cluster),
        inventory: Arc::new(inventory),
        identity: whole.identity.clone(),
    };
    facts::gather(&made).await
}

fn text(cluster: &Cluster, infrastructure: &Infrastructure, steps: &[Step]) -> String {
    let name = &cluster.name;
    let (changes, afterwards) = (&infrastructure.changes, &infrastructure.afterwards);
    if changes.is_empty() && steps.is_empty() && afterwards.is_empty() {
        return format!("cluster {name} is up: nothing to do\n");
    }
    let lines = changes
        .iter()
        .map(Change::describe)
        .chain(steps.iter().map(Step::to_string))
        .chain(afterwards.iter().map(Change::describe));
    let mut text = format!("cluster {name} ({}):\n", cluster.provider.name());
    for (count, line) in lines.enumerate() {
        text.push_str(&format!("  {}. {line}\n", count + 1));
    }
    text
}

fn as_json(
    cluster: &Cluster,
    infrastructure: &Infrastructure,
    steps: &[Step],
    obstacles: &[String],
) -> Value {
    let change = |change: &Change| json!({"text": change.describe(), "resource": change.address});
    json!({
        "cluster": cluster.name,
        "provider": cluster.provider.name(),
        "infrastructure": infrastructure.changes.iter().map(change).collect::<Vec<_>>(),
        "steps": steps.iter().map(up::step_to_json).collect::<Vec<_>>(),
        "infrastructure_afterwards": infrastructure.afterwards.iter().map(change).collect::<Vec<_>>(),
        "obstacles": obstacles,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::gcp::machines::Machine;

    fn change(resource_type: &str, name: &str, action: Action) -> Change {
        Change {
            address: format!("{resource_type}.x[\"{name}\"]"),
            resource_type: format!("google_compute_{resource_type}"),
            key: Some(name.to_owned()),
            action,
        }
    }

    // What a plan says of a node whose machine can't be asked, for each way in which it got there: whether
    // its address is known, and whether it has data. `up` finds the same once the machine is there.
    #[test]
    fn a_plan_knows_what_outlives_a_machine() {
        let yaml = "name: demo\nprovider: gcp\nnodes: 3\ngcp: {project: my-project, zones: [us-central1-a]}\n";
        let cluster = crate::cluster::parse(yaml, "x", ".".into(), &|_| None).unwrap();
        let mut allocation = Allocation::default().extended(&cluster).unwrap();
        allocation.members = BTreeSet::from([1, 2, 3]);
        let machine = |id: u64| {
            let machine = Machine {
                instance: format!("raft-demo-n{id}"),
                zone: "us-central1-a".into(),
                region: "us-central1".into(),
                internal_ip: format!("10.80.0.{}", id + 1),
                external_ip: None,
                data_disk: format!("raft-demo-n{id}-data"),
            };
            (format!("n{id}"), machine)
        };
        let known = Machines::new("my-project", "raft", (1..=3).map(machine).collect());
        let none = BTreeSet::new();
        let off = BTreeSet::from(["n3".to_owned()]);
        let (create, import, replace) = (Action::Create, Action::Import, Action::Replace);
        let gone = change("instance", "n3", create);
        // The machine's story, the changes, what is off; whether it can't be asked, is known by its address,
        // has data.
        let cases = [
            ("as it should be", vec![], &none, (false, false, false)),
            ("gone", vec![gone.clone()], &none, (true, true, true)),
            (
                "off, or stopping",
                vec![change("instance", "n3", Action::Update)],
                &off,
                (true, true, true),
            ),
            (
                "replaced",
                vec![change("instance", "n3", replace)],
                &none,
                (true, true, true),
            ),
            (
                "to be taken in",
                vec![change("instance", "n3", import)],
                &none,
                (true, true, true),
            ),
            (
                "gone with its disk",
                vec![gone.clone(), change("disk", "n3", create)],
                &none,
                (true, true, false),
            ),
            (
                "gone with its address",
                vec![gone.clone(), change("address", "n3", create)],
                &none,
                (true, false, true),
            ),
            (
                "gone, and its disk taken in",
                vec![gone, change("disk", "n3", import)],
                &none,
                (true, true, true),
            ),
        ];
        for (story, changes, started, (is_unseen, is_addressed, has_data)) in cases {
            let account = Account {
                changes: &changes,
                allocation: &allocation,
                machines: Some(known.clone()),
                started,
            };
            let unseen = account.unseen();
            assert_eq!(
                unseen,
                if is_unseen {
                    BTreeSet::from([3])
                } else {
                    none_of()
                },
                "{story}"
            );
            let addresses = account.addresses(&unseen);
            let address = is_addressed.then(|| "10.80.0.4".to_owned());
            assert_eq!(addresses.get(&3), address.as_ref(), "{story}");
            if is_unseen {
                let facts = account.facts(3, Some(&"release".to_owned()));
                assert_eq!(facts.nodes[0].has_data, has_data, "{story}");
            }
        }
    }

    fn none_of() -> BTreeSet<NodeId> {
        BTreeSet::new()
    }
}
