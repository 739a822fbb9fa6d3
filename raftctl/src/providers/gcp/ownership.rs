//! What is the cluster's at Google, whether Terraform's state knows it or not: taken in before something is
//! made, deleted with the cluster, and never confused with what another cluster of the same name has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::changes::Change;
use super::events::Event;
use super::gcloud::Gcloud;
use super::planning::{Plan, Planner};
use super::resources::{self, GoogleResource, Kind, Owner};
use super::strays::{self, Listing};
use super::terraform::{Terraform, Watch};
use super::{Purpose, changes, module, namesakes};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::local::state_files;

/// How long Google is given to show a rule as it was asked for, and how often it is asked.
const RULES_TIME_MAX: Duration = Duration::from_secs(30);
const RULES_EVERY: Duration = Duration::from_secs(2);

/// How many names of somebody else's are told.
const FOREIGN_MAX: usize = 5;

/// What a look before an `up` has found.
#[derive(Default)]
pub(super) struct Found {
    /// What the plan would make although it is there, and is the cluster's: address in Terraform, and path.
    pub ours: Vec<(String, String)>,
    /// What is the cluster's, in no state, and not planned.
    pub left: Vec<GoogleResource>,
    /// What could not be seen of what was looked for.
    pub unseen: Option<String>,
    /// Why data disks could not be seen, where they were looked for.
    pub unseen_disks: Option<String>,
}

/// What somebody else has where they have the names of a cluster.
const FIRST: [Kind; 2] = [Kind::Disk, Kind::Network];

/// A look at what bears a cluster's names that was never made from here. It begins before Terraform has made a plan:
/// gcloud takes seconds for it.
pub(super) struct FirstLook(JoinSet<Listing>);

impl FirstLook {
    /// Begins. Needs a runtime.
    pub fn begin(cluster: &Cluster) -> FirstLook {
        let mut looking = JoinSet::new();
        let cluster = cluster.clone();
        let settings = Kind::of_settings(&cluster.gcp);
        let kinds = FIRST.into_iter().filter(|kind| settings.contains(kind));
        let kinds: Vec<Kind> = kinds.collect();
        looking.spawn(async move { Listing::at(&Gcloud::of(&cluster), &cluster, &kinds).await });
        FirstLook(looking)
    }

    async fn end(mut self) -> Listing {
        match self.0.join_next().await {
            Some(Ok(listing)) => listing,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => Listing::default(),
        }
    }
}

/// What is needed to find out.
pub(super) struct Ownership<'a> {
    pub cluster: &'a Cluster,
    pub gcloud: &'a Gcloud,
    pub owner: Owner,
    pub terraform: &'a Terraform,
}

