//! How the machines are, for whoever looks on or has to wait for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::changes::Change;
use super::events::Action;
use super::gcloud::{Gcloud, MachineState, ZoneAndName};
use super::leftovers;
use super::machine_status::MachineStatus;
use super::machines::Machine;
use super::resources::Kind;
use super::strays::Listing;
use crate::cluster::{Cluster, NodeId, list};
use crate::error::{Error, Result};
use crate::providers::{MachineStates, Overview, Trouble};
use crate::terminal::progress::Progress;

/// A machine that does not react to the power button is cut off by Google after 90 s.
const GOING_OFF_MAX: Duration = Duration::from_secs(180);

/// How often it is looked whether a machine is off; each look takes a second.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How the machines are. When Google does not answer, that is said and no error: a cluster can be looked at
/// without it.
pub async fn machine_states(cluster: &Cluster) -> MachineStates {
    let step = Progress::new().begin("ask Google for the machines");
    let mut states = states(cluster).await.unwrap_or_else(|error| MachineStates {
        text: format!("machines unknown: {error}\n"),
        json: json!({"error": error.to_string()}),
        in_doubt: None,
    });
    drop(step);
    if let Some((text, advice)) = leftovers::of_record(cluster) {
        states.text.push_str(&format!("{text}; {advice}\n"));
        states.in_doubt = Some(text);
    }
    states
}

async fn states(cluster: &Cluster) -> Result<MachineStates> {
    let (mut text, mut values) = (String::new(), serde_json::Map::new());
    for (id, status) in statuses(cluster).await? {
        let (line, value) = describe(id, &status, SystemTime::now());
        text.push_str(&line);
        values.insert(id.to_string(), value);
    }
    for (id, at) in super::allocation(cluster)?.leaving {
        let name = super::instance_name(cluster, &at.name);
        text.push_str(&format!(
            "node {id}: it is not in cluster.yaml any more, and what there is of its machine ({name}, {}) costs money; \
             `raftctl up` lets it leave, and deletes that\n",
            at.zone
        ));
        values.insert(id.to_string(), json!({"instance": name, "leaves": true}));
    }
    Ok(MachineStates {
        text,
        json: Value::Object(values),
        in_doubt: None,
    })
}

/// How each node's machine is, by one look at Google; its disk is looked for where it is gone.
async fn statuses(cluster: &Cluster) -> Result<Vec<(NodeId, MachineStatus)>> {
    super::machines(cluster)?; // Where there are none yet, nobody is asked.
    let gcloud = Gcloud::of(cluster);
    let found = found(cluster, gcloud.machines(&cluster.name).await?)?;
    let disks = match found.iter().any(Found::is_gone) {
        true => gcloud.disks(&cluster.name).await?,
        false => BTreeSet::new(),
    };
    Ok(found.into_iter().map(|one| one.status(&disks)).collect())
}

/// The same from a look that was made before.
fn statuses_in(cluster: &Cluster, look: &Listing) -> Result<Vec<(NodeId, MachineStatus)>> {
    look.seen(Kind::Machine)?;
    let found = found(cluster, look.states.clone())?;
    let disks = match found.iter().any(Found::is_gone) {
        true => look.disks_of(&cluster.name)?,
        false => BTreeSet::new(),
    };
    Ok(found.into_iter().map(|one| one.status(&disks)).collect())
}

/// A node with its machine, and the state of that, as far as there are any.
struct Found {
    id: NodeId,
    machine: Option<Machine>,
    state: Option<MachineState>,
}

fn found(cluster: &Cluster, mut states: BTreeMap<ZoneAndName, MachineState>) -> Result<Vec<Found>> {
    let (machines, allocation) = (super::machines(cluster)?, super::allocation(cluster)?);
    let one = |id: NodeId| {
        let machine = machines.of_node(&allocation, id).ok().cloned();
        let state = machine
            .as_ref()
            .and_then(|machine| states.remove(&machine.at()));
        Found { id, machine, state }
    };
    Ok(cluster.ids().into_iter().map(one).collect())
}

impl Found {
    fn is_gone(&self) -> bool {
        self.machine.is_some() && self.state.is_none()
    }

