//! What a Terraform plan would do, from `terraform show -json`, and whether it may. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::events::Action;
use super::resources::{self, Kind};
use super::starts;
use crate::error::{Error, Result};

/// One resource that a plan touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its address in Terraform.
    pub address: String,
    /// `google_compute_instance`.
    pub resource_type: String,
    /// The node or region that it belongs to.
    pub key: Option<String>,
    /// What is done to it.
    pub action: Action,
}

impl Change {
    /// In words: `create machine n3`.
    #[must_use]
    pub fn describe(&self) -> String {
        let verb = match self.action {
            Action::Create => "create",
            Action::Update => "change",
            Action::Delete => "delete",
            Action::Replace => "REPLACE",
            Action::Remove => "forget",
            Action::Import => "take in",
            Action::Other => "touch",
        };
        format!("{verb} {}", self.subject())
    }

    /// The resource in words: `machine n3`.
    #[must_use]
    pub fn subject(&self) -> String {
        subject(&self.resource_type, self.key.as_deref(), &self.address)
    }

    /// Whether something goes that somebody may miss. A firewall rule is made anew whenever its ranges
    /// change, and nothing goes with the old one.
    #[must_use]
    pub fn is_destructive(&self) -> bool {
        match self.action {
            Action::Delete => true,
            Action::Replace => self.resource_type != "google_compute_firewall",
            _ => false,
        }
    }

    /// Whether data is lost with it.
    #[must_use]
    pub fn loses_data(&self) -> bool {
        self.resource_type == "google_compute_disk"
            && matches!(self.action, Action::Delete | Action::Replace)
    }
}

/// A resource in words.
#[must_use]
pub fn subject(resource_type: &str, key: Option<&str>, address: &str) -> String {
    let noun = match resource_type {
        "google_compute_network" => "network",
        "google_compute_subnetwork" => "subnet",
        "google_compute_address" => "internal address",
        "google_compute_disk" => "data disk",
        "google_compute_instance" => "machine",
        "google_compute_firewall" => {
            let rule = address.rsplit('.').next().unwrap_or(address);
            return format!("firewall rule {}", rule.split('[').next().unwrap_or(rule));
        }
        _ => return address.to_owned(),
    };
    key.map_or(noun.to_owned(), |key| format!("{noun} {key}"))
}

const MACHINE: &str = "google_compute_instance";

/// A plan that changes nothing.
pub const NONE: &str = r#"{"format_version":"1.2"}"#;

#[derive(Deserialize)]
struct Plan {
    format_version: String,
    #[serde(default)]
    resource_changes: Vec<Entry>,
    /// What others have changed since.
    #[serde(default)]
    resource_drift: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    address: String,
    #[serde(default)]
    mode: String,
    #[serde(rename = "type")]
    resource_type: String,
    #[serde(default)]
    index: Value,
    change: Actions,
}

#[derive(Deserialize)]
struct Actions {
    actions: Vec<String>,
    #[serde(default)]
    before: Value,
    #[serde(default)]
    after: Value,
    /// It is taken into the state by this plan.
    #[serde(default)]
    importing: Value,
}

/// The nodes whose machines run and would be stopped to be given another type, by their names in
/// Terraform. One that is off, or made anew, is none of them.
///
/// # Errors
/// As [`read`].
pub fn retyped(json: &str) -> Result<BTreeSet<String>> {
    let entries = entries(json)?.into_iter().filter(|entry| {
        let Actions { before, after, .. } = &entry.change;
        entry.resource_type == "google_compute_instance"
            && entry.change.actions == ["update"]
            && before["machine_type"] != after["machine_type"]
            && before["current_status"] == "RUNNING"
    });
    let keys = entries.filter_map(|entry| entry.index.as_str().map(String::from));
    Ok(keys.collect())
}

/// The nodes whose machines are there, do not run, and would be started, by their names in Terraform.
///
/// # Errors
/// As [`read`].
pub fn started(json: &str) -> Result<BTreeSet<String>> {
    let entries = entries(json)?.into_iter().filter(|entry| {
        let status = entry.change.before["current_status"].as_str();
        entry.resource_type == "google_compute_instance"
            && entry.change.actions == ["update"]
            && status.is_some_and(|status| status != "RUNNING")
    });
    let keys = entries.filter_map(|entry| entry.index.as_str().map(String::from));
    Ok(keys.collect())
}

/// The nodes whose machines are there and are to be started, whatever the plan does, by their names in
/// Terraform.
///
/// # Errors
/// As [`read`].
pub fn to_start(json: &str) -> Result<BTreeSet<String>> {
    let entries = entries(json)?.into_iter().filter(|entry| {
        entry.resource_type == "google_compute_instance"
            && starts::is_to_start(&entry.change.before)
    });
    let keys = entries.filter_map(|entry| entry.index.as_str().map(String::from));
    Ok(keys.collect())
}