impl Ownership<'_> {
    /// What a plan would make although it is there, and is the cluster's; with `all`, which are the kinds that
    /// it can be made of, also what is left of it elsewhere. Where nothing was ever made from here, nothing
    /// can be; then the first look is enough, by which it is seen whether somebody else has the names.
    ///
    /// # Errors
    /// Somebody else has one of the names; nothing was changed.
    pub async fn to_take_in(
        &self,
        plan: &str,
        first: Option<FirstLook>,
        all: Option<&BTreeSet<Kind>>,
        watch: Watch<'_>,
    ) -> Result<Found> {
        let project = self.cluster.gcp.project.as_deref().unwrap_or_default();
        let made = changes::made(plan, project)?;
        let mut kinds: BTreeSet<Kind> = made.iter().map(|(kind, ..)| *kind).collect();
        if first.is_some() {
            kinds.retain(|kind| FIRST.contains(kind));
        }
        kinds.extend(all.into_iter().flatten());
        if kinds.is_empty() {
            return Ok(Found::default());
        }
        let kinds: Vec<Kind> = kinds.into_iter().collect();
        let look = match first {
            Some(first) if kinds.iter().all(|kind| FIRST.contains(kind)) => first.end().await,
            _ => Listing::at(self.gcloud, self.cluster, &kinds).await,
        };
        if let Some(unseen) = look.unseen() {
            watch(&Event::Note(format!(
                "whether Google has anything of this cluster that Terraform's state does not know could not be seen: \
                 {unseen}"
            )));
        }
        let (ours, foreign) = sorted(&made, &look.resources, &self.owner);
        if !foreign.is_empty() {
            return Err(namesake(self.cluster, &foreign, &self.owner));
        }
        let left = match all {
            Some(_) => {
                let mut known = self.terraform.state().await?.ids();
                known.extend(made.into_iter().map(|(.., id)| id));
                look.strays(&self.owner, &known)
            }
            None => Vec::new(),
        };
        let disks = look.blind.iter().find(|(kind, _)| *kind == Kind::Disk);
        Ok(Found {
            ours,
            left,
            unseen: look.unseen(),
            unseen_disks: disks.map(|(_, error)| error.to_string()),
        })
    }

    /// What has to be deleted with the cluster and is in no state. It is looked for where there may be
    /// any: a change has not ended well, or others change the same state, or there is none.
    ///
    /// # Errors
    /// The state can't be read.
    pub async fn strays(
        &self,
        purpose: Purpose,
        has_news: bool,
        kinds: &BTreeSet<Kind>,
        watch: Watch<'_>,
    ) -> Result<Vec<GoogleResource>> {
        let is_shared = self.cluster.gcp.state_bucket.is_some();
        if has_news && !is_shared && !self.terraform.is_unsettled() {
            return Ok(Vec::new());
        }
        let in_state = self.terraform.state().await?.ids();
        let kinds: Vec<Kind> = kinds.iter().copied().collect();
        let look = Listing::at(self.gcloud, self.cluster, &kinds).await;
        if let Some(unseen) = look.unseen() {
            watch(&Event::Note(format!(
                "not all that Google has of this cluster could be seen: {unseen}"
            )));
        }
        let mut strays = look.strays(&self.owner, &in_state);
        if purpose == Purpose::KeepData {
            strays.retain(|stray| stray.kind != Kind::Disk);
        }
        Ok(strays)
    }
}

/// The plan that takes in what was found. Terraform reads that from a file, which goes at once: the plan
/// remembers it.
///
/// # Errors
/// Terraform finds something wrong.
pub(super) async fn with_imports(
    planner: &Planner<'_>,
    found: &[(String, String)],
    watch: Watch<'_>,
) -> Result<Plan> {
    let path = planner.folder.join(module::IMPORTS_FILE);
    state_files::replace(&path, &resources::imports(found))?;
    let plan = planner.plan(watch).await;
    state_files::forget(&path)?;
    plan
}

/// What of a plan's creations is there: the owner's, as (address, path), and somebody else's.
fn sorted<'a>(
    made: &[(Kind, String, String)],
    there: &'a [GoogleResource],
    owner: &Owner,
) -> (Vec<(String, String)>, Vec<&'a GoogleResource>) {
    let (mut ours, mut foreign) = (Vec::new(), Vec::new());
    for (_, address, id) in made {
        match there.iter().find(|resource| resource.id == *id) {
            Some(resource) if owner.owns(resource) => ours.push((address.clone(), id.clone())),
            Some(resource) => foreign.push(resource),
            None => {}
        }
    }
    (ours, foreign)
}

/// Refuses to delete anything while something is `left` that may need it: Google would refuse half-way, when
/// data disks are gone already.
///
/// # Errors
/// As said; each is named with the command that deletes it.
pub(super) fn refuse_deletions_beside(left: &[GoogleResource], changes: &[Change]) -> Result<()> {
    let deleted = changes.iter().filter(|change| change.is_destructive());
    let deleted: Vec<String> = deleted.map(Change::describe).collect();
    if left.is_empty() || deleted.is_empty() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "refused, nothing was changed: cluster.yaml asks to {}, and Google has what may need it, which is this \
         cluster's, and neither in Terraform's state nor in cluster.yaml; delete that first (with its data), and run \
         this again:{}",
        deleted.join(", "),
        deletions(left)
    )))
}

