//! Making a plan: the module's variables, and Terraform's plan of them.

use std::path::PathBuf;

use super::allocation::Allocation;
use super::events::Event;
use super::starts::{self, Names};
use super::terraform::{Terraform, Watch};
use super::{Purpose, changes, tfvars};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::transport::ssh::key_pair::KeyPair;

/// A machine may go off, or be taken in while it is off, between two plans.
const PLANS_MAX: usize = 3;

/// A plan as JSON; none where there is nothing to do.
pub struct Plan(pub Option<String>);

impl Plan {
    /// What it does.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.as_deref().unwrap_or(changes::NONE)
    }
}

/// What a plan is made of.
pub struct Planner<'a> {
    /// Whose it is.
    pub cluster: &'a Cluster,
    /// What has been decided.
    pub allocation: &'a Allocation,
    /// Who may log in.
    pub key: &'a KeyPair,
    /// What the plan is for.
    pub purpose: Purpose,
    /// The folder of the module.
    pub folder: PathBuf,
    /// The Terraform there, which is prepared.
    pub terraform: &'a Terraform,
}

impl Planner<'_> {
    /// Makes a plan, and another one where machines are to be started that the state has as running: what
    /// Google says of them is known only once a plan was made.
    ///
    /// # Errors
    /// Terraform finds something wrong.
    pub async fn plan(&self, watch: Watch<'_>) -> Result<Plan> {
        let mut started = match self.purpose {
            Purpose::Up { .. } => starts::of_state(&self.terraform.pull().await?),
            Purpose::KeepData | Purpose::Down => Names::new(), // no machine stays
        };
        let mut plans = 0;
        loop {
            self.write(&started)?;
            let (plan, seen) = self.once(&started, &mut *watch).await?;
            plans += 1;
            if seen == started || plans == PLANS_MAX {
                return Ok(plan);
            }
            started = seen;
        }
    }

    /// A plan with these machines started, and the machines that are to be.
    async fn once(&self, started: &Names, watch: Watch<'_>) -> Result<(Plan, Names)> {
        let mut is_machine_changed = false;
        let mut watch = |event: &Event| {
            if let Event::Drifted(resource) = event {
                is_machine_changed |= resource.resource_type == "google_compute_instance";
            }
            watch(event);
        };
        let is_down = self.purpose == Purpose::Down;
        let has_news = self.terraform.plan(is_down, &mut watch).await?;
        let is_up = matches!(self.purpose, Purpose::Up { .. });
        let shown = match has_news || (is_up && is_machine_changed) {
            true => Some(self.terraform.show().await?),
            false => None,
        };
        let seen = match &shown {
            Some(json) if is_up => changes::to_start(json)?,
            _ => started.clone(), // all are as they should be
        };
        // The state is to know the machines that are there, or they would be others for ever.
        let has_others = match &shown {
            Some(json) => changes::has_made_by_hand(json)?,
            None => false,
        };
        Ok((Plan(shown.filter(|_| has_news || has_others)), seen))
    }

    /// Writes the module's variables.
    fn write(&self, started: &Names) -> Result<()> {
        let keep_data = self.purpose == Purpose::KeepData;
        let public = &self.key.public;
        let text = tfvars::text(self.cluster, self.allocation, public, started, keep_data);
        let path = self.folder.join(tfvars::FILE);
        std::fs::write(&path, text).map_err(|error| Error::file("write", &path, &error))
    }
}
