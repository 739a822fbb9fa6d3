//! Making a plan: the module's variables, and Terraform's plan of them.

use std::path::PathBuf;

use super::allocation::Allocation;
use super::events::Event;
use super::leaving::{self, Former, Kept, Types};
use super::pulled::Pulled;
use super::starts::{self, Names};
use super::terraform::{Terraform, Watch};
use super::{Purpose, changes, tfvars};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::transport::ssh::key_pair::KeyPair;

/// A machine may go off, or be taken in while it is off, between two plans.
const PLANS_MAX: usize = 3;

/// A plan.
pub struct Plan {
    /// As JSON; none where there is nothing to do.
    pub json: Option<String>,
    /// What it keeps of the nodes that leave.
    pub kept: Kept,
}

impl Plan {
    /// What it does.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json.as_deref().unwrap_or(changes::NONE)
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
    /// What becomes of the nodes that leave.
    pub former: &'a Former,
    /// Terraform's state as it was kept.
    pub state: &'a Pulled,
    /// The folder of the module.
    pub folder: PathBuf,
    /// The Terraform there, which is prepared.
    pub terraform: &'a Terraform,
}

/// What the machines are to be like, as far as that depends on what there is.
#[derive(PartialEq, Eq)]
struct Wanted {
    /// Those that are to be started.
    started: Names,
    /// What is kept of the nodes that leave, with the types of their machines.
    kept: Kept,
    types: Types,
}

impl Planner<'_> {
    /// Makes a plan, and another one where machines are to be started that the state has as running, or something of
    /// a node that leaves is gone, or its machine of another type: what Google says of them is known only once a plan
    /// was made.
    ///
    /// # Errors
    /// Terraform finds something wrong.
    pub async fn plan(&self, watch: Watch<'_>) -> Result<Plan> {
        let mut wanted = Wanted {
            started: match self.purpose {
                Purpose::Up { .. } => self.staying(starts::of_state(self.state)),
                Purpose::KeepData | Purpose::Down => Names::new(), // no machine stays
            },
            kept: leaving::kept(self.allocation, self.state, self.former),
            types: leaving::types(self.allocation, self.state),
        };
        let mut plans = 0;
        loop {
            self.write(&wanted)?;
            let (json, seen) = self.once(&wanted, &mut *watch).await?;
            plans += 1;
            let is_last = plans == PLANS_MAX;
            let is_left_alone = seen.kept == wanted.kept && seen.types == wanted.types;
            if is_left_alone && (seen.started == wanted.started || is_last) {
                return Ok(Plan {
                    json,
                    kept: seen.kept,
                });
            }
            if is_last {
                return Err(Error::Cloud(
                    "what there is at Google of nodes that leave changes all the while; run this again when nobody \
                     else is at work there"
                        .into(),
                ));
            }
            wanted = seen;
        }
    }

    /// Who leaves is not started for that.
    fn staying(&self, mut names: Names) -> Names {
        if *self.former != Former::Return {
            let leaving = self.allocation.leaving.values();
            leaving.for_each(|at| _ = names.remove(&at.name));
        }
        names
    }

    /// A plan with the machines like that, and what they are to be like by what it has seen.
    async fn once(&self, wanted: &Wanted, watch: Watch<'_>) -> Result<(Option<String>, Wanted)> {
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
        // The state is to know the machines that are there, or they would be others for ever.
        let has_others = match &shown {
            Some(json) => changes::has_made_by_hand(json)?,
            None => false,
        };
        let is_plan = has_news || has_others;
        let seen = self.seen(wanted, shown.as_deref(), is_plan)?;
        Ok((shown.filter(|_| is_plan), seen))
    }

    /// What the machines are to be like by what Terraform has shown; all are as they should be where it shows nothing.
    fn seen(&self, wanted: &Wanted, shown: Option<&str>, is_plan: bool) -> Result<Wanted> {
        let is_up = matches!(self.purpose, Purpose::Up { .. });
        let shown_up = shown.filter(|_| is_up);
        Ok(Wanted {
            started: match shown_up {
                Some(json) => self.staying(changes::to_start(json)?),
                None => wanted.started.clone(),
            },
            kept: match shown.filter(|_| is_plan && *self.former != Former::Return) {
                Some(json) => leaving::without_made(&wanted.kept, &changes::read(json)?),
                None => wanted.kept.clone(),
            },
            types: match shown_up {
                Some(json) => {
                    let mut types = wanted.types.clone();
                    let there = changes::machine_types(json)?;
                    types.extend(leaving::of_leaving(self.allocation, there));
                    types
                }
                None => wanted.types.clone(),
            },
        })
    }

    /// Writes the module's variables.
    fn write(&self, wanted: &Wanted) -> Result<()> {
        let machines = tfvars::Machines {
            allocation: self.allocation,
            started: &wanted.started,
            kept: &wanted.kept,
            types: &wanted.types,
            data_disks_only: self.purpose == Purpose::KeepData,
        };
        let text = tfvars::text(self.cluster, &self.key.public, &machines);
        let path = self.folder.join(tfvars::FILE);
        std::fs::write(&path, text).map_err(|error| Error::file("write", &path, &error))
    }
}
