//! What Terraform is doing, as a line for each resource.

use std::collections::BTreeMap;

use crate::hosts::gcp::changes::subject;
use crate::hosts::gcp::events::{Action, Event, Resource};
use crate::progress::{Progress, Running};

/// The resources that are being worked on.
pub struct Bars<'a> {
    progress: &'a Progress,
    running: BTreeMap<String, Running>,
}

impl<'a> Bars<'a> {
    /// Nothing is being worked on yet.
    #[must_use]
    pub fn new(progress: &'a Progress) -> Self {
        Bars {
            progress,
            running: BTreeMap::new(),
        }
    }

    /// Shows an event.
    pub fn see(&mut self, event: &Event) {
        match event {
            Event::Started(resource, action) => {
                let running = self.progress.begin(&describe(resource, *action));
                self.running.insert(resource.address.clone(), running);
            }
            Event::Done(resource, _) => {
                if let Some(running) = self.running.remove(&resource.address) {
                    running.done();
                }
            }
            // The cause is told with the error that ends the verb.
            Event::Failed(resource, _) => drop(self.running.remove(&resource.address)),
            Event::Problem(problem) if !problem.is_error() => {
                self.progress
                    .note(&format!("Terraform: {}", problem.summary));
            }
            Event::Problem(_) | Event::Planned(..) | Event::Going(..) => {}
        }
    }
}

fn describe(resource: &Resource, action: Action) -> String {
    let verb = match action {
        Action::Delete => "delete",
        Action::Update => "change",
        _ => "create",
    };
    let subject = subject(&resource.resource_type, resource.key(), &resource.address);
    format!("{verb} {subject}")
}