    fn status(self, disks: &BTreeSet<String>) -> (NodeId, MachineStatus) {
        let status = match (self.machine, self.state) {
            (_, Some(state)) => MachineStatus::There(state),
            (Some(machine), None) => MachineStatus::Gone {
                has_disk: disks.contains(&machine.data_disk),
            },
            (None, None) => MachineStatus::NeverMade,
        };
        (self.id, status)
    }
}

/// What a change that did not end well has left, and the machines that do not run, by one look at Google.
pub async fn overview(cluster: &Cluster) -> Overview {
    let (remarks, look) = leftovers::remarks(cluster).await;
    let statuses = match look {
        Some(look) => statuses_in(cluster, &look),
        None => statuses(cluster).await,
    };
    let (not_running, unseen) = match statuses {
        Ok(statuses) => (troubles(statuses), None),
        Err(error) => (BTreeMap::new(), Some(error.to_string())),
    };
    Overview {
        remarks,
        not_running,
        unseen,
    }
}

fn troubles(statuses: Vec<(NodeId, MachineStatus)>) -> BTreeMap<NodeId, Trouble> {
    let statuses = statuses.into_iter();
    let troubles = statuses.filter_map(|(id, status)| Some((id, status.trouble(id)?)));
    troubles.collect()
}

/// One machine, for people and for programs; nothing for people where all is well for ever.
fn describe(id: NodeId, status: &MachineStatus, now: SystemTime) -> (String, Value) {
    let left = status.ends_in(now);
    let line = match (status.trouble(id), left) {
        (Some((words, next)), _) => format!("node {id}: {words}; {next}\n"),
        (None, Some(left)) => {
            let length = humantime::format_duration(left);
            format!("node {id}: its machine deletes itself in {length} (`raftctl extend`)\n")
        }
        (None, None) => String::new(),
    };
    let left = left.map(|left| left.as_secs());
    (
        line,
        json!({"machine": status.name(), "lifetime_remaining_s": left}),
    )
}

/// Waits until machines that are to be switched on are off first: Google starts none that is just
/// going off. Where Google can't be asked, whatever comes next says why.
pub async fn wait_until_off(
    cluster: &Cluster,
    changes: &[Change],
    progress: &Progress,
) -> Result<()> {
    let is_switched = |change: &Change| {
        change.resource_type == "google_compute_instance" && change.action == Action::Update
    };
    if !changes.iter().any(is_switched) || super::machines(cluster).is_err() {
        return Ok(());
    }
    let give_up = Instant::now() + GOING_OFF_MAX;
    let mut waited_for = Vec::new();
    loop {
        let going: Vec<NodeId> = statuses(cluster)
            .await?
            .into_iter()
            .filter(|(_, status)| status.is_going_off())
            .map(|(id, _)| id)
            .collect();
        if going.is_empty() {
            return Ok(());
        }
        if going != waited_for {
            progress.note(&format!(
                "waiting until the machines of {} are off, which they are about to be",
                list(&going)
            ));
            waited_for = going;
        }
        if Instant::now() >= give_up {
            let (ids, seconds) = (list(&waited_for), GOING_OFF_MAX.as_secs());
            return Err(Error::Cloud(format!(
                "the machines of {ids} are still going off after {seconds} s; `raftctl status` shows them; run this \
                 again when they are off"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Programs learn the state in Google's word, or that there is no machine; people learn of an end.
    #[test]
    fn machines_in_words() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let there = |status: &str, left: Option<u64>| {
            MachineStatus::There(MachineState {
                status: status.into(),
                ends_at: left.map(|left| now + Duration::from_secs(left)),
                external_ip: None,
                machine_type: "e2-small".into(),
            })
        };
        let (line, value) = describe(2, &there("RUNNING", Some(7260)), now);
        assert_eq!(
            line,
            "node 2: its machine deletes itself in 2h 1m (`raftctl extend`)\n"
        );
        assert_eq!(
            value,
            json!({"machine": "RUNNING", "lifetime_remaining_s": 7260})
        );
        assert_eq!(describe(2, &there("RUNNING", None), now).0, "");
        let (line, value) = describe(2, &MachineStatus::NeverMade, now);
        assert_eq!(
            line,
            "node 2: it has no machine yet; `raftctl up` makes one\n"
        );
        assert_eq!(value["machine"], "NONE");
        let (_, value) = describe(2, &MachineStatus::Gone { has_disk: true }, now);
        assert_eq!(value["machine"], "GONE");
    }
}