fn deletions(resources: &[GoogleResource]) -> String {
    let deletion = |resource: &GoogleResource| format!("\n  {}", resource.deletion());
    resources.iter().map(deletion).collect()
}

/// What `up` does not plan and leaves where it is.
#[must_use]
pub(super) fn left_behind(left: &[GoogleResource]) -> String {
    format!(
        "at Google, this cluster's, neither in Terraform's state nor planned, and what may cost money for as long as it \
         is there; `raftctl down` deletes it with all the rest, and this alone (with its data):{}",
        deletions(left)
    )
}

/// The kinds that a cluster can be made of: as its settings say now, and of the types that a plan or an apply
/// touches.
#[must_use]
pub(super) fn kinds<'a>(
    cluster: &Cluster,
    touched: impl Iterator<Item = &'a str>,
) -> BTreeSet<Kind> {
    let mut kinds = Kind::of_settings(&cluster.gcp);
    let is_elsewhere = |kind: &Kind| {
        let of_network = matches!(kind, Kind::Subnet | Kind::Network);
        of_network && cluster.gcp.company.network_project.is_some()
    };
    kinds.extend(
        touched
            .filter_map(Kind::of_type)
            .filter(|kind| !is_elsewhere(kind)),
    );
    kinds
}

/// Somebody else has the names.
fn namesake(cluster: &Cluster, foreign: &[&GoogleResource], owner: &Owner) -> Error {
    let name = &cluster.name;
    let folder = cluster.state_dir();
    let project = cluster.gcp.project.as_deref().unwrap_or_default();
    let older = match namesakes::marking(foreign.iter().copied(), name, owner, project) {
        Some(commands) => format!(
            "; or some of it was left by an older raftctl, which set no mark: where it is this cluster's, mark it and \
             run this again:{commands}"
        ),
        None => String::new(),
    };
    Error::Usage(format!(
        "refused, nothing was changed: {} at Google bear this cluster's names, and not its mark: another cluster {name} is \
         in the project, made from another folder or with another key; take another name in cluster.yaml, or, if it is \
         this cluster, bring {} here from where it was made{older}",
        in_words(foreign.iter().copied()),
        folder.display()
    ))
}

/// Some resources in words; the first of them by name.
#[must_use]
pub fn in_words<'a>(resources: impl Iterator<Item = &'a GoogleResource>) -> String {
    let all: Vec<String> = resources.map(GoogleResource::describe).collect();
    let named = all.iter().take(FOREIGN_MAX).cloned().collect::<Vec<_>>();
    match all.len().saturating_sub(FOREIGN_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Looks whether anything of some kinds is left of a cluster, and deletes it. What was seen at last, none of
/// which is the owner's.
///
/// # Errors
/// Something is left, or could not be seen; `again` is the command that goes on.
pub(super) async fn confirm_gone(
    gcloud: &Gcloud,
    cluster: &Cluster,
    owner: &Owner,
    kinds: &[Kind],
    again: &str,
    tell: &mut (dyn FnMut(String) + Send),
) -> Result<Listing> {
    let none = BTreeSet::new();
    let mut look = Listing::at(gcloud, cluster, kinds).await;
    let mut strays = look.strays(owner, &none);
    if !strays.is_empty() {
        strays::delete(gcloud, &strays, tell).await;
        look = Listing::at(gcloud, cluster, kinds).await;
        strays = look.strays(owner, &none);
    }
    let name = &cluster.name;
    if !strays.is_empty() {
        let mut text = format!(
            "not all of cluster {name} is gone, and what is left may cost money; run `{again}` again, or delete it with"
        );
        for stray in &strays {
            text.push_str(&format!("\n  {}", stray.deletion()));
        }
        return Err(Error::Cloud(text));
    }
    if let Some(unseen) = look.unseen() {
        return Err(Error::Cloud(format!(
            "all of cluster {name} that Terraform knew of is gone; whether anything else of it is left at Google, and \
             costs money, is not known, so its key and state are kept: {unseen}\nrun `{again}` again when Google can \
             be asked"
        )));
    }
    Ok(look)
}

/// Waits until Google has rules as they were asked for: its provider may leave a range open that was taken
/// out, and call that done.
///
/// # Errors
/// A rule lets in something else; or Google can't be asked.
pub(super) async fn confirm_rules(
    gcloud: &Gcloud,
    cluster: &Cluster,
    rules: &BTreeMap<String, BTreeSet<String>>,
    watch: Watch<'_>,
) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + RULES_TIME_MAX;
    let mut is_told = false;
    loop {
        let there = gcloud
            .resources(Kind::Rule, &cluster.name)
            .await
            .map_err(|error| {
                error.advise(
                    "what the firewall lets in could not be seen: run `raftctl up` again".into(),
                )
            })?;
        let host = cluster.gcp.company.network_project.as_deref();
        let Some(wrong) = wrong_rules(rules, &there, host.unwrap_or(gcloud.project())) else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            return Err(Error::Cloud(wrong));
        }
        if !std::mem::replace(&mut is_told, true) {
            let seconds = RULES_TIME_MAX.as_secs();
            watch(&Event::Note(format!(
                "waiting up to {seconds} s until Google's firewall rules are as asked for: {wrong}"
            )));
        }
        tokio::time::sleep(RULES_EVERY).await;
    }
}

