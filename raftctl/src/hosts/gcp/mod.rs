//! Hosts on Google Cloud: made by Terraform, reached through SSH.
//!
//! ```text
//! module       the Terraform module, carried in this program        key        the cluster's SSH key
//! allocation   what is decided once: ranges, names, zones           tool       terraform, or tofu
//! tfvars       (cluster.yaml, allocation, key) -> the module's variables
//! terraform    init, plan, show, apply, output; Ctrl-C              events     its JSON lines
//! state        what is there, as far as Terraform knows
//! changes      what a plan does                                     causes     errors -> cause, next command
//! refusals     plans that are not carried out
//! machines     the module's output                                  gcloud     stop, start, extend, list
//! check        what can be known before anything is made            inventory  machines as hosts
//! reach        waiting until machines can be worked on           login      how SSH reaches them
//! ```
//! Everything lies in `.raftctl/<cluster>/`: `gcp.json` (the allocation, and who the members are),
//! `id_ed25519` (the key), `machines.json` (a copy of the output) and `terraform/` with the module and its state. The state
//! alone can't be made again; `gcp.state_bucket` keeps it in a bucket instead.
//!
//! Deliberately absent: how nodes are started there. A machine is a host like any other, once SSH
//! answers: whether systemd looks after its node, say, is found out by a login.

pub mod allocation;
pub mod causes;
pub mod changes;
pub mod check;
pub mod events;
pub mod gcloud;
pub mod inventory;
pub mod key;
pub mod login;
pub mod machines;
mod module;
pub mod reach;
mod refusals;
pub mod state;
pub mod terraform;
pub mod tfvars;
pub mod tool;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::gcp::SshVia;
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result};
use crate::keep;
use allocation::Allocation;
use changes::Change;
use events::{Action, Event, Resource};
use gcloud::Labelled;
use key::KeyPair;
use machines::{Machine, Machines};
use terraform::{Terraform, Unfinished, Watch};
use tool::Tool;

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The cluster as cluster.yaml says.
    Up {
        /// Data disks may go.
        allow_data_loss: bool,
    },
    /// Nothing but the data disks stays.
    KeepData,
    /// Nothing stays.
    Down,
}

/// The places of everything that raftctl keeps about a cluster on Google Cloud.
#[derive(Debug, Clone)]
struct Places {
    base: PathBuf,
}

impl Places {
    fn of(cluster: &Cluster) -> Self {
        Places {
            base: cluster.state_dir(),
        }
    }

    fn terraform(&self) -> PathBuf {
        self.base.join("terraform")
    }

    fn allocation(&self) -> PathBuf {
        self.base.join("gcp.json")
    }

    fn machines(&self) -> PathBuf {
        self.base.join("machines.json")
    }
}

/// The infrastructure of one cluster, with a plan for it.
pub struct Infrastructure {
    places: Places,
    terraform: Terraform,
    allocation: Allocation,
    purpose: Purpose,
    /// Whether there is anything to apply: addresses that changed by themselves are no change of a
    /// resource, but one of the output.
    has_news: bool,
    /// What the plan does to resources; nothing where all is as it should be.
    pub changes: Vec<Change>,
    /// Where it changes anything: the nodes whose machines are there before, by their names in
    /// Terraform.
    pub standing: BTreeSet<String>,
}

impl Infrastructure {
    /// Makes a plan. Nothing is made yet, and nothing that is kept has changed. `lock_wait` is how
    /// long Terraform waits for another one on the same state, here and in [`Self::apply`].
    ///
    /// # Errors
    /// Terraform is missing or finds something wrong; the plan would lose data that it may not
    /// lose.
    pub async fn plan(
        cluster: &Cluster,
        purpose: Purpose,
        lock_wait: Option<Duration>,
        watch: Watch<'_>,
    ) -> Result<Self> {
        let places = Places::of(cluster);
        let allocation = Allocation::load(&places.allocation())?.extended(cluster)?;
        let tool = Tool::find().await?;
        let had_key = places.base.join(key::FILE).exists();
        let key = key::ensure(&places.base, &cluster.name).await?;
        write(cluster, &places, &allocation, &key, purpose)?;
        let terraform = Terraform::new(tool, &places.terraform(), &cluster.gcp, lock_wait);
        terraform.init().await?;
        let has_news = terraform.plan(purpose == Purpose::Down, watch).await?;
        let plan = match has_news {
            true => terraform.show().await?,
            false => changes::NONE.to_owned(),
        };
        let (changes, standing) = (changes::read(&plan)?, changes::standing(&plan)?);
        if !had_key && matches!(purpose, Purpose::Up { .. }) {
            refusals::foreign(cluster, &key, changes::has_made(&plan)?)?;
        }
        let may_lose_data = match purpose {
            Purpose::Up { allow_data_loss } => allow_data_loss,
            Purpose::KeepData => false,
            Purpose::Down => true,
        };
        if !may_lose_data {
            changes::refuse_data_loss(&changes)?;
        }
        // Before the cluster was up nobody is served, and a first try may have had the wrong machines.
        if matches!(purpose, Purpose::Up { .. }) && !allocation.members.is_empty() {
            refusals::stops(cluster, &allocation, &changes::retyped(&plan)?)?;
            refusals::renewal(
                cluster,
                &allocation,
                &changes::renewed_around_disks(&changes),
            )?;
        }
        Ok(Infrastructure {
            places,
            terraform,
            allocation,
            purpose,
            has_news,
            changes,
            standing,
        })
    }