/// The types that the machines have which are there, whatever the plan does, by their nodes' names in Terraform.
///
/// # Errors
/// As [`read`].
pub fn machine_types(json: &str) -> Result<BTreeMap<String, String>> {
    let machines = entries(json)?.into_iter();
    let machines = machines.filter(|entry| entry.resource_type == MACHINE);
    let types = machines.filter_map(|entry| {
        let kind = entry.change.before["machine_type"].as_str()?;
        Some((entry.index.as_str()?.to_owned(), kind.to_owned()))
    });
    Ok(types.collect())
}

/// The nodes whose machines are there when the plan is carried out, by their names in Terraform.
///
/// # Errors
/// As [`read`].
pub fn standing(json: &str) -> Result<BTreeSet<String>> {
    let entries = entries(json)?.into_iter().filter(|entry| {
        let is_made = entry.change.actions == ["create"];
        entry.resource_type == "google_compute_instance" && !is_made
    });
    let keys = entries.filter_map(|entry| entry.index.as_str().map(String::from));
    Ok(keys.collect())
}

/// Whether anything is there already, also where nothing is done to it.
///
/// # Errors
/// As [`read`].
pub fn has_made(json: &str) -> Result<bool> {
    let entries = entries(json)?.into_iter();
    let mut managed = entries.filter(|entry| entry.mode == "managed");
    Ok(managed.any(|entry| entry.change.actions != ["create"]))
}

/// What a plan makes: kind, address in Terraform, path at Google.
///
/// # Errors
/// As [`read`].
pub fn made(json: &str, project: &str) -> Result<Vec<(Kind, String, String)>> {
    let made = entries(json)?.into_iter().filter_map(|entry| {
        let kind = Kind::of_type(&entry.resource_type)?;
        if entry.change.actions != ["create"] {
            return None;
        }
        let id = resources::planned_id(kind, &entry.change.after, project)?;
        Some((kind, entry.address, id))
    });
    Ok(made.collect())
}

/// The firewall rules that a plan changes or makes anew, each with the ranges that it is to let in. One
/// that was not there before can't let more in than was asked.
///
/// # Errors
/// As [`read`].
pub fn narrowed(json: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let rules = entries(json)?.into_iter().filter_map(|entry| {
        let is_touched = !matches!(
            action(&entry.change.actions),
            None | Some(Action::Create | Action::Delete)
        );
        if entry.resource_type != "google_compute_firewall" || !is_touched {
            return None;
        }
        let after = &entry.change.after;
        let ranges = after["source_ranges"].as_array()?.iter();
        let ranges = ranges.map(|range| range.as_str().map(String::from));
        let ranges = ranges.collect::<Option<_>>()?;
        Some((after["name"].as_str()?.to_owned(), ranges))
    });
    Ok(rules.collect())
}

/// The nodes whose data disks are made although they had one with data: somebody else has deleted it. They
/// are those `with_data`, and of the `members` those whose machines stand.
#[must_use]
pub fn blank_disks(
    changes: &[Change],
    standing: &BTreeSet<String>,
    members: &BTreeSet<String>,
    with_data: &BTreeSet<String>,
) -> BTreeSet<String> {
    let made = changes.iter().filter(|change| {
        change.resource_type == "google_compute_disk" && change.action == Action::Create
    });
    let names = made.filter_map(|change| change.key.clone());
    names
        .filter(|name| {
            with_data.contains(name) || (standing.contains(name) && members.contains(name))
        })
        .collect()
}

/// The machines, by their addresses in Terraform, that were deleted and made anew outside: of the same name and
/// place, and yet others. Terraform takes them for the old ones.
fn made_by_hand(plan: &Plan) -> BTreeSet<String> {
    let is_other = |entry: &&Entry| {
        let Actions { before, after, .. } = &entry.change;
        let [before, after] = [before, after].map(|machine| machine["instance_id"].as_str());
        entry.resource_type == MACHINE && before.is_some() && after.is_some() && before != after
    };
    let others = plan.resource_drift.iter().filter(is_other);
    others.map(|entry| entry.address.clone()).collect()
}

/// Whether machines were deleted and made anew outside.
///
/// # Errors
/// As [`read`].
pub fn has_made_by_hand(json: &str) -> Result<bool> {
    Ok(!made_by_hand(&parsed(json)?).is_empty())
}

/// Reads a plan: what it changes, in the order of an address list; machines after what they need.
///
/// # Errors
/// The text is no plan, or of a form that is not known.
pub fn read(json: &str) -> Result<Vec<Change>> {
    let by_hand = made_by_hand(&parsed(json)?);
    let changes = entries(json)?.into_iter().filter_map(|entry| {
        let is_taken_in = !entry.change.importing.is_null() || by_hand.contains(&entry.address);
        let action = match action(&entry.change.actions) {
            // What differs is made right at the same time.
            None | Some(Action::Update) if is_taken_in => Action::Import,
            action => action?,
        };
        Some(Change {
            key: entry.index.as_str().map(String::from),
            address: entry.address,
            resource_type: entry.resource_type,
            action,
        })
    });
    let mut changes: Vec<_> = changes.collect();
    changes.sort_by_key(|change| (rank(&change.resource_type), change.address.clone()));
    Ok(changes)
}

