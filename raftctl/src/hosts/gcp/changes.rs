//! What a Terraform plan would do, from `terraform show -json`, and whether it may. Pure.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::events::Action;
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
            Action::Other => "touch",
        };
        format!("{verb} {}", self.subject())
    }

    /// The resource in words: `machine n3`.
    #[must_use]
    pub fn subject(&self) -> String {
        subject(&self.resource_type, self.key.as_deref(), &self.address)
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

/// A plan that changes nothing.
pub const NONE: &str = r#"{"format_version":"1.2"}"#;

#[derive(Deserialize)]
struct Plan {
    format_version: String,
    #[serde(default)]
    resource_changes: Vec<Entry>,
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

/// Reads a plan: what it changes, in the order of an address list; machines after what they need.
///
/// # Errors
/// The text is no plan, or of a form that is not known.
pub fn read(json: &str) -> Result<Vec<Change>> {
    let changes = entries(json)?.into_iter().filter_map(|entry| {
        let action = action(&entry.change.actions)?;
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

fn entries(json: &str) -> Result<Vec<Entry>> {
    let wrong = |cause: String| Error::Other(format!("cannot read Terraform's plan: {cause}"));
    let plan: Plan = serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
    if plan.format_version.split('.').next() != Some("1") {
        return Err(wrong(format!(
            "its form is {}, and raftctl knows 1.x",
            plan.format_version
        )));
    }
    Ok(plan.resource_changes)
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
/// Terraform.
#[must_use]
pub fn renewed_around_disks(changes: &[Change]) -> BTreeSet<String> {
    let replaced = |resource_type: &str| -> BTreeSet<String> {
        let fits = |change: &&Change| {
            change.resource_type == resource_type && change.action == Action::Replace
        };
        let replaced = changes.iter().filter(fits);
        replaced.filter_map(|change| change.key.clone()).collect()
    };
    &replaced("google_compute_instance") - &replaced("google_compute_disk")
}

/// Refuses a plan that loses data.
///
/// # Errors
/// The plan deletes or replaces a data disk; each is named.
pub fn refuse_data_loss(changes: &[Change]) -> Result<()> {
    let lost: Vec<_> = changes
        .iter()
        .filter(|change| change.loses_data())
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    let mut text = "refused, nothing was changed: this plan loses data:".to_owned();
    for change in lost {
        text.push_str(&format!("\n  {}", change.describe()));
    }
    text.push_str(
        "\na data disk can't move to another zone, shrink or change its type, and goes with its node; put \
         cluster.yaml back, or, where writes that were acknowledged may be lost, run again with \
         --allow-data-loss",
    );
    Err(Error::Usage(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(entries: &[(&str, &str, &str, &str)]) -> String {
        let changes: Vec<_> = entries
            .iter()
            .map(|(kind, name, key, actions)| {
                format!(
                    r#"{{"address":"{kind}.{name}[\"{key}\"]","type":"{kind}","name":"{name}","index":"{key}","change":{{"actions":[{actions}]}}}}"#
                )
            })
            .collect();
        format!(
            r#"{{"format_version":"1.2","resource_changes":[{}]}}"#,
            changes.join(",")
        )
    }

    // What stays as it is, is no change; the rest reads as a list of things to do.
    #[test]
    fn a_plan_reads_as_words() {
        let json = plan(&[
            ("google_compute_instance", "node", "n1", r#""update""#),
            ("google_compute_disk", "data", "n1", r#""no-op""#),
            (
                "google_compute_subnetwork",
                "region",
                "us-east1",
                r#""create""#,
            ),
            (
                "google_compute_instance",
                "node",
                "n2",
                r#""delete","create""#,
            ),
        ]);
        let words: Vec<_> = read(&json).unwrap().iter().map(Change::describe).collect();
        assert_eq!(
            words,
            [
                "create subnet us-east1",
                "change machine n1",
                "REPLACE machine n2"
            ]
        );
    }

    // A machine that is yet to be made, or that deleted itself, is not there; one that goes still is.
    #[test]
    fn machines_that_are_there_are_known() {
        let json = plan(&[
            ("google_compute_instance", "node", "n1", r#""no-op""#),
            ("google_compute_instance", "node", "n2", r#""create""#),
            ("google_compute_instance", "node", "n3", r#""delete""#),
            (
                "google_compute_instance",
                "node",
                "n4",
                r#""delete","create""#,
            ),
            ("google_compute_disk", "data", "n5", r#""no-op""#),
        ]);
        let there: Vec<_> = standing(&json).unwrap().into_iter().collect();
        assert_eq!(there, ["n1", "n3", "n4"]);
    }

    // A machine may go, a data disk may not: not replaced in either order, not deleted.
    #[test]
    fn a_lost_data_disk_is_refused() {
        for actions in [
            r#""delete""#,
            r#""delete","create""#,
            r#""create","delete""#,
            r#""vanish","delete""#,
        ] {
            let json = plan(&[
                ("google_compute_disk", "data", "n4", actions),
                ("google_compute_instance", "node", "n4", r#""delete""#),
            ]);
            let refusal = refuse_data_loss(&read(&json).unwrap()).unwrap_err();
            assert!(refusal.to_string().contains("data disk n4"), "{refusal}");
            assert!(
                refusal.to_string().contains("--allow-data-loss"),
                "{refusal}"
            );
            assert_eq!(refusal.exit_code(), 2);
        }
        let json = plan(&[
            ("google_compute_disk", "data", "n4", r#""update""#),
            (
                "google_compute_instance",
                "node",
                "n4",
                r#""delete","create""#,
            ),
        ]);
        assert!(refuse_data_loss(&read(&json).unwrap()).is_ok());
    }

    // Another type stops a machine that runs; the rest is none of that.
    #[test]
    fn machines_that_would_be_stopped_are_known() {
        let entry = |key: &str, actions: &str, before: &str, after: &str| {
            format!(
                r#"{{"address":"a","type":"google_compute_instance","index":"{key}",
                "change":{{"actions":[{actions}],"before":{before},"after":{after}}}}}"#
            )
        };
        let running = r#"{"machine_type":"e2-small","current_status":"RUNNING"}"#;
        let off = r#"{"machine_type":"e2-small","current_status":"TERMINATED"}"#;
        let other = r#"{"machine_type":"e2-medium"}"#;
        let changes = [
            entry("n1", r#""update""#, running, other),
            entry("n2", r#""update""#, running, running),
            entry("n3", r#""update""#, off, other),
            entry("n4", r#""delete","create""#, running, other),
            entry("n5", r#""create""#, "null", other),
        ]
        .join(",");
        let json = format!(r#"{{"format_version":"1.2","resource_changes":[{changes}]}}"#);
        assert_eq!(retyped(&json).unwrap(), BTreeSet::from(["n1".to_owned()]));
    }

    // A form that is not known is refused, since the check above could miss something in it.
    #[test]
    fn another_form_is_refused() {
        assert!(read(r#"{"format_version":"2.0","resource_changes":[]}"#).is_err());
        assert!(read("no plan").is_err());
    }
}
