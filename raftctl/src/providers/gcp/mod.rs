//! Provider `gcp`: machines on Google Compute Engine, made by Terraform, reached through SSH.
//!
//! ```text
//! module       the Terraform module, carried in this program
//! allocation   what is decided once: ranges, names, zones           tool       terraform, or tofu
//! tfvars       (cluster.yaml, allocation, key) -> the module's variables
//! terraform    init, plan, show, apply, output                      running    one of these; Ctrl-C
//! events       its JSON lines                                    pulled     its state as it is kept
//! open_changes what Terraform has begun and not ended
//! plugins      where Google's provider is kept                      environment  what reaches programs
//! state        what is there, as far as Terraform knows            starts     machines to be started
//! planning     the variables, and Terraform's plan of them
//! changes      what a plan does                                     causes     errors -> cause, next command
//! refusals     plans that are not carried out                       resources  what Google has; whose it is
//! ownership    what is taken in, what is left                       strays     what no state knows
//! leaving      nodes that cluster.yaml does not name any more       spread     what the loss of a zone does
//! machines     the module's output                                  gcloud     stop, start, extend, list
//! check        what can be known before anything is made            hosts      machines as hosts
//! namesakes    what bears a cluster's names and not its mark
//! readiness    waiting until machines can be worked on       login      how SSH reaches them
//! os_login     the key in a profile instead of the metadata      host_keys  what new machines should show
//! leftovers    what an interrupted change has left, for those who only look
//! status       how the machines are, for the same                machine_status  one of them, in words
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
mod environment;
pub mod events;
pub mod gcloud;
pub mod host_keys;
pub mod hosts;
pub mod leaving;
pub mod leftovers;
pub mod login;
pub mod machine_status;
pub mod machines;
mod module;
pub mod namesakes;
pub mod open_changes;
pub mod os_login;
mod ownership;
mod planning;
mod plugins;
mod pulled;
pub mod readiness;
mod refusals;
pub mod resources;
mod running;
pub mod spread;
mod starts;
pub mod state;
pub mod status;
pub mod strays;
pub mod terraform;
pub mod tfvars;
pub mod tool;

pub use hosts::Gcp;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::gcp::SshVia;
use crate::cluster::{Cluster, Node, NodeId};
use crate::error::{Error, Result};
use crate::local::{known_logs, known_nodes, state_files};
use crate::transport::ssh::key_pair;
use allocation::{Allocation, Placement};
use changes::Change;
use events::{Action, Event, Resource};
use gcloud::Gcloud;
use leaving::Former;
use machines::{Machine, Machines};
pub use ownership::in_words;
use ownership::{FirstLook, Ownership};
use planning::Planner;
use pulled::Pulled;
use resources::{GoogleResource, Kind, Owner};
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

impl Purpose {
    /// The command that is for it, and goes on where it was interrupted.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Purpose::Up { .. } => "raftctl up",
            Purpose::KeepData => "raftctl down --keep-data",
            Purpose::Down => "raftctl down",
        }
    }
}

/// The paths of everything that raftctl keeps about a cluster on Google Cloud.
#[derive(Debug, Clone)]
struct Paths {
    base: PathBuf,
}

