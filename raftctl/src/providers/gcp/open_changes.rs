//! What Terraform has begun and not ended, as its events tell. Pure.

use std::collections::BTreeMap;

use super::changes::subject;
use super::events::{Action, Event, Resource};

/// How many are named in one message.
const NAMED_MAX: usize = 12;

/// What has been planned, begun, done.
#[derive(Debug, Default, Clone)]
pub struct OpenChanges {
    /// Planned, and not begun yet, by address.
    planned: BTreeMap<String, String>,
    /// OpenChanges, and neither done nor failed, by address.
    open: BTreeMap<String, String>,
    /// Failed, by address: Google may have made or deleted it all the same.
    failed: BTreeMap<String, String>,
    /// Being read, by address.
    reading: BTreeMap<String, String>,
}

impl OpenChanges {
    /// Takes an event in.
    pub fn see(&mut self, event: &Event) {
        match event {
            // Nobody tells when these begin: at Google nothing is done.
            Event::Planned(_, Action::Import | Action::Remove | Action::Other) => {}
            Event::Planned(resource, action) => {
                self.planned
                    .insert(resource.address.clone(), describe(resource, *action));
            }
            Event::Started(resource, action) => {
                self.planned.remove(&resource.address);
                self.open
                    .insert(resource.address.clone(), describe(resource, *action));
            }
            Event::Done(resource, _) => drop(self.open.remove(&resource.address)),
            Event::Failed(resource, action) => {
                self.open.remove(&resource.address);
                self.failed
                    .insert(resource.address.clone(), describe(resource, *action));
            }
            Event::Reading(resource) => {
                let subject = subject(&resource.resource_type, resource.key(), &resource.address);
                self.reading.insert(resource.address.clone(), subject);
            }
            Event::Read(resource) => drop(self.reading.remove(&resource.address)),
            Event::Going(..)
            | Event::Drifted(_)
            | Event::Problem(_)
            | Event::Made(_)
            | Event::Note(_) => {}
        }
    }

    /// What is being done, in words; empty where nothing is.
    #[must_use]
    pub fn doing(&self) -> String {
        listed(self.open.values())
    }

    /// What is to follow: "then 3 more".
    #[must_use]
    pub fn to_follow(&self) -> usize {
        self.planned.len()
    }

    /// What is being read, in words; empty where nothing is.
    #[must_use]
    pub fn reading(&self) -> String {
        listed(self.reading.values())
    }

    /// What may or may not have been done, in words: what was begun and has no end, and what failed.
    #[must_use]
    pub fn in_doubt(&self) -> String {
        listed(self.open.values().chain(self.failed.values()))
    }
}

/// What is done to a resource, in words: "create machine n3".
#[must_use]
pub fn describe(resource: &Resource, action: Action) -> String {
    let verb = match action {
        Action::Delete => "delete",
        Action::Update => "change",
        Action::Import => "take in",
        _ => "create",
    };
    let subject = subject(&resource.resource_type, resource.key(), &resource.address);
    format!("{verb} {subject}")
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    let named = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>();
    match names.len().saturating_sub(NAMED_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str) -> Resource {
        Resource {
            address: format!("google_compute_instance.node[\"{name}\"]"),
            resource_type: "google_compute_instance".into(),
            resource_key: name.into(),
        }
    }

    // What has begun and has no end is in doubt, and so is what failed; what is done is not.
    #[test]
    fn what_has_no_end_is_in_doubt() {
        let mut begun = OpenChanges::default();
        for name in ["n1", "n2", "n3", "n4"] {
            begun.see(&Event::Planned(machine(name), Action::Create));
        }
        assert_eq!((begun.in_doubt().as_str(), begun.to_follow()), ("", 4));
        for name in ["n1", "n2", "n3"] {
            begun.see(&Event::Started(machine(name), Action::Create));
        }
        begun.see(&Event::Done(machine("n1"), Action::Create));
        begun.see(&Event::Failed(machine("n3"), Action::Create));
        assert_eq!(begun.doing(), "create machine n2");
        assert_eq!(begun.in_doubt(), "create machine n2, create machine n3");
        assert_eq!(begun.to_follow(), 1);
    }
}