fn parsed(json: &str) -> Result<Plan> {
    let wrong = |cause: String| Error::Other(format!("cannot read Terraform's plan: {cause}"));
    let plan: Plan = serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
    if plan.format_version.split('.').next() != Some("1") {
        return Err(wrong(format!(
            "its form is {}, and raftctl knows 1.x",
            plan.format_version
        )));
    }
    Ok(plan)
}

fn entries(json: &str) -> Result<Vec<Entry>> {
    let plan = parsed(json)?;
    // What the module keeps for itself is nothing at Google.
    let is_cloud = |entry: &Entry| entry.resource_type != "terraform_data";
    Ok(plan.resource_changes.into_iter().filter(is_cloud).collect())
}

fn action(actions: &[String]) -> Option<Action> {
    let actions: Vec<_> = actions.iter().map(String::as_str).collect();
    Some(match actions[..] {
        ["no-op" | "read"] => return None,
        ["create"] => Action::Create,
        ["update"] => Action::Update,
        ["delete"] => Action::Delete,
        ["forget"] => Action::Remove,
        ["delete", "create"] | ["create", "delete"] => Action::Replace,
        // Something new: whoever contains a deletion counts as one.
        _ if actions.contains(&"delete") => Action::Replace,
        _ => Action::Other,
    })
}

fn rank(resource_type: &str) -> u8 {
    match resource_type {
        "google_compute_network" => 0,
        "google_compute_subnetwork" => 1,
        "google_compute_firewall" => 2,
        "google_compute_address" => 3,
        "google_compute_disk" => 4,
        _ => 5,
    }
}

/// The nodes whose machines are deleted and made anew around their data disks, by their names in
/// Terraform. Where the disk is another one, too, its machine comes with it.
#[must_use]
pub fn renewed_around_disks(changes: &[Change]) -> BTreeSet<String> {
    let touched = |resource_type: &str, actions: &[Action]| -> BTreeSet<String> {
        let fits = |change: &&Change| {
            change.resource_type == resource_type && actions.contains(&change.action)
        };
        let touched = changes.iter().filter(fits);
        touched.filter_map(|change| change.key.clone()).collect()
    };
    &touched(MACHINE, &[Action::Replace])
        - &touched("google_compute_disk", &[Action::Replace, Action::Create])
}

/// Refuses a plan that loses data, or goes on without data that has been lost: `blank` are the nodes whose
/// disks are gone and would come back with nothing on them. With `unseen`, the reason why Google's disks
/// could not be seen, they may be there all the same.
///
/// # Errors
/// The plan deletes or replaces a data disk, or makes a blank one; each is named.
pub fn refuse_data_loss(
    changes: &[Change],
    blank: &BTreeSet<String>,
    unseen: Option<&str>,
) -> Result<()> {
    let is_blank = |change: &Change| {
        let is_made = change.action == Action::Create;
        let key = change.key.as_ref();
        is_made
            && change.resource_type == "google_compute_disk"
            && key.is_some_and(|key| blank.contains(key))
    };
    let lost = changes.iter().filter(|change| change.loses_data());
    let mut lines: Vec<_> = lost.map(Change::describe).collect();
    let gone: Vec<_> = changes.iter().filter(|change| is_blank(change)).collect();
    if let (Some(cause), true, false) = (unseen, lines.is_empty(), gone.is_empty()) {
        let disks: Vec<_> = gone.iter().map(|change| change.subject()).collect();
        return Err(Error::Cloud(format!(
            "nothing was changed: Terraform's state does not know {}, and whether Google has it could not be seen: \
             {cause}\nrun this again when Google can be asked",
            disks.join(", ")
        )));
    }
    let gone = gone.into_iter();
    lines.extend(gone.map(|change| {
        format!(
            "{}, with nothing on it: the one with the node's data is gone from Google",
            change.describe()
        )
    }));
    if lines.is_empty() {
        return Ok(());
    }
    let mut text = format!(
        "refused, nothing was changed: this plan loses data:\n  {}",
        lines.join("\n  ")
    );
    if lines.iter().all(|line| line.contains("with nothing on it")) {
        let first = blank
            .iter()
            .next()
            .map_or("ID", |name| name.trim_start_matches('n'));
        text.push_str(&format!(
            "\nput a new node in its place (`raftctl replace {first}`); or bring the disk back from a snapshot, under the \
             same name and in the same zone, and run this again; or, where writes that were acknowledged may be lost, \
             run again with --allow-data-loss"
        ));
        return Err(Error::Usage(text));
    }
    text.push_str(
        "\na data disk can't move to another zone, shrink or change its type; put cluster.yaml back, or, where writes \
         that were acknowledged may be lost, run again with --allow-data-loss",
    );
    Err(Error::Usage(text))
}

#[cfg(test)]
mod tests;
