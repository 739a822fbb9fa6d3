//! What bears a cluster's names and not its mark: another cluster's of the same name, or this one's, when
//! its key was lost or an older raftctl has made it. Nobody can tell from here, so nothing of it is deleted,
//! and nobody says that nothing is left. Pure.

use std::collections::BTreeSet;
use std::path::Path;

use super::in_words;
use super::resources::{GoogleResource, Kind, Location, Owner};
use super::strays::Listing;
use crate::error::{Error, Result};

/// Those that a look has found. What says that it is of a cluster with another name is none of them, however
/// that name begins.
#[must_use]
pub fn of(look: &Listing, cluster: &str, owner: &Owner) -> Vec<GoogleResource> {
    let is_other = |resource: &&GoogleResource| {
        let is_ours = owner.owns(resource) || look.is_boot_disk(resource, &BTreeSet::new());
        !is_ours && bears_name(resource, cluster)
    };
    look.resources.iter().filter(is_other).cloned().collect()
}

fn bears_name(resource: &GoogleResource, cluster: &str) -> bool {
    match resource.cluster() {
        Some(named) => named == cluster,
        None => is_exact(resource, cluster),
    }
}

/// Whether the module gives just this name to something of the kind.
fn is_exact(resource: &GoogleResource, cluster: &str) -> bool {
    let prefix = format!("raft-{cluster}");
    let Some(rest) = resource.name.strip_prefix(&prefix) else {
        return false;
    };
    let is_node = |rest: &str| {
        let id = rest.strip_prefix("-n").unwrap_or_default();
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())
    };
    match (resource.kind, &resource.location) {
        (Kind::Network, _) => rest.is_empty(),
        (Kind::Subnet, Location::Region(region)) => rest.strip_prefix('-') == Some(region),
        (Kind::Subnet, _) => false,
        (Kind::Rule, _) => ["-ssh", "-peers", "-clients"].contains(&rest),
        (Kind::Machine | Kind::Address, _) => is_node(rest),
        (Kind::Disk, _) => is_node(rest.strip_suffix("-data").unwrap_or(rest)),
    }
}

/// Whether an older raftctl may have made it for this cluster: it bears the cluster's label, and no mark.
fn is_unmarked(resource: &GoogleResource, cluster: &str) -> bool {
    let is_labelled = matches!(resource.kind, Kind::Machine | Kind::Disk);
    is_labelled && !resource.is_marked() && resource.cluster() == Some(cluster)
}

/// How to mark those that an older raftctl may have left; nothing where there are none.
#[must_use]
pub fn marking<'a>(
    resources: impl Iterator<Item = &'a GoogleResource>,
    cluster: &str,
    owner: &Owner,
    project: &str,
) -> Option<String> {
    let unmarked = resources.filter(|resource| is_unmarked(resource, cluster));
    let command = |resource: &GoogleResource| {
        format!(
            "\n  gcloud {} add-labels {} --labels=raft-owner={}{} --project={project}",
            resource.kind.gcloud().join(" "),
            resource.name,
            owner.mark(),
            resource
                .location
                .option()
                .map(|place| format!(" {place}"))
                .unwrap_or_default()
        )
    };
    let commands: String = unmarked.map(command).collect();
    (!commands.is_empty()).then_some(commands)
}

/// What is there all the same when a cluster is down, in words.
#[must_use]
pub fn words(others: &[GoogleResource], cluster: &str, project: &str) -> String {
    let count = |kind: Kind| {
        others
            .iter()
            .filter(|resource| resource.kind == kind)
            .count()
    };
    let counted = |kind: Kind| match count(kind) {
        1 => format!("1 {}", kind.noun()),
        count => format!("{count} {}s", kind.noun()),
    };
    let mut text = format!(
        "nothing that bears this folder's mark is left; there are, with this name and without that mark: {}",
        in_words(others.iter())
    );
    if count(Kind::Machine) + count(Kind::Disk) > 0 {
        text.push_str(&format!(
            "; {} and {} of this name are there and cost money, see `gcloud compute instances list \
             --filter=name~^raft-{cluster}- --project={project}` and `gcloud compute disks list \
             --filter=name~^raft-{cluster}- --project={project}`",
            counted(Kind::Machine),
            counted(Kind::Disk)
        ));
    }
    text
}

