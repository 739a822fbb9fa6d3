//! What Terraform is doing, as a line for each resource.

use std::collections::BTreeMap;

use crate::providers::gcp::events::Event;
use crate::providers::gcp::open_changes::describe;
use crate::terminal::progress::{Progress, Running};

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
            Event::Note(text) => self.progress.note(text),
            Event::Problem(_)
            | Event::Planned(..)
            | Event::Drifted(_)
            | Event::Going(..)
            | Event::Made(_)
            | Event::Reading(_)
            | Event::Read(_) => {}
        }
    }
}