    /// Does what the plan says. Where some machines could not be made, and the others make a majority,
    /// that is no error: the nodes without one are told, each with the reason.
    ///
    /// # Errors
    /// Some of it failed. What was done is remembered, and the next plan goes on from there.
    pub async fn apply(
        &self,
        cluster: &Cluster,
        watch: Watch<'_>,
    ) -> Result<BTreeMap<NodeId, Error>> {
        // Before anything is made with it, so that a failure on the way can't lose it.
        self.allocation.save(&self.places.allocation())?;
        // A machine that is made anew has another host key, and that is no attack.
        login::forget_host_keys(cluster, &self.renewed(cluster))?;
        let mut failed = Vec::new();
        let mut watch = |event: &Event| {
            if let Event::Failed(resource, _) = event {
                failed.push(resource.clone());
            }
            watch(event);
        };
        let done = match self.has_news {
            true => self.terraform.apply(&mut watch).await,
            false => Ok(()),
        };
        match (self.purpose, done) {
            (Purpose::Up { .. }, Err(unfinished)) => {
                self.rescue(cluster, &failed, unfinished).await
            }
            (_, Err(unfinished)) => Err(unfinished.error),
            (Purpose::Down, Ok(())) => self.refuse_rest().await.map(|()| BTreeMap::new()),
            (Purpose::Up { .. } | Purpose::KeepData, Ok(())) => {
                if let Some(output) = self.terraform.output().await? {
                    self.keep(cluster, Machines::parse(&output)?).await?;
                }
                Ok(BTreeMap::new())
            }
        }
    }

    /// Keeps what is known of the machines. Terraform may know the addresses of machines that it
    /// started from before that.
    async fn keep(&self, cluster: &Cluster, mut machines: Machines) -> Result<()> {
        if self.has_news && cluster.gcp.ssh_via() == SshVia::External {
            let asked = ask_addresses(cluster, &mut machines).await;
            let is_known = |machine: &Machine| machine.external_ip.is_some();
            if !machines.nodes.values().all(is_known) {
                asked?; // Else Terraform's answer is as good as none of gcloud's.
            }
        }
        machines.save(&self.places.machines())
    }

    /// What can be gone on with after a failure: `machines.json` tells of every machine that stands.
    async fn rescue(
        &self,
        cluster: &Cluster,
        failed: &[Resource],
        unfinished: Unfinished,
    ) -> Result<BTreeMap<NodeId, Error>> {
        let Unfinished {
            error,
            is_interrupted,
        } = unfinished;
        // The failure itself is the one to tell.
        let Ok(state) = self.terraform.state().await else {
            return Err(error);
        };
        let standing = state.standing();
        if standing.is_empty() {
            return Err(error);
        }
        let mut machines = state.machines(cluster, &self.allocation);
        if cluster.gcp.ssh_via() == SshVia::External {
            // Where Google does not answer, Terraform's word has to do.
            let _ = ask_addresses(cluster, &mut machines).await;
        }
        if machines.save(&self.places.machines()).is_err() {
            return Err(error);
        }
        let is_known = machines.nodes.len() == cluster.nodes.len();
        let is_machine = |resource: &Resource| {
            let of_machine = ["google_compute_instance", "google_compute_disk"];
            of_machine.contains(&resource.resource_type.as_str())
        };
        let is_missing = |name: &str| {
            let failed = failed.iter().any(|resource| resource.key() == Some(name));
            failed || !standing.contains(name)
        };
        let nodes = self.allocation.nodes.iter();
        let missing: Vec<NodeId> = nodes
            .filter(|(_, placement)| is_missing(&placement.name))
            .map(|(id, _)| *id)
            .collect();
        let left = cluster.nodes.len() - missing.len();
        let goes_on = is_known && failed.iter().all(is_machine) && left >= cluster.majority();
        if is_interrupted || missing.is_empty() || !goes_on {
            return Err(error);
        }
        Ok(missing.into_iter().map(|id| (id, error.clone())).collect())
    }