/// The rules that are not as they were asked for; a rule that was asked for and is not there lets nobody in.
fn wrong_rules(
    rules: &BTreeMap<String, BTreeSet<String>>,
    there: &[GoogleResource],
    project: &str,
) -> Option<String> {
    let mut lines = Vec::new();
    let ranges = |ranges: &BTreeSet<String>| ranges.iter().cloned().collect::<Vec<_>>();
    for (name, wanted) in rules {
        let found = there.iter().find(|resource| resource.name == *name);
        let found = found.map(|resource| &resource.ranges);
        if found == Some(wanted) {
            continue;
        }
        let lets_in = match found {
            Some(found) => format!("lets in {}", ranges(found).join(", ")),
            None => "is not there".into(),
        };
        let wanted = ranges(wanted);
        lines.push(format!(
            "firewall rule {name} {lets_in}, and is to let in {} alone: run `raftctl up` again, or `gcloud compute \
             firewall-rules update {name} --source-ranges={} --project={project}`",
            wanted.join(", "),
            wanted.join(",")
        ));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNvbWV0aGluZyB0aGF0IGlzIG5vIHJlYWwga2V5IQ== x";
    const LINK: &str = "https://www.googleapis.com/compute/v1/projects/p";

    // What is there and bears our mark is taken in; what bears none is a namesake's, and stops the plan with its
    // name and without a command that would delete it.
    #[test]
    fn a_namesake_is_never_taken_in() {
        let owner = Owner::of("demo", KEY);
        let json = format!(
            r#"[{{"name":"raft-demo-n1-data","selfLink":"{LINK}/zones/z/disks/raft-demo-n1-data",
                 "labels":{{"raft-cluster":"demo","raft-owner":"{}"}}}},
                {{"name":"raft-demo-n2-data","selfLink":"{LINK}/zones/z/disks/raft-demo-n2-data"}}]"#,
            resources::mark(KEY)
        );
        let there = resources::read(Kind::Disk, &json, "demo").unwrap();
        let disk = |name: &str| {
            let id = format!("projects/p/zones/z/disks/raft-demo-{name}-data");
            (
                Kind::Disk,
                format!("google_compute_disk.data[\"{name}\"]"),
                id,
            )
        };
        let made = [disk("n1"), disk("n2"), disk("n3")];
        let (ours, foreign) = sorted(&made, &there, &owner);
        assert_eq!(ours.len(), 1);
        assert_eq!(ours[0].0, "google_compute_disk.data[\"n1\"]");
        let yaml = "name: demo\nprovider: gcp\nnodes: 3\ngcp: {project: my-project, zones: [us-central1-a]}\n";
        let cluster = crate::cluster::parse(yaml, "x", ".".into(), &|_| None).unwrap();
        let error = namesake(&cluster, &foreign, &owner);
        let text = error.to_string();
        assert!(text.contains("data disk raft-demo-n2-data (z)"), "{text}");
        assert!(!text.contains("gcloud") && !text.contains("n1"), "{text}");
        assert_eq!(error.exit_code(), 2);
        // One that bears the label alone may be an older raftctl's: how to mark it is told.
        let mut older = foreign[0].clone();
        older = resources::read(
            Kind::Disk,
            &format!(
                r#"[{{"name":"{}","selfLink":"{LINK}/zones/z/disks/x","labels":{{"raft-cluster":"demo"}}}}]"#,
                older.name
            ),
            "demo",
        )
        .unwrap()
        .remove(0);
        let text = namesake(&cluster, &[&older], &owner).to_string();
        assert!(
            text.contains("left by an older raftctl")
                && text.contains("gcloud compute disks add-labels raft-demo-n2-data"),
            "{text}"
        );
    }

    // An account that may not list what this cluster never makes is not asked to; what a plan touches is
    // looked at whatever the settings say now.
    #[test]
    fn what_is_never_made_is_not_looked_for() {
        let cluster = |more: &str| {
            let yaml = format!(
                "name: demo\nprovider: gcp\nnodes: 3\ngcp: {{project: my-project, zones: [us-central1-a]{more}}}\n"
            );
            crate::cluster::parse(&yaml, "x", ".".into(), &|_| None).unwrap()
        };
        let of = |cluster: &Cluster, touched: &[&str]| -> Vec<Kind> {
            let touched = touched.iter().copied();
            kinds(cluster, touched).into_iter().collect()
        };
        let [rule, network] = ["google_compute_firewall", "google_compute_network"];
        assert_eq!(of(&cluster(""), &[]), Kind::ALL);
        let bare = cluster(", network: corp, subnetwork: raft, firewall_rules: false");
        let own = [Kind::Machine, Kind::Disk, Kind::Address];
        assert_eq!(of(&bare, &[]), own);
        let with_rules = [&own[..], &[Kind::Rule]].concat();
        assert_eq!(of(&bare, &[rule]), with_rules);
        let shared = cluster(", network: corp, subnetwork: raft, network_project: corp-net");
        // The rules are ours, in the network's project; the network is not.
        assert_eq!(of(&shared, &[network]), with_rules);
        let shared_bare = cluster(
            ", network: corp, subnetwork: raft, network_project: corp-net, firewall_rules: false",
        );
        assert_eq!(of(&shared_bare, &[network]), own);
    }

    // A range that was taken out and is still there is no success.
    #[test]
    fn a_rule_that_stays_open_is_told() {
        let rule = |ranges: &str| {
            let json = format!(
                r#"[{{"name":"raft-demo-ssh","selfLink":"{LINK}/global/firewalls/raft-demo-ssh","sourceRanges":[{ranges}]}}]"#
            );
            resources::read(Kind::Rule, &json, "demo").unwrap()
        };
        let wanted = BTreeSet::from(["198.51.100.7/32".to_owned()]);
        let rules = BTreeMap::from([("raft-demo-ssh".to_owned(), wanted)]);
        let check = |there: &[GoogleResource]| wrong_rules(&rules, there, "p");
        assert_eq!(check(&rule(r#""198.51.100.7/32""#)), None);
        let text = check(&rule(r#""0.0.0.0/0","198.51.100.7/32""#)).unwrap();
        assert!(
            text.contains("lets in 0.0.0.0/0, 198.51.100.7/32"),
            "{text}"
        );
        assert!(
            text.contains("--source-ranges=198.51.100.7/32 --project=p"),
            "{text}"
        );
        assert!(check(&[]).unwrap().contains("is not there"));
    }
}