/// Refuses to call a cluster gone where what is there may well be its own.
///
/// # Errors
/// Nothing was ever made with this folder's key, or an older raftctl may have made it.
pub fn refuse(
    others: &[GoogleResource],
    cluster: &str,
    owner: &Owner,
    project: &str,
    is_stranger: bool,
    folder: &Path,
) -> Result<()> {
    let there = words(others, cluster, project);
    let folder = folder.display();
    if let Some(commands) = marking(others.iter(), cluster, owner, project) {
        return Err(Error::Cloud(format!(
            "{there}\nsome of it bears no mark at all, and may have been left by an older raftctl; where it is this \
             cluster's, mark it and run `raftctl down` again:{commands}"
        )));
    }
    if is_stranger && !others.is_empty() {
        return Err(Error::Cloud(format!(
            "{there}\nnothing was ever made from this folder, or its key is lost: where this is your cluster, bring \
             {folder} here from where it was made, and run `raftctl down` again; where it is not, remove {folder}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::gcp::resources;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNvbWV0aGluZyB0aGF0IGlzIG5vIHJlYWwga2V5IQ== x";

    fn look(kind: Kind, place: &str, resources: &[(&str, &str)]) -> Listing {
        let listed = |(name, more): &(&str, &str)| {
            format!(
                r#"{{"name":"{name}","selfLink":"https://www.googleapis.com/compute/v1/projects/p/{place}/x/{name}"{more}}}"#
            )
        };
        let listed: Vec<String> = resources.iter().map(listed).collect();
        let json = format!("[{}]", listed.join(","));
        Listing {
            resources: resources::read(kind, &json, "demo").unwrap(),
            ..Listing::default()
        }
    }

    fn names(look: &Listing) -> Vec<String> {
        let others = of(look, "demo", &Owner::of("demo", KEY));
        others.into_iter().map(|resource| resource.name).collect()
    }

    // A cluster whose name begins with ours is no namesake: neither by its label, nor by its description, nor
    // by its names where it says nothing.
    #[test]
    fn a_longer_name_is_another_cluster() {
        let machines = [
            ("raft-demo-n1", ""),
            ("raft-demo-2-n1", ""),
            ("raft-demo-n2", r#","labels":{"raft-cluster":"demo-n2"}"#),
            ("raft-demo-n3", r#","labels":{"raft-cluster":"demo"}"#),
            (
                "raft-demo-n4",
                r#","description":"Raft cluster demo-n4, owner 01""#,
            ),
            (
                "raft-demo-n5",
                r#","description":"Raft cluster demo, owner 01""#,
            ),
            ("raft-demo-new", ""),
        ];
        assert_eq!(
            names(&look(Kind::Machine, "zones/z", &machines)),
            ["raft-demo-n1", "raft-demo-n3", "raft-demo-n5"]
        );
        let disks = [("raft-demo-n1-data", ""), ("raft-demo-b-n1-data", "")];
        assert_eq!(
            names(&look(Kind::Disk, "zones/z", &disks)),
            ["raft-demo-n1-data"]
        );
        let networks = [("raft-demo", ""), ("raft-demo-b", "")];
        assert_eq!(
            names(&look(Kind::Network, "global", &networks)),
            ["raft-demo"]
        );
        let subnets = [("raft-demo-us-east1", ""), ("raft-demo-b-us-east1", "")];
        let subnets = look(Kind::Subnet, "regions/us-east1", &subnets);
        assert_eq!(names(&subnets), ["raft-demo-us-east1"]);
        let rules = [("raft-demo-ssh", ""), ("raft-demo-b-ssh", "")];
        assert_eq!(
            names(&look(Kind::Rule, "global", &rules)),
            ["raft-demo-ssh"]
        );
    }

    // Machines and disks of this name cost money, and that is said whoever has made them. Whether a cluster is
    // called gone depends on who asks: not where the key is new, not where an older raftctl may have made them.
    #[test]
    fn what_may_be_ours_is_not_called_gone() {
        let owner = Owner::of("demo", KEY);
        let refused = |others: &[GoogleResource], is_stranger: bool| {
            let refused = refuse(others, "demo", &owner, "p", is_stranger, Path::new("/f"));
            refused.map_err(|error| (error.exit_code(), error.to_string()))
        };
        let marked = r#","labels":{"raft-cluster":"demo","raft-owner":"01"}"#;
        let others = look(Kind::Machine, "zones/z", &[("raft-demo-n1", marked)]).resources;
        let text = words(&others, "demo", "p");
        assert!(text.contains("1 machine and 0 data disks"), "{text}");
        assert!(
            text.contains("`gcloud compute instances list --filter=name~^raft-demo- --project=p`")
        );
        assert_eq!(refused(&others, false), Ok(()));
        let (code, text) = refused(&others, true).unwrap_err();
        assert_eq!(code, 10);
        assert!(text.contains("bring /f here"), "{text}");
        assert_eq!(refused(&[], true), Ok(()));
        let unmarked = r#","labels":{"raft-cluster":"demo"}"#;
        let older = look(Kind::Disk, "zones/z", &[("raft-demo-n1-data", unmarked)]).resources;
        let (code, text) = refused(&older, false).unwrap_err();
        assert_eq!(code, 10);
        let command = format!(
            "gcloud compute disks add-labels raft-demo-n1-data --labels=raft-owner={} --zone=z --project=p",
            resources::mark(KEY)
        );
        assert!(text.contains(&command), "{text}");
        let network = look(Kind::Network, "global", &[("raft-demo", "")]).resources;
        assert!(!words(&network, "demo", "p").contains("money"));
    }
}