    /// Refuses to forget a state that still has something in it.
    async fn refuse_rest(&self) -> Result<()> {
        let state = self.terraform.state().await?;
        let rest = state.addresses();
        if rest.is_empty() {
            return Ok(());
        }
        Err(Error::Cloud(format!(
            "Terraform's state still has resources: {}; run `raftctl down` again",
            rest.join(", ")
        )))
    }
}

impl Infrastructure {
    /// The machines that are made or deleted, by their names at Google.
    #[must_use]
    pub fn renewed(&self, cluster: &Cluster) -> BTreeSet<String> {
        let machines = self.changes.iter().filter(|change| {
            let is_machine = change.resource_type == "google_compute_instance";
            is_machine && change.action != Action::Update
        });
        let names = machines.filter_map(|change| change.key.as_ref());
        names
            .map(|key| format!("raft-{}-{key}", cluster.name))
            .collect()
    }
}

/// Writes the module and its variables.
fn write(
    cluster: &Cluster,
    places: &Places,
    allocation: &Allocation,
    key: &KeyPair,
    purpose: Purpose,
) -> Result<()> {
    let directory = places.terraform();
    module::write(
        &directory,
        &cluster.name,
        cluster.gcp.state_bucket.as_deref(),
    )?;
    let keep_data = purpose == Purpose::KeepData;
    let variables = tfvars::text(cluster, allocation, &key.public, keep_data);
    let path = directory.join(tfvars::FILE);
    std::fs::write(&path, variables).map_err(|error| Error::file("write", &path, &error))
}

/// The machines of a cluster, as they were after the last change. Starts no program.
///
/// # Errors
/// There are none yet.
pub fn machines(cluster: &Cluster) -> Result<Machines> {
    Machines::load(&Places::of(cluster).machines())?.ok_or_else(|| {
        Error::Usage(format!(
            "cluster {} has no machines, or an `up` was interrupted; run `raftctl up`",
            cluster.name
        ))
    })
}

/// Asks Google for the external addresses, which change when a machine is switched off and on.
///
/// # Errors
/// Google does not answer.
pub async fn refresh_addresses(cluster: &Cluster) -> Result<()> {
    let mut machines = machines(cluster)?;
    ask_addresses(cluster, &mut machines).await?;
    machines.save(&Places::of(cluster).machines())
}

/// A machine that is gone has no address any more: Google may have given it to somebody else.
async fn ask_addresses(cluster: &Cluster, machines: &mut Machines) -> Result<()> {
    let gcloud = gcloud::Gcloud::new(&machines.project_id);
    let mut states = gcloud.machines(&cluster.name).await?;
    for machine in machines.nodes.values_mut() {
        let state = states.remove(&machine.instance);
        machine.external_ip = state.and_then(|state| state.external_ip);
    }
    Ok(())
}

/// What of a cluster is at Google and costs money, whether Terraform knows of it or not: its state may
/// have been lost.
///
/// # Errors
/// Google does not answer.
pub async fn leftovers(cluster: &Cluster) -> Result<Vec<Labelled>> {
    let project = cluster.gcp.project.as_deref().unwrap_or_default();
    gcloud::Gcloud::new(project).labelled(&cluster.name).await
}

/// Removes all that is kept about a cluster that is gone: module, state, key, host keys.
///
/// # Errors
/// A file can't be removed.
pub fn forget_cluster(cluster: &Cluster) -> Result<()> {
    let places = Places::of(cluster);
    let terraform = places.terraform();
    match std::fs::remove_dir_all(&terraform) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::file("remove", &terraform, &error));
        }
        _ => {}
    }
    for file in [
        "gcp.json",
        "machines.json",
        key::FILE,
        key::PUBLIC_FILE,
        "known_hosts",
        "hosts.json",
        "operator",
        "ssh_config",
        "ssh_config.machines",
    ] {
        keep::forget(&places.base.join(file))?;
    }
    Ok(())
}

/// What has been decided about ranges, names and zones, with all that is still to be decided.
///
/// # Errors
/// The file that keeps it is damaged.
pub fn allocation(cluster: &Cluster) -> Result<Allocation> {
    Allocation::load(&Places::of(cluster).allocation())?.extended(cluster)
}

/// Remembers that the cluster has been up with its nodes, which may hold data of each other from now
/// on.
///
/// # Errors
/// The file that keeps it is damaged, or can't be written.
pub fn remember_members(cluster: &Cluster) -> Result<()> {
    let path = Places::of(cluster).allocation();
    let mut allocation = Allocation::load(&path)?;
    let members = cluster.ids().into_iter().collect();
    if allocation.members == members {
        return Ok(());
    }
    allocation.members = members;
    allocation.save(&path)
}

/// The file of the cluster's own private key.
#[must_use]
pub fn key_file(cluster: &Cluster) -> PathBuf {
    Places::of(cluster).base.join(key::FILE)
}