impl Paths {
    fn of(cluster: &Cluster) -> Self {
        Paths {
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
    paths: Paths,
    terraform: Terraform,
    /// What is decided, with this plan.
    pub allocation: Allocation,
    purpose: Purpose,
    /// The nodes that have left the cluster, and that this plan deletes.
    gone: BTreeMap<NodeId, Placement>,
    gcloud: Gcloud,
    owner: Owner,
    /// Whether there is anything to apply: addresses that changed by themselves are no change of a
    /// resource, but one of the output.
    has_news: bool,
    /// What the plan does to resources; nothing where all is as it should be.
    pub changes: Vec<Change>,
    /// What is to be deleted once the nodes have left the cluster that cluster.yaml does not name any more.
    pub afterwards: Vec<Change>,
    /// The nodes whose data disks are made although they had one with data.
    pub blank: BTreeSet<NodeId>,
    /// Where it changes anything: the nodes whose machines are there before, by their names in
    /// Terraform.
    pub standing: BTreeSet<String>,
    /// The nodes whose machines are off, and are switched on, by their names in Terraform.
    pub started: BTreeSet<String>,
    /// What is the cluster's, in no state, and deleted before the plan is carried out.
    pub strays: Vec<GoogleResource>,
    /// The kinds that the cluster can be made of.
    kinds: BTreeSet<Kind>,
    /// Whether nothing of the cluster is left behind by the plan, as far as is known.
    is_clear: bool,
    /// Whether the key is new, and whether anything was ever made from here.
    is_key_new: bool,
    is_stranger: bool,
    /// The rules that the plan touches, each with the ranges that it is to let in.
    rules: BTreeMap<String, BTreeSet<String>>,
}

impl Infrastructure {
    /// Makes a plan. Nothing is made yet, and nothing that is kept has changed. `former` says what becomes of the
    /// nodes that cluster.yaml does not name any more; `lock_wait` is how long Terraform waits for another one on the
    /// same state, here and in [`Self::apply`].
    ///
    /// # Errors
    /// Terraform is missing or finds something wrong; the plan would lose data that it may not
    /// lose; something of another owner bears a name that is needed.
    pub async fn plan(
        cluster: &Cluster,
        purpose: Purpose,
        former: &Former,
        lock_wait: Option<Duration>,
        watch: Watch<'_>,
    ) -> Result<Self> {
        let paths = Paths::of(cluster);
        let before = Allocation::load(&paths.allocation())?;
        let tool = Tool::find().await?;
        let had_key = paths.base.join(key_pair::FILE).exists();
        // Without either, nothing was ever made from here.
        let (is_key_new, had_allocation) = (!had_key, paths.allocation().exists());
        let is_first = is_key_new && !had_allocation;
        let first = (is_first && purpose != Purpose::Down).then(|| FirstLook::begin(cluster));
        let key = key_pair::ensure(&paths.base, &cluster.name).await?;
        let bucket = cluster.gcp.state_bucket.as_deref();
        module::write(&paths.terraform(), &cluster.name, bucket)?;
        let again = purpose.command();
        let terraform = Terraform::new(tool, &paths.terraform(), &cluster.gcp, lock_wait, again);
        terraform.init(&mut *watch).await?;
        let state = match purpose {
            Purpose::Down => Pulled::default(), // all of it goes
            Purpose::Up { .. } | Purpose::KeepData => Pulled::read(&terraform.pull().await?),
        };
        let mut allocation = before.with_state(&state).extended(cluster)?;
        let gone = former.take_from(&mut allocation);
        leaving::tell_strangers(&allocation, &mut *watch);
        let planner = Planner {
            cluster,
            allocation: &allocation,
            key: &key,
            purpose,
            former,
            state: &state,
            folder: paths.terraform(),
            terraform: &terraform,
        };
        let mut plan = planner.plan(&mut *watch).await?;
        if !had_key && matches!(purpose, Purpose::Up { .. }) {
            refusals::foreign(cluster, &key, changes::has_made(plan.json())?)?;
        }
        let gcloud = Gcloud::of(cluster);
        let ownership = Ownership {
            cluster,
            gcloud: &gcloud,
            owner: Owner::of(&cluster.name, &key.public),
            terraform: &terraform,
        };
        let planned = changes::read(plan.json())?;
        let touched = planned.iter().map(|change| change.resource_type.as_str());
        let kinds = ownership::kinds(cluster, touched);
        let mut found = ownership::Found::default();
        let is_unsettled = terraform.is_unsettled();
        if purpose != Purpose::Down {
            let all = is_unsettled && purpose != Purpose::KeepData;
            let all = all.then_some(&kinds);
            found = ownership
                .to_take_in(plan.json(), first, all, &mut *watch)
                .await?;
            if !found.ours.is_empty() {
                plan = ownership::with_imports(&planner, &found.ours, &mut *watch).await?;
            }
        }
        let strays = match purpose {
            Purpose::Up { .. } => Vec::new(),
            Purpose::Down | Purpose::KeepData => {
                let has_news = plan.json.is_some();
                ownership
                    .strays(purpose, has_news, &kinds, &mut *watch)
                    .await?
            }
        };
        let owner = ownership.owner;
        let (changes, standing) = (changes::read(plan.json())?, changes::standing(plan.json())?);
        let judged = refusals::Judged {
            cluster,
            allocation: &allocation,
            gone: &gone,
            plan: plan.json(),
            changes: &changes,
        };
        let blank = judged.blank_disks()?;
        judged.refuse(purpose, &blank, found.unseen_disks.as_deref())?;
        ownership::refuse_deletions_beside(&found.left, &changes)?;
        if !found.left.is_empty() {
            watch(&Event::Note(ownership::left_behind(&found.left)));
        }
        Ok(Infrastructure {
            paths,
            purpose,
            gone,
            kinds,
            is_clear: found.left.is_empty() && !(is_unsettled && found.unseen.is_some()),
            is_key_new,
            is_stranger: is_key_new || !had_allocation,
            has_news: plan.json.is_some(),
            rules: changes::narrowed(plan.json())?,
            started: changes::started(plan.json())?,
            afterwards: leaving::deletions(&allocation, &state, &plan.kept),
            blank: refusals::ids_of(&allocation, &blank).into_iter().collect(),
            allocation,
            changes,
            standing,
            strays,
            gcloud,
            owner,
            terraform,
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
        // A machine that is made anew has another host key, and that is no attack.
        let renewed = self.renewed(cluster);
        // Before anything is made with it, so that a failure on the way can't lose it.
        if self.has_news || matches!(self.purpose, Purpose::Up { .. }) {
            let mut allocation = self.allocation.clone();
            allocation.new_machines.extend(renewed.iter().cloned());
            // Not forgotten before they are gone.
            allocation.leaving.extend(self.gone.clone());
            allocation.save(&self.paths.allocation())?;
        }
        login::forget_host_keys(cluster, &renewed)?;
        let (mut failed, mut made) = (Vec::new(), None);
        let mut noting = |event: &Event| {
            match event {
                Event::Failed(resource, _) => failed.push(resource.clone()),
                Event::Made(output) => made = Some(output.to_string()),
                _ => {}
            }
            watch(event);
        };
        let done = match self.has_news {
            true => self.terraform.apply(&mut noting).await,
            false => Ok(()),
        };
        if done.is_ok() && self.is_clear && matches!(self.purpose, Purpose::Up { .. }) {
            self.terraform.settle();
        }
        match (self.purpose, done) {
            (Purpose::Up { .. }, Err(unfinished)) => {
                self.rescue(cluster, &failed, unfinished, watch).await
            }
            (_, Err(unfinished)) => Err(unfinished.error),
            (Purpose::Down, Ok(())) => {
                // Where nothing had to be done, the state may know what is gone already: whoever was killed
                // could not tell it.
                if self.has_news {
                    self.refuse_rest().await?;
                }
                Ok(BTreeMap::new())
            }
            (Purpose::Up { .. } | Purpose::KeepData, Ok(())) => {
                // The apply has told it already, where there was one.
                let output = match made {
                    Some(made) => Some(made),
                    None => self.terraform.output().await?,
                };
                if let Some(output) = output {
                    self.remember_machines(cluster, Machines::parse(&output)?)
                        .await?;
                }
                ownership::confirm_rules(&self.gcloud, cluster, &self.rules, watch).await?;
                Ok(BTreeMap::new())
            }
        }
    }

    /// Forgets the nodes that have left, as far as nothing is there of them any more; the others.
    ///
    /// # Errors
    /// The state can't be read; a file can't be written.
    pub async fn forget_gone(&self, cluster: &Cluster) -> Result<BTreeSet<NodeId>> {
        let state = Pulled::read(&self.terraform.pull().await?);
        let path = self.paths.allocation();
        let mut allocation = Allocation::load(&path)?;
        let (mut rest, mut machines) = (BTreeSet::new(), BTreeSet::new());
        for (id, at) in &self.gone {
            if leaving::is_there(&state, &at.name) {
                rest.insert(*id);
                continue;
            }
            allocation.leaving.remove(id);
            allocation.members.remove(id);
            // Whoever asks for that id again is told that it was used, and misses no log.
            known_logs::remove(&cluster.state_dir(), &[*id])?;
            machines.insert(instance_name(cluster, &at.name));
        }
        allocation.new_machines = &allocation.new_machines - &machines;
        allocation.save(&path)?;
        Ok(rest)
    }

    /// Keeps what is known of the machines. Terraform may know the addresses of machines that it started, or
    /// gave one, from before that; those of new ones it knows.
    async fn remember_machines(&self, cluster: &Cluster, mut machines: Machines) -> Result<()> {
        let is_old = |change: &Change| {
            let is_new = matches!(change.action, Action::Create | Action::Replace);
            change.resource_type == "google_compute_instance" && !is_new
        };
        let is_known = |machines: &Machines| {
            let mut all = machines.nodes.values();
            all.all(|machine: &Machine| machine.external_ip.is_some())
        };
        let may_differ = self.changes.iter().any(is_old) || !is_known(&machines);
        if self.has_news && may_differ && cluster.gcp.ssh_via() == SshVia::External {
            let asked = ask_addresses(cluster, &mut machines).await;
            if !is_known(&machines) {
                asked?; // Else Terraform's answer is as good as none of gcloud's.
            }
        }
        machines.save(&self.paths.machines())
    }

    /// What can be gone on with after a failure: `machines.json` tells of every machine that stands.
    async fn rescue(
        &self,
        cluster: &Cluster,
        failed: &[Resource],
        unfinished: Unfinished,
        watch: Watch<'_>,
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
        if machines.save(&self.paths.machines()).is_err() {
            return Err(error);
        }
        let mut placements = self.allocation.nodes.values();
        let is_known = placements.all(|at| machines.nodes.contains_key(&at.name));
        let is_machine = |resource: &Resource| {
            let of_machine = ["google_compute_instance", "google_compute_disk"];
            of_machine.contains(&resource.resource_type.as_str())
        };
        let has_failed = |name: &str| failed.iter().any(|resource| resource.key() == Some(name));
        let nodes = self.allocation.nodes.iter();
        let nodes = nodes.filter(|(_, at)| has_failed(&at.name) || !standing.contains(&*at.name));
        let left = cluster.nodes.len() - nodes.clone().count();
        // Nobody needs those that leave, as long as the others can elect a leader.
        let former = self.allocation.leaving.iter();
        let former = former.filter(|(_, at)| has_failed(&at.name));
        let missing: Vec<NodeId> = nodes.chain(former).map(|(id, _)| *id).collect();
        let goes_on = is_known && failed.iter().all(is_machine) && left >= cluster.majority();
        if is_interrupted || missing.is_empty() || !goes_on {
            return Err(error);
        }
        let confirming = ownership::confirm_rules(&self.gcloud, cluster, &self.rules, watch);
        if let Err(open) = confirming.await {
            return Err(Error::Cloud(format!("{open}\nand: {error}")));
        }
        Ok(missing.into_iter().map(|id| (id, error.clone())).collect())
    }

    /// Deletes what no state knows, which would be in the way of the rest. What can't be deleted is told by
    /// [`Self::confirm_gone`].
    pub async fn delete_strays(&self, tell: &mut (dyn FnMut(String) + Send)) {
        strays::delete(&self.gcloud, &self.strays, tell).await;
    }

    /// Whether Google has nothing of the cluster any more, of whichever kind, whether Terraform knows of it or
    /// not; what is left is deleted, but for data disks that are to be kept. The answer: what bears the
    /// cluster's names, and is somebody else's, in words.
    ///
    /// # Errors
    /// Something is left, and is named with the command that deletes it; or it could not be seen; or what
    /// bears the cluster's names may well be its own.
    pub async fn confirm_gone(
        &self,
        cluster: &Cluster,
        tell: &mut (dyn FnMut(String) + Send),
    ) -> Result<Option<String>> {
        let mut kinds: Vec<Kind> = self.kinds.iter().copied().collect();
        if self.purpose == Purpose::KeepData {
            kinds.retain(|kind| *kind != Kind::Disk);
        }
        let (gcloud, again) = (&self.gcloud, self.purpose.command());
        let look =
            ownership::confirm_gone(gcloud, cluster, &self.owner, &kinds, again, tell).await?;
        if self.purpose == Purpose::KeepData {
            self.terraform.settle();
            return Ok(None);
        }
        let (name, project) = (&cluster.name, gcloud.project());
        let others = namesakes::of(&look, name, &self.owner);
        let (owner, folder) = (&self.owner, &self.paths.base);
        let refused = namesakes::refuse(&others, name, owner, project, self.is_stranger, folder);
        if refused.is_err() && self.is_key_new {
            // Nothing was made with it, and the next try is to say the same.
            for file in [key_pair::FILE, key_pair::PUBLIC_FILE] {
                state_files::forget(&folder.join(file))?;
            }
        }
        refused?;
        Ok((!others.is_empty()).then(|| namesakes::words(&others, name, project)))
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
    /// What goes with the nodes that have left: all that is theirs, and subnets that nobody else is in.
    pub fn of_gone(&self) -> impl Fn(&Change) -> bool {
        let used = self.allocation.used_regions();
        move |change| {
            let key = change.key.as_deref().unwrap_or_default();
            match change.resource_type.as_str() {
                "google_compute_subnetwork" => !used.contains_key(key),
                _ => self.gone.values().any(|at| at.name == key),
            }
        }
    }

    /// The machines that are made or deleted, by their names at Google.
    #[must_use]
    pub fn renewed(&self, cluster: &Cluster) -> BTreeSet<String> {
        let machines = self.changes.iter().filter(|change| {
            let is_machine = change.resource_type == "google_compute_instance";
            is_machine && change.action != Action::Update
        });
        let names = machines.filter_map(|change| change.key.as_ref());
        names.map(|key| instance_name(cluster, key)).collect()
    }
}

/// What a machine is called at Google, from its node's name in Terraform.
fn instance_name(cluster: &Cluster, name: &str) -> String {
    format!("raft-{}-{name}", cluster.name)
}

/// The machines, by their names at Google, whose host keys are not settled: those that an `up`, this one or
/// one that was interrupted, has made and not worked on, and those that nobody here has ever seen. Google's
/// guest agent gives a machine its keys when SSH may have answered with others.
///
/// # Errors
/// The file that keeps it is damaged.
pub fn new_machines(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let allocation = allocation(cluster)?;
    let names = allocation.nodes.values();
    let names = names.map(|placement| instance_name(cluster, &placement.name));
    let mut new = login::without_host_key(cluster, names.collect());
    new.extend(allocation.new_machines);
    Ok(new)
}

/// Remembers that machines have been worked on: another host key of theirs is an attack from now on.
///
/// # Errors
/// The file that keeps it is damaged, or can't be written.
pub fn remember_host_keys(cluster: &Cluster, instances: &BTreeSet<String>) -> Result<()> {
    let path = Paths::of(cluster).allocation();
    let mut allocation = Allocation::load(&path)?;
    let new = &allocation.new_machines - instances;
    if new == allocation.new_machines {
        return Ok(());
    }
    allocation.new_machines = new;
    allocation.save(&path)
}

/// The machines of a cluster, as they were after the last change. Starts no program.
///
/// # Errors
/// There are none yet.
pub fn machines(cluster: &Cluster) -> Result<Machines> {
    Machines::load(&Paths::of(cluster).machines())?.ok_or_else(|| {
        let name = &cluster.name;
        Error::Usage(match leftovers::of_record(cluster) {
            Some((text, advice)) => format!("cluster {name} has no machines yet: {text}; {advice}"),
            None => format!(
                "cluster {name} has no machines, or an `up` was interrupted; run `raftctl up`"
            ),
        })
    })
}

/// Asks Google for the external addresses, which change when a machine is switched off and on.
///
/// # Errors
/// Google does not answer.
pub async fn refresh_addresses(cluster: &Cluster) -> Result<()> {
    let mut machines = machines(cluster)?;
    ask_addresses(cluster, &mut machines).await?;
    machines.save(&Paths::of(cluster).machines())
}

async fn ask_addresses(cluster: &Cluster, machines: &mut Machines) -> Result<()> {
    let gcloud = gcloud::Gcloud::new(&machines.project_id);
    let mut states = gcloud.machines(&cluster.name).await?;
    for machine in machines.nodes.values_mut() {
        machine.see(states.remove(&machine.at()));
    }
    Ok(())
}

/// Removes all that is kept about a cluster that is gone: module, state, key, host keys.
///
/// # Errors
/// A file can't be removed.
pub fn forget_cluster(cluster: &Cluster) -> Result<()> {
    let paths = Paths::of(cluster);
    let terraform = paths.terraform();
    match std::fs::remove_dir_all(&terraform) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::file("remove", &terraform, &error));
        }
        _ => {}
    }
    for file in [
        "gcp.json",
        "machines.json",
        key_pair::FILE,
        key_pair::PUBLIC_FILE,
        os_login::FILE,
        "known_hosts",
        "hosts.json",
        "operator",
        "ssh_config",
        "ssh_config.machines",
    ] {
        state_files::forget(&paths.base.join(file))?;
    }
    Ok(())
}

/// What has been decided about ranges, names and zones, with all that is still to be decided.
///
/// # Errors
/// The file that keeps it is damaged.
pub fn allocation(cluster: &Cluster) -> Result<Allocation> {
    Allocation::load(&Paths::of(cluster).allocation())?.extended(cluster)
}

/// The nodes of a cluster that has been up whose zones are to be others: their disks can't follow.
///
/// # Errors
/// The file that keeps it is damaged.
pub fn moved(cluster: &Cluster) -> Result<Vec<NodeId>> {
    Ok(Allocation::load(&Paths::of(cluster).allocation())?.moved(cluster))
}

/// Remembers the nodes that machines have been made for: cluster.yaml has named them, whatever has ended that `up`.
///
/// # Errors
/// The file that keeps it is damaged; or another can't be written.
pub fn remember_named(cluster: &Cluster) -> Result<()> {
    let state_dir = cluster.state_dir();
    let mut known = known_nodes::load(&state_dir);
    let named = Allocation::load(&Paths::of(cluster).allocation())?.nodes;
    let named = named.into_keys().filter(|id| known.remove(id).is_none());
    let nodes = named.map(|id| Node {
        id,
        ..Node::default()
    });
    known_nodes::add(&state_dir, &nodes.collect::<Vec<_>>())
}

/// Remembers that the cluster has been up with its nodes, which may hold data of each other from now
/// on; until they are gone.
///
/// # Errors
/// The file that keeps it is damaged, or can't be written.
pub fn remember_members(cluster: &Cluster) -> Result<()> {
    let path = Paths::of(cluster).allocation();
    let mut allocation = Allocation::load(&path)?;
    let before = allocation.members.len();
    allocation.members.extend(cluster.ids());
    if allocation.members.len() == before {
        return Ok(());
    }
    allocation.save(&path)
}

/// The file of the cluster's own private key.
#[must_use]
pub fn key_file(cluster: &Cluster) -> PathBuf {
    Paths::of(cluster).base.join(key_pair::FILE)
}
